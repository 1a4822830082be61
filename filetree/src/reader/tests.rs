//! A [`Tree`] as a reader, sound and hostile.

use std::sync::Arc;

use super::*;
use crate::content::Content;
use crate::tree::{InodeId, Kind, Metadata, Tree};

/// A tree that is read as an image is; `extra` adds entries that no tree can have.
#[derive(Debug)]
struct Fake {
    tree: Tree,
    ids: Vec<InodeId>,
    extra: Vec<(u64, &'static str, u64)>,
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Directories end in `/`, symlinks have `>`, files hold their path.
fn fake(paths: &[&str]) -> Fake {
    let mut tree = Tree::new(Metadata::default());
    for path in paths {
        let (path, target) = path.split_once('>').unwrap_or((path, ""));
        let kind = if !target.is_empty() {
            Kind::Symlink(target.as_bytes().into())
        } else if path.ends_with('/') {
            Kind::Directory(Default::default())
        } else {
            Kind::File(Content::from_bytes(path.as_bytes()))
        };
        let path = path.trim_end_matches('/');
        let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = tree.lookup(parent.as_bytes()).unwrap();
        let id = tree.add(Inode {
            metadata: Metadata::default(),
            kind,
        });
        assert!(tree.link(parent, name(last), id));
    }
    let ids = tree.ids().collect();
    Fake {
        tree,
        ids,
        extra: Vec::new(),
    }
}

fn at(inode: u64) -> Place {
    Place { volume: 0, inode }
}

impl Reader for Fake {
    fn root(&self) -> Place {
        at(0)
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let id = self.ids[usize::try_from(place.inode).unwrap()];
        let mut inode = self.tree.inode(id).clone();
        if let Kind::Directory(entries) = &mut inode.kind {
            entries.clear();
        }
        Ok(inode)
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let id = self.ids[usize::try_from(directory.inode).unwrap()];
        for (name, child) in self.tree.inode(id).entries().unwrap() {
            visit(Entry {
                name: name.clone(),
                place: at(child.index().try_into().unwrap()),
            })?;
        }
        for (_, text, child) in self.extra.iter().filter(|extra| extra.0 == directory.inode) {
            visit(Entry {
                name: name(text),
                place: at(*child),
            })?;
        }
        Ok(())
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    let paths = tree.walk().skip(1);
    paths
        .map(|(path, _)| String::from_utf8(path).unwrap())
        .collect()
}

#[test]
fn everything_is_loaded() {
    let mut image = fake(&["a/", "a/b", "c>a"]);
    image.extra.push((0, "hard", 2));
    let tree = load(&image, Limits::default()).unwrap();
    assert_eq!(paths(&tree), ["a", "a/b", "c", "hard"]);
    assert_eq!(tree.lookup(b"a/b"), tree.lookup(b"hard"));
}

#[test]
fn what_has_no_end_is_refused() {
    let cases: [(&str, (u64, &'static str, u64)); 4] = [
        ("the directory /a/up in two places", (1, "up", 0)),
        ("the directory /a/self in two places", (1, "self", 1)),
        ("the directory /twin in two places", (0, "twin", 1)),
        ("two files by the name of /c", (0, "c", 2)),
    ];
    for (message, extra) in cases {
        let mut image = fake(&["a/", "a/b", "c"]);
        image.extra.push(extra);
        let error = load(&image, Limits::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let mut image = fake(&["a"]);
    image.ids.swap(0, 1);
    let error = load(&image, Limits::default()).unwrap_err();
    assert!(matches!(error, ReadError::Root));
    let image = fake(&["a/", "a/b"]);
    let limits = |memory, path| Limits { memory, path };
    let error = load(&image, limits(500, 4096)).unwrap_err();
    assert!(matches!(error, ReadError::Memory(500)));
    let error = load(&image, limits(1 << 20, 3)).unwrap_err();
    assert!(matches!(error, ReadError::Path(3)));
}

#[test]
fn paths_stay_below_the_root() {
    let image = fake(&[
        "a/",
        "a/f",
        "up>../../a/../a/f",
        "abs>/a/f",
        "dir>a",
        "x>y",
        "y>x",
        "gone>/nowhere",
        "slash>a/",
    ]);
    let follow = |path: &str| resolve(&image, path.as_bytes(), Follow::Yes);
    for (path, found) in [
        ("", "/"),
        ("/..", "/"),
        ("a//./f", "/a/f"),
        ("up", "/a/f"),
        ("abs", "/a/f"),
        ("dir/f", "/a/f"),
        ("dir/../a", "/a"),
        ("slash/f", "/a/f"),
        ("a/", "/a"),
    ] {
        let path = follow(path).unwrap().path;
        assert_eq!(path, std::path::PathBuf::from(found));
    }
    for (path, message) in [
        ("x", "x in the image leads through too many symlinks"),
        ("gone", "there is no /nowhere in the image"),
        ("a/f/g", "/a/f in the image is no directory"),
        ("a/f/", "/a/f in the image is no directory"),
        ("a/f/..", "/a/f in the image is no directory"),
        ("abs/", "/a/f in the image is no directory"),
    ] {
        assert_eq!(follow(path).unwrap_err().to_string(), message, "{path}");
    }
    let link = resolve(&image, b"dir", Follow::No).unwrap();
    assert!(matches!(link.inode.kind, Kind::Symlink(_)));
    let behind = resolve(&image, b"dir/", Follow::No).unwrap();
    assert!(behind.inode.entries().is_some());
}

#[test]
fn file_systems_cover_each_other() {
    let mut all = Grafted::new(Some(Arc::new(fake(&[
        "usr/",
        "usr/hidden",
        "h>/srv/home",
        "srv/",
    ]))));
    all.graft(b"/usr", Arc::new(fake(&["bin/", "bin/sh"])))
        .unwrap();
    all.graft(b"/usr/bin", Arc::new(fake(&["over"]))).unwrap();
    all.graft(b"/var/tmp", Arc::new(fake(&["t"]))).unwrap();
    let tree = load(&all, Limits::default()).unwrap();
    assert_eq!(
        paths(&tree),
        [
            "h",
            "srv",
            "usr",
            "usr/bin",
            "usr/bin/over",
            "var",
            "var/tmp",
            "var/tmp/t"
        ]
    );
    let file = resolve(&all, b"/usr/bin/over", Follow::Yes).unwrap();
    assert_eq!(file.path, std::path::PathBuf::from("/usr/bin/over"));
    assert_eq!(all.is_populated(b"/usr").unwrap(), Some(true));
    assert_eq!(all.is_populated(b"/srv").unwrap(), Some(false));
    assert_eq!(all.is_populated(b"/boot").unwrap(), None);
    assert!(all.graft(b"/h", Arc::new(fake(&[]))).is_err());

    let mut empty = Grafted::new(None);
    empty.graft(b"/usr", Arc::new(fake(&["f"]))).unwrap();
    assert_eq!(
        paths(&load(&empty, Limits::default()).unwrap()),
        ["usr", "usr/f"]
    );
}
