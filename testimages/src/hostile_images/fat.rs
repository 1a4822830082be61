//! FAT16 and FAT32.

use super::{Base, HostileImage, Verdict, case, find, put, u16_at, u32_at};
use Verdict::{Read, Refused};

pub(super) fn cases(base: &Base) -> Vec<HostileImage> {
    let make = |bits: &str, size: usize| {
        let plain = base.make(
            Some(size),
            "mkfs.vfat",
            &["-F", bits, "-s", "1", "-i", "1234abcd", "IMAGE"],
        );
        fill(base, &plain)
    };
    let small = make("16", 4 << 20);
    let large = make("32", 34 << 20);
    let mut cases = parameters(&small);
    cases.extend(chains(&small));
    cases.extend(names(&small));
    cases.extend(fat32(&large));
    cases
}

/// Copies the tree's folder in, as mcopy does.
fn fill(base: &Base, plain: &[u8]) -> Vec<u8> {
    let image = base.tree().with_file_name("fat");
    std::fs::write(&image, plain).unwrap();
    let output = std::process::Command::new("mcopy")
        .env("MTOOLS_SKIP_CHECK", "1")
        .arg("-s")
        .arg("-i")
        .arg(&image)
        .arg(base.tree().join("dir"))
        .arg(base.tree().join("big"))
        .arg("::/")
        .output()
        .expect("mcopy of the package mtools");
    assert!(output.status.success(), "{output:?}");
    std::fs::read(&image).unwrap()
}

fn parameters(image: &[u8]) -> Vec<HostileImage> {
    let at = |what: &str, field: usize, bytes: &[u8], verdict| {
        case(
            "vfat",
            what,
            image,
            |image| put(image, field, bytes),
            verdict,
        )
    };
    vec![
        at(
            "sectors of 0 bytes",
            11,
            &[0, 0],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "sectors of 3 bytes",
            11,
            &[3, 0],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "no sectors in a cluster",
            13,
            &[0],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "3 sectors in a cluster",
            13,
            &[3],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "no reserved sectors",
            14,
            &[0, 0],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "no tables",
            16,
            &[0],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "65535 names in the root",
            17,
            &[0xff; 2],
            Refused("the root directory does not fill its sectors"),
        ),
        at(
            "no sectors",
            19,
            &[0, 0],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        at(
            "tables of 65535 sectors",
            22,
            &[0xff; 2],
            Refused("the image has neither a root nor a usr partition, so it has no files to show"),
        ),
        case(
            "vfat",
            "cut within the tables",
            image,
            |image| image.truncate(2048),
            Refused("its tables are longer than it is"),
        ),
    ]
}

/// Where an entry of a directory with this short name begins.
fn entry(image: &[u8], short: &[u8; 11]) -> usize {
    find(image, short)
}

/// Where the first table has the cluster that an entry begins with.
fn link(image: &[u8], entry: usize) -> usize {
    let reserved = u16_at(image, 14) * u16_at(image, 11);
    reserved + 2 * u16_at(image, entry + 26)
}

fn chains(image: &[u8]) -> Vec<HostileImage> {
    let big = entry(image, b"BIG        ");
    let dir = entry(image, b"DIR        ");
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "vfat",
            what,
            image,
            |image| put(image, place, bytes),
            verdict,
        )
    };
    let number = |entry: usize| {
        u16::try_from(u16_at(image, entry + 26))
            .unwrap()
            .to_le_bytes()
    };
    vec![
        at(
            "chain of a directory that leads to itself",
            link(image, dir),
            &number(dir),
            Refused("a chain of clusters has no end"),
        ),
        at(
            "chain of a file that leads to itself",
            link(image, big),
            &number(big),
            Read,
        ),
        at(
            "chain that leads beyond the end",
            link(image, big),
            &[0xf0, 0xff],
            Refused("a chain has a cluster that there is not"),
        ),
        at(
            "chain that leads to a free cluster",
            link(image, big),
            &[0, 0],
            Refused("a chain leads to a free cluster"),
        ),
        at(
            "chain shorter than its file",
            link(image, big),
            &[0xff; 2],
            Refused("a file has fewer clusters than bytes"),
        ),
        at(
            "file of 2^32-1 bytes",
            big + 28,
            &[0xff; 4],
            Refused("a file has fewer clusters than bytes"),
        ),
        at(
            "file at cluster 1",
            big + 26,
            &[1, 0],
            Refused("a chain has a cluster that there is not"),
        ),
        at(
            "file at a cluster beyond the end",
            big + 26,
            &[0xf0, 0xff],
            Refused("a chain has a cluster that there is not"),
        ),
        at(
            "directory at cluster 1",
            dir + 26,
            &[1, 0],
            Refused("a chain has a cluster that there is not"),
        ),
        at(
            "directory and file share clusters",
            big + 26,
            &number(dir),
            Refused("a file has fewer clusters than bytes"),
        ),
    ]
}

fn names(image: &[u8]) -> Vec<HostileImage> {
    let big = entry(image, b"BIG        ");
    let second = entry(image, b"SECOND     ");
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "vfat",
            what,
            image,
            |image| put(image, place, bytes),
            verdict,
        )
    };
    let dir = entry(image, b"DIR        ");
    let parent = u16::try_from(u16_at(image, dir + 26))
        .unwrap()
        .to_le_bytes();
    let within = |image: &mut Vec<u8>| {
        image[second + 11] = 0x10;
        put(image, second + 26, &parent);
    };
    vec![
        at(
            "name with a slash",
            big,
            b"B/G",
            Refused("a name is impossible"),
        ),
        at("name of NULs", big + 1, &[0, 0], Read),
        at(
            "one name twice",
            big,
            b"DIR",
            Refused("the file system has two files by the name of /dir"),
        ),
        case(
            "vfat",
            "directory within itself",
            image,
            within,
            Refused("two directories have one cluster"),
        ),
        at("unknown attributes", big + 11, &[0xc0], Read),
    ]
}

fn fat32(image: &[u8]) -> Vec<HostileImage> {
    let at = |what: &str, field: usize, bytes: &[u8], verdict| {
        case(
            "vfat",
            what,
            image,
            |image| put(image, field, bytes),
            verdict,
        )
    };
    let reserved = u16_at(image, 14) * u16_at(image, 11);
    let root = u32_at(image, 44);
    let own = u32::try_from(root).unwrap().to_le_bytes();
    vec![
        at(
            "root at cluster 0",
            44,
            &[0; 4],
            Refused("the root directory has no cluster"),
        ),
        at(
            "root at cluster 2^28",
            44,
            &(1u32 << 28).to_le_bytes(),
            Refused("a chain has a cluster that there is not"),
        ),
        at(
            "root that leads to itself",
            reserved + 4 * root,
            &own,
            Refused("a chain of clusters has no end"),
        ),
    ]
}
