//! A volume made by hand with one thing changed: each is refused, and says what is wrong.

use std::io;

use filetree::{Limits, Tree, mtree, reader};

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

const SECTOR: usize = 512;
/// The allocation table, and the root directory behind it.
const TABLE: usize = SECTOR;
const ROOT_ENTRIES: usize = 2 * SECTOR;
/// The first cluster is number 2.
const DATA: usize = 3 * SECTOR;

/// FAT12 with 61 clusters: a file in clusters 2 and 3, a directory in 4 with a file in 5.
fn image() -> Vec<u8> {
    let mut image = vec![0; 64 * SECTOR];
    let boot = b"\xeb\x3c\x90mkfs.fat\0\x02\x01\x01\0\x01\x10\0\x40\0\xf8\x01\0";
    image[..boot.len()].copy_from_slice(boot);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let chain = b"\xf8\xff\xff\x03\xf0\xff\xff\xff\xff";
    image[TABLE..TABLE + chain.len()].copy_from_slice(chain);
    let mut put = |at: usize, name: &[u8; 11], attributes: u8, cluster: u8, size: u16| {
        image[at..at + 11].copy_from_slice(name);
        image[at + 11] = attributes;
        image[at + 26] = cluster;
        image[at + 28..at + 30].copy_from_slice(&size.to_le_bytes());
    };
    put(ROOT_ENTRIES, b"A FILE  TXT", 0x20, 2, 1000);
    put(ROOT_ENTRIES + 32, b"DIR        ", 0x10, 4, 0);
    put(DATA + 2 * SECTOR, b".          ", 0x10, 4, 0);
    put(DATA + 2 * SECTOR + 32, b"BELOW      ", 0x20, 5, 1);
    image
}

/// Reads everything, the data of files too.
fn read(image: &[u8]) -> Result<Tree, String> {
    let size = u64::try_from(image.len()).unwrap();
    let reader = open(Arc::new(Image(image.to_vec())), size).map_err(|error| error.to_string())?;
    let reader = reader.ok_or("no signature")?;
    let tree = reader::load(&reader, Limits::default()).map_err(|error| error.to_string())?;
    for id in tree.ids() {
        if let Kind::File(content) = &tree.inode(id).kind {
            let hash = mtree::sha256(content);
            hash.map_err(|error| format!("{:?}", std::error::Error::source(&error)))?;
        }
    }
    Ok(tree)
}

#[test]
fn impossible_volumes() {
    let sound = image();
    assert_eq!(read(&sound).unwrap().len(), 4);
    for (at, bytes, message) in [
        (510, &[0][..], "no signature"),
        (11, &[0, 1], "no signature"),
        (13, &[3], "no signature"),
        (13, &[0], "no signature"),
        (14, &[0, 0], "no room for tables"),
        (16, &[0], "no room for tables"),
        (22, &[0, 0], "no room for tables"),
        (17, &[1, 0], "does not fill its sectors"),
        (22, &[0xff, 0xff], "its tables are longer than it is"),
        (19, &[1, 0], "its tables are longer than it is"),
        (TABLE + 6, &[4, 0xf0], "a chain of clusters has no end"),
        (TABLE + 3, &[0, 0], "a chain leads to a free cluster"),
        (
            TABLE + 3,
            &[0x01],
            "a chain has a cluster that there is not",
        ),
        (
            TABLE + 3,
            &[0x70],
            "a chain has a cluster that there is not",
        ),
        (
            TABLE + 3,
            &[0xff, 0xff],
            "a file has fewer clusters than bytes",
        ),
        (ROOT_ENTRIES, b"A/", "a name is impossible"),
        (
            ROOT_ENTRIES + 26,
            &[0],
            "a chain has a cluster that there is not",
        ),
        (
            ROOT_ENTRIES + 26,
            &[0xff],
            "a chain has a cluster that there is not",
        ),
        (
            ROOT_ENTRIES + 31,
            &[0xff],
            "a file has fewer clusters than bytes",
        ),
        (
            ROOT_ENTRIES + 32,
            b"A FILE  TXT",
            "two files by the name of",
        ),
        // A directory within itself.
        (
            DATA + 2 * SECTOR + 32 + 11,
            b"\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04",
            "two directories have one cluster",
        ),
    ] {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        match read(&image) {
            Ok(_) => panic!("all was read, and no {message}"),
            Err(error) => assert!(error.contains(message), "{error}, not {message}"),
        }
    }
}
