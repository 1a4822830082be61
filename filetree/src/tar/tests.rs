use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::collect::{Copy, Owner, Rules, collect};
use crate::content::{Content, ReadAt};
use crate::diff::{Change, diff};
use crate::tree::{DeviceNumber, Inode, InodeId, Kind, Metadata, Name, Timestamp, Tree};

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let part = self.0.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Tree, ReadTarError> {
    let size = u64::try_from(bytes.len()).unwrap();
    read(Arc::new(Bytes(bytes.to_vec())), size)
}

fn archive(tree: &Tree) -> Vec<u8> {
    let mut output = Vec::new();
    write(tree, &mut output).unwrap();
    output
}

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

fn sh(script: &str, directory: &Path) {
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(directory)
        .status();
    assert!(status.unwrap().success(), "{script}");
}

/// Files of every kind and with every attribute that an ordinary user can make.
fn files(directory: &Path) {
    sh(
        "mkdir -p a/b; echo text > a/f; ln a/f a/b/hard; ln -s 'to x' a/l; mkfifo p
         printf x > 'name with blank'; printf y > \"$(printf 'nl\\nq\\303\\244\\377')\"
         long=$(printf '%0200d' 1); mkdir -p $long/$long; echo z > $long/$long/$long
         ln -s $long/$long/$long long; ln $long/$long/$long hardlong
         chmod 4751 a/f; chmod 1777 a/b; head -c 700 /dev/zero > z; : > empty
         touch -d '2001-02-03 04:05:06.789 UTC' a/f; touch -d '1960-01-02 03:04:05.25 UTC' z
         setfattr -n user.simple -v value a/f; setfattr -n 'user.a%b=c' -v 0x000a3d a/b
         touch -d @1000000000 .",
        directory,
    );
}

#[test]
fn gnu_tar_extracts_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    files(&from);
    let tree = collected(&from);
    fs::write(dir.path().join("x.tar"), archive(&tree)).unwrap();
    sh(
        "tar --xattrs --xattrs-include='*' --same-permissions -xf ../x.tar",
        &to,
    );
    let back = collected(&to);
    assert_eq!(diff(&tree, &back).unwrap(), []);
    assert_eq!(diff(&tree, &parse(&archive(&tree)).unwrap()).unwrap(), []);
}

#[test]
fn gnu_tars_archives_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    files(&from);
    let tree = collected(&from);
    for (options, loses) in [
        (
            "--format=pax --xattrs --pax-option=delete=atime,delete=ctime",
            false,
        ),
        ("--format=gnu --numeric-owner", true),
    ] {
        sh(&format!("tar {options} -cf ../y.tar ."), &from);
        let bytes = fs::read(dir.path().join("y.tar")).unwrap();
        let mut differences = diff(&tree, &parse(&bytes).unwrap()).unwrap();
        // GNU's own format has neither attributes nor fractions of seconds.
        differences.retain(|difference| {
            // A collected root directory is root's, whoever owned the folder.
            let of_root =
                difference.path.as_os_str().is_empty() && difference.change == Change::Owner;
            let lost = loses && matches!(difference.change, Change::Xattr(_) | Change::Mtime);
            !(of_root || lost)
        });
        assert_eq!(differences, [], "{options}");
    }
}

#[test]
fn hostile_archives_are_refused() {
    let member = |kind: u8, name: &[u8], link: &[u8]| {
        let mut header = header::Header::new(kind);
        header.set_bytes(header::field::NAME, name);
        header.set_bytes(header::field::LINK, link);
        header.set_number(header::field::MODE, 0o644);
        header
    };
    let sealed = |mut header: header::Header| {
        header.seal();
        header.0.to_vec()
    };
    let sized = |kind, size: u64| {
        let mut header = member(kind, b"f", b"");
        assert!(header.set_number(header::field::SIZE, size));
        sealed(header)
    };
    let with_records = |text: &[u8]| {
        let mut bytes = sized(b'x', u64::try_from(text.len()).unwrap());
        bytes.extend_from_slice(text);
        bytes.resize(1024, 0);
        bytes.extend(sealed(member(b'0', b"f", b"")));
        bytes
    };
    let link_then = |name: &[u8]| {
        let link = sealed(member(b'2', b"a", b"/etc"));
        [link, sealed(member(b'0', name, b""))].concat()
    };
    let cases = [
        (vec![1; 512], "checksum"),
        (vec![1; 100], "ends within"),
        (sized(b'0', 0o77_777_777_777), "ends within"),
        (sized(b'x', 0o77_777_777_777), "ends within"),
        (sealed(member(b'0', b"../x", b"")), "contains '..'"),
        (sealed(member(b'0', b"a/../x", b"")), "contains '..'"),
        (sealed(member(b'S', b"a", b"")), "not supported"),
        (sealed(member(b'0', b".", b"")), "no directory"),
        (sealed(member(b'1', b"a", b"nothing")), "no earlier file"),
        (sealed(member(b'1', b"a", b"")), "no earlier file"),
        (link_then(b"a/passwd"), "no directory"),
        (with_records(b"99 path=x\n"), "extended header"),
        (with_records(b"0 path=x\n"), "extended header"),
        (
            with_records(b"9999999999999999999 path=x\n"),
            "extended header",
        ),
        (with_records(b"10 path=xx"), "extended header"),
        (with_records(b"14 mtime=1.-5\n"), "mtime is no number"),
        (with_records(b"13 uid=-1111\n"), "uid is no number"),
        (with_records(b"18 size=999999999\n"), "ends within"),
        (with_records(b"22 GNU.sparse.major=1\n"), "not supported"),
    ];
    for (bytes, message) in cases {
        let found = parse(&bytes).unwrap_err().to_string();
        assert!(found.contains(message), "{message}: {found}");
    }
}

fn arbitrary_tree() -> impl Strategy<Value = Tree> {
    let metadata = (
        0u16..0o10000,
        any::<u32>(),
        any::<u32>(),
        (-(1i64 << 40)..1 << 40, 0u32..1_000_000_000),
        prop::collection::btree_map(
            "user[.][%=a-z]{1,8}",
            prop::collection::vec(any::<u8>(), 0..40),
            0..3,
        ),
    )
        .prop_map(
            |(mode, uid, gid, (seconds, nanoseconds), xattrs)| Metadata {
                mode,
                uid,
                gid,
                mtime: Timestamp {
                    seconds,
                    nanoseconds,
                },
                xattrs: xattrs
                    .into_iter()
                    .map(|(name, value)| (name.into_bytes(), value))
                    .collect(),
            },
        );
    let kind = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000)
            .prop_map(|bytes| Kind::File(Content::from_bytes(bytes))),
        "[a-z/]{1,150}".prop_map(|target| Kind::Symlink(target.into_bytes().into())),
        (0u32..4096, 0u32..1 << 20)
            .prop_map(|(major, minor)| Kind::BlockDevice(DeviceNumber { major, minor })),
        Just(Kind::Fifo),
        Just(Kind::Directory(Default::default())),
    ];
    let name = prop::collection::vec(any::<u8>(), 1..150);
    prop::collection::vec((metadata, kind, name, any::<prop::sample::Index>()), 1..20).prop_map(
        |files| {
            let mut tree = Tree::new(files[0].0.clone());
            let mut ids = vec![InodeId::ROOT];
            for (metadata, kind, name, place) in files {
                let Ok(name) = Name::new(&name) else { continue };
                let at = *place.get(&ids);
                if tree.inode(at).entries().is_none() {
                    // A second name for what is no directory.
                    tree.link(InodeId::ROOT, name, at);
                    continue;
                }
                if tree.inode(at).entries().unwrap().contains_key(&name) {
                    continue;
                }
                let id = tree.add(Inode { metadata, kind });
                tree.link(at, name, id);
                ids.push(id);
            }
            tree
        },
    )
}

proptest! {
    #[test]
    fn any_tree_comes_back(tree in arbitrary_tree()) {
        let back = parse(&archive(&tree)).unwrap();
        prop_assert_eq!(diff(&tree, &back).unwrap(), []);
        prop_assert_eq!(archive(&back), archive(&tree));
    }

    #[test]
    fn damage_never_panics(tree in arbitrary_tree(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = archive(&tree);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = parse(&bytes);
        let _ = parse(&bytes[..at]);
    }
}
