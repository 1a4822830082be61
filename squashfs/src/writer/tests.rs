//! What mksquashfs' own reader says of our images.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use filetree::{DeviceNumber, Metadata, Name, Timestamp};

use super::*;
use crate::parameters::{BlockSize, Compression};

struct Target {
    bytes: Vec<u8>,
    size: u64,
}

impl WriteAt for Target {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let end = start + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn image(tree: &Tree, parameters: Parameters) -> Result<Vec<u8>, WriteError> {
    let mut target = Target {
        bytes: Vec::new(),
        size: 1 << 40,
    };
    let covered = SquashfsWriter::new(parameters).write(tree, &mut target)?;
    target.bytes.resize(usize::try_from(covered).unwrap(), 0);
    Ok(target.bytes)
}

fn add(tree: &mut Tree, path: &str, kind: Kind) -> InodeId {
    let seconds = 1_700_000_000 + i64::try_from(tree.len()).unwrap();
    let id = tree.add(Inode {
        metadata: Metadata {
            mode: 0o4755,
            uid: 1000,
            gid: 70_000,
            mtime: Timestamp {
                seconds,
                nanoseconds: 0,
            },
            xattrs: BTreeMap::new(),
        },
        kind,
    });
    link(tree, path, id);
    id
}

fn link(tree: &mut Tree, path: &str, id: InodeId) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = tree.lookup(parent.as_bytes()).unwrap();
    assert!(tree.link(parent, Name::new(name.as_bytes()).unwrap(), id));
}

/// Bytes that do not compress and differ by `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect()
}

pub(crate) fn sample() -> Tree {
    let mut tree = Tree::new(Metadata {
        mode: 0o755,
        ..Metadata::default()
    });
    add(&mut tree, "dir", Kind::Directory(BTreeMap::new()));
    add(&mut tree, "dir/sub", Kind::Directory(BTreeMap::new()));
    add(&mut tree, "empty", Kind::File(Content::from_bytes([])));
    let big = noise(7, 300_001);
    let file = add(
        &mut tree,
        "dir/big",
        Kind::File(Content::from_bytes(big.clone())),
    );
    link(&mut tree, "dir/sub/hard", file);
    add(&mut tree, "again", Kind::File(Content::from_bytes(big)));
    add(
        &mut tree,
        "small",
        Kind::File(Content::from_bytes(*b"small one\n")),
    );
    add(
        &mut tree,
        "text",
        Kind::File(Content::from_bytes(b"text ".repeat(50_000))),
    );
    add(&mut tree, "zeros", Kind::File(hole(400_000)));
    add(&mut tree, "link", Kind::Symlink((*b"dir/big").into()));
    let number = DeviceNumber {
        major: 259,
        minor: 66_000,
    };
    add(&mut tree, "block", Kind::BlockDevice(number));
    add(
        &mut tree,
        "char",
        Kind::CharacterDevice(DeviceNumber { major: 1, minor: 3 }),
    );
    add(&mut tree, "fifo", Kind::Fifo);
    add(&mut tree, "socket", Kind::Socket);
    let xattrs = &mut tree.inode_mut(file).metadata.xattrs;
    xattrs.insert(b"user.b".to_vec(), b"2".to_vec());
    xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    tree
}

fn unsquashfs(image: &[u8], arguments: &[&str]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    let (before, after) = arguments.split_at(1);
    let output = Command::new("unsquashfs")
        .args(before)
        .arg(file.path())
        .args(after)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    output.stdout
}

pub(crate) fn all() -> impl Iterator<Item = Parameters> {
    let algorithms = ["gzip", "xz", "lz4", "zstd", "lzma"];
    algorithms.into_iter().map(|name| Parameters {
        compression: Compression::parse(name, None).unwrap(),
        ..Parameters::default()
    })
}

#[test]
fn unsquashfs_lists_what_was_written() {
    let mut lists: Vec<_> = all()
        .filter(|parameters| parameters.compression.algorithm().name() != "lzma")
        .map(|parameters| image(&sample(), parameters).unwrap())
        .map(|image| String::from_utf8(unsquashfs(&image, &["-lln"])).unwrap())
        .collect();
    lists.dedup();
    assert_eq!(lists.len(), 1);
    insta::assert_snapshot!(lists[0]);
}

#[test]
fn unsquashfs_reads_the_data_back() {
    let tree = sample();
    for parameters in all() {
        let name = parameters.compression.algorithm().name();
        if name == "lzma" {
            continue; // Debian's unsquashfs is built without it
        }
        let image = image(&tree, parameters).unwrap();
        for (path, id) in tree.walk() {
            if let Kind::File(content) = &tree.inode(id).kind {
                let mut expected = vec![0; usize::try_from(content.size()).unwrap()];
                content
                    .open()
                    .unwrap()
                    .read_exact_at(&mut expected, 0)
                    .unwrap();
                let path = String::from_utf8(path).unwrap();
                assert!(
                    unsquashfs(&image, &["-cat", &path]) == expected,
                    "{name} {path}"
                );
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let mut tree = sample();
    for number in 0..300u32 {
        let length = usize::try_from(number * 997).unwrap();
        let content = noise(u64::from(number), length);
        add(
            &mut tree,
            &format!("dir/sub/{number}"),
            Kind::File(Content::from_bytes(content)),
        );
    }
    let images: Vec<_> = [1, 2, 7]
        .map(|threads| Parameters {
            threads: threads.try_into().unwrap(),
            ..Parameters::default()
        })
        .into_iter()
        .map(|parameters| image(&tree, parameters).unwrap())
        .collect();
    assert!(images.iter().all(|image| *image == images[0]));
    assert_eq!(images[0].len() % 4096, 0);
}

#[test]
fn a_big_directory_has_all_its_names() {
    let mut tree = sample();
    for number in 0..50_000 {
        add(&mut tree, &format!("dir/sub/{number:05}"), Kind::Fifo);
    }
    let list = unsquashfs(&image(&tree, Parameters::default()).unwrap(), &["-ls"]);
    assert_eq!(list.split(|byte| *byte == b'\n').count(), 50_000 + 16);
}

#[test]
fn equal_and_empty_data_takes_no_room() {
    let once = noise(1, 1_000_000);
    let mut tree = sample();
    for name in ["a", "b", "c"] {
        add(
            &mut tree,
            name,
            Kind::File(Content::from_bytes(once.clone())),
        );
    }
    let zeros = Content::from_bytes(vec![0; 3 << 20]);
    add(&mut tree, "hole", Kind::File(hole(1 << 32)));
    add(&mut tree, "zero", Kind::File(zeros));
    let image = image(&tree, Parameters::default()).unwrap();
    assert!(image.len() < 1_000_000 + 400_000, "{}", image.len());
}

fn hole(size: u64) -> Content {
    Content::from_reader(std::sync::Arc::new(Zeros), size, Vec::new())
}

#[derive(Debug)]
struct Zeros;

impl filetree::ReadAt for Zeros {
    fn read_exact_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }
}

#[derive(Debug)]
struct Nothing;

impl filetree::ReadAt for Nothing {
    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn what_cannot_be_written_is_said() {
    let mut small = Target {
        bytes: Vec::new(),
        size: 100_000,
    };
    let error = SquashfsWriter::default()
        .write(&sample(), &mut small)
        .unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::TooSmall {
                available: 100_000,
                ..
            }
        ),
        "{error}"
    );

    let mut tree = sample();
    let bad = Content::from_reader(std::sync::Arc::new(Nothing), 10, Vec::from([0..10]));
    add(&mut tree, "bad", Kind::File(bad));
    let error = image(&tree, Parameters::default()).unwrap_err();
    assert!(matches!(error, WriteError::Content(_)), "{error}");

    let mut tree = sample();
    let acl = add(&mut tree, "dir/acl", Kind::Fifo);
    let xattrs = &mut tree.inode_mut(acl).metadata.xattrs;
    xattrs.insert(b"system.posix_acl_access".to_vec(), vec![2]);
    let error = image(&tree, Parameters::default()).unwrap_err();
    assert!(error.to_string().starts_with("dir/acl: "), "{error}");
    let left_out = Parameters {
        foreign_xattrs: ForeignXattrs::LeaveOut,
        ..Parameters::default()
    };
    assert!(image(&tree, left_out).is_ok());

    let lzo = Parameters {
        compression: Compression::parse("lzo", None).unwrap(),
        block_size: BlockSize::default(),
        ..Parameters::default()
    };
    let error = image(&sample(), lzo).unwrap_err();
    assert!(matches!(error, WriteError::Parameters(_)), "{error}");
}
