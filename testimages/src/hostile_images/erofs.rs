//! erofs without and with compression.

use super::{Base, HostileImage, Verdict, case, find, put, u16_at, u32_at};
use Verdict::Refused;

const SUPERBLOCK: usize = 1024;
const BLOCK: usize = 4096;

pub(super) fn cases(base: &Base) -> Vec<HostileImage> {
    let image = base.make(None, "mkfs.erofs", &["-T0", "--all-root", "IMAGE", "TREE"]);
    let packed = base.make(
        None,
        "mkfs.erofs",
        &["-T0", "--all-root", "-zlz4", "IMAGE", "TREE"],
    );
    let mut cases = superblock(&image);
    cases.extend(inodes(&image));
    cases.extend(compressed(&packed));
    cases
}

/// Changes the image and makes its superblock's checksum void: the feature bit is cleared.
fn change(image: &mut [u8], place: usize, bytes: &[u8]) {
    let features = u32_at(image, SUPERBLOCK + 8) & !1;
    put(
        image,
        SUPERBLOCK + 8,
        &u32::try_from(features).unwrap().to_le_bytes(),
    );
    put(image, place, bytes);
}

fn superblock(image: &[u8]) -> Vec<HostileImage> {
    let at = |what: &str, field: usize, bytes: &[u8], verdict| {
        let to = |image: &mut Vec<u8>| change(image, SUPERBLOCK + field, bytes);
        case("erofs", what, image, to, verdict)
    };
    let cut = |what: &str, size: usize, verdict| {
        case("erofs", what, image, |image| image.truncate(size), verdict)
    };
    let checksum = |image: &mut Vec<u8>| image[SUPERBLOCK + 5] ^= 1;
    vec![
        cut(
            "cut after the superblock",
            1152,
            Refused("a place lies behind the image's end"),
        ),
        cut(
            "cut in half",
            image.len() / 2,
            Refused("a place lies behind the image's end"),
        ),
        case(
            "erofs",
            "wrong checksum",
            image,
            checksum,
            Refused("the superblock's checksum is wrong"),
        ),
        at(
            "blocks of 2^31 bytes",
            12,
            &[31],
            Refused("the block size is none that erofs has"),
        ),
        at(
            "blocks of 2 bytes",
            12,
            &[1],
            Refused("the block size is none that erofs has"),
        ),
        at(
            "root inode 65535",
            14,
            &[0xff; 2],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "inodes beyond the end",
            40,
            &[0xff; 4],
            Refused("a place lies behind the image's end"),
        ),
        at(
            "unknown features",
            80,
            &[0, 0, 0, 0x80],
            Refused("it has unknown features 0x80000000"),
        ),
        at(
            "2^16-1 other devices",
            86,
            &[0xff; 2],
            Refused("its data is on several devices"),
        ),
    ]
}

/// The root directory's inode.
fn root(image: &[u8]) -> usize {
    u32_at(image, SUPERBLOCK + 40) * BLOCK + u16_at(image, SUPERBLOCK + 14) * 32
}

fn inodes(image: &[u8]) -> Vec<HostileImage> {
    let root = root(image);
    let names = find(image, b"...bigdirlink") - 3;
    let names = if image[names + 3] == b'.' {
        names + 3
    } else {
        names
    };
    // Five entries of 12 bytes stand before the names: ., .., big, dir, link.
    let entries = names - 5 * 12;
    let nid = |index: usize| entries + index * 12;
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "erofs",
            what,
            image,
            |image| change(image, place, bytes),
            verdict,
        )
    };
    let root_nid: [u8; 8] = {
        let nid = u64::try_from(u16_at(image, SUPERBLOCK + 14)).unwrap();
        nid.to_le_bytes()
    };
    let swap = |image: &mut Vec<u8>| {
        let big = find(image, b"bigdirlink");
        change(image, big, b"big/irlink");
    };
    let twice = |image: &mut Vec<u8>| {
        let big = find(image, b"bigdirlink");
        change(image, big, b"dirdirlink");
    };
    vec![
        at(
            "root with an unknown layout",
            root,
            &[0x0e, 0],
            Refused("there is no such layout of an inode"),
        ),
        at(
            "root is a file",
            root + 4,
            &0x81a4u16.to_le_bytes(),
            Refused("root of the file system is no directory"),
        ),
        at(
            "root of 2^32-1 bytes",
            root + 8,
            &[0xff; 4],
            Refused("more than"),
        ),
        at(
            "first name at 0",
            nid(0) + 8,
            &[0, 0],
            Refused("a directory's table is damaged"),
        ),
        at(
            "first name at 13",
            nid(0) + 8,
            &[13, 0],
            Refused("a directory's table is damaged"),
        ),
        at(
            "first name behind the block",
            nid(0) + 8,
            &[0xff; 2],
            Refused("a directory's table is damaged"),
        ),
        at(
            "names in disorder",
            nid(3) + 8,
            &[0, 0],
            Refused("a directory's names are not in order"),
        ),
        at(
            "name that leads beyond the end",
            nid(2),
            &[0xff; 8],
            Refused("an inode lies outside the image"),
        ),
        at(
            "directory within itself",
            nid(3),
            &root_nid,
            Refused("the file system has the directory /dir in two places"),
        ),
        case(
            "erofs",
            "name with a slash",
            image,
            swap,
            Refused("a directory has an impossible name"),
        ),
        case(
            "erofs",
            "one name twice",
            image,
            twice,
            Refused("the file system has two files by the name of /dir"),
        ),
    ]
}

fn compressed(image: &[u8]) -> Vec<HostileImage> {
    let noise = |image: &mut Vec<u8>| {
        let end = image.len();
        for byte in &mut image[end - 2048..] {
            *byte ^= 0x5a;
        }
    };
    vec![case(
        "erofs",
        "noise in compressed data",
        image,
        noise,
        Refused("unknown format"),
    )]
}
