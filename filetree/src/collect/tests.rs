#![expect(clippy::type_complexity, reason = "tables of cases")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use super::*;

const NOW: Timestamp = at(2_000_000_000);

const fn at(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: 0,
    }
}

/// A base folder: `(path, what)`, where `what` is `/` for a directory, `->x` for a link to x,
/// `=x` for a hard link of x, `|` for a fifo, `*` for a socket and else the content.
fn base(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, what) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match what.split_at(what.len().min(1)) {
            ("/", _) => fs::create_dir_all(&path).unwrap(),
            ("-", target) => symlink(target.strip_prefix('>').unwrap(), &path).unwrap(),
            ("=", of) => fs::hard_link(dir.path().join(of), &path).unwrap(),
            ("|", _) => {
                let ok = Command::new("mkfifo").arg(&path).status().unwrap();
                assert!(ok.success());
            }
            ("*", _) => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            _ => fs::write(&path, what).unwrap(),
        }
    }
    dir
}

fn rules(base: &tempfile::TempDir, copies: &[(&str, &str)]) -> Rules {
    Rules {
        base: base.path().to_owned(),
        copies: copies
            .iter()
            .map(|(source, target)| Copy {
                source: source.into(),
                target: target.into(),
            })
            .collect(),
        exclude_sources: Vec::new(),
        exclude_targets: Vec::new(),
        mount_points: Vec::new(),
        directories: Vec::new(),
        symlinks: Vec::new(),
        root_xattrs: BTreeMap::new(),
        owner: Owner::Keep,
        created: NOW,
        latest: None,
    }
}

fn paths(of: &[&str]) -> Vec<PathBuf> {
    of.iter().map(PathBuf::from).collect()
}

/// The paths of the tree, directories with a slash, links with their target.
fn listing(tree: &Tree) -> Vec<String> {
    tree.walk()
        .skip(1)
        .map(|(path, id)| {
            let path = String::from_utf8(path).unwrap();
            match &tree.inode(id).kind {
                Kind::Directory(_) => format!("{path}/"),
                Kind::Symlink(to) => format!("{path} -> {}", String::from_utf8_lossy(to)),
                _ => path,
            }
        })
        .collect()
}

fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
    let Kind::File(content) = &tree.inode(tree.lookup(path.as_bytes()).unwrap()).kind else {
        panic!("{path} is no file");
    };
    let mut all = vec![0; usize::try_from(content.size()).unwrap()];
    content.open().unwrap().read_exact_at(&mut all, 0).unwrap();
    all
}

/// A base used by many cases; each expectation was seen from systemd-repart 262.1 on the same files.
fn common() -> tempfile::TempDir {
    base(&[
        ("t/p/q/f", "1"),
        ("t/r/g", "2"),
        ("t/h", "=t/r/g"),
        ("t/rl", "->r"),
        ("e/e2", "/"),
        ("e/l2", "->e2"),
        ("f/l2/z", "z"),
        ("etc/file", "->/t/h"),
        ("etc/dir", "->../../../t/p"),
        ("loop", "->loop"),
        ("tmp/x/y", "y"),
        ("proc/p", "p"),
        ("mm/boot/z", "z"),
        ("g/fi", "/"),
        ("g/sy", "/"),
        ("h/fi", "file"),
        ("h/sy", "->x"),
        ("s/a", "old"),
        ("s/b", "->old"),
        ("u/a", "->new"),
        ("u/b", "new"),
        ("pipe", "|"),
    ])
}

#[test]
fn copies_land_where_systemd_puts_them() {
    let base = common();
    let cases: &[(&[(&str, &str)], &[&str])] = &[
        (
            &[("/t", "/")],
            &["h", "p/", "p/q/", "p/q/f", "r/", "r/g", "rl -> r"],
        ),
        (&[("/t/p", "/x/y")], &["x/", "x/y/", "x/y/q/", "x/y/q/f"]),
        (&[("/etc/file", "/ff")], &["ff"]),
        (&[("/etc/dir", "/d")], &["d/", "d/q/", "d/q/f"]),
        (&[("/t/h", "/a/b/c")], &["a/", "a/b/", "a/b/c"]),
        // Symlinks of the new file system are followed, as are those made by earlier lines.
        (
            &[("/e", "/"), ("/f/l2/z", "/l2/q/z")],
            &["e2/", "e2/q/", "e2/q/z", "l2 -> e2"],
        ),
        (
            &[("/e", "/"), ("/t/p", "/l2")],
            &["e2/", "e2/q/", "e2/q/f", "l2 -> e2"],
        ),
        // Files replace files, never directories.
        (&[("/g", "/"), ("/h", "/")], &["fi/", "sy/"]),
        (&[("/s", "/"), ("/u", "/")], &["a -> new", "b"]),
        (
            &[("/nope", "/"), ("/t/p/nope", "/x"), ("/t/h/x", "/y")],
            &[],
        ),
        // What is always empty: as a source, below one, and a single file from there.
        (
            &[("/tmp/x", "/z"), ("/proc", "/z/proc")],
            &["z/", "z/proc/", "z/y"],
        ),
        (&[("/tmp/x/y", "/yy")], &[]),
    ];
    for (copies, expected) in cases {
        let collected = collect(&rules(&base, copies)).unwrap();
        assert_eq!(listing(&collected.tree), *expected, "{copies:?}");
    }
}

#[test]
fn exclusions() {
    let base = common();
    let t = &[("/t", "/z")][..];
    let cases: &[(&[(&str, &str)], &[&str], &[&str], &[&str])] = &[
        (
            t,
            &["/t/p/", "/t/r"],
            &[],
            &["z/", "z/h", "z/p/", "z/rl -> r"],
        ),
        // A file goes with all its hard links.
        (
            t,
            &["/t/p", "/t/rl/g", "/t/nope"],
            &[],
            &["z/", "z/r/", "z/rl -> r"],
        ),
        (
            t,
            &["/t/p", "/t/rl/"],
            &[],
            &["z/", "z/h", "z/r/", "z/rl -> r"],
        ),
        (
            t,
            &[],
            &["/z/p/", "/z/r"],
            &["z/", "z/h", "z/p/", "z/rl -> r"],
        ),
        (t, &[], &["/z"], &[]),
        (t, &[], &["/z/"], &[]),
        (t, &["/t/"], &[], &[]),
        (&[("/t/p", "/z")], &["/t/"], &[], &[]),
        (
            &[("/t/p", "/z"), ("/t/r/g", "/gg")],
            &["/t/p/q/f", "/t/r/g"],
            &[],
            &["z/", "z/q/"],
        ),
        (
            &[("/t/r", "/z"), ("/t/p", "/z/r")],
            &[],
            &["/z/r/q"],
            &["z/", "z/g", "z/r/"],
        ),
    ];
    for (copies, sources, targets, expected) in cases {
        let mut rules = rules(&base, copies);
        rules.exclude_sources = paths(sources);
        rules.exclude_targets = paths(targets);
        let listed = listing(&collect(&rules).unwrap().tree);
        assert_eq!(listed, *expected, "{copies:?} {sources:?} {targets:?}");
    }
}

#[test]
fn mount_points_stay_empty_unless_filled_by_name() {
    let base = common();
    let cases: &[(&[(&str, &str)], &[&str])] = &[
        (&[("/mm", "/")], &["boot/"]),
        (&[("/mm", "/q")], &["q/", "q/boot/", "q/boot/z"]),
        (&[("/mm/boot", "/boot")], &["boot/", "boot/z"]),
        (&[("/mm", "/"), ("/mm/boot", "/boot")], &["boot/", "boot/z"]),
    ];
    for (copies, expected) in cases {
        let mut rules = rules(&base, copies);
        rules.mount_points = paths(&["/boot", "/efi"]);
        assert_eq!(
            listing(&collect(&rules).unwrap().tree),
            *expected,
            "{copies:?}"
        );
    }
}

#[test]
fn refusals() {
    let base = common();
    let fails = |rules: &Rules| collect(rules).unwrap_err().to_string();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("/e", "/"), ("/f", "/")],
            "the new file system has something else in its place",
        ),
        (&[("/e", "/"), ("/t/h", "/e2")], "exists already"),
        (&[("/t/h", "/n"), ("/t/r/g", "/n")], "exists already"),
        (&[("/t/h", "/n"), ("/t", "/n")], "not a directory"),
        (&[("/t/h", "/n"), ("/t", "/n/x")], "not a directory"),
        (&[("/pipe", "/n")], "only regular files and directories"),
        (&[("/loop", "/n")], "too many levels"),
        (&[("/t/h", "/")], "exists already"),
    ];
    for (copies, message) in cases {
        let found = fails(&rules(&base, copies));
        assert!(found.contains(message), "{copies:?}: {found}");
    }
    let mut odd = rules(&base, &[("/t", "/")]);
    odd.exclude_sources = paths(&["/t/h/"]);
    assert!(fails(&odd).contains("not a directory"));
    odd.exclude_sources.clear();
    odd.symlinks = vec![("/h".into(), "x".into())];
    assert!(fails(&odd).contains("exists already"));
    odd.symlinks = vec![("/no/h".into(), "x".into())];
    assert!(fails(&odd).contains("MakeDirectories"));
    odd.symlinks.clear();
    odd.owner = Owner::Map(vec![OwnerRange {
        from: 4_000_000_000,
        to: 0,
        count: 1,
    }]);
    assert!(fails(&odd).contains("no owner range"));
}

#[test]
fn directories_and_symlinks_are_made() {
    let base = common();
    let mut rules = rules(&base, &[("/e", "/"), ("/t/h", "/n")]);
    rules.directories = paths(&["/m/n", "/l2/k", "/n", "/m"]);
    rules.symlinks = vec![
        ("/m/l".into(), "../x y".into()),
        ("/l2/s".into(), "t".into()),
    ];
    rules.root_xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
    let tree = collect(&rules).unwrap().tree;
    assert_eq!(
        listing(&tree),
        [
            "e2/",
            "e2/k/",
            "e2/s -> t",
            "l2 -> e2",
            "m/",
            "m/l -> ../x y",
            "m/n/",
            "n"
        ]
    );
    let made = &tree.inode(tree.lookup(b"m/n").unwrap()).metadata;
    assert_eq!(
        (made.mode, made.uid, made.gid, made.mtime),
        (0o755, 0, 0, NOW)
    );
    assert_eq!(
        tree.inode(InodeId::ROOT).metadata.xattrs[&b"user.a"[..]],
        b"b"
    );
}

#[test]
fn metadata_arrives_and_times_are_clamped() {
    let base = base(&[
        ("a/file", "text"),
        ("a/hard", "=a/file"),
        ("a/sock", "*"),
        ("b/file", "x"),
    ]);
    let a = base.path().join("a");
    fs::set_permissions(a.join("file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(&a, fs::Permissions::from_mode(0o2751)).unwrap();
    for (file, attribute) in [("file", "user.f"), ("", "user.d")] {
        rustix::fs::setxattr(
            a.join(file),
            attribute,
            b"\0v",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    let time = fs::FileTimes::new().set_modified(
        std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_000_000_000_007),
    );
    fs::File::open(&a).unwrap().set_times(time).unwrap();
    let owner = fs::metadata(&a).unwrap().uid();

    let mut rules = rules(&base, &[("/b", "/x"), ("/a", "/"), ("/a", "/y")]);
    rules.latest = Some(at(1_500_000_000));
    let tree = collect(&rules).unwrap().tree;
    let of = |path: &str| {
        tree.inode(tree.lookup(path.as_bytes()).unwrap())
            .metadata
            .clone()
    };
    let clamped = at(1_500_000_000);

    // The root is described by the first directory put there, but belongs to root, and changed since.
    let root = of("");
    assert_eq!((root.mode, root.uid, root.mtime), (0o2751, 0, clamped));
    assert_eq!(root.xattrs[&b"user.d"[..]], b"\0v");
    let y = of("y");
    assert_eq!((y.mode, y.uid), (0o2751, owner));
    assert_eq!(
        y.mtime,
        Timestamp {
            seconds: 1_000_000_000,
            nanoseconds: 7
        }
    );
    let file = of("file");
    assert_eq!((file.mode, file.mtime), (0o4711, clamped));
    assert_eq!(file.xattrs[&b"user.f"[..]], b"\0v");

    // One inode by two names, within a line only.
    assert_eq!(tree.lookup(b"file"), tree.lookup(b"hard"));
    assert_ne!(tree.lookup(b"file"), tree.lookup(b"y/file"));
    assert_eq!(bytes(&tree, "y/hard"), b"text");
    assert!(matches!(
        tree.inode(tree.lookup(b"sock").unwrap()).kind,
        Kind::Socket
    ));

    rules.owner = Owner::Map(vec![OwnerRange {
        from: owner,
        to: 70_000,
        count: u32::MAX - 100_000,
    }]);
    let tree = collect(&rules).unwrap().tree;
    assert_eq!(
        tree.inode(tree.lookup(b"y/file").unwrap()).metadata.uid,
        70_000
    );
}

#[test]
fn merged_directories_keep_what_they_were() {
    let base = base(&[("a/sub/x", "1"), ("b/sub/x", "2"), ("b/new/y", "3")]);
    let sub = base.path().join("b/sub");
    fs::set_permissions(sub, fs::Permissions::from_mode(0o700)).unwrap();
    let collected = collect(&rules(&base, &[("/a", "/"), ("/b", "/")])).unwrap();
    let tree = collected.tree;
    assert_eq!(listing(&tree), ["new/", "new/y", "sub/", "sub/x"]);
    assert_ne!(
        tree.inode(tree.lookup(b"sub").unwrap()).metadata.mode,
        0o700
    );
    assert_eq!(bytes(&tree, "sub/x"), b"2");
    let root = fs::metadata(base.path().join("a")).unwrap();
    assert_eq!(
        tree.inode(InodeId::ROOT).metadata.mtime.seconds,
        root.mtime()
    );
}

#[test]
fn holes_are_found_without_reading() {
    let base = base(&[("a/x", "x")]);
    let file = fs::File::create(base.path().join("a/sparse")).unwrap();
    file.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], 512 << 10).unwrap();
    drop(file);
    let tree = collect(&rules(&base, &[("/a", "/")])).unwrap().tree;
    let Kind::File(content) = &tree.inode(tree.lookup(b"sparse").unwrap()).kind else {
        panic!();
    };
    assert_eq!(content.size(), 1 << 20);
    assert_eq!(content.data(), [(512 << 10)..(512 << 10) + 4096]);
}

#[test]
fn formats_without_links_lose_them_by_name() {
    let base = common();
    let mut collected = collect(&rules(&base, &[("/t", "/"), ("/e", "/"), ("/mm", "/")])).unwrap();
    let notices = keep_only(&mut collected.tree, Holds::FILES_ONLY);
    let words: Vec<_> = notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "skipping /l2: the file system cannot hold a symbolic link",
            "skipping /rl: the file system cannot hold a symbolic link",
        ]
    );
    assert_eq!(
        listing(&collected.tree),
        [
            "boot/", "boot/z", "e2/", "h", "p/", "p/q/", "p/q/f", "r/", "r/g"
        ]
    );
}
