//! `ddi verity` in place of `veritysetup`: output, files, exit codes, and both with the other's files.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::{Scratch, ddi, run};

const UUID: &str = "--uuid=11111111-2222-3333-4444-555555555555";
const BLOCK: usize = 4096;

/// A folder with data of 300 blocks.
struct Room {
    scratch: Scratch,
}

impl Room {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mut data = vec![0; 300 * BLOCK];
        for (index, block) in data.chunks_mut(BLOCK).enumerate() {
            block.fill(u8::try_from(index % 256).unwrap());
        }
        fs::write(scratch.path("data"), data).unwrap();
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// A command in the folder.
    fn with(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments);
        command.current_dir(self.path(""));
        command
    }

    fn ours(&self, arguments: &[&str]) -> Command {
        let mut command = ddi();
        command.arg("verity");
        self.with(command, arguments)
    }

    fn theirs(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("veritysetup");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        self.with(command, arguments)
    }

    fn format(&self, more: &[&str]) -> String {
        let all = [&["format", "data", "hash", "--salt=0a", UUID], more].concat();
        run(&mut self.ours(&all))
    }

    /// Formats with parity, and returns the root hash.
    fn protected(&self) -> String {
        self.format(&["--fec-device=parity", "--root-hash-file=root"]);
        fs::read_to_string(self.path("root")).unwrap()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const HEADER: &str = "\
VERITY header information for hash.
UUID:            \t11111111-2222-3333-4444-555555555555
Hash type:       \t1
Data blocks:     \t300
Data block size: \t4096 [bytes]
Hash blocks:     \t4
Hash block size: \t4096 [bytes]
Hash algorithm:  \tsha256
";

#[test]
fn the_lines_are_those_of_veritysetup() {
    let room = Room::new();
    let root = "Root hash:      \t2959a9a9";
    let told = room.format(&[]);
    let size = "Hash device size: \t20480 [bytes]\n";
    assert!(
        told.starts_with(&format!("{HEADER}Salt:            \t0a\n{root}")),
        "{told}"
    );
    assert!(told.ends_with(&format!("\n{size}")), "{told}");
    let dumped = run(&mut room.ours(&["dump", "hash"]));
    assert_eq!(dumped, format!("{HEADER}Salt:            \t0a\n{size}"));
    let told = room.format(&["--fec-device=parity", "--fec-roots=4"]);
    let parity = "FEC RS roots:   \t4\nFEC blocks:     \t8\n";
    assert!(
        told.starts_with(&format!("{HEADER}{parity}Salt:            \t0a\n{root}")),
        "{told}"
    );
    assert!(
        told.ends_with(&format!("\n{size}FEC device size: \t32768 [bytes]\n")),
        "{told}"
    );
    let told = room.format(&["--fec-device=hash", "--fec-offset=20480", "--salt=-"]);
    assert!(told.contains("Salt:            \t-\n"), "{told}");
    assert!(
        told.ends_with("\nHash device size: \t36864 [bytes]\n"),
        "{told}"
    );
    let told = room.format(&["--hash-offset=40960", "--no-superblock"]);
    assert!(
        told.contains("\nUUID:            \t\n") && !told.contains("device size:"),
        "{told}"
    );
}

#[test]
fn files_are_made_for_their_owner_alone() {
    let room = Room::new();
    let root = room.protected();
    assert_eq!(root.len(), 64);
    for name in ["hash", "parity", "root"] {
        let mode = fs::metadata(room.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // What fails leaves none behind.
    let fail = [
        "format",
        "data",
        "new",
        "--fec-device=parity",
        "--fec-offset=100",
    ];
    assert!(!room.ours(&fail).output().unwrap().status.success());
    assert!(!room.path("new").exists());
}

#[test]
fn each_accepts_what_the_other_made() {
    let room = Room::new();
    for options in [
        &["--hash=sha512", "--format=0"][..],
        &["--hash=blake2b-512", "--salt=-"],
        &["--data-block-size=512", "--hash-block-size=1024"],
        &["--fec-device=parity", "--fec-roots=7"],
        &[
            "--hash-offset=81920",
            "--data-blocks=99",
            "--fec-device=parity",
        ],
        &["--no-superblock", "--salt=0bad"],
    ] {
        type Tool = fn(&Room, &[&str]) -> Command;
        let tools: [(Tool, Tool); 2] = [(Room::ours, Room::theirs), (Room::theirs, Room::ours)];
        for (maker, checker) in tools {
            for name in ["hash", "parity", "root"] {
                drop(fs::remove_file(room.path(name)));
            }
            let paths = ["data", "hash", "--root-hash-file=root"];
            run(&mut maker(
                &room,
                &[&["format"], &paths[..], options].concat(),
            ));
            let check = [&["verify"], &paths[..], options].concat();
            run(&mut checker(&room, &check));
            room.change("data", |data| data[5 * BLOCK] ^= 1);
            let output = checker(&room, &check).output().unwrap();
            let protected = options.iter().any(|option| option.starts_with("--fec"));
            assert_eq!(output.status.code(), Some(if protected { 0 } else { 2 }));
            let repairable = "Found 1 repairable errors with FEC device.";
            assert_eq!(
                said(&output).contains(repairable),
                protected,
                "{}",
                said(&output)
            );
            room.change("data", |data| data[5 * BLOCK] ^= 1);
        }
    }
}

#[test]
fn one_device_takes_all() {
    let room = Room::new();
    room.change("data", |data| data.resize(400 * BLOCK, 7));
    let options = [
        "data",
        "data",
        "--data-blocks=300",
        "--hash-offset=1228800",
        "--fec-device=data",
        "--fec-offset=1249280",
        "--root-hash-file=root",
    ];
    run(&mut room.ours(&[&["format"], &options[..]].concat()));
    run(&mut room.theirs(&[&["verify"], &options[..]].concat()));
    room.change("data", |data| data[9 * BLOCK..10 * BLOCK].fill(0xaa));
    run(&mut room.ours(&[&["repair"], &options[..]].concat()));
    run(&mut room.theirs(&[&["verify"], &options[..]].concat()));
    for (change, why) in [
        ("--hash-offset=4096", "overlaps with hash area"),
        ("--fec-offset=4096", "overlaps with FEC area"),
        (
            "--fec-offset=1232896",
            "behind the end of what is protected",
        ),
    ] {
        let output = room.ours(&[&["format"], &options[..], &[change]].concat());
        let output = { output }.output().unwrap();
        assert!(
            !output.status.success() && said(&output).contains(why),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn damage_is_repaired_in_place() {
    let room = Room::new();
    let root = room.protected();
    let before = ["data", "hash", "parity"].map(|name| fs::read(room.path(name)).unwrap());
    let repair = ["repair", "data", "hash", &root, "--fec-device=parity"];
    assert_eq!(run(&mut room.ours(&repair)), "Nothing is damaged.\n");
    room.change("data", |data| data[70 * BLOCK..71 * BLOCK].fill(0xee));
    // In the other of the two rounds.
    room.change("hash", |hash| hash[2 * BLOCK + 5] ^= 0x10);
    room.change("parity", |parity| parity[16000] ^= 1);
    let told = run(&mut room.ours(&repair));
    assert!(told.contains("4097 bytes in 2 blocks"), "{told}");
    assert!(told.contains("1 bytes of parity"), "{told}");
    let after = ["data", "hash", "parity"].map(|name| fs::read(room.path(name)).unwrap());
    assert!(before == after);
    run(&mut room.theirs(&["verify", "data", "hash", &root]));

    room.change("data", |data| data[..9 * BLOCK].fill(0xee));
    let output = room.ours(&repair).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("blocks are lost"),
        "{}",
        said(&output)
    );
    let output = room.ours(&["verify", "data", "hash", &root, "--fec-device=parity"]);
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("cannot be repaired"),
        "{}",
        said(&output)
    );
}

#[test]
fn root_hashes_are_read_from_files_and_sockets() {
    let room = Room::new();
    let root = room.protected();
    let verify = ["verify", "data", "hash", "--root-hash-file=other"];
    fs::write(room.path("other"), format!("{}\n", root.to_uppercase())).unwrap();
    run(&mut room.ours(&verify));
    fs::remove_file(room.path("other")).unwrap();
    let listener = UnixListener::bind(room.path("other")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            listener
                .accept()
                .unwrap()
                .0
                .write_all(root.as_bytes())
                .unwrap()
        });
        run(&mut room.ours(&verify));
    });
    fs::remove_file(room.path("other")).unwrap();
    for (text, why) in [
        ("", "Invalid root hash"),
        ("abcd", "Invalid root hash"),
        (&root[2..], "has 31 bytes"),
        (
            "no hash at all, but long enough to be one of sixteen",
            "Invalid root hash",
        ),
    ] {
        fs::write(room.path("other"), text).unwrap();
        let output = room.ours(&verify).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}

#[test]
fn failures_have_their_code_and_say_why() {
    let room = Room::new();
    let root = room.protected();
    let zeros = "00".repeat(32);
    fs::write(room.path("short"), [0; 100]).unwrap();
    fs::write(room.path("large"), vec![b'x'; 5000]).unwrap();
    for (line, code, why) in [
        ("", 1, "<action> missing"),
        ("nonsense", 1, "Unknown action nonsense"),
        ("format data", 1, "requires DATA HASH"),
        ("verify data hash a b", 1, "requires DATA HASH [ROOT-HASH]"),
        ("verify data hash", 1, "requires <root_hash>"),
        (
            &format!("verify data hash {zeros}"),
            1,
            "not that of root hash",
        ),
        (
            &format!("verify large hash {root}"),
            1,
            "cannot read the data",
        ),
        (
            &format!("verify data large {root}"),
            1,
            "not a valid VERITY device",
        ),
        (
            &format!("verify data short {root}"),
            1,
            "not a valid VERITY device",
        ),
        (&format!("verify none hash {root}"), 4, "none"),
        (&format!("verify data none {root}"), 4, "none"),
        (&format!("verify data . {root}"), 4, "no file"),
        (
            &format!("verify data hash {root} --fec-device=none"),
            4,
            "none",
        ),
        (
            &format!("verify data hash {root} --hash-offset=100"),
            1,
            "multiple of 512",
        ),
        (
            &format!("verify data hash {root} --no-superblock"),
            1,
            "--salt=",
        ),
        (&format!("repair data hash {root}"), 1, "needs parity"),
        (
            &format!("repair data hash {root} --fec-device=short"),
            1,
            "short is too short",
        ),
        ("dump none", 4, "none"),
        (
            "dump hash --deferred",
            1,
            "Option --deferred is not allowed with dump action.",
        ),
        ("format data new --data-blocks=301", 1, "more than"),
        ("format short new", 1, "no data"),
        ("format data no/such", 1, "cannot make"),
        ("format data new --hash=md5", 1, "known hash"),
        ("format data new --format=2", 1, "hash type 2"),
        ("format data new --data-block-size=1000", 1, "power of two"),
        ("format data new --salt=zz", 1, "hex digits"),
        (
            "format data new --fec-device=p --fec-roots=25",
            1,
            "2 to 24",
        ),
        (
            "format data new --fec-device=p --data-block-size=512",
            1,
            "of one size",
        ),
        (
            "format data new --fec-device=p --fec-offset=100",
            1,
            "FEC offset",
        ),
        ("close no_such_device", -1, ""),
        ("status no_such_device", 4, ""),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = room.ours(&words).output().unwrap();
        let found = output.status.code().unwrap();
        let text = said(&output);
        assert!(
            found == code || (code < 0 && found > 0),
            "{line}: {found}: {text}"
        );
        assert!(text.contains(why), "{line}: {text}");
        for name in ["new", "p"] {
            assert!(!room.path(name).exists(), "{line}");
        }
    }
    let verbose = room.ours(&["dump", "none", "-v"]).output().unwrap();
    let last = "Command failed with code -4 (wrong device or file specified).";
    assert!(said(&verbose).contains(last), "{}", said(&verbose));
    let verbose = room.ours(&["dump", "hash", "-v"]).output().unwrap();
    assert!(said(&verbose).contains("Command successful."));
}

/// Each field of the superblock, spoiled: an error, or the same as before, and never a crash.
#[test]
fn damaged_superblocks_are_survived() {
    let room = Room::new();
    let root = room.protected();
    let good = fs::read(room.path("hash")).unwrap();
    for offset in (0..344).chain([511]) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[offset] = value;
            if bad == good {
                continue;
            }
            // The UUID, and what is behind the name, its length and the salt, say nothing.
            let silent = [16..32, 39..64, 82..88, 89..512];
            if silent.iter().any(|range| range.contains(&offset)) {
                continue;
            }
            fs::write(room.path("bad"), bad).unwrap();
            let words = ["verify", "data", "bad", &root, "--fec-device=parity"];
            let output = room.ours(&words).output().unwrap();
            let code = output.status.code();
            // A root hash does not say how many blocks there are behind it: fewer are fine, too.
            let fewer = offset == 72 && value < 44;
            let fine = matches!(code, Some(1..=4)) || (fewer && code == Some(0));
            assert!(fine, "{offset} {value}: {output:?}");
        }
    }
}

#[test]
fn old_names_and_places_of_options_are_known() {
    let room = Room::new();
    let root = room.protected();
    let link = room.path("veritysetup");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ddi"), &link).unwrap();
    let tool = |words: &[&str]| room.with(Command::new(&link), words);
    run(&mut tool(&[
        "--fec-device=parity",
        "verify",
        "-v",
        "data",
        "hash",
        &root,
    ]));
    run(&mut tool(&[
        "format", "-h", "SHA1", "-s", "00", "data", "other",
    ]));
    let told = run(&mut tool(&["dump", "other"]));
    assert!(told.contains("Hash algorithm:  \tsha1\n"), "{told}");
    for words in [&["--version"][..], &["-V"]] {
        assert!(run(&mut tool(words)).starts_with("veritysetup 2."));
    }
    for words in [&["--help"][..], &["-?"], &["--usage"]] {
        assert!(run(&mut tool(words)).contains("--fec-device") || words == ["--usage"]);
    }
}
