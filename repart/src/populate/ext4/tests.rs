//! What is written, judged by `e2fsck` and read back by `debugfs`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use blockdev::tool::{SearchPath, Tool};
use filetree::{Content, DeviceNumber, Inode, InodeId, Metadata, Name, Timestamp};
use proptest::prelude::*;

use super::*;

struct Target(File, u64);

impl WriteAt for Target {
    fn size(&self) -> u64 {
        self.1
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

impl Disk for Target {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// Makes and fills a file system of `size` bytes in `path`.
fn build(path: &Path, tool: &Tool, tree: &Tree, size: u64, options: &[&str]) {
    try_build(path, tool, tree, size, options).unwrap();
}

fn try_build(
    path: &Path,
    tool: &Tool,
    tree: &Tree,
    size: u64,
    options: &[&str],
) -> Result<(), WriteError> {
    let mut choices = File::options();
    let file = choices.read(true).write(true).create(true).truncate(true);
    let file = file.open(path).unwrap();
    file.set_len(size).unwrap();
    let options: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
    let ext = Ext {
        label: "a label that is too long",
        uuid: Uuid::from_bytes([0x17; 16]),
        sector: 512,
        time: 1_700_000_000,
        discard: false,
        verity: false,
        options: &options,
    };
    let program = tool.require(&SearchPath::new(None)).unwrap();
    ext.format(&program, Place::Whole(path)).unwrap();
    fill(tree, &mut Target(file, size))
}

fn check(path: &Path) {
    let output = Command::new("e2fsck").arg("-fn").arg(path).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// What `debugfs` says to a request.
fn ask(path: &Path, request: &str) -> Vec<u8> {
    let mut command = Command::new("debugfs");
    command
        .args(["-R", request])
        .arg(path)
        .stderr(Stdio::null());
    command.output().unwrap().stdout
}

fn metadata() -> Metadata {
    Metadata {
        mode: 0o4755,
        uid: 70000,
        gid: 5,
        mtime: Timestamp {
            seconds: 5_000_000_000,
            nanoseconds: 7,
        },
        ..Metadata::default()
    }
}

fn add(tree: &mut Tree, parent: InodeId, name: &[u8], kind: Kind) -> InodeId {
    let metadata = metadata();
    let id = tree.add(Inode { metadata, kind });
    assert!(tree.link(parent, Name::new(name).unwrap(), id));
    id
}

fn sample() -> Tree {
    let mut tree = Tree::new(Metadata {
        mode: 0o755,
        ..Metadata::default()
    });
    let root = InodeId::ROOT;
    for size in [0, 1, 4096, 4097, 300_000] {
        let bytes: Vec<u8> = (0u8..=250).cycle().take(size).collect();
        let name = format!("file{size}");
        let content = Content::from_bytes(bytes);
        add(&mut tree, root, name.as_bytes(), Kind::File(content));
    }
    let one = tree.lookup(b"file1").unwrap();
    assert!(tree.link(root, Name::new(&[0xff; 255]).unwrap(), one));
    let xattrs = &mut tree.inode_mut(one).metadata.xattrs;
    xattrs.insert(b"user.near".to_vec(), b"n".to_vec());
    xattrs.insert(b"user.far".to_vec(), vec![b'f'; 3000]);
    xattrs.insert(b"trusted.x".to_vec(), vec![b't'; 300]);
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    xattrs.insert(b"system.posix_acl_access".to_vec(), acl.to_vec());
    for length in [59, 60, 4000] {
        let name = format!("link{length}");
        let target = vec![b'l'; length].into();
        add(&mut tree, root, name.as_bytes(), Kind::Symlink(target));
    }
    for (name, major, minor) in [("small", 1, 3), ("large", 259, 70000)] {
        let device = Kind::BlockDevice(DeviceNumber { major, minor });
        add(&mut tree, root, name.as_bytes(), device);
    }
    add(&mut tree, root, b"fifo", Kind::Fifo);
    let many = Inode::directory(Metadata::default()).kind;
    let many = add(&mut tree, root, b"many", many);
    for number in 0..1000 {
        let name = format!("a name of an entry, number {number}");
        add(&mut tree, many, name.as_bytes(), Kind::Socket);
    }
    tree
}

/// A file whose every other block is a hole, so that its map needs blocks of its own.
fn sparse(folder: &Path) -> Content {
    let path = folder.join("source");
    let file = File::create(&path).unwrap();
    let size = 1500 * 8192 + (5 << 30);
    file.set_len(size).unwrap();
    let mut data = Vec::new();
    for start in (0..1500).map(|number: u64| number * 8192) {
        file.write_all_at(&start.to_le_bytes(), start).unwrap();
        data.push(start..start + 4096);
    }
    Content::from_file(path, &file.metadata().unwrap(), data)
}

#[test]
fn every_version_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let mut tree = sample();
    let content = sparse(folder.path());
    add(&mut tree, InodeId::ROOT, b"sparse", Kind::File(content));
    for (tool, options) in [
        (Tool::MkfsExt2, &[][..]),
        (Tool::MkfsExt3, &[]),
        (Tool::MkfsExt4, &[]),
        (Tool::MkfsExt4, &["-I", "128"]),
        (Tool::MkfsExt4, &["-O", "^metadata_csum,uninit_bg"]),
        (Tool::MkfsExt4, &["-O", "^flex_bg,metadata_csum_seed"]),
    ] {
        build(&image, &tool, &tree, 200 << 20, options);
        check(&image);
        for size in [0, 1, 4096, 4097, 300_000] {
            let wanted: Vec<u8> = (0u8..=250).cycle().take(size).collect();
            assert!(ask(&image, &format!("cat file{size}")) == wanted, "{size}");
        }
        let start = 700u64 * 8192;
        let found = ask(&image, "bmap sparse 1400");
        let block: u64 = String::from_utf8_lossy(&found).trim().parse().unwrap();
        let mut bytes = [0; 8];
        let file = File::open(&image).unwrap();
        file.read_exact_at(&mut bytes, block * 4096).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), start);
    }
}

/// What is said to be free can be anything.
#[test]
fn nothing_depends_on_what_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for (tool, size, options) in [
        (Tool::MkfsExt4, 48 << 20, &[][..]),
        (Tool::MkfsExt4, 600 << 20, &[][..]),
        (Tool::MkfsExt4, 300 << 20, &["-O", "^flex_bg"][..]),
        (Tool::MkfsExt2, 300 << 20, &[][..]),
        (Tool::MkfsExt3, 48 << 20, &["-b", "1024"][..]),
    ] {
        let mut tree = Tree::new(metadata());
        let bytes: Vec<u8> = (0u8..=250).cycle().take(300_000).collect();
        let content = Kind::File(Content::from_bytes(bytes));
        add(&mut tree, InodeId::ROOT, b"file300000", content);
        build(&path, &tool, &tree, size, options);
        let before = ask(&path, "dump file300000 /dev/stdout");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let free = free(&Target(file.try_clone().unwrap(), size)).unwrap();
        let total: u64 = free.iter().map(|range| range.end - range.start).sum();
        assert!(total > size / 3, "{total} of {size}");
        for range in free {
            let garbage = vec![0xa5; usize::try_from(range.end - range.start).unwrap()];
            file.write_all_at(&garbage, range.start).unwrap();
        }
        check(&path);
        assert_eq!(ask(&path, "dump file300000 /dev/stdout"), before);
    }
}

#[test]
fn metadata_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    build(&image, &Tool::MkfsExt4, &sample(), 64 << 20, &[]);
    let stat = String::from_utf8_lossy(&ask(&image, "stat file1")).into_owned();
    for part in [
        "Mode:  04755",
        "User: 70000   Group:     5",
        "Links: 2",
        "mtime: 0x2a05f200:0000001d",
        "user.near (1) = \"n\"",
        "user.far (3000)",
        "trusted.x (300)",
        "system.posix_acl_access (28)",
    ] {
        assert!(stat.contains(part), "{part} is not in {stat}");
    }
    let stat = String::from_utf8_lossy(&ask(&image, "stat large")).into_owned();
    assert!(stat.contains("259:70000"), "{stat}");
    let list = ask(&image, "ls -p /many");
    assert_eq!(
        list.split(|byte| *byte == b'\n')
            .filter(|line| line.len() > 3)
            .count(),
        1002
    );
}

#[test]
fn builds_are_alike() {
    let folder = tempfile::tempdir().unwrap();
    let images = ["one", "two"].map(|name| folder.path().join(name));
    for image in &images {
        build(image, &Tool::MkfsExt4, &sample(), 64 << 20, &[]);
    }
    assert!(std::fs::read(&images[0]).unwrap() == std::fs::read(&images[1]).unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let ext4 = Tool::MkfsExt4;
    let error = try_build(&image, &ext4, &sample(), 64 << 20, &["-O", "inline_data"]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("feature inline_data,"), "{error}");
    let error = try_build(&image, &ext4, &sample(), 8 << 20, &[]).unwrap_err();
    assert!(error.to_string().contains("-N"), "{error}");
    let mut tree = sample();
    let content = Content::from_bytes(vec![b'x'; 8 << 20]);
    add(&mut tree, InodeId::ROOT, b"large-file", Kind::File(content));
    let error = try_build(&image, &ext4, &tree, 8 << 20, &["-N", "2000"]).unwrap_err();
    assert!(matches!(error, WriteError::TooSmall { .. }), "{error}");
    let mut tree = sample();
    let id = tree.lookup(b"file0").unwrap();
    let xattrs = &mut tree.inode_mut(id).metadata.xattrs;
    xattrs.insert(b"user.big".to_vec(), vec![0; 5000]);
    let error = try_build(&image, &ext4, &tree, 64 << 20, &[]).unwrap_err();
    assert!(error.to_string().starts_with("/file0: "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_tree_fits_its_estimate_and_passes(
        files in proptest::collection::vec(
            (proptest::collection::vec(1u8..=255, 1..255), 0usize..60000, 0usize..3000),
            0..200,
        )
    ) {
        let mut tree = Tree::new(metadata());
        let mut parent = InodeId::ROOT;
        for (number, (name, size, value)) in files.into_iter().enumerate() {
            let Ok(name) = Name::new(&name) else { continue };
            let kind = match number % 7 {
                0 => Inode::directory(metadata()).kind,
                1 => Kind::Symlink(vec![b'x'; size % 4000 + 1].into()),
                _ => Kind::File(Content::from_bytes(vec![b'x'; size])),
            };
            let directory = matches!(kind, Kind::Directory(_));
            let id = tree.add(Inode { metadata: metadata(), kind });
            tree.inode_mut(id).metadata.xattrs.insert(b"user.v".to_vec(), vec![1; value]);
            tree.link(parent, name, id);
            parent = if directory { id } else { parent };
        }
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        build(&image, &Tool::MkfsExt4, &tree, minimum_size(&tree), &[]);
        check(&image);
    }
}
