//! Images of mke2fs with one thing changed: each is refused, and says what is wrong.

use std::io;
use std::process::Command;

use filetree::{Limits, reader};

use super::*;

#[derive(Debug)]
struct Image(Vec<u8>);

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.0.get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A file system with a file of several extents, a directory, attributes and a symlink.
fn image(options: &str) -> Vec<u8> {
    let script = r#"
        mkdir files; cd files; mkdir dir; ln -s target link; mknod -m 644 fifo p
        for n in 1 2 3 4 5 6 7; do printf x | dd of=file bs=1 seek=${n}8192 conv=notrunc; done
        setfattr -n user.a -v 1 dir; setfattr -n user.b -v "$(printf %0300d 1)" dir
        truncate -s 256K ../image; mke2fs -qF -b 1024 -N 24 -d . $0 ../image"#;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", script, options]).current_dir(&folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read(folder.path().join("image")).unwrap()
}

fn opened(image: &[u8], verify: bool) -> Result<Option<Ext4>, ReadError> {
    let size = u64::try_from(image.len()).unwrap();
    open_with(Arc::new(Image(image.to_vec())), size, verify)
}

/// Loads everything, and wants this error.
fn refuse(image: &[u8], verify: bool, message: &str) {
    let loaded = opened(image, verify).and_then(|reader| {
        let reader = reader.expect("the signature is there");
        reader::load(&reader, Limits::default())
    });
    match loaded {
        Ok(_) => panic!("all was read, and no {message}"),
        Err(error) => assert!(
            error.to_string().contains(message),
            "{error}, not {message}"
        ),
    }
}

/// Where inodes are, by the name that leads to them from the root.
fn inode(image: &[u8], name: &str) -> usize {
    let reader = opened(image, false).unwrap().unwrap();
    let place = match name {
        "" => reader.root(),
        name => reader
            .lookup(reader.root(), name.as_bytes())
            .unwrap()
            .unwrap(),
    };
    usize::try_from(reader.stored(place).unwrap().offset).unwrap()
}

/// The first block of a file, which an extent in the inode names.
fn block(image: &[u8], inode: usize) -> usize {
    usize::try_from(superblock::u32_at(image, inode + 40 + 12 + 8)).unwrap() * 1024
}

const EXTENTS: &str = "-t ext4 -O ^has_journal,^resize_inode";

#[test]
fn impossible_superblocks() {
    let sound = image(EXTENTS);
    opened(&sound, true).unwrap().unwrap();
    for (at, bytes, message) in [
        (24, &[7][..], "the block size is impossible"),
        (28, &[40], "the cluster size is impossible"),
        (32, &[0; 4], "the blocks of a group are impossible"),
        (40, &[0; 4], "the inodes of a group are impossible"),
        (40, &[0xff; 4], "the inodes of a group are impossible"),
        (0, &[0xff; 4], "it has more inodes than its groups"),
        (4, &[0xff; 4], "it has more blocks than there is room for"),
        (20, &[0xff; 4], "its first block is not within"),
        (84, &[3, 0], "its first inode is impossible"),
        (88, &[100, 0], "the inode size is impossible"),
        (88, &[0, 8], "the inode size is impossible"),
        (
            96,
            &[0xff; 4],
            "it has features that are not known (incompatible, 0xfff",
        ),
        (254, &[0, 0], "the size of group descriptors is impossible"),
        (373, &[2], "its checksums are of an unknown kind"),
    ] {
        let mut image = sound.clone();
        image[1024 + at..1024 + at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
    let mut short = sound.clone();
    short.truncate(sound.len() - 1024);
    refuse(&short, true, "it has more blocks than there is room for");
    assert!(opened(&sound[..1500], true).unwrap().is_none());
    let mut other = sound;
    other[1080] ^= 1;
    assert!(opened(&other, true).unwrap().is_none());
}

#[test]
fn impossible_inodes() {
    let sound = image(EXTENTS);
    let at = |name: &str, field: usize| inode(&sound, name) + field;
    for (at, bytes, message) in [
        (at("", 0), &[0xa4, 0x81][..], "the root is no directory"),
        (at("file", 0), &[0, 0], "an inode is of an unknown kind"),
        (at("file", 26), &[0, 0], "an inode that is not in use"),
        (at("file", 111), &[0x80], "the size of a file is impossible"),
        (
            at("file", 128),
            &[0xf0, 0],
            "the size of an inode's fields is impossible",
        ),
        (
            at("file", 128),
            &[30, 0],
            "the size of an inode's fields is impossible",
        ),
        (
            at("file", 136),
            &[0xff; 4],
            "a time has too many nanoseconds",
        ),
        (at("file", 33), &[8], "is encrypted"),
        (at("dir", 33), &[8], "is encrypted"),
        (
            at("link", 4),
            &[0; 4],
            "the length of a symlink is impossible",
        ),
        (
            at("link", 4),
            &[0xff; 4],
            "the length of a symlink is impossible",
        ),
        (at("link", 4), &[10, 0], "a symlink has a NUL"),
        (
            at("file", 41),
            &[0],
            "a node of a tree of extents is impossible",
        ),
        (
            at("file", 44),
            &[200],
            "a node of a tree of extents is impossible",
        ),
        (at("file", 46), &[6], "a tree of extents is too deep"),
        (
            at("dir", 40 + 12 + 11),
            &[9],
            "a file's blocks are not within the file system",
        ),
        (at("dir", 40 + 12 + 4), &[0, 0], "extents are not in order"),
        (
            at("dir", 104),
            &[0xff; 4],
            "extended attributes are not within",
        ),
        (
            at("dir", 104),
            &[1, 0, 0, 0],
            "a block of extended attributes is none",
        ),
        (
            at("dir", 160 + 4),
            &[0xff; 4],
            "a list of extended attributes is impossible",
        ),
        (
            at("dir", 160 + 4 + 2),
            &[0xff; 2],
            "the value of an extended attribute is not within",
        ),
        (
            at("dir", 160 + 4 + 8),
            &[0xff; 4],
            "the value of an extended attribute is not within",
        ),
        (
            at("dir", 160 + 4 + 4),
            &[0xff; 4],
            "a name leads to no inode",
        ),
        (
            at("dir", 160 + 4 + 4),
            &[2, 0, 0, 0],
            "the inode of an extended attribute is none",
        ),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
}

#[test]
fn impossible_directories() {
    let sound = image(EXTENTS);
    let root = block(&sound, inode(&sound, ""));
    // Behind `.` and `..`.
    for (at, bytes, message) in [
        (28, &[0, 0][..], "an entry of a directory is impossible"),
        (28, &[8, 0], "an entry of a directory is impossible"),
        (28, &[0xff, 0xff], "an entry of a directory is impossible"),
        (30, &[0xff], "an entry of a directory is impossible"),
        (30, &[0], "a name is impossible"),
        (33, b"/", "a name is impossible"),
        (24, &[0xff; 4], "a name leads to no inode"),
        (24, &[8, 0, 0, 0], "a name leads to no inode"),
    ] {
        let mut image = sound.clone();
        image[root + at..root + at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
    let (one, two) = (inode(&sound, "dir"), inode(&sound, "lost+found"));
    let mut image = sound.clone();
    image.copy_within(one + 40..one + 100, two + 40);
    refuse(&image, false, "two files have one block of metadata");
}

/// A tree of extents and blocks of numbers that lead to themselves.
#[test]
fn maps_without_an_end() {
    let sound = image(EXTENTS);
    let file = inode(&sound, "file");
    assert_eq!(sound[file + 46], 1, "the file has a tree of two levels");
    let leaf = usize::try_from(superblock::u32_at(&sound, file + 40 + 12 + 4)).unwrap() * 1024;
    for (at, bytes, message) in [
        // The leaf becomes a node whose child is itself.
        (
            leaf + 6,
            &[1, 0][..],
            "a node of a tree of extents is impossible",
        ),
        (leaf + 12, &[0xff; 4], "extents are not in order"),
        (leaf + 12 + 12, &[0; 4], "extents are not in order"),
        (file + 40 + 12, &[0, 0, 1, 0], "extents are not in order"),
        (
            file + 40 + 12 + 8,
            &[1, 0],
            "a file's blocks are not within the file system",
        ),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
    let sound = image("-t ext4 -O ^extent,^64bit,^has_journal,^resize_inode");
    let file = inode(&sound, "file");
    let numbers = superblock::u32_at(&sound, file + 40 + 48);
    for (message, change) in [
        ("a file has a block of its map twice", numbers),
        ("a file's blocks are not within the file system", 0xffff),
    ] {
        let mut image = sound.clone();
        // The second level names the block of the first; it is large enough to need it.
        image[file + 40 + 52..file + 40 + 56].copy_from_slice(&change.to_le_bytes());
        image[file + 4..file + 8].copy_from_slice(&(40_u32 << 20).to_le_bytes());
        refuse(&image, false, message);
    }
}

#[test]
fn checksums_are_verified() {
    let sound = image(EXTENTS);
    let file = inode(&sound, "file");
    let tree = usize::try_from(superblock::u32_at(&sound, file + 40 + 12 + 4)).unwrap() * 1024;
    let attributes = superblock::u32_at(&sound, inode(&sound, "dir") + 104);
    for (at, what) in [
        (1024 + 120, "the superblock"),
        (2048 + 10, "a group descriptor"),
        (file + 20, "an inode"),
        (tree + 500, "a tree of extents"),
        (block(&sound, inode(&sound, "")) + 1000, "a directory"),
        (
            usize::try_from(attributes).unwrap() * 1024 + 500,
            "extended attributes",
        ),
    ] {
        let mut image = sound.clone();
        image[at] ^= 1;
        let message = format!("the checksum of {what} is wrong");
        refuse(&image, true, &message);
    }
}
