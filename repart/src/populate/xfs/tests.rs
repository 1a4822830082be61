use std::fs;
use std::path::Path;
use std::process::Command;

use filetree::{Content, DeviceNumber, Inode, Metadata, Name};

use super::*;

fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

fn metadata(mode: u16) -> Metadata {
    Metadata {
        mode,
        uid: 1000,
        gid: 70_000,
        mtime: Timestamp {
            seconds: 1_234_567_890,
            nanoseconds: 123_456_789,
        },
        ..Metadata::default()
    }
}

fn add(tree: &mut Tree, parent: InodeId, path: &str, kind: Kind) -> InodeId {
    let id = tree.add(Inode {
        metadata: metadata(0o644),
        kind,
    });
    assert!(tree.link(parent, name(path.as_bytes()), id));
    id
}

fn directory(tree: &mut Tree, parent: InodeId, path: &str, files: usize) -> InodeId {
    let id = add(tree, parent, path, Kind::Directory(Default::default()));
    for at in 0..files {
        let kind = Kind::File(Content::from_bytes(format!("{at}").into_bytes()));
        add(tree, id, &format!("file with number {at}"), kind);
    }
    id
}

/// A tree with every form of everything.
fn tree() -> Tree {
    let mut tree = Tree::new(metadata(0o751));
    let root = InodeId::ROOT;
    for files in [0, 1, 8, 30, 100, 300, 400, 3000] {
        directory(&mut tree, root, &format!("with {files}"), files);
    }
    let one = add(
        &mut tree,
        root,
        "file",
        Kind::File(Content::from_bytes(vec![7; 12_345])),
    );
    tree.inode_mut(one).metadata.mode = 0o4711;
    let below = directory(&mut tree, root, "below", 0);
    assert!(tree.link(below, name(b"hard link"), one));
    assert!(tree.link(below, name(&[0xff; 255]), one));
    add(
        &mut tree,
        root,
        "empty",
        Kind::File(Content::from_bytes([])),
    );
    for length in [1, 200, 336, 337, 1023] {
        let target = vec![b'x'; length].into();
        add(
            &mut tree,
            root,
            &format!("link {length}"),
            Kind::Symlink(target),
        );
    }
    let device = DeviceNumber {
        major: 8,
        minor: 70_000,
    };
    add(&mut tree, root, "block", Kind::BlockDevice(device));
    add(&mut tree, root, "char", Kind::CharacterDevice(device));
    add(&mut tree, root, "fifo", Kind::Fifo);
    add(&mut tree, root, "socket", Kind::Socket);
    for (length, count) in [
        (1, 1),
        (100, 1),
        (255, 1),
        (256, 1),
        (3000, 1),
        (4000, 1),
        (50_000, 3),
        (10, 30),
    ] {
        let data = Content::from_bytes(*b"with attributes");
        let id = add(
            &mut tree,
            root,
            &format!("attributes {length} {count}"),
            Kind::File(data),
        );
        let xattrs = &mut tree.inode_mut(id).metadata.xattrs;
        for at in 0..count {
            xattrs.insert(format!("user.{at}").into_bytes(), vec![b'a'; length]);
        }
    }
    for path in ["file", "with 8", "link 200", "char", ""] {
        let id = tree.lookup(path.as_bytes()).unwrap();
        let xattrs = &mut tree.inode_mut(id).metadata.xattrs;
        xattrs.insert(b"trusted.t".to_vec(), b"\0\xff".to_vec());
        xattrs.insert(b"security.s".to_vec(), vec![b's'; 60]);
    }
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let one = &mut tree.inode_mut(one).metadata;
    one.xattrs
        .insert(b"system.posix_acl_access".to_vec(), acl.to_vec());
    one.mode = 0o644;
    let pattern = std::sync::Arc::new(Pattern);
    for holes in [1u64, 5, 60] {
        let data = (0..holes).map(|at| at * 40_000 + 8192..at * 40_000 + 20_000);
        let content = Content::from_reader(pattern.clone(), holes * 40_000 + 10, data.collect());
        add(
            &mut tree,
            root,
            &format!("holes {holes}"),
            Kind::File(content),
        );
    }
    tree
}

/// Bytes that say where they are.
#[derive(Debug)]
struct Pattern;

impl filetree::ReadAt for Pattern {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        for (at, byte) in (offset..).zip(buffer) {
            let inside = (8192..20_000).contains(&(at % 40_000));
            *byte = if inside {
                u8::try_from(at % 251).unwrap()
            } else {
                0
            };
        }
        Ok(())
    }
}

fn built(tree: &Tree, path: &Path, size: u64, options: &[&str]) -> Result<(), WriteError> {
    fs::File::create(path).unwrap().set_len(size).unwrap();
    let output = Command::new("mkfs.xfs")
        .args([
            "-q",
            "-L",
            "label",
            "-m",
            "uuid=11111111-2222-3333-4444-555555555555",
        ])
        .args(["-m", "reflink=1,rmapbt=0", "-K"])
        .args(options)
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let image = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let time = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 0,
    };
    fill(tree, &image, time)
}

fn check(path: &Path) {
    let output = Command::new("xfs_repair")
        .arg("-n")
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn repair_finds_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree();
    for (at, options) in [
        &[][..],
        &["-s", "size=4096"],
        &["-i", "size=1024"],
        &["-m", "bigtime=0,inobtcount=0,finobt=1", "-i", "sparse=0"],
    ]
    .iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{at}"));
        built(&tree, &path, 320 << 20, options).unwrap();
        check(&path);
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    let tree = tree();
    built(&tree, &one, 320 << 20, &[]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    built(&tree, &two, 320 << 20, &[]).unwrap();
    let same = Command::new("cmp").args([&one, &two]).status().unwrap();
    assert!(same.success());
}

#[test]
fn many_inodes_take_a_tree_and_more_groups() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(metadata(0o755));
    for at in 0..60 {
        directory(&mut tree, InodeId::ROOT, &format!("{at}"), 1000);
    }
    let path = dir.path().join("image");
    built(&tree, &path, 512 << 20, &[]).unwrap();
    check(&path);
    let big = Content::from_reader(
        std::sync::Arc::new(Pattern),
        600 << 20,
        Vec::from([0..600 << 20]),
    );
    add(&mut tree, InodeId::ROOT, "big", Kind::File(big));
    let error = built(&tree, &path, 512 << 20, &[]).unwrap_err();
    assert!(matches!(error, WriteError::TooSmall { .. }), "{error}");
}

#[test]
fn large_files_go_over_several_groups() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(metadata(0o755));
    let size = 200 << 20;
    let big = Content::from_reader(std::sync::Arc::new(Pattern), size, Vec::from([0..size]));
    add(&mut tree, InodeId::ROOT, "big", Kind::File(big));
    let path = dir.path().join("image");
    built(&tree, &path, 320 << 20, &[]).unwrap();
    check(&path);
}

#[test]
fn what_xfs_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut tree = Tree::new(metadata(0o755));
    tree.inode_mut(InodeId::ROOT)
        .metadata
        .xattrs
        .insert(b"system.odd".to_vec(), Vec::new());
    let error = built(&tree, &path, 320 << 20, &[]).unwrap_err().to_string();
    assert!(error.contains("system.odd"), "{error}");
}
