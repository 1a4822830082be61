//! A btrfs that mkfs.btrfs made, with one thing changed: what the reader says. Checksums are made good
//! again, so that what is behind them is looked at. Needs btrfs-progs.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;

use dissect::reader::btrfs;
use filetree::reader::load;
use filetree::{Kind, Limits, ReadAt, Tree};

const SUPERBLOCK: usize = 65536;
const BLOCK: usize = 4096;
const HEADER: usize = 101;
const ITEM: usize = 25;

/// Trees.
const ROOTS: u64 = 1;
const CHUNKS: u64 = 3;
const FILES: u64 = 5;

/// Kinds of items.
const INODE: u8 = 1;
const DIR_ITEM: u8 = 84;
const DIR_INDEX: u8 = 96;
const EXTENT: u8 = 108;
const ROOT: u8 = 132;
const CHUNK: u8 = 228;

/// Its blocks that are not zero.
#[derive(Clone, Debug)]
struct Image {
    size: usize,
    blocks: BTreeMap<usize, Vec<u8>>,
}

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        assert!(
            start + buffer.len() <= self.size,
            "it is read behind its end"
        );
        for (at, byte) in (start..).zip(buffer) {
            let block = self.blocks.get(&(at / BLOCK));
            *byte = block.map_or(0, |block| block[at % BLOCK]);
        }
        Ok(())
    }
}

/// A directory `d` with a file `d/inner`, a large file `data`, a short one `short`, a symlink `link`.
fn made(profile: &str) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let (source, image) = (folder.path().join("source"), folder.path().join("image"));
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/inner"), b"inner").unwrap();
    fs::write(source.join("data"), vec![0x5a; 20000]).unwrap();
    fs::write(source.join("short"), b"short").unwrap();
    symlink("d/inner", source.join("link")).unwrap();
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let mut mkfs = Command::new("mkfs.btrfs");
    mkfs.args([
        "-q",
        "-n",
        "4096",
        "-m",
        profile,
        "-d",
        profile,
        "--rootdir",
    ]);
    let status = mkfs.arg(&source).arg(&image).status();
    assert!(status.unwrap().success(), "mkfs.btrfs");
    let bytes = fs::read(&image).unwrap();
    let blocks = bytes.chunks(BLOCK).map(<[u8]>::to_vec).enumerate();
    Image {
        size: bytes.len(),
        blocks: blocks.filter(|(_, block)| *block != [0; BLOCK]).collect(),
    }
}

impl Image {
    /// From a place on to the end of its block.
    fn at(&self, at: usize) -> &[u8] {
        &self.blocks[&(at / BLOCK)][at % BLOCK..]
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.at(at).first_chunk().unwrap())
    }

    fn u32(&self, at: usize) -> usize {
        let value = u32::from_le_bytes(*self.at(at).first_chunk().unwrap());
        value.try_into().unwrap()
    }

    /// Whether a block is one of a tree.
    fn is_node(&self, at: usize) -> bool {
        let uuid = &self.at(SUPERBLOCK + 32)[..16];
        at / BLOCK != SUPERBLOCK / BLOCK && self.at(at)[32..48] == *uuid && self.u64(at + 64) != 0
    }

    /// The newest leaf of a tree that has an item of the kind `kind`, and the item's index there.
    fn leaf(&self, tree: u64, kind: u8) -> (usize, usize) {
        let blocks = self.blocks.keys().map(|block| block * BLOCK);
        let leaves = blocks
            .filter(|at| self.is_node(*at) && self.u64(at + 88) == tree && self.at(*at)[100] == 0);
        let found = leaves.filter_map(|at| {
            let mut items = 0..self.u32(at + 96);
            let index = items.find(|index| self.at(at + HEADER + index * ITEM)[8] == kind)?;
            Some((self.u64(at + 80), at, index))
        });
        let (_, at, index) = found.max().unwrap();
        (at, index)
    }

    fn block(&self, tree: u64, kind: u8) -> usize {
        self.leaf(tree, kind).0
    }

    /// Where the header of the first item of a kind is.
    fn header(&self, tree: u64, kind: u8) -> usize {
        let (at, index) = self.leaf(tree, kind);
        at + HEADER + index * ITEM
    }

    /// Where the data of the first item of a kind is.
    fn item(&self, tree: u64, kind: u8) -> usize {
        let (at, index) = self.leaf(tree, kind);
        self.data(at, index)
    }

    fn data(&self, leaf: usize, index: usize) -> usize {
        leaf + HEADER + self.u32(leaf + HEADER + index * ITEM + 17)
    }

    /// Where the data of the first item of a kind is that `fits`.
    fn item_that(&self, kind: u8, fits: impl Fn(&[u8]) -> bool) -> usize {
        let (leaf, _) = self.leaf(FILES, kind);
        let items = 0..self.u32(leaf + 96);
        let mut items = items.filter(|index| self.at(leaf + HEADER + index * ITEM)[8] == kind);
        let found = items.find(|index| fits(self.at(self.data(leaf, *index))));
        self.data(leaf, found.unwrap())
    }

    /// The root of the tree of files.
    fn root(&self) -> usize {
        let (leaf, first) = self.leaf(ROOTS, ROOT);
        let mut items = first..self.u32(leaf + 96);
        let found = items.find(|index| {
            let header = leaf + HEADER + index * ITEM;
            self.u64(header) == FILES && self.at(header)[8] == ROOT
        });
        self.data(leaf, found.unwrap())
    }

    fn inode(&self, mode: u32) -> usize {
        self.item_that(INODE, |item| item[52..56] == mode.to_le_bytes())
    }

    fn extent(&self, kind: u8) -> usize {
        self.item_that(EXTENT, |item| item[20] == kind)
    }

    fn named(&self, name: &[u8]) -> usize {
        self.item_that(DIR_INDEX, |item| item[30..].starts_with(name))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let start = at / BLOCK * BLOCK;
        let has_sum = start == SUPERBLOCK || self.is_node(start);
        let block = self.blocks.get_mut(&(at / BLOCK)).unwrap();
        block[at - start..at - start + bytes.len()].copy_from_slice(bytes);
        if has_sum {
            let sum = crc32c::crc32c(&block[32..]);
            block[..4].copy_from_slice(&sum.to_le_bytes());
        }
    }

    fn flip(&mut self, at: usize) {
        self.blocks.get_mut(&(at / BLOCK)).unwrap()[at % BLOCK] ^= 1;
    }

    fn load(self) -> Result<Tree, String> {
        let size = self.size.try_into().unwrap();
        let text = |error: &dyn std::error::Error| error.to_string();
        let reader = btrfs::open(Arc::new(self), size).map_err(|error| text(&error))?;
        let reader = reader.ok_or("it is no btrfs")?;
        load(&reader, Limits::default()).map_err(|error| text(&error))
    }
}

type Place = fn(&Image) -> usize;

/// Where something is changed, to what, and what is said then.
#[rustfmt::skip] // a line each
const CASES: &[(Place, &[u8], &str)] = &[
    (|_| SUPERBLOCK + 64, b"x", "it is no btrfs"),
    (|_| SUPERBLOCK + 48, &[0; 8], "not in its place"),
    (|_| SUPERBLOCK + 0xc4, &[9, 0], "of the unknown kind 9"),
    (|_| SUPERBLOCK + 0xbd, &[0x13], "for zoned devices"),
    (|_| SUPERBLOCK + 0xbd, &[0x23], "the extent tree of version 2"),
    (|_| SUPERBLOCK + 0xbd, &[0x43], "a tree of RAID stripes"),
    (|_| SUPERBLOCK + 0xc0, &[1], "incompatible feature 0x100000000 is not known"),
    (|_| SUPERBLOCK + 0x3c, &[2], "an image of metadata only"),
    (|_| SUPERBLOCK + 0x3d, &[1], "the flag 0x10000000000 of its superblock"),
    (|_| SUPERBLOCK + 0x88, &[2], "it is on 2 devices"),
    (|_| SUPERBLOCK + 0x90, &[0; 4], "size of sectors or nodes"),
    (|_| SUPERBLOCK + 0x94, &[0, 0x08, 0, 0], "size of sectors or nodes"),
    (|_| SUPERBLOCK + 0x94, &[0, 0, 2, 0], "size of sectors or nodes"),
    (|_| SUPERBLOCK + 0xa0, &[1, 8], "too many chunks"),
    (|_| SUPERBLOCK + 0xa0, &[9], "the superblock's chunks are impossible"),
    (|_| SUPERBLOCK + 0x32b, &[7], "the superblock's chunks are impossible"),
    (|_| SUPERBLOCK + 0x32b + 17 + 44, &[0xff; 2], "the superblock's chunks are impossible"),
    (|_| SUPERBLOCK + 0x32b + 17 + 48, &[2], "chunks on other devices"),
    (|_| SUPERBLOCK + 0x32b + 17 + 24, &[0x12], "spread by RAID"),
    (|_| SUPERBLOCK + 0x32b + 17 + 24, &[0x22], "a chunk is impossible"),
    (|_| SUPERBLOCK + 0x32b + 17 + 60, &[1], "a chunk is not within the image"),
    (|_| SUPERBLOCK + 0xc6, &[8], "a tree is too high"),
    (|_| SUPERBLOCK + 0xc6, &[1], "of another level"),
    (|_| SUPERBLOCK + 0x48, &[99], "of another generation"),
    (|_| SUPERBLOCK + 0x57, &[0xff], "a block of a tree is in no chunk"),
    (|_| SUPERBLOCK + 0x50, &[1], "a block of a tree is in no chunk"),
    (|_| SUPERBLOCK + 0x5f, &[0xff], "a block of a tree is in no chunk"),
    (|image| image.item(CHUNKS, CHUNK), &[0; 8], "a chunk is impossible"),
    (|image| image.item(CHUNKS, CHUNK) + 63, &[0x7f], "a chunk is not within the image"),
    (|image| image.item(CHUNKS, CHUNK) + 4, &[0xff], "a chunk is not within the image"),
    (|image| image.root() + 238, &[2], "of another level"),
    (|image| image.item(ROOTS, DIR_ITEM) + 8, &[1], "the default is no subvolume"),
    (|image| image.item(ROOTS, DIR_ITEM), &[7], "number of a subvolume is impossible"),
    (|image| image.item(ROOTS, DIR_ITEM), &[0, 2], "the default subvolume is missing"),
    (|image| image.block(FILES, INODE) + 48, &[1], "says that it is elsewhere"),
    (|image| image.block(FILES, INODE) + 32, &[1, 1], "of another file system"),
    (|image| image.block(FILES, INODE) + 100, &[1], "of a tree"),
    (|image| image.block(FILES, INODE) + 100, &[77], "a tree is too high"),
    (|image| image.block(FILES, INODE) + 96, &[0xff; 4], "too many or no items"),
    (|image| image.header(FILES, INODE), &[0xff; 8], "the keys of a tree are not in order"),
    (|image| image.header(FILES, INODE) + 17, &[0xff; 4], "the items of a leaf overlap"),
    (|image| image.header(FILES, INODE) + 21, &[0xff; 4], "the items of a leaf overlap"),
    (|image| image.header(FILES, INODE), &[0; 8], "a name leads to no inode"),
    (|image| image.named(b"data"), &[0xee, 0xee], "a name leads to no inode"),
    (|image| image.named(b"data") + 8, &[2], "a name leads to no inode"),
    (|image| image.named(b"data") + 6, &[1], "an inode with the number"),
    (|image| image.named(b"data") + 8, &[132], "6 inodes"),
    (|image| image.named(b"data") + 27, &[0xff; 2], "a name is cut off"),
    (|image| image.named(b"data") + 25, &[1], "a name is cut off"),
    (|image| image.named(b"data") + 30, b"a/b", "a name is impossible"),
    (|image| image.named(b"inner"), &[0, 1, 0, 0, 0, 0, 0, 0], "the directory /d/inner in two places"),
    (|image| image.named(b"data") + 30, b"link", "two files by the name of /link"),
    (|image| image.inode(0o040755) + 52, &[0, 0, 0, 0], "an inode is of an unknown kind"),
    (|image| image.inode(0o100644) + 144, &[0xff; 4], "a time has too many nanoseconds"),
    (|image| image.inode(0o100644) + 23, &[0x80], "the size of a file is impossible"),
    (|image| image.inode(0o120777) + 16, &[0], "the length of a symlink is impossible"),
    (|image| image.inode(0o120777) + 17, &[0x10], "the length of a symlink is impossible"),
    (|image| image.inode(0o120777) + 16, &[8], "a symlink has a NUL"),
    (|image| image.extent(1) + 20, &[3], "an extent of a file is impossible"),
    (|image| image.extent(1) + 20, &[0], "an extent of a file is impossible"),
    (|image| image.extent(0) + 20, &[1], "an extent of a file is impossible"),
    (|image| image.extent(0) + 8, &[99], "an extent of a file is impossible"),
    (|image| image.extent(1) + 16, &[4], "the unknown algorithm 4"),
    (|image| image.extent(1) + 17, &[1], "files that are encrypted"),
    (|image| image.extent(1) + 21, &[1], "an extent of a file is impossible"),
    (|image| image.extent(1) + 28, &[0xff], "an extent of a file is impossible"),
    (|image| image.extent(1) + 29, &[0xff; 8], "an extent of a file is impossible"),
    (|image| image.extent(1) + 38, &[0xf0], "an extent of a file is impossible"),
    (|image| image.extent(1) + 45, &[0; 8], "an extent of a file is impossible"),
    (|image| image.extent(1) + 46, &[0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "an extent"),
];

#[test]
fn what_is_changed_is_noticed() {
    let image = made("single");
    let tree = image.clone().load().unwrap();
    assert_eq!(tree.len(), 6);
    let mut wrong = Vec::new();
    for (index, (place, bytes, expected)) in CASES.iter().enumerate() {
        let mut changed = image.clone();
        let at = place(&changed);
        changed.put(at, bytes);
        let said = changed.load().map(|tree| format!("{} inodes", tree.len()));
        let said = said.unwrap_or_else(|error| error);
        if !said.contains(expected) {
            wrong.push(format!("{index}: {said}, wanted {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn checksums_are_verified() {
    let image = made("single");
    for (at, expected) in [
        (
            SUPERBLOCK + 0x130,
            "the checksum of the superblock is wrong",
        ),
        (
            image.block(CHUNKS, CHUNK) + 3000,
            "the checksum of a block of a tree is wrong",
        ),
        (
            image.block(FILES, INODE) + 1,
            "the checksum of a block of a tree is wrong",
        ),
    ] {
        let mut changed = image.clone();
        changed.flip(at);
        let said = changed.load().unwrap_err();
        assert!(said.contains(expected), "{said}\nwanted {expected}");
    }
    let mut blocks = image.blocks.iter();
    let data = blocks
        .find(|(_, block)| **block == [0x5a; BLOCK])
        .unwrap()
        .0;
    let mut changed = image.clone();
    changed.flip((data + 1) * BLOCK + 900);
    let tree = changed.load().unwrap();
    let Kind::File(content) = &tree.inode(tree.lookup(b"data").unwrap()).kind else {
        panic!("it is a file");
    };
    let open = content.open().unwrap();
    let mut bytes = [0; 4096];
    open.read_exact_at(&mut bytes, 0).unwrap();
    let error = open.read_exact_at(&mut bytes, 4096).unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        said.contains("the checksum of a file's data is wrong"),
        "{said}"
    );
}

/// Everything is there twice: one copy of each block is enough.
#[test]
fn the_second_copy_serves_if_the_first_is_damaged() {
    let image = made("dup");
    let mut first = BTreeMap::new();
    for (number, block) in &image.blocks {
        first.entry(block).or_insert(*number);
    }
    let blocks = first
        .into_values()
        .filter(|block| block * BLOCK != SUPERBLOCK);
    let mut changed = image.clone();
    blocks.for_each(|block| changed.flip(block * BLOCK + 50));
    let tree = changed.load().unwrap();
    let Kind::File(content) = &tree.inode(tree.lookup(b"data").unwrap()).kind else {
        panic!("it is a file");
    };
    let mut bytes = [0; 20000];
    content
        .open()
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    assert_eq!(bytes, [0x5a; 20000]);
}

/// An image that ends anywhere gives an error, or what is in the part that is there.
#[test]
fn what_is_cut_off_is_noticed() {
    let image = made("single");
    for length in [0, 65536, 65600, 69631, 69632, 1 << 20, 12 << 20] {
        let mut cut = image.clone();
        cut.size = length;
        let said = cut.load().map(|tree| tree.len());
        let expected = if length < 69632 {
            "it is no btrfs"
        } else {
            "not within the image"
        };
        assert!(
            said.as_ref().is_err_and(|said| said.contains(expected)),
            "{length}: {said:?}"
        );
    }
}
