//! Laying one tree over another. Pure.

use std::collections::HashMap;

use crate::tree::{InodeId, Kind, Tree};

/// Lays `upper` over `lower`: directories merge and take the upper one's metadata, everything else
/// of `upper` replaces what has its name. Hard links within `upper` stay.
pub fn merge(lower: &mut Tree, upper: &Tree) {
    let mut known: HashMap<InodeId, InodeId> = HashMap::new();
    let mut pending = vec![(InodeId::ROOT, InodeId::ROOT)];
    while let Some((from, onto)) = pending.pop() {
        lower.inode_mut(onto).metadata = upper.inode(from).metadata.clone();
        for (name, child) in upper.inode(from).entries().into_iter().flatten() {
            let directory = upper.inode(*child).entries().is_some();
            let there = lower
                .inode(onto)
                .entries()
                .and_then(|entries| entries.get(name))
                .copied()
                .filter(|id| directory && lower.inode(*id).entries().is_some());
            let id = there
                .or_else(|| known.get(child).copied())
                .unwrap_or_else(|| {
                    let mut inode = upper.inode(*child).clone();
                    if directory {
                        inode.kind = Kind::Directory(Default::default());
                    }
                    lower.add(inode)
                });
            if directory {
                pending.push((*child, id));
            } else {
                known.insert(*child, id);
            }
            lower.link(onto, name.clone(), id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Inode, Metadata, Name};

    /// A tree of named pipes: `a/b` makes both; the mode tells them apart.
    fn tree(mode: u16, paths: &[&str]) -> Tree {
        let metadata = Metadata {
            mode,
            ..Metadata::default()
        };
        let mut tree = Tree::new(metadata.clone());
        for path in paths {
            let mut at = InodeId::ROOT;
            let mut names = path.split('/').peekable();
            while let Some(part) = names.next() {
                let name = Name::new(part.as_bytes()).unwrap();
                let there = tree.inode(at).entries().unwrap().get(&name).copied();
                let new = match names.peek() {
                    Some(_) => Inode::directory(metadata.clone()),
                    None => Inode {
                        metadata: metadata.clone(),
                        kind: Kind::Fifo,
                    },
                };
                let id = there.unwrap_or_else(|| tree.add(new));
                tree.link(at, name, id);
                at = id;
            }
        }
        tree
    }

    #[test]
    fn directories_merge_and_files_replace() {
        let mut lower = tree(1, &["a/x", "a/y", "f", "d/z"]);
        let mut upper = tree(2, &["a/y", "f/g", "d", "n"]);
        let linked = upper.lookup(b"n").unwrap();
        assert!(upper.link(InodeId::ROOT, Name::new(b"m").unwrap(), linked));
        merge(&mut lower, &upper);
        let all: Vec<_> = lower
            .walk()
            .map(|(path, id)| {
                (
                    String::from_utf8(path).unwrap(),
                    lower.inode(id).metadata.mode,
                )
            })
            .collect();
        let expected = [
            ("", 2),
            ("a", 2),
            ("a/x", 1),
            ("a/y", 2),
            ("d", 2),
            ("f", 2),
            ("f/g", 2),
            ("m", 2),
            ("n", 2),
        ]
        .map(|(path, mode)| (path.to_owned(), mode));
        assert_eq!(all, expected);
        assert_eq!(lower.lookup(b"m"), lower.lookup(b"n"));
    }
}
