//! Writing a tree as a tar stream: parents first, siblings by name, the same bytes each time.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::header::{Header, field};
use super::{BLOCK, XATTR};
use crate::content::{Content, ContentError};
use crate::tree::{Inode, InodeId, Kind, Metadata, Timestamp, Tree};

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteTarError {
    /// The output took no bytes.
    #[error("cannot write the archive")]
    Output(#[from] io::Error),
    /// A source file could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Writes `tree` as a whole archive, end mark included. Holes are written as zeros.
///
/// Returns the sockets' paths: an archive cannot hold sockets.
pub fn write(tree: &Tree, output: &mut dyn Write) -> Result<Vec<PathBuf>, WriteTarError> {
    let mut first: HashMap<InodeId, Vec<u8>> = HashMap::new();
    let mut sockets = Vec::new();
    for (path, id) in tree.walk() {
        let inode = tree.inode(id);
        if matches!(inode.kind, Kind::Socket) {
            sockets.push(PathBuf::from(OsString::from_vec(path)));
            continue;
        }
        let name = member_name(&path, inode);
        match first.get(&id) {
            Some(target) => Member::new(b'1', &name, &inode.metadata, target).write(output)?,
            None => {
                write_inode(&name, inode, output)?;
                first.insert(id, name);
            }
        }
    }
    output.write_all(&[0; 1024])?;
    Ok(sockets)
}

/// `./` for the root, directories with a slash.
fn member_name(path: &[u8], inode: &Inode) -> Vec<u8> {
    let mut name = [b"./", path].concat();
    if inode.entries().is_some() && !path.is_empty() {
        name.push(b'/');
    }
    name
}

fn write_inode(name: &[u8], inode: &Inode, output: &mut dyn Write) -> Result<(), WriteTarError> {
    let (kind, link, device): (u8, &[u8], _) = match &inode.kind {
        Kind::Directory(_) => (b'5', b"", None),
        Kind::File(_) | Kind::Socket => (b'0', b"", None),
        Kind::Symlink(target) => (b'2', target, None),
        Kind::CharacterDevice(number) => (b'3', b"", Some(*number)),
        Kind::BlockDevice(number) => (b'4', b"", Some(*number)),
        Kind::Fifo => (b'6', b"", None),
    };
    let mut member = Member::new(kind, name, &inode.metadata, link);
    member.xattrs(&inode.metadata);
    if let Some(device) = device {
        member.header.set_number(field::MAJOR, device.major.into());
        member.header.set_number(field::MINOR, device.minor.into());
    }
    let Kind::File(content) = &inode.kind else {
        return Ok(member.write(output)?);
    };
    member.number(field::SIZE, "size", content.size());
    member.write(output)?;
    write_content(content, output)
}

fn write_content(content: &Content, output: &mut dyn Write) -> Result<(), WriteTarError> {
    let open = content.open()?;
    let mut failed = None;
    open.read_chunks(content.size(), |chunk| {
        if failed.is_none() {
            failed = output.write_all(chunk).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    open.finish()?;
    Ok(pad(content.size(), output)?)
}

/// Zeros up to the next whole block.
fn pad(size: u64, output: &mut dyn Write) -> io::Result<()> {
    let rest = usize::try_from(size % BLOCK).unwrap_or(0);
    match rest {
        0 => Ok(()),
        rest => output.write_all(&[0; 512][rest..]),
    }
}

/// A header, with the records for what it cannot hold.
struct Member {
    header: Header,
    records: Vec<u8>,
}

impl Member {
    fn new(kind: u8, name: &[u8], metadata: &Metadata, link: &[u8]) -> Self {
        let mut member = Self {
            header: Header::new(kind),
            records: Vec::new(),
        };
        member.text(field::NAME, b"path", name);
        member.text(field::LINK, b"linkpath", link);
        member.header.set_number(field::MODE, metadata.mode.into());
        member.number(field::UID, "uid", metadata.uid.into());
        member.number(field::GID, "gid", metadata.gid.into());
        member.time(metadata.mtime);
        member
    }

    fn text(&mut self, at: std::ops::Range<usize>, key: &[u8], value: &[u8]) {
        if !self.header.set_bytes(at, value) || !value.is_ascii() {
            self.record(key, value);
        }
    }

    fn number(&mut self, at: std::ops::Range<usize>, key: &str, value: u64) {
        if !self.header.set_number(at, value) {
            self.record(key.as_bytes(), value.to_string().as_bytes());
        }
    }

    fn time(&mut self, time: Timestamp) {
        let whole = u64::try_from(time.seconds).ok();
        let held = whole.is_some_and(|whole| self.header.set_number(field::MTIME, whole));
        if !held || time.nanoseconds != 0 {
            self.record(b"mtime", decimal(time).as_bytes());
        }
    }

    fn xattrs(&mut self, metadata: &Metadata) {
        for (name, value) in &metadata.xattrs {
            // The key ends at the first `=`: GNU tar's way around one in the name.
            let mut key = XATTR.to_vec();
            for byte in name {
                match byte {
                    b'%' => key.extend_from_slice(b"%25"),
                    b'=' => key.extend_from_slice(b"%3D"),
                    _ => key.push(*byte),
                }
            }
            self.record(&key, value);
        }
    }

    /// Adds a pax record: its own length in digits, a space, `key=value`, a line feed.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.records
            .extend_from_slice(length.to_string().as_bytes());
        self.records.push(b' ');
        self.records.extend_from_slice(key);
        self.records.push(b'=');
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
    }

    fn write(mut self, output: &mut dyn Write) -> io::Result<()> {
        if !self.records.is_empty() {
            let size = u64::try_from(self.records.len()).unwrap_or(u64::MAX);
            let mut header = Header::new(b'x');
            header.set_bytes(field::NAME, b"././@PaxHeader");
            header.set_number(field::MODE, 0o644);
            header.set_number(field::SIZE, size);
            header.seal();
            output.write_all(&header.0)?;
            output.write_all(&self.records)?;
            pad(size, output)?;
        }
        self.header.seal();
        output.write_all(&self.header.0)
    }
}

/// Seconds with a fraction. Before 1970 the fraction counts away from it, as the sign does.
fn decimal(time: Timestamp) -> String {
    let fraction = |nanoseconds: u32| match nanoseconds {
        0 => String::new(),
        _ => format!(".{nanoseconds:09}")
            .trim_end_matches('0')
            .to_owned(),
    };
    if time.seconds < 0 && time.nanoseconds != 0 {
        let whole = time.seconds.saturating_add(1).unsigned_abs();
        return format!("-{whole}{}", fraction(1_000_000_000 - time.nanoseconds));
    }
    format!("{}{}", time.seconds, fraction(time.nanoseconds))
}
