//! Images of mkfs.erofs (package erofs-utils), whole and damaged. As root, what the kernel shows of
//! them is compared as well.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use filetree::diff::{Change, diff};
use filetree::reader::{Follow, load, resolve};
use filetree::{Limits, Rules, Tree, collect};
use rustix::fs::{CWD, FileType, Mode, SeekFrom, XattrFlags};

use std::ops::Range;

use super::*;

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = self.0.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn opened(bytes: Vec<u8>) -> Result<Option<Erofs>, ReadError> {
    let size = bytes.len().try_into().unwrap();
    open(Arc::new(Bytes(bytes)), size)
}

fn read_all(bytes: Vec<u8>) -> Result<Tree, ReadError> {
    load(&opened(bytes)?.unwrap(), Limits::default())
}

fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let id = tree.lookup(path.as_bytes()).unwrap();
    let Kind::File(content) = &tree.inode(id).kind else {
        panic!("{path} is no file");
    };
    let mut bytes = vec![0; content.size().try_into().unwrap()];
    let open = content.open().unwrap();
    open.read_exact_at(&mut bytes, 0).unwrap();
    // The same in small steps, which need not fit what is stored.
    for (index, part) in bytes.chunks(1000).enumerate() {
        let mut again = vec![0; part.len()];
        open.read_exact_at(&mut again, u64::try_from(index * 1000).unwrap())
            .unwrap();
        assert!(again == part, "{path} at {}", index * 1000);
    }
    bytes
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        state.to_le_bytes()[2]
    };
    (0..length).map(step).collect()
}

fn numbers(last: u32) -> Vec<u8> {
    let lines: Vec<String> = (1..=last).map(|number| format!("{number}\n")).collect();
    lines.concat().into_bytes()
}

/// What erofs-utils 1.9 made of one directory, with the options of each in the file's name:
/// lz4hc -C4096, zstd -C4096, lzma -C4096, -Eall-fragments,dedupe, -E48bit, -m1024 (box) and others.
const SEEDS: [(&str, &[u8]); 14] = [
    ("box", include_bytes!("../../../../fuzz/seeds/erofs/box")),
    (
        "chunks",
        include_bytes!("../../../../fuzz/seeds/erofs/chunks"),
    ),
    (
        "deflate",
        include_bytes!("../../../../fuzz/seeds/erofs/deflate"),
    ),
    (
        "deflate-dedupe",
        include_bytes!("../../../../fuzz/seeds/erofs/deflate-dedupe"),
    ),
    (
        "extents",
        include_bytes!("../../../../fuzz/seeds/erofs/extents"),
    ),
    (
        "fragments",
        include_bytes!("../../../../fuzz/seeds/erofs/fragments"),
    ),
    ("lz4", include_bytes!("../../../../fuzz/seeds/erofs/lz4")),
    (
        "lz4-big",
        include_bytes!("../../../../fuzz/seeds/erofs/lz4-big"),
    ),
    (
        "lz4-legacy",
        include_bytes!("../../../../fuzz/seeds/erofs/lz4-legacy"),
    ),
    ("lzma", include_bytes!("../../../../fuzz/seeds/erofs/lzma")),
    (
        "lzma-dedupe",
        include_bytes!("../../../../fuzz/seeds/erofs/lzma-dedupe"),
    ),
    (
        "plain",
        include_bytes!("../../../../fuzz/seeds/erofs/plain"),
    ),
    (
        "small",
        include_bytes!("../../../../fuzz/seeds/erofs/small"),
    ),
    ("zstd", include_bytes!("../../../../fuzz/seeds/erofs/zstd")),
];

#[test]
fn images_of_all_compressions_are_read() {
    let (seq, noise) = (numbers(1500), noise(1500));
    for (name, bytes) in SEEDS {
        let tree = read_all(bytes.to_vec()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (path, expected) in [
            ("seq", seq.clone()),
            ("noise", noise.clone()),
            ("both", [&seq[..1500], &noise, &seq].concat()),
            ("dir/small", seq[..100].to_vec()),
            ("dir/tail", seq[seq.len() - 3000..].to_vec()),
            ("hole", vec![0; 5000]),
        ] {
            assert!(content(&tree, path) == expected, "{name}: {path}");
        }
        assert_eq!(tree.lookup(b"seq"), tree.lookup(b"dir/hard"), "{name}");
        let metadata = &tree.inode(tree.lookup(b"seq").unwrap()).metadata;
        assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o640, 3, 4));
        assert_eq!(metadata.mtime.seconds, 1_700_000_000);
        let value = metadata.xattrs.get(&b"user.a.long.prefix.x"[..]);
        assert_eq!(value.map(Vec::as_slice), Some(&b"one"[..]), "{name}");
        let link = tree.inode(tree.lookup(b"link").unwrap());
        assert!(matches!(&link.kind, Kind::Symlink(target) if **target == *b"dir/small"));
    }
}

/// A directory with a file of every kind that this user may make.
fn source() -> tempfile::TempDir {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    let (seq, noise) = (numbers(20_000), noise(70_000));
    let files: [(&str, Vec<u8>); 8] = [
        ("seq", seq.clone()),
        ("dir/noise", noise.clone()),
        ("both", [&seq[..30_001], &noise, &seq].concat()),
        ("dir/sub/dup", seq[50_000..].to_vec()),
        ("empty", Vec::new()),
        ("block", noise[..4096].to_vec()),
        ("small", b"small".to_vec()),
        ("zeros", vec![0; 20_000]),
    ];
    for (path, bytes) in files {
        fs::write(root.join(path), bytes).unwrap();
    }
    for number in 0..300 {
        let path = format!("many/a file with number {number}");
        fs::write(root.join(path), numbers(number)).unwrap();
    }
    fs::hard_link(root.join("small"), root.join("dir/hard")).unwrap();
    symlink("../dir", root.join("dir/link")).unwrap();
    symlink("x".repeat(3000), root.join("long")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(300_000).unwrap();
    io::Write::write_all(&mut &sparse, b"data").unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::set_permissions(root.join("seq"), fs::Permissions::from_mode(0o4751)).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("seq", "user.own", b"value");
    set("seq", "user.empty", b"");
    set("both", "user.long", &[7; 3000]);
    for number in 0..20 {
        set(
            &format!("many/a file with number {number}"),
            "user.shared",
            b"same",
        );
    }
    if rustix::process::geteuid().is_root() {
        let number = rustix::fs::makedev(259, 70_000);
        let mode = Mode::RUSR;
        rustix::fs::mknodat(CWD, root.join("disk"), FileType::BlockDevice, mode, number).unwrap();
        let number = rustix::fs::makedev(1, 3);
        let null = root.join("null");
        rustix::fs::mknodat(CWD, null, FileType::CharacterDevice, mode, number).unwrap();
        std::os::unix::fs::lchown(root.join("long"), Some(70_000), Some(80_000)).unwrap();
        set("dir", "trusted.t", b"1");
        set("dir", "security.s", b"2");
        // Version 2; u::rwx, u:7:r, g::r, mask r, o::r.
        let entries = [
            (1_u16, 7_u16, u32::MAX),
            (2, 4, 7),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 4, u32::MAX),
        ];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(bits.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        set("dir", "system.posix_acl_access", &list);
        set("dir", "system.posix_acl_default", &list);
    }
    source
}

fn mkfs(source: &Path, options: &str) -> tempfile::NamedTempFile {
    let target = tempfile::NamedTempFile::new().unwrap();
    let made = Command::new("mkfs.erofs")
        .args(options.split_whitespace())
        .args([target.path(), source])
        .output()
        .unwrap_or_else(|error| panic!("mkfs.erofs (package erofs-utils): {error}"));
    assert!(made.status.success(), "{options}: {made:?}");
    target
}

fn collected(directory: &Path) -> Tree {
    let everything = filetree::collect::Copy {
        source: "/".into(),
        target: "/".into(),
    };
    let rules = Rules {
        base: directory.to_path_buf(),
        copies: vec![everything],
        exclude_sources: Vec::new(),
        exclude_targets: Vec::new(),
        mount_points: Vec::new(),
        directories: Vec::new(),
        symlinks: Vec::new(),
        root_xattrs: Default::default(),
        owner: Default::default(),
        created: Default::default(),
        latest: None,
    };
    collect(&rules).unwrap().tree
}

/// What differs, but for what the comparison cannot know: `skip`, and anything of the root, which a
/// collection makes anew.
fn differences(old: &Tree, new: &Tree, skip: &[Change]) -> Vec<String> {
    let all = diff(old, new).unwrap();
    let known = all.into_iter().filter(|difference| {
        !skip.contains(&difference.change) && !difference.path.as_os_str().is_empty()
    });
    known.map(|difference| format!("{difference:?}")).collect()
}

const OPTIONS: [&str; 24] = [
    "",
    "-x-1",
    "-T1",
    "-T1 --ignore-mtime",
    "-Eforce-inode-extended",
    "-Enoinline_data",
    "-E^xattr-name-filter",
    "-Enosbcrc",
    "--chunksize=4096",
    "--chunksize=65536",
    "-Eforce-chunk-indexes --chunksize=4096",
    "-zlz4",
    "-zlz4hc",
    "-zlz4hc,12 -C65536",
    "-zlz4hc -C1048576",
    "-zlz4 -Elegacy-compress",
    "-zlz4 -Eztailpacking",
    "-zlz4 -Efragments",
    "-zlz4hc -Eall-fragments -C65536",
    "-zlz4 -Ededupe",
    "-zlz4hc -Ededupe,fragments -C16384",
    "-zlz4 -Ededupe,ztailpacking,fragments",
    "-zlz4 --max-extent-bytes=8192",
    "-zlz4 -Eforce-inode-extended,ztailpacking -C65536",
];

#[test]
fn what_mkfs_writes_is_what_the_kernel_shows() {
    let source = source();
    let expected = collected(source.path());
    for options in OPTIONS {
        let image = mkfs(source.path(), options);
        let tree = read_all(fs::read(image.path()).unwrap()).unwrap();
        let mut skip = vec![Change::Mtime, Change::Holes];
        if options == "-x-1" {
            let names = [
                "user.own",
                "user.empty",
                "user.long",
                "user.shared",
                "trusted.t",
                "security.s",
                "system.posix_acl_access",
                "system.posix_acl_default",
            ];
            skip.extend(names.map(|name| Change::Xattr(name.into())));
        }
        let found = differences(&expected, &tree, &skip);
        assert!(found.is_empty(), "{options}: {found:?}");
        for number in 0..300 {
            content(&tree, &format!("many/a file with number {number}"));
        }
        if rustix::process::geteuid().is_root() {
            mounted(image.path(), &tree, options);
        }
    }
}

/// The kernel's view of an image, times and holes included.
fn mounted(image: &Path, tree: &Tree, options: &str) {
    let point = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "erofs", "-o", "loop,ro"])
        .args([image, point.path()])
        .output()
        .unwrap();
    assert!(mount.status.success(), "{options}: {mount:?}");
    let found = differences(&collected(point.path()), tree, &[Change::Holes]);
    let holes: Vec<_> = ["sparse", "zeros", "seq"]
        .iter()
        .filter(|path| ranges_of(&point.path().join(path)) != ranges(tree, path))
        .collect();
    let umount = Command::new("umount").arg(point.path()).output().unwrap();
    assert!(umount.status.success(), "{umount:?}");
    assert!(found.is_empty(), "{options}: {found:?}");
    assert!(holes.is_empty(), "{options}: {holes:?}");
}

fn ranges(tree: &Tree, path: &str) -> Vec<Range<u64>> {
    match &tree.inode(tree.lookup(path.as_bytes()).unwrap()).kind {
        Kind::File(content) => content.data().to_vec(),
        other => panic!("{path} is {other:?}"),
    }
}

fn ranges_of(path: &Path) -> Vec<Range<u64>> {
    let file = fs::File::open(path).unwrap();
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(begin) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(begin)).unwrap();
        ranges.push(begin..at);
    }
    ranges
}

#[test]
fn names_are_found_by_halves() {
    let source = source();
    let image = opened(fs::read(mkfs(source.path(), "").path()).unwrap());
    let image = image.unwrap().unwrap();
    let tree = load(&image, Limits::default()).unwrap();
    for (path, _) in tree.walk() {
        let found = resolve(&image, &path, Follow::No).unwrap();
        let path = [b"/", &path[..]].concat();
        assert_eq!(found.path.as_os_str().as_encoded_bytes(), path);
    }
    for missing in [
        "many/a",
        "many/a file with number 6000",
        "many/z",
        "A",
        "zz",
    ] {
        assert!(
            resolve(&image, missing.as_bytes(), Follow::No).is_err(),
            "{missing}"
        );
    }
}

/// Reads everything that a damaged image still gives.
fn exhaust(bytes: Vec<u8>) {
    let Ok(Some(image)) = opened(bytes) else {
        return;
    };
    let limits = Limits {
        memory: 4 << 20,
        ..Limits::default()
    };
    let _ = resolve(&image, b"dir/tail/x", Follow::Yes);
    let Ok(tree) = load(&image, limits) else {
        return;
    };
    let mut buffer = vec![0; 1 << 16];
    for (_, id) in tree.walk() {
        if let Kind::File(content) = &tree.inode(id).kind {
            let open = content.open().unwrap();
            for range in content.data().iter().take(3) {
                let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let part = &mut buffer[..length.min(1 << 16)];
                let _ = open.read_exact_at(part, range.start);
            }
        }
    }
}

/// Says that the superblock has no checksum, so that what is behind it is reached.
fn unseal(image: &mut [u8]) {
    if let Some(features) = image.get_mut(1032) {
        *features &= !1;
    }
}

#[test]
fn damaged_images_do_no_harm() {
    for (_, whole) in SEEDS {
        let random = noise(800);
        for (round, two) in random.chunks(2).enumerate() {
            let mut damaged = whole.to_vec();
            let place = usize::from(two[0]) << 8 | usize::from(two[1]);
            let place = match round % 3 {
                0 => 1024 + place % 144,
                _ => place % whole.len(),
            };
            damaged[place] ^= two[1] | 1;
            unseal(&mut damaged);
            exhaust(damaged);
        }
        for length in (0..whole.len()).step_by(whole.len() / 50) {
            let mut short = whole[..length].to_vec();
            unseal(&mut short);
            exhaust(short);
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let plain = SEEDS.iter().find(|seed| seed.0 == "plain").unwrap().1;
    let root = 1024 + 14;
    let inode = usize::from(bytes::u16_at(plain, root)) * 32;
    for (place, value, message) in [
        (1024, &[0][..], "no erofs"),
        (
            1024 + 4,
            &[1, 2, 3, 4],
            "the superblock's checksum is wrong",
        ),
        (1024 + 12, &[8], "the block size is none that erofs has"),
        (1024 + 80, &[0, 0x80], "it has unknown features 0x8000"),
        (1024 + 86, &[1], "its data is on several devices"),
        (
            1024 + 90,
            &[1],
            "its directories have blocks of another size",
        ),
        (root, &[0xff, 0xff], "a place lies behind the image's end"),
        (inode, &[0x20], "has the unknown format 0x20"),
        (inode, &[0x0b], "there is no such layout of an inode"),
        (inode + 4, &[0, 0x30], "there is no such kind of inode"),
        (
            inode + 4,
            &[0xa4, 0x81],
            "the root of the file system is no directory",
        ),
        (
            inode + 2,
            &[0xff, 0xff],
            "a place lies behind the image's end",
        ),
    ] {
        let mut damaged = plain.to_vec();
        damaged[place..place + value.len()].copy_from_slice(value);
        if place != 1028 {
            unseal(&mut damaged);
        }
        let found = match opened(damaged) {
            Ok(None) => "no erofs".to_owned(),
            Ok(Some(image)) => match load(&image, Limits::default()) {
                Ok(_) => "sound".to_owned(),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        assert!(found.contains(message), "{message}: {found}");
    }
    assert!(matches!(opened(vec![0; 4096]), Ok(None)));
    assert!(matches!(
        opened(vec![0; 1000]),
        Err(ReadError::Damaged { .. })
    ));
}
