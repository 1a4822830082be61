//! squashfs with uncompressed tables, so that single fields can be reached.

use super::{Base, HostileImage, Verdict, case, find, put, u32_at};
use Verdict::{Read, Refused};

pub(super) fn cases(base: &Base) -> Vec<HostileImage> {
    let words = [
        "TREE",
        "IMAGE",
        "-quiet",
        "-no-progress",
        "-noI",
        "-noD",
        "-noF",
        "-noX",
        "-all-root",
        "-mkfs-time",
        "0",
        "-all-time",
        "0",
        "-no-exports",
        "-no-xattrs",
    ];
    let image = base.make(None, "mksquashfs", &words);
    let packed = base.make(
        None,
        "mksquashfs",
        &["TREE", "IMAGE", "-quiet", "-no-progress"],
    );
    let mut cases = superblock(&image);
    cases.extend(tables(&image));
    cases.extend(compressed(&packed));
    cases
}

fn superblock(image: &[u8]) -> Vec<HostileImage> {
    let at = |what: &str, field: usize, bytes: &[u8], verdict| {
        case(
            "squashfs",
            what,
            image,
            |image| put(image, field, bytes),
            verdict,
        )
    };
    let cut = |what: &str, size: usize, verdict| {
        case(
            "squashfs",
            what,
            image,
            |image| image.truncate(size),
            verdict,
        )
    };
    vec![
        cut(
            "cut after the superblock",
            96,
            Refused("it says that it is bigger than what it is stored in"),
        ),
        cut(
            "cut in half",
            11_000,
            Refused("it says that it is bigger than what it is stored in"),
        ),
        at(
            "block size of 2^31",
            12,
            &(1u32 << 31).to_le_bytes(),
            Refused("the block size is none that squashfs has"),
        ),
        at(
            "block size unlike its logarithm",
            22,
            &[20, 0],
            Refused("the block size and its logarithm differ"),
        ),
        at(
            "unknown compression",
            20,
            &[99, 0],
            Refused("there is no such compression"),
        ),
        at(
            "version 5",
            28,
            &[5, 0],
            Refused("it is version 5.0, and only 4.0 is known"),
        ),
        at(
            "root beyond the table",
            32,
            &[0xff; 8],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "root in a data block",
            32,
            &[0; 8],
            Refused("root of the file system is no directory"),
        ),
        at(
            "size of 2^64-1",
            40,
            &[0xff; 8],
            Refused("it says that it is bigger than what it is stored in"),
        ),
        at(
            "table of owners beyond the end",
            48,
            &[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "table of inodes beyond the end",
            64,
            &[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "table of directories beyond the end",
            72,
            &[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "table of fragments beyond the end",
            80,
            &[0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0],
            Refused("a place lies behind the image's end"),
        ),
        at("2^32-1 fragments", 16, &[0xff; 4], Read),
        at(
            "65535 owners",
            26,
            &[0xff; 2],
            Refused("a meta-data block is too short"),
        ),
    ]
}

fn tables(image: &[u8]) -> Vec<HostileImage> {
    let inodes = u32_at(image, 64);
    let directories = u32_at(image, 72);
    let second = find(&image[directories..], b"second") + directories;
    let root_reference = u32_at(image, 32);
    let root_offset = u16::try_from(root_reference & 0xffff).unwrap();
    let link = find(&image[inodes..], b"dir/file") + inodes;
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "squashfs",
            what,
            image,
            |image| put(image, place, bytes),
            verdict,
        )
    };
    // A name's header has the offset of its inode at 0, its kind at 4, its length less one at 6.
    vec![
        at(
            "metadata block of 32767 bytes",
            inodes,
            &[0xff, 0xff],
            Refused("a meta-data block has an impossible size"),
        ),
        at(
            "2^32 names in a directory",
            directories + 2,
            &[0xff; 4],
            Refused("a directory header counts more than 256 entries"),
        ),
        at(
            "directory's inodes beyond the table",
            directories + 2 + 4,
            &[0xff; 4],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "name of 65536 bytes",
            second - 2,
            &[0xff; 2],
            Refused("a name is longer than 256 bytes"),
        ),
        at(
            "name with a slash",
            second,
            b"se/ond",
            Refused("a directory has an impossible name"),
        ),
        at(
            "name that leads nowhere",
            second - 8,
            &[0xff, 0x1f],
            Refused("a meta-data block is too short"),
        ),
        at(
            "directory within itself",
            second - 8,
            &root_offset.to_le_bytes(),
            Refused("the file system has the directory /dir/second in two places"),
        ),
        at(
            "one name twice",
            second - 2,
            &[3, 0, b'f', b'i', b'l', b'e'],
            Refused("a directory header counts more than 256 entries"),
        ),
        at(
            "symlink of 2^32-1 bytes",
            link - 4,
            &[0xff; 4],
            Refused("a symlink's target is too long"),
        ),
        at(
            "kind of file that there is not",
            inodes + 2,
            &[99, 0],
            Refused("there is no such kind of inode"),
        ),
    ]
}

fn compressed(image: &[u8]) -> Vec<HostileImage> {
    let inodes = u32_at(image, 64);
    let noise = |what: &str, place: usize, verdict| {
        let change = |image: &mut Vec<u8>| {
            for byte in &mut image[place..place + 16] {
                *byte ^= 0x5a;
            }
        };
        case("squashfs", what, image, change, verdict)
    };
    vec![
        noise(
            "noise in compressed inodes",
            inodes + 4,
            Refused("a meta-data block cannot be decompressed"),
        ),
        noise(
            "noise in compressed data",
            100,
            Refused("a data block cannot be decompressed"),
        ),
    ]
}
