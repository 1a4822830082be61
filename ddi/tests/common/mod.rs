//! What the tests of the binary share: a scratch folder, a tree to put into images, the real tools.
#![expect(dead_code, reason = "each test file uses its part")]

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The seed that every test uses.
pub(crate) const SEED: &str = "--seed=11111111-2222-3333-4444-555555555555";

/// A folder that goes away with the test.
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::within(scratch_root())
    }

    /// In a folder that everybody reaches.
    pub(crate) fn within(parent: impl AsRef<Path>) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("ddi-test")
            .tempdir_in(parent)
            .unwrap();
        // Commands that run as another user look in here too.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes definition files into a folder and returns the option that names it.
    pub(crate) fn definitions(&self, files: &[(&str, &str)]) -> String {
        let directory = self.path("repart.d");
        fs::create_dir_all(&directory).unwrap();
        for (name, keys) in files {
            fs::write(directory.join(name), format!("[Partition]\n{keys}")).unwrap();
        }
        format!("--definitions={}", directory.display())
    }

    /// Makes a key and a certificate and returns the options that name them.
    pub(crate) fn signing(&self) -> [String; 2] {
        let (key, certificate) = (self.path("key.pem"), self.path("certificate.pem"));
        run(Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        [
            format!("--private-key={}", key.display()),
            format!("--certificate={}", certificate.display()),
        ]
    }

    /// A tree with one of everything that an ordinary user can make, and returns the option that
    /// names it.
    pub(crate) fn tree(&self) -> String {
        let root = self.path("tree");
        plant(&root);
        format!("--copy-source={}", root.display())
    }
}

/// Where scratch folders lie: on a real file system, for xattrs and holes.
fn scratch_root() -> PathBuf {
    std::env::var_os("DDI_TEST_TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Fills a folder with files of every kind.
pub(crate) fn plant(root: &Path) {
    let make = |path: &str| fs::create_dir_all(root.join(path)).unwrap();
    let write = |path: &str, bytes: &[u8]| fs::write(root.join(path), bytes).unwrap();
    for path in [
        "usr/bin",
        "usr/lib/deep/er",
        "usr/share/empty",
        "etc",
        "opt",
    ] {
        make(path);
    }
    write("usr/bin/tool", &b"#!/bin/sh\n".repeat(700));
    write("usr/bin/empty", b"");
    write(
        "usr/lib/deep/er/large",
        &(0..3_000_000u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<u8>>(),
    );
    write("usr/lib/os-release", b"ID=test\nVERSION_ID=1\n");
    write("etc/name with spaces", b"x");
    write("etc/\u{fc}ml\u{e4}ut", b"utf-8");
    fs::set_permissions(
        root.join("usr/bin/tool"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    fs::set_permissions(
        root.join("usr/share/empty"),
        fs::Permissions::from_mode(0o1777),
    )
    .unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool-too")).unwrap();
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    symlink("x".repeat(200), root.join("etc/long-link")).unwrap();
    let holes = fs::File::create(root.join("usr/lib/holes")).unwrap();
    holes.set_len(5 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"island", 2 << 20).unwrap();
    run(Command::new("mkfifo").arg(root.join("usr/lib/pipe")));
    run(Command::new("setfattr")
        .args(["-n", "user.comment", "-v", "hello"])
        .arg(root.join("usr/bin/tool")));
    run(Command::new("find").arg(root).args([
        "-exec",
        "touch",
        "-h",
        "-d",
        "2024-05-06 07:08:09 UTC",
        "{}",
        "+",
    ]));
}

/// The binary under the name of the tool it stands in for.
pub(crate) fn repart() -> Command {
    let mut command = ddi();
    command.arg("repart");
    command
}

pub(crate) fn ddi() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ddi"));
    command
        .env("SOURCE_DATE_EPOCH", "1750000000")
        // Guests see the files of the host, and must not leave theirs there.
        .env("LOGS_DIRECTORY", "/run/ddi-test/log")
        .env_remove("COLUMNS");
    command
}

/// The command, run as an ordinary user where the tests run as root.
pub(crate) fn unprivileged(command: &Command) -> Command {
    let mut line: Vec<OsString> = Vec::new();
    if is_root() {
        let drop_root = [
            "setpriv",
            "--reuid=12345",
            "--regid=12345",
            "--clear-groups",
            "--",
        ];
        line.extend(drop_root.map(OsString::from));
        line.push(reachable(command.get_program()));
    } else {
        line.push(command.get_program().to_owned());
    }
    line.extend(command.get_args().map(OsStr::to_owned));
    let mut outer = Command::new(&line[0]);
    outer.args(&line[1..]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

thread_local! {
    /// Holds a link to the binary; goes away with the test's thread.
    static ELSEWHERE: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

/// The program by a path that anybody reaches: the source tree may lie in root's own folder.
fn reachable(program: &OsStr) -> OsString {
    let path = Path::new(program);
    if !path.is_absolute() {
        return program.to_owned();
    }
    ELSEWHERE.with(|cell| {
        let folder = cell.get_or_init(|| {
            let folder = tempfile::tempdir_in(scratch_root()).unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            folder
        });
        let link = folder.path().join(path.file_name().unwrap());
        if !link.exists() && fs::hard_link(path, &link).is_err() {
            fs::copy(path, &link).unwrap();
        }
        link.into_os_string()
    })
}

pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t0\t"))
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}",
        output.status,
        both(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must fail with this exit code, and returns what it said.
pub(crate) fn fails(command: &mut Command, code: i32) -> String {
    let output = output(command);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}:\n{}",
        both(&output)
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs repart with `--json=short` and returns the partitions.
pub(crate) fn partitions(command: &mut Command) -> Vec<Value> {
    let text = run(command.arg("--json=short"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Cuts a partition out of an image into a file of its own.
pub(crate) fn cut(image: &Path, partition: &Value, to: &Path) {
    use std::io::{Read, Seek, SeekFrom};
    let number = |key: &str| partition[key].as_u64().unwrap();
    let mut file = fs::File::open(image).unwrap();
    file.seek(SeekFrom::Start(number("offset"))).unwrap();
    let mut out = fs::File::create(to).unwrap();
    std::io::copy(&mut file.take(number("raw_size")), &mut out).unwrap();
}
