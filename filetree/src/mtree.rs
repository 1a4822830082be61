//! A tree as text, one line an inode's name, as `systemd-dissect --mtree` prints it (262.1).

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::content::{Content, ContentError};
use crate::tree::{DeviceNumber, Inode, Kind, Tree};

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

/// Writes the list. With `hash`, files that are not empty get their SHA-256.
pub fn mtree(tree: &Tree, hash: bool, output: &mut dyn Write) -> Result<(), MtreeError> {
    for (path, id) in tree.walk() {
        output.write_all(b"./")?;
        output.write_all(escape(&path).as_bytes())?;
        let inode = tree.inode(id);
        if inode.entries().is_some() && !path.is_empty() {
            output.write_all(b"/")?;
        }
        write_keys(inode, hash, output)?;
    }
    Ok(())
}

fn write_keys(inode: &Inode, hash: bool, output: &mut dyn Write) -> Result<(), MtreeError> {
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
        Kind::File(content) => {
            write!(output, " size={}", content.size())?;
            if hash && content.size() > 0 {
                write!(output, " sha256sum={}", hex::encode(sha256(content)?))?;
            }
        }
        Kind::Symlink(target) => write!(output, " link={}", escape(target))?,
        Kind::CharacterDevice(DeviceNumber { major, minor })
        | Kind::BlockDevice(DeviceNumber { major, minor }) => {
            write!(output, " device=linux,{major},{minor}")?;
        }
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => (),
    }
    Ok(output.write_all(b"\n")?)
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
}
