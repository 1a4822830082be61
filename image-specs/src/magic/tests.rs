//! Real tools make the volumes, and `blkid -p` says what it finds in them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::*;

fn find(bytes: &[u8]) -> Vec<Found> {
    let size = length(bytes.len());
    let mut read = |offset: u64, buffer: &mut [u8]| {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        Ok::<(), Infallible>(())
    };
    let Ok(found) = probe(size, &mut read);
    found
}

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn blkid(path: &Path) -> BTreeMap<String, String> {
    let text = run("blkid", &["-p", "-o", "export", path.to_str().unwrap()]);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.replace("\\ ", " ")))
        .collect()
}

const UUID: &str = "6c08bd44-fed4-4c4e-915a-d1b245eb89de";

/// Size in MiB, kind, command with `@` for the file.
const VOLUMES: &[(u64, Kind, &str)] = &[
    (8, Kind::Ext2, "mkfs.ext2 -q -L lab -U UUID @"),
    (8, Kind::Ext3, "mkfs.ext3 -q -L lab -U UUID @"),
    (8, Kind::Ext4, "mkfs.ext4 -q -L lab -U UUID @"),
    (120, Kind::Btrfs, "mkfs.btrfs -q -L lab -U UUID @"),
    (320, Kind::Xfs, "mkfs.xfs -q -L lab -m uuid=UUID @"),
    (1, Kind::Vfat, "mkfs.vfat -F 12 -n LAB -i 1234abcd @"),
    (16, Kind::Vfat, "mkfs.vfat -F 16 -n LAB @"),
    (64, Kind::Vfat, "mkfs.vfat -F 32 -n LAB @"),
    (64, Kind::Vfat, "mkfs.vfat -F 32 -S 4096 @"),
    (2, Kind::Swap, "mkswap -q -L lab -U UUID @"),
    (2, Kind::Swap, "mkswap -q -p 65536 @"),
    (
        20,
        Kind::Luks2,
        "cryptsetup -q luksFormat --type luks2 --label lab --uuid UUID --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file DIR/file @",
    ),
    (
        20,
        Kind::Luks1,
        "cryptsetup -q luksFormat --type luks1 --uuid UUID --pbkdf-force-iterations 1000 --key-file DIR/file @",
    ),
    (
        2,
        Kind::VerityHash,
        "veritysetup format --uuid UUID /bin/true @",
    ),
    (0, Kind::Squashfs, "mksquashfs /bin/true @ -noappend -quiet"),
    (0, Kind::Erofs, "mkfs.erofs -U UUID @ DIR"),
    (
        0,
        Kind::Iso9660,
        "xorriso -outdev @ -volid LAB -map /bin/true /true",
    ),
];

#[test]
fn blkid_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("dir")).unwrap();
    fs::write(folder.path().join("dir/file"), "x").unwrap();
    let dir = folder.path().join("dir");
    for (number, (size, kind, command)) in VOLUMES.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        if *size > 0 {
            File::create(&path).unwrap().set_len(size << 20).unwrap();
        }
        let words: Vec<String> = command
            .split(' ')
            .map(|word| {
                word.replace("UUID", UUID)
                    .replace('@', path.to_str().unwrap())
            })
            .map(|word| word.replace("DIR", dir.to_str().unwrap()))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words[0] == "veritysetup" {
            let data = folder.path().join("data");
            fs::write(&data, vec![0; 65536]).unwrap();
            run(
                "veritysetup",
                &["format", "--uuid", UUID, data.to_str().unwrap(), words[5]],
            );
        } else {
            run(words[0], &words[1..]);
        }
        let found = find(&fs::read(&path).unwrap());
        let one = identify(&found)
            .unwrap()
            .unwrap_or_else(|| panic!("{command}: nothing"));
        let theirs = blkid(&path);
        assert_eq!(one.kind, *kind, "{command}");
        assert_eq!(one.kind.name(), theirs["TYPE"], "{command}");
        assert_eq!(one.uuid.as_ref(), theirs.get("UUID"), "{command}");
        assert_eq!(one.label.as_ref(), theirs.get("LABEL"), "{command}");
        if let (Some(ours), Some(theirs)) = (one.block_size, theirs.get("BLOCK_SIZE")) {
            assert_eq!(&ours.to_string(), theirs, "{command}");
        }
        wiped_is_nothing(&path, &found, command);
    }
}

/// Kind, size in KiB, and what lies where; places below zero count from the end.
type Made = (Kind, u64, Vec<(i64, Vec<u8>)>);

/// What no tool of this machine makes, by its format's description.
fn members() -> Vec<Made> {
    let le = |number: u64| number.to_le_bytes().to_vec();
    let pairs = [
        &b"\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x24\0\0\0\x20\0\0\0\x07version\0"[..],
        b"\0\0\0\x08\0\0\0\x01\0\0\0\0\0\0\x13\x88",
    ]
    .concat();
    let uberblocks = |label: i64| (0..8).map(move |slot| label + (128 << 10) + slot * 1024);
    let zfs = |labels: &[i64]| {
        let mut made: Vec<(i64, Vec<u8>)> = Vec::new();
        for label in labels {
            made.push((label + (16 << 10), pairs.clone()));
            for at in uberblocks(*label) {
                made.push((at, [le(0x00ba_b10c), le(5000), le(7)].concat()));
            }
        }
        made
    };
    let label = 256 << 10;
    let mut ddf = vec![0; 512];
    ddf[..4].copy_from_slice(&[0xde, 0x11, 0xde, 0x11]);
    ddf[8..32].copy_from_slice(b"ABCDEFGHIJKLMNOPQRSTUVWX");
    ddf[32..40].copy_from_slice(b"01.02.00");
    let drbd = |version: u8| {
        let mut block = vec![0; 4096];
        block[60..64].copy_from_slice(&[0x83, 0x74, 0x02, version]);
        block
    };
    let bcache = [le(0), le(8), le(1), members::BCACHE.to_vec(), vec![7; 16]].concat();
    vec![
        (Kind::Zfs, 64 << 10, zfs(&[0, label, -2 * label, -label])),
        (Kind::Zfs, 64 << 10, zfs(&[-label])),
        (Kind::Bcache, 1024, vec![(4096, bcache)]),
        (Kind::Drbd, 2048, vec![(-4096, drbd(0x6b))]),
        (Kind::Drbd, 2048, vec![(-4096, drbd(0x6c))]),
        (Kind::Drbd, 2048, vec![(-4096, drbd(0x6d))]),
        (Kind::DdfRaid, 2048, vec![(-512, ddf.clone())]),
        (Kind::DdfRaid, 2048, vec![(-512 * 257, ddf)]),
        (
            Kind::IswRaid,
            2048,
            vec![(-1024, b"Intel Raid ISM Cfg Sig. 1.3.00".to_vec())],
        ),
    ]
}

#[test]
fn members_of_larger_things_are_found_as_blkid_finds_them() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (kind, size, parts)) in members().into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        let mut bytes = vec![0; usize::try_from(size << 10).unwrap()];
        let end = i64::try_from(bytes.len()).unwrap();
        for (place, part) in parts {
            let place = if place < 0 { end + place } else { place };
            let start = usize::try_from(place).unwrap();
            bytes[start..start + part.len()].copy_from_slice(&part);
        }
        fs::write(&path, &bytes).unwrap();
        let found = find(&bytes);
        let word = format!("{number}: {kind}");
        assert_eq!(
            identify(&found).unwrap().map(|one| one.kind),
            Some(kind),
            "{word}"
        );
        assert!(kind.is_member(), "{word}");
        assert_eq!(Kind::of_volume(kind.name()), Some(kind), "{word}");
        assert_eq!(
            blkid(&path).get("TYPE").map(String::as_str),
            Some(kind.name()),
            "{word}"
        );
        wiped_is_nothing(&path, &found, &word);
    }
}

#[test]
fn file_systems_of_other_systems_are_known() {
    for (kind, offset, magic) in [
        (Some(Kind::HfsPlus), 1024, &b"H+\0\x04"[..]),
        (Some(Kind::HfsPlus), 1024, b"HX\0\x05"),
        (None, 1024, b"H+\0\x05"),
        (Some(Kind::Apfs), 32, b"NXSB"),
    ] {
        let mut bytes = vec![0; 70_000];
        bytes[offset..offset + magic.len()].copy_from_slice(magic);
        let kinds: Vec<Kind> = find(&bytes).iter().map(|one| one.kind).collect();
        assert_eq!(kinds, kind.into_iter().collect::<Vec<_>>(), "{magic:?}");
        assert!(!kind.is_some_and(Kind::is_member));
    }
}

/// With every magic cleared, nobody finds anything.
fn wiped_is_nothing(path: &Path, found: &[Found], command: &str) {
    let mut bytes = fs::read(path).unwrap();
    for magic in found.iter().flat_map(|one| &one.magics) {
        let start = usize::try_from(magic.start.get()).unwrap();
        let size = usize::try_from(magic.size.get()).unwrap();
        bytes[start..start + size].fill(0);
    }
    assert_eq!(find(&bytes), [], "{command}");
    fs::write(path, &bytes).unwrap();
    let done = Command::new("wipefs")
        .args(["--noheadings", "--parsable"])
        .arg(path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "", "{command}");
}

#[test]
fn partition_tables_are_found_with_all_their_places() {
    let folder = tempfile::tempdir().unwrap();
    for (label, expected) in [
        (
            "gpt",
            &[
                (Kind::Dos, 510),
                (Kind::Gpt, 512),
                (Kind::Gpt, (8 << 20) - 512),
            ][..],
        ),
        ("dos", &[(Kind::Dos, 510)]),
    ] {
        let path = folder.path().join(label);
        File::create(&path).unwrap().set_len(8 << 20).unwrap();
        let script = folder.path().join("script");
        fs::write(&script, format!("label: {label}\nstart=2048,size=2048\n")).unwrap();
        let input = File::open(&script).unwrap();
        let done = Command::new("sfdisk")
            .args(["-q".as_ref(), path.as_os_str()])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(input)
            .status()
            .unwrap();
        assert!(done.success());
        let found = find(&fs::read(&path).unwrap());
        let places: Vec<(Kind, u64)> = found
            .iter()
            .map(|one| (one.kind, one.start().get()))
            .collect();
        assert_eq!(places, expected);
        assert_eq!(identify(&found).unwrap().unwrap().kind.name(), label);
        wiped_is_nothing(&path, &found, label);
    }
}

#[test]
fn two_volumes_are_ambiguous() {
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"XFSB");
    bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
    let found = find(&bytes);
    let error = identify(&found).unwrap_err();
    assert_eq!((error.first, error.second), (Kind::Xfs, Kind::Ext2));
}

#[test]
fn small_and_empty_volumes_hold_nothing() {
    for size in [0, 1, 511, 512, 513, 4096, 70000] {
        assert_eq!(find(&vec![0; size]), []);
        find(&vec![0xff; size]);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(seed in proptest::collection::vec((0..70000_usize, proptest::num::u8::ANY), 0..200), pick in 0..MAGICS.len()) {
        let mut bytes = vec![0; 70000];
        let (_, offset, magic) = MAGICS[pick];
        let start = usize::try_from(offset).unwrap();
        bytes[start..start + magic.len()].copy_from_slice(magic);
        for (offset, value) in seed {
            bytes[offset] = value;
        }
        let _ = identify(&find(&bytes));
    }
}
