//! Reading a tar archive as a tree. The archive is not trusted: every length is checked against
//! what is there, `..` and symlinks never lead out of the tree, and file data stays in the archive.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::header::{Header, field};
use super::{BLOCK, XATTR};
use crate::content::{Content, ReadAt};
use crate::tree::{BadName, DeviceNumber, Inode, InodeId, Kind, Metadata, Name, Timestamp, Tree};

/// Records before a member longer than this are refused.
const LONGEST_RECORDS: u64 = 1 << 20;
/// Paths longer than this are refused, as the kernel does.
const LONGEST_PATH: usize = 4096;

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the archive's member at byte {offset}: {fault}")]
pub struct ReadTarError {
    /// Where the member begins.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a member.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says so itself")]
pub enum Fault {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("its checksum is wrong: this is no tar archive, or it is damaged")]
    Checksum,
    #[error("the archive ends within it")]
    Truncated,
    #[error("its {0} is no number")]
    Number(&'static str),
    #[error("its extended header is damaged")]
    Records,
    #[error("its path or target is longer than 4096 bytes")]
    LongPath,
    #[error("its path contains '..'")]
    ParentPath,
    #[error(transparent)]
    Name(#[from] BadName),
    #[error("{} in its path is no directory", String::from_utf8_lossy(.0))]
    NotDirectory(Vec<u8>),
    #[error("its hard link leads to {}, which is no earlier file", String::from_utf8_lossy(.0))]
    Link(Vec<u8>),
    #[error("a member of type {:?} is not supported; pack the files without GNU extensions like --sparse", char::from(*.0))]
    Kind(u8),
}

/// Reads the archive of `size` bytes. Without a member for it, the root directory is root's, 0755,
/// of 1970, as is every directory that only appears in paths.
pub fn read(archive: Arc<dyn ReadAt>, size: u64) -> Result<Tree, ReadTarError> {
    let mut reader = Reader {
        archive,
        size,
        tree: Tree::new(unnamed()),
    };
    let mut at = 0;
    let mut pending = Pending::default();
    while let Some(header) = reader
        .header(at)
        .map_err(|fault| ReadTarError { offset: at, fault })?
    {
        let next = reader.member(&header, at, &mut pending);
        at = next.map_err(|fault| ReadTarError { offset: at, fault })?;
    }
    Ok(reader.tree)
}

fn unnamed() -> Metadata {
    Metadata {
        mode: 0o755,
        ..Metadata::default()
    }
}

/// What extended headers said about the next member.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Timestamp>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

struct Reader {
    archive: Arc<dyn ReadAt>,
    size: u64,
    tree: Tree,
}

impl Reader {
    /// The header at an offset; `None` at the end of the archive.
    fn header(&self, at: u64) -> Result<Option<Header>, Fault> {
        if at >= self.size {
            return Ok(None);
        }
        if self.size - at < BLOCK {
            return Err(Fault::Truncated);
        }
        let mut header = Header([0; 512]);
        self.archive.read_exact_at(&mut header.0, at)?;
        if header.0.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match header.is_sound() {
            true => Ok(Some(header)),
            false => Err(Fault::Checksum),
        }
    }

    /// Takes in the member whose header is at `at` and returns where the next begins.
    fn member(&mut self, header: &Header, at: u64, pending: &mut Pending) -> Result<u64, Fault> {
        let kind = header.0[field::TYPE];
        let extended = matches!(kind, b'x' | b'g' | b'L' | b'K');
        let stored = whole(header, field::SIZE, "size")?;
        let size = match (extended, kind) {
            (true, _) => stored,
            // Only files have data, whatever the field says.
            (false, b'0' | 0 | b'7') => pending.size.unwrap_or(stored),
            (false, _) => 0,
        };
        let start = at + BLOCK;
        let end = start.checked_add(size).filter(|end| *end <= self.size);
        let end = end.ok_or(Fault::Truncated)?;
        match kind {
            b'x' => pending.take_records(&self.bytes(start..end)?)?,
            b'g' => (),
            b'L' => pending.path = Some(long_text(self.bytes(start..end)?)),
            b'K' => pending.link = Some(long_text(self.bytes(start..end)?)),
            _ => self.place(header, std::mem::take(pending), start..end)?,
        }
        // The last file of an archive may lack its padding.
        end.checked_next_multiple_of(BLOCK).ok_or(Fault::Truncated)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        let length = range.end - range.start;
        if length > LONGEST_RECORDS {
            return Err(Fault::Records);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Fault::Records)?];
        self.archive.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }

    fn place(&mut self, header: &Header, pending: Pending, data: Range<u64>) -> Result<(), Fault> {
        let path = pending.path.clone().unwrap_or_else(|| short_path(header));
        let link = pending.link.clone();
        let link = link.unwrap_or_else(|| header.text(field::LINK).to_vec());
        if path.len() > LONGEST_PATH || link.len() > LONGEST_PATH {
            return Err(Fault::LongPath);
        }
        let mut names = names(&path)?;
        let kind = match header.0[field::TYPE] {
            b'1' => return self.hard_link(names, &link),
            // Archives older than POSIX mark directories by the slash alone.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory(BTreeMap::new()),
            b'0' | 0 | b'7' => Kind::File(self.content(data)),
            b'2' => Kind::Symlink(link.into()),
            b'3' => Kind::CharacterDevice(device(header)?),
            b'4' => Kind::BlockDevice(device(header)?),
            b'5' => Kind::Directory(BTreeMap::new()),
            b'6' => Kind::Fifo,
            other => return Err(Fault::Kind(other)),
        };
        let metadata = pending.metadata(header)?;
        let inode = Inode { metadata, kind };
        let Some(name) = names.pop() else {
            return self.describe(InodeId::ROOT, inode);
        };
        let parent = self.parent(names)?;
        match self.child(parent, &name) {
            Some(id) if inode.entries().is_some() && self.tree.inode(id).entries().is_some() => {
                self.describe(id, inode)
            }
            _ => {
                let id = self.tree.add(inode);
                self.tree.link(parent, name, id);
                Ok(())
            }
        }
    }

    /// Gives a directory that is there the metadata of its member.
    fn describe(&mut self, id: InodeId, inode: Inode) -> Result<(), Fault> {
        if inode.entries().is_none() {
            return Err(Fault::NotDirectory(b".".to_vec()));
        }
        self.tree.inode_mut(id).metadata = inode.metadata;
        Ok(())
    }

    fn hard_link(&mut self, mut new: Vec<Name>, to: &[u8]) -> Result<(), Fault> {
        let lost = || Fault::Link(to.to_vec());
        let target = names(to)?
            .iter()
            .try_fold(InodeId::ROOT, |at, name| self.child(at, name))
            .filter(|id| self.tree.inode(*id).entries().is_none())
            .ok_or_else(lost)?;
        let name = new.pop().ok_or_else(lost)?;
        let parent = self.parent(new)?;
        self.tree.link(parent, name, target);
        Ok(())
    }

    /// The directory with these names, made where it is missing.
    fn parent(&mut self, names: Vec<Name>) -> Result<InodeId, Fault> {
        let mut at = InodeId::ROOT;
        for name in names {
            at = match self.child(at, &name) {
                Some(id) if self.tree.inode(id).entries().is_some() => id,
                Some(_) => return Err(Fault::NotDirectory(name.as_bytes().to_vec())),
                None => {
                    let id = self.tree.add(Inode::directory(unnamed()));
                    self.tree.link(at, name, id);
                    id
                }
            };
        }
        Ok(at)
    }

    fn child(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        self.tree.inode(parent).entries()?.get(name).copied()
    }

    fn content(&self, data: Range<u64>) -> Content {
        let size = data.end - data.start;
        if size == 0 {
            return Content::from_bytes([]);
        }
        let reader = Window {
            archive: Arc::clone(&self.archive),
            start: data.start,
        };
        Content::from_reader(Arc::new(reader), size, Vec::from([0..size]))
    }
}

/// One member's data.
#[derive(Debug)]
struct Window {
    archive: Arc<dyn ReadAt>,
    start: u64,
}

impl ReadAt for Window {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.start.checked_add(offset);
        let at = at.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.archive.read_exact_at(buffer, at)
    }
}

impl Pending {
    fn take_records(&mut self, mut records: &[u8]) -> Result<(), Fault> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or(Fault::Records)?;
            records = rest;
            self.take(key, value)?;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value, "size")?),
            b"uid" => self.uid = Some(number(value, "uid")?),
            b"gid" => self.gid = Some(number(value, "gid")?),
            b"mtime" => self.mtime = Some(time(value).ok_or(Fault::Number("mtime"))?),
            _ if key.starts_with(b"GNU.sparse.") => return Err(Fault::Kind(b'S')),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                    self.xattrs.insert(decoded(name), value.to_vec());
                }
            }
        }
        Ok(())
    }

    fn metadata(self, header: &Header) -> Result<Metadata, Fault> {
        let id = |given: Option<u32>, at, what| match given {
            Some(id) => Ok(id),
            None => u32::try_from(whole(header, at, what)?).map_err(|_| Fault::Number(what)),
        };
        let mode = whole(header, field::MODE, "mode")? & 0o7777;
        Ok(Metadata {
            mode: u16::try_from(mode).map_err(|_| Fault::Number("mode"))?,
            uid: id(self.uid, field::UID, "uid")?,
            gid: id(self.gid, field::GID, "gid")?,
            mtime: match self.mtime {
                Some(time) => time,
                None => Timestamp {
                    seconds: header.number(field::MTIME).ok_or(Fault::Number("mtime"))?,
                    nanoseconds: 0,
                },
            },
            xattrs: self.xattrs,
        })
    }
}

fn whole(header: &Header, at: Range<usize>, what: &'static str) -> Result<u64, Fault> {
    let number = header.number(at).ok_or(Fault::Number(what))?;
    u64::try_from(number).map_err(|_| Fault::Number(what))
}

fn device(header: &Header) -> Result<DeviceNumber, Fault> {
    let number = |at| {
        let number = whole(header, at, "device number")?;
        u32::try_from(number).map_err(|_| Fault::Number("device number"))
    };
    Ok(DeviceNumber {
        major: number(field::MAJOR)?,
        minor: number(field::MINOR)?,
    })
}

fn short_path(header: &Header) -> Vec<u8> {
    let name = header.text(field::NAME);
    // In GNU's own dialect other things lie where ustar has the prefix.
    match header.text(field::PREFIX) {
        prefix if !prefix.is_empty() && header.0[field::MAGIC] == *super::header::USTAR => {
            [prefix, b"/", name].concat()
        }
        _ => name.to_vec(),
    }
}

fn long_text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

fn names(path: &[u8]) -> Result<Vec<Name>, Fault> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| match name {
            b".." => Err(Fault::ParentPath),
            name => Ok(Name::new(name)?),
        })
        .collect()
}

/// Splits off the first record: key, value, and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = digits(&bytes[..space])?;
    let length = usize::try_from(length).ok()?;
    let rest = bytes.get(length..)?;
    let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

fn digits(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    text.parse().ok()
}

fn number<T: TryFrom<u64>>(text: &[u8], what: &'static str) -> Result<T, Fault> {
    digits(text)
        .and_then(|number| T::try_from(number).ok())
        .ok_or(Fault::Number(what))
}

fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(digits(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"0");
    digits(fraction.get(..fraction.len().min(18))?)?;
    let nanoseconds = (0..9).try_fold(0u32, |value, at| {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        Some(value * 10 + u32::from(digit.checked_sub(b'0')?))
    })?;
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds,
        },
        (true, nanoseconds) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Undoes the writing of `%` and `=` in a name as `%25` and `%3D`.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'%', [b'2', b'5', after @ ..]) => (b'%', after),
            (b'%', [b'3', b'D' | b'd', after @ ..]) => (b'=', after),
            _ => (*first, tail),
        };
        out.push(byte);
        rest = after;
    }
    out
}
