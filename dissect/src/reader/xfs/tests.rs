//! A small image of mkfs.xfs with one thing changed: each is refused, and says what is wrong.

use std::io;

use filetree::{Limits, Tree, reader};

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

/// Blocks of 1 KiB, inodes of 512 bytes: 64 the root, 67 a file of twelve pieces, 68 a directory of one
/// block with a large attribute, 99 and 100 symlinks, 101 a device. What a reader does not look at is
/// left out, so its checksums are not those of its superblock.
fn image() -> Vec<u8> {
    let mut image = include_bytes!("../../../../fuzz/seeds/xfs/version5").to_vec();
    image.resize(64 << 10, 0);
    image
}

fn read(image: &[u8], verify: bool) -> Result<Tree, ReadError> {
    let size = u64::try_from(image.len()).unwrap();
    let reader = open_with(Arc::new(Image(image.to_vec())), size, verify)?;
    reader::load(&reader.expect("the signature is there"), Limits::default())
}

fn refuse(image: &[u8], verify: bool, message: &str) {
    match read(image, verify) {
        Ok(_) => panic!("all was read, and no {message}"),
        Err(error) => assert!(
            error.to_string().contains(message),
            "{error}, not {message}"
        ),
    }
}

const fn inode(number: usize) -> usize {
    number * 512
}

#[test]
fn impossible_volumes() {
    let sound = image();
    assert_eq!(read(&sound, false).unwrap().len(), 36);
    for (at, bytes, message) in [
        (4, &[0xff][..], "the block size is impossible"),
        (120, &[30], "the block size is impossible"),
        (104, &[0], "the inode size is impossible"),
        (122, &[20], "the inode size is impossible"),
        (123, &[9], "the inode size is impossible"),
        (192, &[9], "the size of blocks of directories is impossible"),
        (124, &[64], "the size of groups is impossible"),
        (84, &[0; 4], "the size of groups is impossible"),
        (88, &[0; 4], "the count of groups is impossible"),
        (88, &[0xff; 4], "the count of groups is impossible"),
        (8, &[0xff; 8], "the count of groups is impossible"),
        (102, &[0, 3], "the sector size is impossible"),
        (101, &[6], "it is of an unknown version"),
        (216, &[1], "it has features that are not known"),
        (56, &[0xff; 8], "a name leads to no inode"),
        (63, &[67], "the root is no directory"),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
    refuse(
        &sound[..60 << 10],
        false,
        "it has more blocks than there is room for",
    );
    refuse(&sound, true, "the checksum of the superblock is wrong");
}

#[test]
fn impossible_inodes() {
    let sound = image();
    let (file, long) = (inode(67), inode(99));
    for (at, bytes, message) in [
        (file, &b"XX"[..], "a name leads to no inode"),
        (file + 4, &[2][..], "the version of an inode is impossible"),
        (file + 16, &[0; 4], "an inode that is not in use"),
        (file + 2, &[0x01, 0xa4], "an inode is of an unknown kind"),
        (file + 5, &[9], "the format of an inode is unknown"),
        (file + 5, &[1], "a fork has no extents"),
        (file + 5, &[3], "a tree of extents is impossible"),
        (file + 56, &[0xff], "the size of a file is impossible"),
        (file + 82, &[0xff], "the forks of an inode are impossible"),
        (file + 91, &[1], "on a realtime device"),
        (file + 76, &[0xff; 4], "a list of extents is too long"),
        (file + 176, &[0x7f], "extents are not in order"),
        (
            file + 176 + 8,
            &[0xff; 3],
            "a file's blocks are not within the file system",
        ),
        (file + 176 + 13, &[0; 3], "extents are not in order"),
        (long + 56, &[0; 8], "the length of a symlink is impossible"),
        (
            long + 56,
            &[0, 0, 1],
            "the length of a symlink is impossible",
        ),
        (long + 62, &[4, 0], "a symlink is cut off"),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
}

#[test]
fn impossible_directories() {
    let sound = image();
    // The directory's block is behind the inodes, its first entries are `.` and `..`.
    let block = 52 << 10;
    assert!(sound[block..].starts_with(b"XDB3"));
    let entry = block + 64 + 32;
    let root = inode(64) + 176;
    for (at, bytes, message) in [
        (block, &b"XXXX"[..], "a block of a directory is none"),
        (
            entry,
            &[0xff, 0xff, 0, 0][..],
            "an entry of a directory is impossible",
        ),
        (
            entry,
            &[0xff, 0xff, 0, 7],
            "an entry of a directory is impossible",
        ),
        (
            entry,
            &[0xff, 0xff, 0xff, 0xf8],
            "an entry of a directory is impossible",
        ),
        (entry, &[0; 8], "a name leads to no inode"),
        (entry + 9, b"/", "a name is impossible"),
        (entry + 8, &[0], "a name is impossible"),
        (
            block + 4096 - 8,
            &[0xff; 4],
            "the index of a directory is impossible",
        ),
        (root, &[200], "a name is impossible"),
        (
            inode(64) + 82,
            &[1, 2],
            "a directory within an inode is impossible",
        ),
        (root + 9, b"/", "a name is impossible"),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
}

#[test]
fn impossible_attributes() {
    let sound = image();
    let fork = |number: usize| inode(number) + 176 + usize::from(sound[inode(number) + 82]) * 8;
    let short = fork(67);
    let leaf = 25 << 10;
    for (at, bytes, message) in [
        (
            short + 2,
            &[0xff][..],
            "a list of extended attributes is impossible",
        ),
        (
            short + 4,
            &[0xff],
            "a list of extended attributes is impossible",
        ),
        (
            short + 7,
            &[0],
            "a list of extended attributes is impossible",
        ),
        (leaf + 8, &[0, 0], "a block of extended attributes is none"),
        (
            leaf + 56,
            &[0xff; 2],
            "a list of extended attributes is impossible",
        ),
        (
            leaf + 80 + 4,
            &[0xff; 2],
            "a list of extended attributes is impossible",
        ),
        (leaf, &[0xff; 4], "metadata of a file are missing"),
        (leaf + 3, &[1], "a block of extended attributes is none"),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&image, false, message);
    }
}
