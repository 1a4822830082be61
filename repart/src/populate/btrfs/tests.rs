use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use filetree::{Content, DeviceNumber, Inode, InodeId, Kind, Metadata, Name, ReadAt};

use super::*;

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

fn add(tree: &mut Tree, parent: InodeId, name: &str, kind: Kind) -> InodeId {
    let id = tree.add(Inode {
        metadata: metadata(0o644),
        kind,
    });
    assert!(tree.link(parent, Name::new(name.as_bytes()).unwrap(), id));
    id
}

fn directory(tree: &mut Tree, parent: InodeId, name: &str, files: usize) -> InodeId {
    let id = add(tree, parent, name, Kind::Directory(Default::default()));
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
    for files in [0, 1, 3000] {
        directory(&mut tree, root, &format!("with {files}"), files);
    }
    let one = add(
        &mut tree,
        root,
        "file",
        Kind::File(Content::from_bytes(vec![7; 12_345])),
    );
    let below = directory(&mut tree, root, "below", 2);
    for at in 0..300 {
        let name = Name::new(format!("hard link {at} {}", "x".repeat(200)).as_bytes()).unwrap();
        assert!(tree.link(below, name, one));
    }
    let sub = directory(&mut tree, below, "sub", 3);
    directory(&mut tree, sub, "sub", 3);
    for length in [0, 1, 2048, 2049, 4096] {
        let data = Content::from_bytes(vec![b'd'; length]);
        add(
            &mut tree,
            root,
            &format!("bytes {length}"),
            Kind::File(data),
        );
    }
    for length in [1, 1000, 4095] {
        add(
            &mut tree,
            root,
            &format!("link {length}"),
            Kind::Symlink(vec![b'x'; length].into()),
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
    for path in ["file", "with 0", "link 1000", "char", "", "bytes 1"] {
        let id = tree.lookup(path.as_bytes()).unwrap();
        let xattrs = &mut tree.inode_mut(id).metadata.xattrs;
        xattrs.insert(b"trusted.t".to_vec(), b"\0\xff".to_vec());
        xattrs.insert(b"security.s".to_vec(), vec![b's'; 10_000]);
    }
    for holes in [1u64, 60] {
        let data = (0..holes).map(|at| at * 40_000 + 8192..at * 40_000 + 20_000);
        let content = Content::from_reader(Arc::new(Pattern), holes * 40_000 + 10, data.collect());
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

impl ReadAt for Pattern {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
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

fn btrfs() -> Btrfs {
    Btrfs {
        label: "label".to_owned(),
        uuid: *b"0123456789abcdef",
        sector: 4096,
        time: Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 0,
        },
        subvolumes: Vec::new(),
        default: None,
        compression: None,
    }
}

fn built(btrfs: &Btrfs, tree: &Tree, path: &Path, size: u64) -> Result<(), WriteError> {
    let image = fs::File::create(path).unwrap();
    image.set_len(size).unwrap();
    btrfs.write(tree, &image)
}

fn check(path: &Path) {
    let output = Command::new("btrfs")
        .args(["check", "--check-data-csum"])
        .arg(path)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        output.status.success() && said.contains("no error found"),
        "{said}"
    );
}

#[test]
fn check_finds_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    built(&btrfs(), &tree(), &path, 300 << 20).unwrap();
    check(&path);
    let again = dir.path().join("again");
    built(&btrfs(), &tree(), &again, 300 << 20).unwrap();
    let same = Command::new("cmp").args([&path, &again]).status().unwrap();
    assert!(same.success());
}

#[test]
fn an_empty_file_system_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    built(&btrfs(), &Tree::new(metadata(0o755)), &path, 109 << 20).unwrap();
    check(&path);
}

#[test]
fn the_smallest_one_is_sound_and_has_its_size() {
    let dir = tempfile::tempdir().unwrap();
    for (at, (tree, most)) in [(Tree::new(metadata(0o755)), 24), (tree(), 40)]
        .iter()
        .enumerate()
    {
        let path = dir.path().join(format!("{at}"));
        let size = btrfs().size(tree).unwrap();
        built(&btrfs(), tree, &path, size).unwrap();
        let error = built(
            &btrfs(),
            tree,
            &path.with_extension("small"),
            size - (1 << 20),
        );
        assert!(matches!(error, Err(WriteError::TooSmall { .. })));
        assert!(size < most << 20, "{size}");
        check(&path);
    }
}

#[test]
fn subvolumes_are_trees_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut btrfs = btrfs();
    let subvolume = |path: &str, read_only, no_cow| Subvolume {
        path: path.as_bytes().to_vec(),
        read_only,
        no_cow,
    };
    btrfs.subvolumes = vec![
        subvolume("/with 3000", true, false),
        subvolume("/below/sub", false, true),
        subvolume("/below/sub/sub", false, false),
    ];
    btrfs.default = Some(b"/below/sub".to_vec());
    built(&btrfs, &tree(), &path, 300 << 20).unwrap();
    check(&path);
    btrfs.subvolumes.push(subvolume("/below", false, false));
    let error = built(&btrfs, &tree(), &path, 300 << 20)
        .unwrap_err()
        .to_string();
    assert!(error.contains("hard link"), "{error}");
    btrfs.subvolumes = vec![subvolume("/nowhere", false, false)];
    let error = btrfs.size(&tree()).unwrap_err().to_string();
    assert!(error.contains("no such directory"), "{error}");
}

#[test]
fn much_data_goes_around_the_superblocks_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut tree = Tree::new(metadata(0o755));
    for size in [30u64 << 20, 150 << 20] {
        let data = Vec::from([0..size]);
        let content = Content::from_reader(Arc::new(Pattern), size, data);
        add(
            &mut tree,
            InodeId::ROOT,
            &format!("{size}"),
            Kind::File(content),
        );
    }
    for at in 0..20 {
        directory(&mut tree, InodeId::ROOT, &format!("d{at}"), 1000);
    }
    built(&btrfs(), &tree, &path, 300 << 20).unwrap();
    check(&path);
    let error = built(&btrfs(), &tree, &path, 150 << 20).unwrap_err();
    assert!(matches!(error, WriteError::TooSmall { .. }), "{error}");
}

/// A tree whose data is in part worth compressing.
fn mixed() -> Tree {
    let mut tree = tree();
    let noise = |length| {
        let mut noise = vec![0; length];
        Noise.read_exact_at(&mut noise, 0).unwrap();
        noise
    };
    let text = |length: usize| b"all work and no play ".repeat(length / 21 + 1)[..length].to_vec();
    let half = [noise(600_000), text(300_001)].concat();
    for (name, data) in [
        ("noise", noise(3_000_000)),
        ("text", text(5_000_000)),
        ("half", half.clone()),
        ("one sector", text(4096)),
        ("two sectors", text(4097)),
    ] {
        let content = Kind::File(Content::from_bytes(data));
        add(&mut tree, InodeId::ROOT, name, content);
    }
    let plain = directory(&mut tree, InodeId::ROOT, "plain", 1);
    add(
        &mut tree,
        plain,
        "half",
        Kind::File(Content::from_bytes(half)),
    );
    tree
}

#[test]
fn compressed_data_is_sound_and_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let tree = mixed();
    let mut btrfs = btrfs();
    let plain = btrfs.size(&tree).unwrap();
    for (name, level) in [("zstd", None), ("zlib", Some("1")), ("zstd", Some("15"))] {
        btrfs.compression = Some(Compression::parse(name, level).unwrap());
        btrfs.subvolumes = vec![Subvolume {
            path: b"/plain".to_vec(),
            read_only: true,
            no_cow: true,
        }];
        let size = btrfs.size(&tree).unwrap();
        assert!(size + (4 << 20) < plain, "{size} {plain}");
        let [path, again] = ["image", "again"].map(|file| dir.path().join(file));
        built(&btrfs, &tree, &path, size).unwrap();
        check(&path);
        built(&btrfs, &tree, &again, size).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
        let error = built(&btrfs, &tree, &again, size - (1 << 20)).unwrap_err();
        let exact = matches!(error, WriteError::TooSmall { needed, .. } if needed == size);
        assert!(exact, "{error}");
        let restored = dir.path().join("restored");
        fs::create_dir_all(&restored).unwrap();
        let status = Command::new("btrfs")
            .args(["restore", "-o"])
            .args([&path, &restored])
            .output();
        assert!(status.unwrap().status.success());
        for file in [
            "noise",
            "text",
            "half",
            "one sector",
            "two sectors",
            "holes 60",
        ] {
            let Kind::File(content) = &tree.inode(tree.lookup(file.as_bytes()).unwrap()).kind
            else {
                panic!("{file}");
            };
            let mut wanted = vec![0; usize::try_from(content.size()).unwrap()];
            content
                .open()
                .unwrap()
                .read_exact_at(&mut wanted, 0)
                .unwrap();
            assert!(fs::read(restored.join(file)).unwrap() == wanted, "{file}");
        }
    }
}

#[test]
fn compressed_data_goes_around_the_superblocks_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut tree = Tree::new(metadata(0o755));
    let plain = directory(&mut tree, InodeId::ROOT, "plain", 1);
    // The second one crosses the copy, and is plain.
    for (at, size, place) in [(0, 50 << 20, InodeId::ROOT), (1, 45u64 << 20, plain)] {
        let content = Content::from_reader(Arc::new(Noise), size, Vec::from([0..size]));
        add(&mut tree, place, &format!("file {at}"), Kind::File(content));
    }
    let mut btrfs = btrfs();
    btrfs.subvolumes = vec![Subvolume {
        path: b"/plain".to_vec(),
        read_only: false,
        no_cow: true,
    }];
    btrfs.compression = Some(Compression::parse("zstd", Some("1")).unwrap());
    let size = btrfs.size(&tree).unwrap();
    assert!((70 << 20..120 << 20).contains(&size), "{size}");
    built(&btrfs, &tree, &path, size).unwrap();
    check(&path);
}

/// Bytes that do not compress, but for every fourth MiB and the end of each 32 KiB behind the
/// first MiB.
#[derive(Debug)]
struct Noise;

impl ReadAt for Noise {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        for (at, byte) in (offset..).zip(buffer) {
            let dull = at >> 20 & 3 == 3 || at >> 20 > 0 && at & 0x7fff > 0x6fff;
            let mixed = (at ^ at >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = if dull { 0 } else { mixed.to_be_bytes()[3] };
        }
        Ok(())
    }
}
