//! `ddi integrity` on image files, which needs neither root nor device-mapper; and what it refuses. What the
//! kernel makes of such files is in `guests_volumes.rs`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use image_specs::integrity::{Layout, Superblock};
use image_specs::units::Bytes;

fn run(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ddi"))
        .arg("integrity")
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with an image file, a key that its owner alone reads, and one that everybody does.
fn room() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("image"))
        .and_then(|file| file.set_len(8 << 20))
        .unwrap();
    for (name, mode) in [("key", 0o600), ("open", 0o644)] {
        let path = folder.path().join(name);
        fs::write(&path, [b'k'; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

const KEYED: &str = "-I hmac-sha256 --integrity-key-size 32 --integrity-key-file";

#[test]
fn files_are_formatted_and_shown() {
    let room = room();
    let folder = room.path();
    let done = run(folder, "format image");
    let told = text(&done.stdout);
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert!(
        told.starts_with(
            "Formatted with tag size 4, internal integrity crc32c.\nFinished, time 00m"
        ),
        "{told}"
    );
    let shown = text(&run(folder, "dump image").stdout);
    let expected = "INTEGRITY header information for image.\nversion: 5\ntag size: 4 [bytes]\n\
                    sector size: 512 [bytes]\ndata size: 15944 [512-byte units] (8163328 [bytes])\n\
                    journal sections: 1\nlog2 interleave sectors: 15\nlog2 blocks per bitmap: 15\n\
                    flags: fix_padding fix_hmac \n";
    assert_eq!(shown, expected);

    // Again: what is there is told, but not in batch mode.
    let done = run(folder, &format!("format {KEYED} key -s 4096 image"));
    assert!(
        text(&done.stderr).contains("holds a signature of Integrity"),
        "{done:?}"
    );
    let done = run(folder, &format!("format -q {KEYED} key --no-wipe image"));
    assert!(done.status.success(), "{done:?}");
    assert!(done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
    let bytes = fs::read(folder.join("image")).unwrap();
    let superblock = Superblock::parse(&bytes).unwrap().unwrap();
    assert_eq!((superblock.tag_size, superblock.sector_size()), (32, 512));
    Layout::of(&superblock, Bytes::mib(8)).unwrap();

    let done = run(folder, "format --progress-json image");
    let lines = text(&done.stdout);
    let last = lines.lines().last().unwrap();
    let told: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(told["device_bytes"], told["device_size"], "{lines}");
    assert_eq!(told["device_size"], "8163328");
}

#[test]
fn what_cannot_be_is_refused_and_no_key_is_told() {
    let room = room();
    let folder = room.path();
    fs::write(folder.join("small"), [0; 4096]).unwrap();
    let before = fs::read(folder.join("image")).unwrap();
    for (line, code, words) in [
        ("frob image", 1, "no action of integritysetup"),
        ("format", 1, "needs a device"),
        ("open image", 1, "needs a device and a name"),
        ("open image a/b", 1, "cannot name a device"),
        ("open image x", 1, "no integrity device"),
        ("dump image", 1, "no integrity device"),
        ("dump nope", 4, "cannot open nope"),
        ("dump .", 4, "neither a block device nor a file"),
        ("format -q small", 1, "too few for an integrity device"),
        ("format -q -s 1000 image", 1, "512, 1024, 2048 or 4096"),
        ("format -q -t 0 image", 1, "tags of no bytes"),
        (
            "format -q -t 500 image",
            1,
            "do not fit into a sector of the journal",
        ),
        ("format -q -I hmac(sha256) image", 1, "names no algorithm"),
        ("format -q -I nonsense image", 1, "say it with --tag-size"),
        ("format -q -I hmac-sha256 image", 1, "needs a key"),
        (
            "format -q --size 5 image",
            1,
            "--size is not allowed with format",
        ),
        (
            "dump --deferred image",
            1,
            "--deferred is not allowed with dump",
        ),
        ("open -B -D image x", 1, "cannot be used with"),
        (
            "format -q --integrity-key-file key image",
            1,
            "belong together",
        ),
        (
            "format -q -I hmac-sha256 --integrity-key-file key --integrity-key-size 64 image",
            1,
            "ends after 32 of 64",
        ),
        (
            "format -q -I hmac-sha256 --integrity-key-file key --integrity-key-size 5000 image",
            1,
            "1 to 4096 bytes",
        ),
        (
            "format -q --integrity-key-file key --integrity-key-size 32 image",
            1,
            "takes no key",
        ),
        (
            "format -q --journal-crypt-key-file key --journal-crypt-key-size 32 image",
            1,
            "no use without",
        ),
        (
            "format -q -I hmac-sha256 --integrity-key-file nope --integrity-key-size 32 image",
            1,
            "cannot read the key",
        ),
    ] {
        let done = run(folder, line);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
        let all = said + &text(&done.stdout);
        assert!(
            !all.contains("kkk") && !all.contains("6b6b"),
            "{line}: {all}"
        );
    }
    assert!(
        before == fs::read(folder.join("image")).unwrap(),
        "nothing was changed"
    );
}

#[test]
fn keys_that_everybody_reads_are_told() {
    let room = room();
    let done = run(room.path(), &format!("format -q {KEYED} open image"));
    assert!(done.status.success(), "{done:?}");
    let said = text(&done.stderr);
    assert!(
        said.contains("every user can read or write the key file open"),
        "{said}"
    );
}
