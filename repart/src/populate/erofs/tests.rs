//! What is written, judged by `fsck.erofs`.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use filetree::{Content, DeviceNumber, Inode, InodeId, Kind, Metadata, Name};
use proptest::prelude::*;

use super::*;

/// A target in memory that grows, and refuses to be written twice.
#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    written: u64,
}

impl WriteAt for Memory {
    fn size(&self) -> u64 {
        length(self.bytes.len())
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.written += length(bytes.len());
        Ok(())
    }
}

fn writer() -> Erofs {
    let build_time = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 0,
    };
    Erofs::new(Uuid::from_bytes([7; 16]), build_time)
}

fn metadata(mode: u16) -> Metadata {
    Metadata {
        mode,
        mtime: writer().build_time,
        ..Metadata::default()
    }
}

fn add(tree: &mut Tree, parent: InodeId, name: &[u8], kind: Kind) -> InodeId {
    let id = tree.add(Inode {
        metadata: metadata(0o755),
        kind,
    });
    assert!(tree.link(parent, Name::new(name).unwrap(), id));
    id
}

fn build(tree: &Tree) -> Memory {
    let size = writer().size(tree).unwrap().unwrap();
    let mut memory = Memory {
        bytes: vec![0; usize::try_from(size).unwrap()],
        written: 0,
    };
    assert_eq!(writer().write(tree, &mut memory).unwrap(), size);
    memory
}

/// Lets `fsck.erofs` check the image and unpack it into `folder`.
fn extract(image: &[u8], folder: &Path) {
    let file = folder.join("image");
    std::fs::write(&file, image).unwrap();
    let output = Command::new("fsck.erofs")
        .arg(format!("--extract={}", folder.join("x").display()))
        .args(["--force", "--no-preserve-owner", "--preserve-perms"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Files of every kind of layout.
fn sample() -> Tree {
    let mut tree = Tree::new(metadata(0o755));
    let root = InodeId::ROOT;
    for size in [0, 1, 4032, 4033, 4095, 4096, 4097, 10000, 3_000_000] {
        let bytes: Vec<u8> = (0u8..=250).cycle().take(size).collect();
        let name = format!("file{size}");
        add(
            &mut tree,
            root,
            name.as_bytes(),
            Kind::File(Content::from_bytes(bytes)),
        );
    }
    let full = tree.lookup(b"file4096").unwrap();
    assert!(tree.link(root, Name::new(&[0xff; 255]).unwrap(), full));
    let metadata = &mut tree.inode_mut(full).metadata;
    metadata.xattrs.insert(b"user.x".to_vec(), vec![1; 5000]);
    metadata.mtime.nanoseconds = 5;
    metadata.uid = 70000;
    add(
        &mut tree,
        root,
        b"-link",
        Kind::Symlink(b"file0".as_slice().into()),
    );
    add(
        &mut tree,
        root,
        b"long",
        Kind::Symlink(vec![b'l'; 4000].into()),
    );
    add(&mut tree, root, b"fifo", Kind::Fifo);
    let many = add(
        &mut tree,
        root,
        b"many",
        Inode::directory(Metadata::default()).kind,
    );
    for number in 0..2000 {
        let name = format!("entry{number}");
        add(
            &mut tree,
            many,
            name.as_bytes(),
            Kind::File(Content::from_bytes(*b"x")),
        );
    }
    tree
}

#[test]
fn fsck_unpacks_what_was_packed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = sample();
    extract(&build(&tree).bytes, folder.path());
    let mut paths = 0;
    for (path, id) in tree.walk() {
        let unpacked = folder
            .path()
            .join("x")
            .join(std::ffi::OsStr::from_bytes(&path));
        let found = unpacked.symlink_metadata().unwrap();
        match &tree.inode(id).kind {
            Kind::File(content) => {
                let mut wanted = vec![0; usize::try_from(content.size()).unwrap()];
                content
                    .open()
                    .unwrap()
                    .read_exact_at(&mut wanted, 0)
                    .unwrap();
                assert_eq!(std::fs::read(&unpacked).unwrap(), wanted, "{unpacked:?}");
                assert_eq!(found.mode() & 0o7777, 0o755);
            }
            Kind::Symlink(target) => {
                let link = std::fs::read_link(&unpacked).unwrap();
                assert_eq!(link.as_os_str().as_bytes(), &target[..]);
            }
            _ => {}
        }
        paths += 1;
    }
    assert_eq!(paths, 2015);
}

#[test]
fn holes_take_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let file = std::fs::File::create(&source).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"data", 33 << 20).unwrap();
    let found = file.metadata().unwrap();
    let start = 33 << 20;
    let content = Content::from_file(source.clone(), &found, vec![start..start + 4096]);
    let mut tree = Tree::new(metadata(0o755));
    add(&mut tree, InodeId::ROOT, b"sparse", Kind::File(content));
    let image = build(&tree);
    assert!(image.bytes.len() < 300_000, "{}", image.bytes.len());
    // Version 1.5 leaves holes out when it unpacks, so only what is stored can be asked for.
    extract(&image.bytes, folder.path());
    let stored = image
        .bytes
        .chunks(4096)
        .filter(|block| block.starts_with(b"data"));
    assert_eq!(stored.count(), 1);
}

#[test]
fn data_are_written_once_and_alike() {
    let (one, two) = (build(&sample()), build(&sample()));
    assert!(one.bytes == two.bytes);
    assert!(one.written <= length(one.bytes.len()) + 128);
}

#[test]
fn what_cannot_be_held_is_named() {
    let mut tree = Tree::new(metadata(0o755));
    let number = DeviceNumber {
        major: 5000,
        minor: 0,
    };
    let device = add(
        &mut tree,
        InodeId::ROOT,
        b"dev",
        Kind::CharacterDevice(number),
    );
    let error = writer().size(&tree).unwrap_err().to_string();
    assert!(error.starts_with("/dev: EROFS holds major"), "{error}");
    tree.inode_mut(device).kind = Kind::Fifo;
    let xattrs = &mut tree.inode_mut(device).metadata.xattrs;
    xattrs.insert(b"odd.x".to_vec(), Vec::new());
    let error = writer().size(&tree).unwrap_err().to_string();
    assert!(error.contains("\"odd.x\""), "{error}");
    let odd = Erofs {
        block_size: 1000,
        ..writer()
    };
    assert!(matches!(
        odd.size(&sample()),
        Err(WriteError::Parameters(_))
    ));
    let mut small = Memory {
        bytes: vec![0; 4096],
        written: 0,
    };
    let error = writer().write(&sample(), &mut small).unwrap_err();
    assert!(matches!(
        error,
        WriteError::TooSmall {
            available: 4096,
            ..
        }
    ));
    assert_eq!(small.written, 0);
}

/// A file as a list of name, size and attribute.
fn files() -> impl Strategy<Value = Vec<(Vec<u8>, usize, Vec<u8>)>> {
    let name = proptest::collection::vec(1u8..=255, 1..255);
    let size = prop_oneof![0usize..100, 3900usize..4200, 0usize..20000];
    let value = proptest::collection::vec(any::<u8>(), 0..4100);
    proptest::collection::vec((name, size, value), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_passes_the_check(files in files()) {
        let mut tree = Tree::new(metadata(0o755));
        for (name, size, value) in files {
            let Ok(name) = Name::new(&name) else { continue };
            let id = tree.add(Inode {
                metadata: metadata(0o644),
                kind: Kind::File(Content::from_bytes(vec![b'x'; size])),
            });
            if !value.is_empty() {
                tree.inode_mut(id).metadata.xattrs.insert(b"user.v".to_vec(), value);
            }
            tree.link(InodeId::ROOT, name, id);
        }
        let folder = tempfile::tempdir().unwrap();
        extract(&build(&tree).bytes, folder.path());
        let unpacked = std::fs::read_dir(folder.path().join("x")).unwrap().count();
        prop_assert_eq!(unpacked, tree.inode(InodeId::ROOT).entries().unwrap().len());
    }
}

#[test]
fn compressed_images_hold_the_same() {
    use blockdev::tool::{SearchPath, Tool};
    let folder = tempfile::tempdir().unwrap();
    let program = Tool::MkfsErofs.require(&SearchPath::new(None)).unwrap();
    let compression = compressed::Compression {
        algorithm: Some("lz4hc"),
        level: Some("9"),
        options: &[],
    };
    // Version 1.5 fails on names of 255 bytes.
    let mut tree = Tree::new(metadata(0o755));
    let bytes: Vec<u8> = (0u8..=250).cycle().take(3_000_000).collect();
    let content = Kind::File(Content::from_bytes(bytes));
    let file = add(&mut tree, InodeId::ROOT, b"file3000000", content);
    tree.inode_mut(file).metadata.uid = 70000;
    let mut images = Vec::new();
    for name in ["one", "two"] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        match writer().write_compressed(&program, &tree, &folder, compression) {
            Ok(image) => images.push(std::fs::read(image).unwrap()),
            Err(error) => assert!(error.to_string().contains("1.7 or newer"), "{error}"),
        }
    }
    if let [one, two] = &images[..] {
        assert!(one == two);
        extract(one, folder.path());
        let unpacked = std::fs::read(folder.path().join("x/file3000000")).unwrap();
        assert_eq!(unpacked.len(), 3_000_000);
    }
}
