//! A tree as text, one line an inode's name, as `systemd-dissect --mtree` prints it (262.1).

mod digests;

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::content::{Content, ContentError};
use crate::tree::{DeviceNumber, Inode, InodeId, Kind, Tree};

/// Why the text could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MtreeError {
    /// A file could not be read for its hash.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The text could not be written.
    #[error("cannot write the list of files")]
    Output(#[from] io::Error),
}

/// Writes the list. With `hash`, files that are not empty get their SHA-256, computed by as many
/// threads as there are processors; the lines come in order all the same, each as soon as it can.
pub fn mtree(tree: &Tree, hash: bool, output: &mut dyn Write) -> Result<(), MtreeError> {
    if !hash {
        return lines(tree, output, |_| Ok(None));
    }
    digests::compute(tree, sha256, |digests| {
        lines(tree, output, |id| digests.wait(id))
    })
}

fn lines(
    tree: &Tree,
    output: &mut dyn Write,
    digest: impl Fn(InodeId) -> Result<Option<[u8; 32]>, ContentError>,
) -> Result<(), MtreeError> {
    for (path, id) in tree.walk() {
        output.write_all(b"./")?;
        output.write_all(escape(&path).as_bytes())?;
        let inode = tree.inode(id);
        if inode.entries().is_some() && !path.is_empty() {
            output.write_all(b"/")?;
        }
        write_keys(inode, output)?;
        if let Some(digest) = digest(id)? {
            write!(output, " sha256sum={}", hex::encode(digest))?;
        }
        output.write_all(b"\n")?;
    }
    Ok(())
}

fn write_keys(inode: &Inode, output: &mut dyn Write) -> Result<(), MtreeError> {
    write!(output, " type={}", word(&inode.kind))?;
    if !matches!(inode.kind, Kind::Symlink(_)) {
        write!(output, " mode={:04o}", inode.metadata.mode & 0o777)?;
    }
    write!(
        output,
        " uid={} gid={}",
        inode.metadata.uid, inode.metadata.gid
    )?;
    match &inode.kind {
        Kind::File(content) => write!(output, " size={}", content.size())?,
        Kind::Symlink(target) => write!(output, " link={}", escape(target))?,
        Kind::CharacterDevice(DeviceNumber { major, minor })
        | Kind::BlockDevice(DeviceNumber { major, minor }) => {
            write!(output, " device=linux,{major},{minor}")?;
        }
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => (),
    }
    Ok(())
}

/// The SHA-256 of a file's bytes, holes read as zeros.
pub fn sha256(content: &Content) -> Result<[u8; 32], ContentError> {
    let mut hasher = Sha256::new();
    let open = content.open()?;
    open.read_chunks(content.size(), |chunk| hasher.update(chunk))?;
    open.finish()?;
    Ok(hasher.finalize().into())
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory(_) => "dir",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "link",
        Kind::CharacterDevice(_) => "char",
        Kind::BlockDevice(_) => "block",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

/// Escapes what is not plain ASCII, and white space, comment signs and glob signs.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' | b'#' | b';' | b'*' | b'?' | b'[' | 0..=b' ' | 127.. => {
                text.push_str(&format!("\\x{byte:02x}"));
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{InodeId, Metadata, Name};

    /// The lines are systemd-dissect's for the same files.
    #[test]
    fn lines_are_systemds() {
        let metadata = |mode| Metadata {
            mode,
            ..Metadata::default()
        };
        let mut tree = Tree::new(metadata(0o755));
        let mut add = |parent, name: &[u8], mode, kind| {
            let inode = Inode {
                metadata: metadata(mode),
                kind,
            };
            let id = tree.add(inode);
            assert!(tree.link(parent, Name::new(name).unwrap(), id));
            id
        };
        let text = |text: &[u8]| Kind::File(Content::from_bytes(text));
        let dir = Inode::directory(metadata(0)).kind;
        let below = add(InodeId::ROOT, b"a b", 0o755, dir);
        add(below, b"c#d*[?]\\e", 0o644, text(b"x\n"));
        add(InodeId::ROOT, b"empty", 0o4755, text(b""));
        add(InodeId::ROOT, b"ff", 0o644, Kind::Fifo);
        add(
            InodeId::ROOT,
            b"lnk",
            0o777,
            Kind::Symlink(b"to x#"[..].into()),
        );
        add(InodeId::ROOT, b"nl\nq\tt\"\xc3\xa4\x80", 0o644, text(b"x"));
        let null = DeviceNumber { major: 1, minor: 3 };
        add(InodeId::ROOT, b"nul", 0o644, Kind::CharacterDevice(null));
        let mut output = Vec::new();
        mtree(&tree, true, &mut output).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            r#"./ type=dir mode=0755 uid=0 gid=0
./a\x20b/ type=dir mode=0755 uid=0 gid=0
./a\x20b/c\x23d\x2a\x5b\x3f]\x5ce type=file mode=0644 uid=0 gid=0 size=2 sha256sum=73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac
./empty type=file mode=0755 uid=0 gid=0 size=0
./ff type=fifo mode=0644 uid=0 gid=0
./lnk type=link uid=0 gid=0 link=to\x20x\x23
./nl\x0aq\x09t"\xc3\xa4\x80 type=file mode=0644 uid=0 gid=0 size=1 sha256sum=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
./nul type=char mode=0644 uid=0 gid=0 device=linux,1,3
"#
        );
    }

    #[derive(Debug)]
    struct Broken;

    impl crate::content::ReadAt for Broken {
        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn files(contents: impl Iterator<Item = Content>) -> Tree {
        let mut tree = Tree::new(Metadata::default());
        for (number, content) in contents.enumerate() {
            let id = tree.add(Inode {
                metadata: Metadata::default(),
                kind: Kind::File(content),
            });
            for name in [format!("a{number:03}"), format!("z{number:03}")] {
                tree.link(InodeId::ROOT, Name::new(name.as_bytes()).unwrap(), id);
            }
        }
        tree
    }

    #[test]
    fn many_files_are_hashed_in_order() {
        let text = |number: usize| format!("{number}").repeat(number % 7 * 1000);
        let tree = files((0..300).map(|number| Content::from_bytes(text(number).as_bytes())));
        let mut output = Vec::new();
        mtree(&tree, true, &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        let mut lines = output.lines().skip(1);
        for letter in ["a", "z"] {
            for number in 0..300 {
                let text = text(number);
                let mut expected = format!(
                    "./{letter}{number:03} type=file mode=0000 uid=0 gid=0 size={}",
                    text.len()
                );
                if !text.is_empty() {
                    expected += &format!(" sha256sum={}", hex::encode(Sha256::digest(text)));
                }
                assert_eq!(lines.next(), Some(&expected[..]));
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_ends_the_list() {
        let broken = Content::from_reader(std::sync::Arc::new(Broken), 1, Vec::new());
        let sound = Content::from_bytes([1; 100_000]);
        let contents = (0..100).map(|number| {
            if number == 50 {
                broken.clone()
            } else {
                sound.clone()
            }
        });
        let mut output = Vec::new();
        let error = mtree(&files(contents), true, &mut output).unwrap_err();
        assert!(matches!(
            error,
            MtreeError::Content(ContentError::Read { .. })
        ));
        let output = String::from_utf8(output).unwrap();
        assert!(
            output.contains("./a049 ") && !output.contains("./a051 "),
            "{output}"
        );
    }
}
