//! Volumes to try things with, and cryptsetup as the judge.
#![allow(dead_code, reason = "each test uses some of it")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image_specs::luks_header::{Luks2, LuksHeader, Metadata};
use image_specs::units::{Bytes, SectorSize};
use luks::{Format, Header, Secret, VolumeKey};
use tempfile::NamedTempFile;
use uuid::Uuid;

/// A KDF that takes no time.
pub(crate) const CHEAP: &[&str] = &["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// What a new header is to say, with a volume key of its own.
pub(crate) fn format(size: Bytes) -> Format {
    Format {
        size,
        label: "data".to_owned(),
        uuid: Uuid::from_u128(0x11111111_2222_3333_4444_555555555555),
        cipher: "aes-xts-plain64".to_owned(),
        volume_key: VolumeKey::generate(64).unwrap(),
        sector_size: SectorSize::S4096,
        allow_discards: true,
    }
}

/// The root with the newest systemd and cryptsetup, where that one is to judge.
fn peer() -> Option<PathBuf> {
    std::env::var_os("DDI_PEER_ROOT").map(PathBuf::from)
}

/// A file that cryptsetup can see.
fn scratch() -> NamedTempFile {
    match peer() {
        None => NamedTempFile::new(),
        Some(root) => NamedTempFile::new_in(root.join("tmp")),
    }
    .unwrap()
}

/// cryptsetup, with a path as it sees it.
fn cryptsetup() -> Command {
    match peer() {
        None => Command::new("cryptsetup"),
        Some(root) => {
            let mut command = Command::new("chroot");
            command.arg(root).arg("cryptsetup");
            command
        }
    }
}

fn seen(path: &Path) -> PathBuf {
    match peer().as_deref().map(|root| path.strip_prefix(root)) {
        Some(Ok(inside)) => Path::new("/").join(inside),
        _ => path.to_owned(),
    }
}

pub(crate) fn zeros(size: Bytes) -> NamedTempFile {
    let file = scratch();
    file.as_file().set_len(size.get()).unwrap();
    file
}

/// An image that begins with the header.
pub(crate) fn image(header: &Header, size: Bytes) -> NamedTempFile {
    let file = zeros(size);
    file.as_file()
        .write_all_at(&header.bytes().unwrap(), 0)
        .unwrap();
    file
}

/// cryptsetup, and an image that it works with.
pub(crate) struct Cryptsetup {
    path: PathBuf,
    _own: Option<NamedTempFile>,
}

impl Cryptsetup {
    pub(crate) fn on(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _own: None,
        }
    }

    /// An image that it has formatted, LUKS2 where nothing else is asked for.
    pub(crate) fn formatted(size: Bytes, passphrase: &str, options: &[&str]) -> Self {
        let file = zeros(size);
        let tool = Self {
            path: file.path().to_owned(),
            _own: Some(file),
        };
        let mut arguments = vec!["luksFormat", "--batch-mode", "--key-file=-"];
        if !options.iter().any(|option| option.starts_with("--type")) {
            arguments.push("--type=luks2");
        }
        arguments.extend(options);
        let output = tool.output(&arguments, passphrase);
        assert!(output.status.success(), "{}", text(&output));
        tool
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the JSON area, in both copies, and makes the checksums fit.
    pub(crate) fn forge(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let bytes = std::fs::read(&self.path).unwrap();
        let Some(LuksHeader::V2(binary)) = LuksHeader::parse(&bytes).unwrap() else {
            panic!("no LUKS2");
        };
        let area = binary.json_area(&bytes).unwrap();
        let (_, mut json) = Metadata::parse(area, binary.header_size).unwrap();
        change(&mut json);
        self.write(&binary, &json.to_string());
    }

    /// Writes a JSON area, in both copies.
    pub(crate) fn write(&self, binary: &Luks2, json: &str) {
        let file = File::options().write(true).open(&self.path).unwrap();
        for (offset, second) in [(0, false), (binary.header_size.get(), true)] {
            let copy = binary.encode(json, second).unwrap();
            file.write_all_at(&copy, offset).unwrap();
        }
    }

    pub(crate) fn file(&self) -> File {
        File::open(&self.path).unwrap()
    }

    pub(crate) fn copy(&self) -> NamedTempFile {
        let copy = scratch();
        std::fs::copy(&self.path, copy.path()).unwrap();
        copy
    }

    /// Whether a passphrase opens a key slot.
    pub(crate) fn opens(&self, passphrase: &str) -> bool {
        let arguments = ["open", "--test-passphrase", "--key-file=-"];
        self.output(&arguments, passphrase).status.success()
    }

    /// Formats the image there is.
    pub(crate) fn format(&self, passphrase: &str, options: &[&str]) {
        let arguments = ["luksFormat", "--batch-mode", "--key-file=-"];
        let output = self.output(&[&arguments[..], options].concat(), passphrase);
        assert!(output.status.success(), "{options:?}: {}", text(&output));
    }

    /// Opens the image as a device.
    pub(crate) fn open(&self, name: &str, passphrase: &str) {
        let mut child = Command::new("cryptsetup")
            .args(["open", "--key-file=-"])
            .args([self.path.as_os_str(), name.as_ref()])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(passphrase.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    pub(crate) fn close(name: &str) {
        let output = Command::new("cryptsetup").args(["close", name]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    pub(crate) fn status(name: &str) -> String {
        let output = Command::new("cryptsetup").args(["status", name]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    /// Has a loop device take the size of its file.
    pub(crate) fn losetup_grow(device: &File) {
        use std::os::fd::AsRawFd as _;
        let number = format!("/proc/{}/fd/{}", std::process::id(), device.as_raw_fd());
        let node = std::fs::read_link(number).unwrap();
        let status = Command::new("losetup").arg("-c").arg(node).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn dump(&self) -> String {
        self.run(&["luksDump"])
    }

    /// The volume key, as it tells it.
    pub(crate) fn volume_key(&self, passphrase: &str) -> Vec<u8> {
        // It makes the file itself.
        let file = scratch().into_temp_path().to_path_buf();
        let option = format!("--volume-key-file={}", seen(&file).display());
        let arguments = [
            "luksDump",
            "--dump-volume-key",
            "--batch-mode",
            "--key-file=-",
            &option,
        ];
        let output = self.output(&arguments, passphrase);
        assert!(output.status.success(), "{}", text(&output));
        let key = std::fs::read(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        key
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments, "");
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = cryptsetup()
            .args(arguments)
            .arg(seen(&self.path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cryptsetup is in the package cryptsetup-bin");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
