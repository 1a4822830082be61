//! ext4 with blocks of 1 KiB. Superblock: fs/ext4/ext4.h of the kernel's documentation.

use super::{Base, HostileImage, Verdict, case, find, put, u16_at, u32_at};
use Verdict::{Read, Refused};

const BLOCK: usize = 1024;
const SUPERBLOCK: usize = 1024;

pub(super) fn cases(base: &Base) -> Vec<HostileImage> {
    let make = |features: &str| {
        let words = [
            "-q", "-t", "ext4", "-b", "1024", "-O", features, "-d", "TREE", "IMAGE",
        ];
        base.make(Some(512 << 10), "mke2fs", &words)
    };
    let plain = make("^metadata_csum,^has_journal,^dir_index");
    let checked = make("metadata_csum,^has_journal");
    let mut cases = superblock(&plain);
    cases.extend(inodes(&plain));
    cases.extend(directories(&plain));
    cases.extend(checksums(&checked));
    cases
}

fn superblock(image: &[u8]) -> Vec<HostileImage> {
    let at = |what: &str, field: usize, bytes: &[u8], verdict| {
        case(
            "ext4",
            what,
            image,
            |image| put(image, SUPERBLOCK + field, bytes),
            verdict,
        )
    };
    let cut = |what: &str, size: usize, verdict| {
        case("ext4", what, image, |image| image.truncate(size), verdict)
    };
    vec![
        cut(
            "cut after the superblock",
            2048,
            Refused("it has more blocks than there is room for"),
        ),
        cut(
            "cut in half",
            image.len() / 2,
            Refused("it has more blocks than there is room for"),
        ),
        cut(
            "cut within the superblock",
            1100,
            Refused("no partition table and no file system that is known"),
        ),
        at(
            "no inodes",
            0x00,
            &[0; 4],
            Refused("a name leads to no inode"),
        ),
        at(
            "2^32-1 blocks",
            0x04,
            &[0xff; 4],
            Refused("it has more blocks than there is room for"),
        ),
        at(
            "first data block 2^32-1",
            0x14,
            &[0xff; 4],
            Refused("its first block is not within"),
        ),
        at(
            "block size 2^40",
            0x18,
            &30u32.to_le_bytes(),
            Refused("the block size is impossible"),
        ),
        at(
            "no blocks in a group",
            0x20,
            &[0; 4],
            Refused("the blocks of a group are impossible"),
        ),
        at(
            "no inodes in a group",
            0x28,
            &[0; 4],
            Refused("the inodes of a group are impossible"),
        ),
        at(
            "2^32-1 inodes in a group",
            0x28,
            &[0xff; 4],
            Refused("the inodes of a group are impossible"),
        ),
        at(
            "inodes of 0 bytes",
            0x58,
            &[0; 2],
            Refused("the inode size is impossible"),
        ),
        at(
            "inodes of 65535 bytes",
            0x58,
            &[0xff; 2],
            Refused("the inode size is impossible"),
        ),
        at(
            "all features",
            0x60,
            &[0xff; 4],
            Refused("no partition table and no file system that is known"),
        ),
        at(
            "group descriptors of 7 bytes",
            0xfe,
            &7u16.to_le_bytes(),
            Refused("the size of group descriptors is impossible"),
        ),
    ]
}

/// The table of inodes, by the descriptor of the first group, and the size of an inode.
fn inode(image: &[u8], number: usize) -> usize {
    let table = u32_at(image, 2 * BLOCK + 8) * BLOCK;
    table + (number - 1) * u16_at(image, SUPERBLOCK + 0x58)
}

/// The inode that the entry by this name leads to.
fn named(image: &[u8], name: &[u8]) -> usize {
    inode(image, u32_at(image, entry(image, name)))
}

/// Where the directory entry by this name begins.
fn entry(image: &[u8], name: &[u8]) -> usize {
    let length = u8::try_from(name.len()).unwrap();
    let mut at = root_block(image);
    loop {
        let found = image[at + 6] == length && &image[at + 8..at + 8 + name.len()] == name;
        if found {
            return at;
        }
        at += u16_at(image, at + 4);
    }
}

/// The first block of the root directory: its inode's only extent.
fn root_block(image: &[u8]) -> usize {
    u32_at(image, inode(image, 2) + 0x28 + 12 + 8) * BLOCK
}

fn inodes(image: &[u8]) -> Vec<HostileImage> {
    let root = inode(image, 2);
    let big = named(image, b"big");
    let link = named(image, b"link");
    let extents = big + 0x28;
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "ext4",
            what,
            image,
            |image| put(image, place, bytes),
            verdict,
        )
    };
    let looped = |image: &mut Vec<u8>| {
        // The extent tree's root leads to a block that is an index, which leads to itself.
        let block = root_block(image) / BLOCK + 100;
        let number = u32::try_from(block).unwrap().to_le_bytes();
        let header = |depth: u8| [0x0a, 0xf3, 1, 0, 4, 0, depth, 0, 0, 0, 0, 0];
        let index = |target: [u8; 4]| [[0; 4], target, [0; 4]].concat();
        put(image, extents, &header(1));
        put(image, extents + 12, &index(number));
        put(image, block * BLOCK, &header(1));
        put(image, block * BLOCK + 12, &index(number));
    };
    vec![
        at(
            "inode table beyond the end",
            2 * BLOCK + 8,
            &[0xff; 4],
            Refused("a table of inodes is not within the file system"),
        ),
        at(
            "root is a file",
            root,
            &0x8180u16.to_le_bytes(),
            Refused("the root is no directory"),
        ),
        at(
            "root is of no kind",
            root,
            &0u16.to_le_bytes(),
            Refused("the root is no directory"),
        ),
        at(
            "extent tree of depth 7",
            extents + 6,
            &7u16.to_le_bytes(),
            Refused("a tree of extents is too deep"),
        ),
        at(
            "extent tree without its magic",
            extents,
            &[0; 2],
            Refused("a node of a tree of extents is impossible"),
        ),
        at(
            "1000 extents in an inode",
            extents + 2,
            &1000u16.to_le_bytes(),
            Refused("a node of a tree of extents is impossible"),
        ),
        at(
            "extent beyond the end",
            extents + 12 + 8,
            &[0xff; 4],
            Refused("a file's blocks are not within the file system"),
        ),
        at(
            "extent of 32768 blocks",
            extents + 12 + 4,
            &0x8000u16.to_le_bytes(),
            Refused("a file's blocks are not within the file system"),
        ),
        case(
            "ext4",
            "extent index that leads to itself",
            image,
            looped,
            Refused("a node of a tree of extents is impossible"),
        ),
        at(
            "symlink of 2^31 bytes",
            link + 4,
            &(1u32 << 31).to_le_bytes(),
            Refused("the length of a symlink is impossible"),
        ),
        at(
            "file of 2^63 bytes",
            big + 0x6c,
            &(1u32 << 31).to_le_bytes(),
            Refused("the size of a file is impossible"),
        ),
        at(
            "attributes beyond the end",
            big + 0x68,
            &[0xff; 4],
            Refused("extended attributes are not within the file system"),
        ),
        at(
            "attributes in a block without them",
            big + 0x68,
            &3u32.to_le_bytes(),
            Refused("a block of extended attributes is none"),
        ),
    ]
}

fn directories(image: &[u8]) -> Vec<HostileImage> {
    let (big, dir) = (entry(image, b"big"), entry(image, b"dir"));
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "ext4",
            what,
            image,
            |image| put(image, place, bytes),
            verdict,
        )
    };
    let file = find(image, b"second");
    vec![
        at(
            "entry of 0 bytes",
            big + 4,
            &[0; 2],
            Refused("an entry of a directory is impossible"),
        ),
        at(
            "entry of 65535 bytes",
            big + 4,
            &[0xff; 2],
            Refused("an entry of a directory is impossible"),
        ),
        at(
            "entry of 7 bytes",
            big + 4,
            &[7, 0],
            Refused("an entry of a directory is impossible"),
        ),
        at(
            "entry that leads to inode 2^32-1",
            big,
            &[0xff; 4],
            Refused("a name leads to no inode"),
        ),
        at(
            "entry that leads to a free inode",
            big,
            &60u32.to_le_bytes(),
            Refused("a name leads to an inode that is not in use"),
        ),
        at(
            "name longer than its entry",
            big + 6,
            &[255],
            Refused("an entry of a directory is impossible"),
        ),
        at(
            "name with a slash",
            big + 8,
            b"a/b",
            Refused("a name is impossible"),
        ),
        at("name ..", big + 6, &[2, 1, b'.', b'.'], Read),
        at(
            "name of no bytes",
            big + 6,
            &[0],
            Refused("a name is impossible"),
        ),
        at(
            "name with NUL",
            big + 8,
            b"b\0g",
            Refused("a name is impossible"),
        ),
        at(
            "one name twice",
            big + 8,
            b"dir",
            Refused("the file system has two files by the name of /dir"),
        ),
        at(
            "directory within itself",
            dir,
            &2u32.to_le_bytes(),
            Refused("a name leads to no inode"),
        ),
        at(
            "directory in two places",
            file - 8,
            &u32::try_from(u32_at(image, dir)).unwrap().to_le_bytes(),
            Refused("the file system has the directory /dir/second in two places"),
        ),
        at(
            "kind in the entry that is not the inode's",
            big + 7,
            &[2],
            Read,
        ),
    ]
}

fn checksums(image: &[u8]) -> Vec<HostileImage> {
    let flip = |what: &str, place: usize, verdict| {
        case("ext4", what, image, |image| image[place] ^= 1, verdict)
    };
    vec![
        flip(
            "flipped bit in the superblock",
            SUPERBLOCK + 0x78,
            Refused("the checksum of the superblock is wrong"),
        ),
        flip(
            "flipped bit in a group's descriptor",
            2 * BLOCK + 0x12,
            Refused("the checksum of a group descriptor is wrong"),
        ),
        flip(
            "flipped bit in the root inode",
            inode(image, 2) + 8,
            Refused("the checksum of an inode is wrong"),
        ),
        flip(
            "flipped bit in a directory",
            entry(image, b"big") + 8,
            Refused("the checksum of a directory is wrong"),
        ),
    ]
}
