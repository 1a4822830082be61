//! Images of our own writer and of mksquashfs, whole and damaged.

use std::io;
use std::path::Path;
use std::process::Command;

use filetree::reader::load;
use filetree::{DeviceNumber, Tree, diff};

use super::*;
use crate::writer::tests::{all, image, noise, sample};

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.saturating_add(buffer.len());
        let part = self.0.get(start..end);
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn read(bytes: Vec<u8>, limits: Limits) -> Result<Option<Tree>, ReadError> {
    let size = bytes.len().try_into().unwrap();
    let image = open(Arc::new(Bytes(bytes)), size)?;
    image.map(|image| load(&image, limits)).transpose()
}

fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let id = tree.lookup(path.as_bytes()).unwrap();
    let Kind::File(content) = &tree.inode(id).kind else {
        panic!("{path} is no file");
    };
    let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
    content
        .open()
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    bytes
}

#[test]
fn what_was_written_is_read_back() {
    let tree = sample();
    for parameters in all() {
        let name = parameters.compression.algorithm().name();
        let bytes = image(&tree, parameters).unwrap();
        let back = read(bytes, Limits::default()).unwrap().unwrap();
        let differences = diff::diff(&tree, &back).unwrap();
        assert!(differences.is_empty(), "{name}: {differences:?}");
        let hard = back.lookup(b"dir/sub/hard");
        assert!(hard.is_some() && hard == back.lookup(b"dir/big"), "{name}");
    }
}

#[test]
fn images_of_mksquashfs_are_read() {
    let source = tempfile::tempdir().unwrap();
    let files = [
        ("small", 10),
        ("dir/block", 131_072),
        ("dir/tail", 400_001),
        ("text", 70_000),
    ];
    std::fs::create_dir(source.path().join("dir")).unwrap();
    for (name, length) in files {
        std::fs::write(
            source.path().join(name),
            noise(length, usize::try_from(length).unwrap()),
        )
        .unwrap();
    }
    std::fs::File::create(source.path().join("hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    std::fs::hard_link(source.path().join("small"), source.path().join("dir/hard")).unwrap();
    std::os::unix::fs::symlink("dir/block", source.path().join("link")).unwrap();
    for number in 0..3000 {
        std::fs::write(
            source.path().join(format!("dir/{number}")),
            number.to_string(),
        )
        .unwrap();
    }
    for options in [
        "-comp gzip",
        "-comp xz -b 65536",
        "-comp lz4 -always-use-fragments",
        "-comp zstd -b 1M",
        "-no-fragments -noD -noI",
    ] {
        let bytes = mksquashfs(source.path(), options);
        let tree = read(bytes, Limits::default()).unwrap().unwrap();
        for (name, length) in files {
            assert!(
                content(&tree, name) == noise(length, usize::try_from(length).unwrap()),
                "{options} {name}"
            );
        }
        assert!(content(&tree, "hole") == vec![0; 1 << 20], "{options}");
        assert_eq!(content(&tree, "dir/2999"), b"2999", "{options}");
        assert_eq!(tree.lookup(b"small"), tree.lookup(b"dir/hard"), "{options}");
        let device = tree.inode(tree.lookup(b"dev").unwrap());
        let expected = DeviceNumber { major: 1, minor: 3 };
        assert!(matches!(device.kind, Kind::CharacterDevice(number) if number == expected));
        assert_eq!(
            (
                device.metadata.uid,
                device.metadata.gid,
                device.metadata.mode
            ),
            (5, 6, 0o620)
        );
        assert_eq!(
            tree.lookup(b"")
                .map(|id| tree.inode(id).entries().unwrap().len()),
            Some(6)
        );
    }
}

fn mksquashfs(source: &Path, options: &str) -> Vec<u8> {
    let target = tempfile::NamedTempFile::new().unwrap();
    let made = Command::new("mksquashfs")
        .arg(source)
        .arg(target.path())
        .args([
            "-noappend",
            "-quiet",
            "-no-progress",
            "-p",
            "dev c 620 5 6 1 3",
        ])
        .args(options.split(' '))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::read(target.path()).unwrap()
}

/// Reads everything that a damaged image still gives.
fn exhaust(bytes: Vec<u8>) {
    let limits = Limits {
        memory: 4 << 20,
        ..Limits::default()
    };
    let Ok(Some(tree)) = read(bytes, limits) else {
        return;
    };
    let mut buffer = vec![0; 1 << 20];
    for (_, id) in tree.walk() {
        if let Kind::File(content) = &tree.inode(id).kind {
            let open = content.open().unwrap();
            for range in content.data().iter().take(3) {
                let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let part = &mut buffer[..length.min(1 << 20)];
                let _ = open.read_exact_at(part, range.start);
            }
        }
    }
}

#[test]
fn damaged_images_do_no_harm() {
    for parameters in all() {
        let whole = image(&sample(), parameters).unwrap();
        let tables = whole.len().saturating_sub(6000);
        for (round, at) in noise(11, 3000).chunks(2).enumerate() {
            let mut damaged = whole.clone();
            let random = usize::from(at[0]) << 8 | usize::from(at[1]);
            // A third in the superblock, the rest in the tables at the end.
            let place = match round % 3 {
                0 => random % 96,
                _ => tables + random % (whole.len() - tables),
            };
            damaged[place] ^= at[1] | 1;
            exhaust(damaged);
        }
        for length in (0..whole.len()).step_by(whole.len() / 50) {
            let mut short = whole[..length].to_vec();
            if let Some(says) = short.get_mut(40..48) {
                says.copy_from_slice(&u64::try_from(length).unwrap().to_le_bytes());
            }
            exhaust(short);
        }
    }
}

#[test]
fn uncompressed_tables_are_damaged_to_the_bone() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..40u8 {
        let length = usize::from(number) * 100;
        std::fs::write(source.path().join(number.to_string()), vec![number; length]).unwrap();
    }
    let whole = mksquashfs(source.path(), "-noI -noId -noD -noF");
    let superblock = Superblock::parse(whole.first_chunk().unwrap())
        .unwrap()
        .unwrap();
    let (begin, end) = (superblock.inodes, superblock.size);
    for place in (0..96).chain(begin..end) {
        for value in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[usize::try_from(place).unwrap()] ^= value;
            exhaust(damaged);
        }
    }
}

#[test]
fn what_is_no_squashfs_is_told_from_what_is_damaged() {
    let read_all = |bytes| read(bytes, Limits::default());
    assert!(matches!(read_all(vec![0; 4096]), Ok(None)));
    assert!(matches!(read_all(vec![0; 50]), Err(ReadError::Read { .. })));
    let mut bytes = image(&sample(), Default::default()).unwrap();
    bytes[28] = 3;
    let error = read_all(bytes).unwrap_err().to_string();
    assert!(error.contains("it is version 3.0"), "{error}");
    let mut bytes = image(&sample(), Default::default()).unwrap();
    bytes.truncate(bytes.len() / 2);
    let error = read_all(bytes).unwrap_err().to_string();
    assert!(
        error.contains("bigger than what it is stored in"),
        "{error}"
    );
    let bytes = image(&sample(), Default::default()).unwrap();
    let limits = Limits {
        memory: 1000,
        ..Limits::default()
    };
    let error = read(bytes, limits).unwrap_err();
    assert!(matches!(error, ReadError::Memory(1000)), "{error}");
}
