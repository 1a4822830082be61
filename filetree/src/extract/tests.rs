//! Laying trees over what is there, also where what is there wants to lead out.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::collect::{Copy, Owner, Rules, collect};
use crate::content::Content;
use crate::diff::{Change, diff};
use crate::tree::{Metadata, Name, Timestamp};

fn collected(base: &Path) -> Tree {
    let rules = Rules {
        base: base.to_owned(),
        copies: vec![Copy {
            source: "/".into(),
            target: "/".into(),
        }],
        exclude_sources: Vec::new(),
        exclude_targets: Vec::new(),
        mount_points: Vec::new(),
        directories: Vec::new(),
        symlinks: Vec::new(),
        root_xattrs: Default::default(),
        owner: Owner::Keep,
        created: Timestamp::default(),
        latest: None,
    };
    collect(&rules).unwrap().tree
}

/// A tree of what an ordinary user can make, which belongs to whoever runs the test.
fn tree() -> Tree {
    let metadata = |mode| Metadata {
        mode,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime: Timestamp {
            seconds: 1_000_000_000,
            nanoseconds: 7,
        },
        xattrs: Default::default(),
    };
    let mut tree = Tree::new(metadata(0o755));
    let mut add = |parent, name: &str, mode, kind| {
        let mut metadata = metadata(mode);
        if matches!(kind, Kind::File(_) | Kind::Directory(_)) {
            metadata.xattrs.insert(b"user.a".to_vec(), b"\0b".to_vec());
        }
        let id = tree.add(Inode { metadata, kind });
        assert!(tree.link(parent, Name::new(name.as_bytes()).unwrap(), id));
        id
    };
    let directory = || Kind::Directory(Default::default());
    let file = |text: &[u8]| Kind::File(Content::from_bytes(text));
    let dir = add(InodeId::ROOT, "dir", 0o500, directory());
    let hard = add(dir, "file", 0o4755, file(b"text"));
    add(
        dir,
        "link",
        0o777,
        Kind::Symlink(b"../../../out"[..].into()),
    );
    add(InodeId::ROOT, "pipe", 0o640, Kind::Fifo);
    add(InodeId::ROOT, "sock", 0o640, Kind::Socket);
    let mut bytes = vec![0; 1 << 20];
    bytes[700_000] = 1;
    let sparse = Content::from_reader(
        std::sync::Arc::new(Bytes(bytes)),
        1 << 20,
        Vec::from([696_320..704_512]),
    );
    add(dir, "sparse", 0o600, Kind::File(sparse));
    assert!(tree.link(InodeId::ROOT, Name::new(b"hard").unwrap(), hard));
    tree
}

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl crate::content::ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

fn assert_same(tree: &Tree, target: &Path) {
    let mut differences = diff(tree, &collected(target)).unwrap();
    // A collected root directory is root's, whoever owns the folder.
    differences.retain(|found| {
        !found.path.as_os_str().is_empty() || !matches!(found.change, Change::Owner)
    });
    assert_eq!(differences, []);
}

#[test]
fn everything_is_copied() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let target = dir.path().join("new");
    let extracted = extract(&tree(), &target, Ownership::Caller).unwrap();
    assert!(extracted.failed.is_empty(), "{:?}", extracted.failed);
    assert_eq!(extracted.unset, []);
    assert_same(&tree(), &target);
    let sparse = fs::metadata(target.join("dir/sparse")).unwrap();
    assert!(sparse.blocks() < 200, "{}", sparse.blocks());
}

#[test]
fn directories_are_merged_and_files_replaced() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let target = dir.path().join("old");
    fs::create_dir_all(target.join("dir")).unwrap();
    fs::write(target.join("dir/file"), "old").unwrap();
    fs::write(target.join("dir/mine"), "mine").unwrap();
    symlink("nowhere", target.join("pipe")).unwrap();
    let before = fs::metadata(target.join("dir")).unwrap().mode();
    let extracted = extract(&tree(), &target, Ownership::Caller).unwrap();
    assert!(extracted.failed.is_empty(), "{:?}", extracted.failed);
    assert_eq!(fs::read(target.join("dir/file")).unwrap(), b"text");
    assert_eq!(fs::read(target.join("dir/mine")).unwrap(), b"mine");
    assert_eq!(fs::metadata(target.join("dir")).unwrap().mode(), before);
    let names = fs::read_dir(&target).unwrap().count();
    assert_eq!(names, 4, "nothing is left over");
}

#[test]
fn nothing_is_written_outside_of_the_target() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let links: [(&str, &str); 5] = [
        ("dir", "../outside"),
        ("hard", "../outside/kept"),
        ("pipe", "../outside/kept"),
        ("sock", "../outside/new"),
        (".#ddi-0", "../outside/temporary"),
    ];
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    for (name, to) in links {
        symlink(to, target.join(name)).unwrap();
    }
    let extracted = extract(&tree(), &target, Ownership::Caller).unwrap();
    let failed: Vec<String> = extracted.failed.iter().map(ToString::to_string).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].ends_with("dir exists and is no directory, so no directory can be put there")
    );
    assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);

    let link = dir.path().join("link");
    symlink("outside", &link).unwrap();
    let refused = extract(&tree(), &link, Ownership::Caller).unwrap_err();
    assert!(matches!(refused, ExtractError::InTheWay { .. }));
}

#[test]
fn a_directory_is_not_replaced_by_a_file() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::create_dir(dir.path().join("hard")).unwrap();
    let extracted = extract(&tree(), dir.path(), Ownership::Caller).unwrap();
    assert_eq!(extracted.failed.len(), 1, "{:?}", extracted.failed);
    assert!(dir.path().join("hard").is_dir());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn a_single_file_is_not_put_over_another() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let target = dir.path().join("file");
    let content = Content::from_bytes(*b"text");
    let metadata = Metadata {
        mode: 0o640,
        ..Metadata::default()
    };
    let copy = || extract_file(&content, &metadata, &target, Ownership::Caller);
    copy().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"text");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640);
    let again = copy().unwrap_err();
    assert!(again.to_string().starts_with("cannot create "), "{again}");
}
