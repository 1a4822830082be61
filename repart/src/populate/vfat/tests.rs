//! What dosfstools and mtools say of our file systems.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use filetree::{Inode, InodeId, Kind, Metadata, Name, Timestamp};

use super::*;

struct Target {
    file: std::fs::File,
    size: u64,
}

impl WriteAt for Target {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert!(offset + length(bytes.len()) <= self.size);
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }
}

fn image(
    tree: &Tree,
    parameters: Parameters,
    size: u64,
) -> Result<tempfile::NamedTempFile, WriteError> {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(size).unwrap();
    let file = image.as_file().try_clone().unwrap();
    VfatWriter::new(parameters).write(tree, &mut Target { file, size })?;
    Ok(image)
}

fn parameters(width: &str, sector: u32) -> Parameters {
    let time = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 0,
    };
    let sector = SectorSize::new(sector).unwrap();
    let words = ["-F".to_owned(), width.to_owned()];
    Parameters::new(0x1234_abcd, Label::from_text("esp"), sector, time)
        .with_mkfs_options(&words)
        .unwrap()
}

fn add(tree: &mut Tree, path: &str, kind: Kind) {
    let mtime = Timestamp {
        seconds: 1_600_000_000 + i64::try_from(tree.len()).unwrap() * 2,
        nanoseconds: 0,
    };
    let id = tree.add(Inode {
        metadata: Metadata {
            mtime,
            ..Metadata::default()
        },
        kind,
    });
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = tree.lookup(parent.as_bytes()).unwrap();
    assert!(tree.link(parent, Name::new(name.as_bytes()).unwrap(), id));
}

fn directory() -> Kind {
    Kind::Directory(BTreeMap::new())
}

fn file(seed: u8, length: usize) -> Kind {
    let bytes: Vec<u8> = (0..length)
        .map(|at| seed ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
        .collect();
    Kind::File(Content::from_bytes(bytes))
}

fn sample() -> Tree {
    let mut tree = Tree::new(Metadata::default());
    for path in ["EFI", "EFI/BOOT", "EFI/Linux", "many files"] {
        add(&mut tree, path, directory());
    }
    add(&mut tree, "EFI/BOOT/BOOTX64.EFI", file(1, 100_000));
    add(
        &mut tree,
        "EFI/Linux/a long name, with ünïcödé.efi",
        file(2, 70_001),
    );
    add(&mut tree, "loader.conf", file(3, 13));
    add(&mut tree, "empty", file(0, 0));
    add(&mut tree, "link", Kind::Symlink((*b"loader.conf").into()));
    for number in 0..200 {
        add(
            &mut tree,
            &format!("many files/file number {number}"),
            file(4, number * 11),
        );
    }
    tree
}

/// Sizes that the widths can have with these sectors.
const CASES: [(&str, u32, u64); 8] = [
    ("12", 512, 3 << 20),
    ("12", 4096, 20 << 20),
    ("16", 512, 33 << 20),
    ("16", 4096, 106 << 20),
    ("32", 512, 40 << 20),
    ("32", 512, 300 << 20),
    ("32", 2048, 200 << 20),
    ("32", 4096, 300 << 20),
];

#[test]
fn fsck_and_mtools_accept_what_was_written() {
    let tree = sample();
    for (width, sector, size) in CASES {
        let image = image(&tree, parameters(width, sector), size).unwrap();
        spoil_free_space(image.as_file(), size);
        let check = Command::new("/usr/sbin/fsck.vfat")
            .args(["-n", "-v"])
            .arg(image.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "FAT{width} {sector}: {said}");
        assert!(
            !said.contains("Dirty") && !said.contains("incorrect"),
            "{said}"
        );
        let out = tempfile::tempdir().unwrap();
        let copied = Command::new("mcopy")
            .env("MTOOLS_SKIP_CHECK", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .args(["-s", "-m", "-n", "-i"])
            .arg(image.path())
            .args(["::/*"])
            .arg(out.path())
            .output()
            .unwrap();
        assert!(
            copied.status.success() && copied.stderr.is_empty(),
            "FAT{width} {sector}: {copied:?}"
        );
        compare(&tree, out.path(), &format!("FAT{width} {sector}"));
    }
}

/// What is said to be free can be anything.
fn spoil_free_space(file: &std::fs::File, size: u64) {
    use std::os::unix::fs::FileExt;
    let free = free(&|buffer, offset| file.read_exact_at(buffer, offset));
    let free = free.unwrap().unwrap();
    let total: u64 = free.iter().map(|range| range.end - range.start).sum();
    assert!(total > size / 4, "{total} of {size}");
    for range in free {
        let garbage = vec![0xa5; usize::try_from(range.end - range.start).unwrap()];
        file.write_all_at(&garbage, range.start).unwrap();
    }
}

fn compare(tree: &Tree, out: &std::path::Path, what: &str) {
    for (path, id) in tree.walk() {
        let path = String::from_utf8(path).unwrap();
        let place = out.join(&path);
        match &tree.inode(id).kind {
            Kind::File(content) => {
                let mut expected = vec![0; usize::try_from(content.size()).unwrap()];
                content
                    .open()
                    .unwrap()
                    .read_exact_at(&mut expected, 0)
                    .unwrap();
                assert!(
                    std::fs::read(&place).ok() == Some(expected),
                    "{what} {path}"
                );
                let changed = std::fs::metadata(&place).unwrap().modified().unwrap();
                let changed = changed
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_secs();
                assert_eq!(
                    i64::try_from(changed).unwrap(),
                    tree.inode(id).metadata.mtime.seconds,
                    "{what} {path}"
                );
            }
            Kind::Directory(_) => assert!(place.is_dir(), "{what} {path}"),
            _ => assert!(!place.exists(), "{what} {path}"),
        }
    }
}

#[test]
fn fields_are_those_of_mkfs() {
    let tree = Tree::new(Metadata::default());
    let more = [
        ("12", 512, 1440 << 10),
        ("12", 512, 720 << 10),
        ("12", 512, 100 << 20),
        ("12", 1024, 5 << 20),
        ("16", 512, (259 << 20) + 512 * 77),
        ("16", 1024, 511 << 20),
        ("32", 512, 1440 << 10),
        ("32", 512, 260 << 20),
        ("32", 512, (260 << 20) + (1 << 16)),
        ("32", 512, 1 << 30),
        ("32", 4096, 8 << 30),
        ("32", 512, 33 << 30),
    ];
    for (width, sector, size) in CASES.into_iter().chain(more) {
        let what = format!("FAT{width} {sector} {size}");
        let ours = image(&tree, parameters(width, sector), size).unwrap();
        let theirs = tempfile::NamedTempFile::new().unwrap();
        theirs.as_file().set_len(size).unwrap();
        let made = Command::new("/usr/sbin/mkfs.vfat")
            .args([
                "-i",
                "1234abcd",
                "-n",
                "ESP",
                "-F",
                width,
                "-S",
                &sector.to_string(),
            ])
            .arg(theirs.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{what}: {made:?}");
        let read = |file: &tempfile::NamedTempFile, offset: u64, length: usize| {
            let mut bytes = vec![0; length];
            std::os::unix::fs::FileExt::read_exact_at(file.as_file(), &mut bytes, offset).unwrap();
            bytes
        };
        let fields = if width == "32" { 90 } else { 62 };
        assert_eq!(read(&ours, 0, fields), read(&theirs, 0, fields), "{what}");
        let geometry = Geometry::new(&parameters(width, sector), size).unwrap();
        let table = geometry.table_offset(0);
        assert_eq!(read(&ours, table, 2), read(&theirs, table, 2), "{what}");
        if width == "32" {
            // What is free; the hint behind it is for us to choose.
            let at = u64::from(sector) + 484;
            assert_eq!(read(&ours, at, 8), read(&theirs, at, 8), "{what}");
        }
    }
}

#[test]
fn options_change_the_fields() {
    let size = 64 << 20;
    for (options, good) in [
        ("-F 16 -s 8 -R 9 -f 1 -r 100 -h 63 -D 0x81 -M 0xf0 -a", true),
        ("-F 32 -s 2 -R 40 -b 9 -g 16/63", true),
        ("-F 12", true),
        ("-F 16 -s 128", false),
        ("-F 32 -R 5 -b 6", false),
    ] {
        let words: Vec<_> = options.split(' ').map(str::to_owned).collect();
        let parameters = parameters("32", 512).with_mkfs_options(&words).unwrap();
        let tree = Tree::new(Metadata::default());
        let ours = image(&tree, parameters, size);
        assert_eq!(ours.is_ok(), good, "{options}");
        let theirs = tempfile::NamedTempFile::new().unwrap();
        theirs.as_file().set_len(size).unwrap();
        let made = Command::new("/usr/sbin/mkfs.vfat")
            .args(["-i", "1234abcd", "-n", "ESP"])
            .args(&words)
            .arg(theirs.path())
            .output()
            .unwrap();
        assert_eq!(made.status.success(), good, "{options} {made:?}");
        if let Ok(ours) = ours {
            let [ours, theirs] = [&ours, &theirs].map(|file| std::fs::read(file.path()).unwrap());
            assert_eq!(ours[..62], theirs[..62], "{options}");
        }
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let mut tree = sample();
    add(&mut tree, "big", file(9, 4 << 20));
    let error = image(&tree, parameters("12", 512), 3 << 20).unwrap_err();
    assert!(matches!(error, WriteError::TooSmall { .. }), "{error}");
    let mut tree = sample();
    add(&mut tree, "EFI/Boot", directory());
    let error = image(&tree, parameters("32", 512), 40 << 20).unwrap_err();
    assert!(
        error.to_string().starts_with("EFI/Boot: another name"),
        "{error}"
    );
    let mut tree = Tree::new(Metadata::default());
    for number in 0..600 {
        add(&mut tree, &format!("{number}"), file(1, 1));
    }
    let error = image(&tree, parameters("16", 512), 40 << 20).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("root directory needs 601 entries"),
        "{error}"
    );
    assert_eq!(tree.inode(InodeId::ROOT).entries().unwrap().len(), 600);
}

#[test]
fn a_guessed_size_holds_the_tree_and_half_as_much() {
    let mut many = Tree::new(Metadata::default());
    for number in 0..3000 {
        add(&mut many, &format!("{number}"), file(1, 1));
    }
    let mut large = sample();
    add(&mut large, "large", file(2, 300 << 20));
    let trees = [Tree::new(Metadata::default()), sample(), many, large];
    for (at, tree) in trees.iter().enumerate() {
        for (width, sector) in [("32", 512), ("32", 4096), ("16", 512)] {
            if (width, at) == ("16", 2) {
                continue; // its root directory is too small
            }
            let writer = VfatWriter::new(parameters(width, sector));
            let size = writer.guess(tree).unwrap();
            let image = image(tree, parameters(width, sector), size).unwrap();
            let mut fsck = Command::new("fsck.vfat");
            let fsck = fsck.arg("-n").arg(image.path()).output().unwrap();
            let said = String::from_utf8_lossy(&fsck.stdout).into_owned();
            assert!(fsck.status.success(), "{width} {sector}: {said}");
            let most = [17, 17, 20, 460][at];
            let most = if sector == 512 { most } else { most * 2 };
            assert!(size <= most << 20, "{at} {width} {sector}: {size}");
        }
    }
}
