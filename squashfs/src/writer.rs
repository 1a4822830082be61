//! Writes a [`Tree`] as squashfs 4.0.
//!
//! Invariant: the same tree and parameters give the same bytes, however many threads compress. The
//! library's processor hands blocks back in the order they were given; names, attributes and
//! numbers are in the tree's order; files of equal content share their blocks (found by SHA-256
//! here, see `duplicates`).
#![forbid(unsafe_code)]

mod duplicates;
mod inode;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::PathBuf;

use filetree::{Content, Inode, InodeId, Kind, Tree, WriteAt, WriteError, Writer};

use crate::ffi::{FileLayout, Image};
use crate::parameters::{ForeignXattrs, Parameters};
use duplicates::Duplicates;

/// The image is padded with zeros to a multiple of this, so that it can be a loop device.
const PADDING: u64 = 4096;

/// Bytes of a file that are read at a time.
pub(crate) const CHUNK: usize = 1 << 20;

/// The index of attributes of an inode that has none.
const NO_XATTRS: u32 = u32::MAX;

/// Writes squashfs images.
#[derive(Clone, Debug, Default)]
pub struct SquashfsWriter {
    parameters: Parameters,
}

impl SquashfsWriter {
    /// A writer with these parameters.
    pub fn new(parameters: Parameters) -> Self {
        Self { parameters }
    }
}

impl Writer for SquashfsWriter {
    /// How well a tree compresses is not known before.
    fn size(&self, _: &Tree) -> Result<Option<u64>, WriteError> {
        Ok(None)
    }

    fn write(&self, tree: &Tree, target: &mut dyn WriteAt) -> Result<u64, WriteError> {
        let available = target.size();
        let survey = Survey::new(tree)?;
        let image = Image::begin(&self.parameters, survey.files, target)?;
        let mut building = Building {
            tree,
            survey,
            foreign_xattrs: self.parameters.foreign_xattrs,
            block_size: u64::from(self.parameters.block_size.bytes()),
            image,
            layouts: HashMap::new(),
        };
        building.write_data()?;
        let used = building.write_inodes()?;
        let covered = used.next_multiple_of(PADDING);
        if covered > available {
            return Err(WriteError::TooSmall {
                needed: covered,
                available,
            });
        }
        Ok(covered)
    }
}

/// What is known of a tree before anything is written.
#[derive(Debug)]
struct Survey {
    /// Every path with its inode, parents first.
    paths: Vec<(Vec<u8>, InodeId)>,
    /// The number of every inode by its index, from 1 on in the order of the paths; 0 if unreachable.
    numbers: Vec<u32>,
    /// How many inodes are reachable.
    inodes: u32,
    links: Vec<u32>,
    /// The number of each directory's parent, by the directory's index.
    parents: Vec<u32>,
    /// How many non-empty files there are.
    files: usize,
}

impl Survey {
    fn new(tree: &Tree) -> Result<Self, WriteError> {
        let paths: Vec<_> = tree.walk().collect();
        let mut numbers = vec![0; tree.len()];
        let mut inodes = 0u32;
        let mut files = 0;
        for (path, id) in &paths {
            if numbers[id.index()] != 0 {
                continue;
            }
            inodes = inodes.checked_add(1).ok_or_else(|| {
                unsupported(path, "squashfs holds no more than 4,294,967,295 files")
            })?;
            numbers[id.index()] = inodes;
            files += usize::from(data_of(tree.inode(*id)).is_some());
        }
        // The root's parent is the number after the last, by convention.
        let mut parents = vec![inodes.saturating_add(1); tree.len()];
        for (_, id) in &paths {
            for child in tree.inode(*id).entries().into_iter().flatten() {
                parents[child.1.index()] = numbers[id.index()];
            }
        }
        Ok(Self {
            paths,
            numbers,
            inodes,
            links: tree.link_counts(),
            parents,
            files,
        })
    }
}

struct Building<'a> {
    tree: &'a Tree,
    survey: Survey,
    foreign_xattrs: ForeignXattrs,
    block_size: u64,
    image: Image<'a>,
    /// By inode: the slot whose layout is its data's.
    layouts: HashMap<InodeId, usize>,
}

impl<'a> Building<'a> {
    /// Writes the data of every file once, in the order of their first names.
    fn write_data(&mut self) -> Result<(), WriteError> {
        let tree = self.tree;
        let mut duplicates =
            Duplicates::new(self.survey.paths.iter().filter_map(|(_, id)| {
                data_of(tree.inode(*id)).map(|content| (*id, content.size()))
            }));
        let paths = std::mem::take(&mut self.survey.paths);
        let mut buffer = vec![0; CHUNK];
        let mut slots = 0;
        for (_, id) in &paths {
            let Some(content) = data_of(tree.inode(*id)) else {
                continue;
            };
            if self.layouts.contains_key(id) {
                continue;
            }
            let slot = match duplicates.find(content, slots, &mut buffer)? {
                Some(slot) => slot,
                None => {
                    self.write_file(content, slots, &mut buffer)?;
                    slots += 1;
                    slots - 1
                }
            };
            self.layouts.insert(*id, slot);
        }
        self.survey.paths = paths;
        self.image.end_data()
    }

    fn write_file(
        &mut self,
        content: &Content,
        slot: usize,
        buffer: &mut [u8],
    ) -> Result<(), WriteError> {
        // As mksquashfs does: only files of less than a block share one, so that the tail of a
        // bigger file is not read with strangers.
        let fragment = content.size() < self.block_size;
        let image = &mut self.image;
        image.begin_file(slot, fragment)?;
        read(content, buffer, |bytes| image.append(bytes))?;
        self.image.end_file()
    }

    /// Writes inodes and directories, children before their directory, and ends the image.
    fn write_inodes(&mut self) -> Result<u64, WriteError> {
        let tree = self.tree;
        let paths = std::mem::take(&mut self.survey.paths);
        let mut places: Vec<Option<u64>> = vec![None; tree.len()];
        for (path, id) in paths.iter().rev() {
            if let Some(entries) = tree.inode(*id).entries() {
                let mut listed = Vec::with_capacity(entries.len());
                for (name, child) in entries {
                    let place = match places[child.index()] {
                        Some(place) => place,
                        None => self.write_inode(path, name.as_bytes(), *child)?,
                    };
                    places[child.index()] = Some(place);
                    listed.push((c_string(path, name.as_bytes())?, *child, place));
                }
                places[id.index()] = Some(self.write_directory(path, *id, &listed)?);
            }
        }
        let root = places[InodeId::ROOT.index()].unwrap_or_default();
        let number = self.survey.numbers[InodeId::ROOT.index()];
        self.image.finish(self.survey.inodes, number, root)
    }

    fn write_directory(
        &mut self,
        path: &[u8],
        id: InodeId,
        listed: &[(CString, InodeId, u64)],
    ) -> Result<u64, WriteError> {
        let (tree, numbers) = (self.tree, &self.survey.numbers);
        let layout = self
            .image
            .listing(listed.iter().map(|(name, child, place)| {
                let mode = inode::mode(tree.inode(*child));
                (name.as_c_str(), numbers[child.index()], *place, mode)
            }))?;
        let head = self.head(path, id)?;
        let parent = self.survey.parents[id.index()];
        self.image.inode(&inode::directory(&head, &layout, parent))
    }

    fn write_inode(&mut self, path: &[u8], name: &[u8], id: InodeId) -> Result<u64, WriteError> {
        let path = [path, b"/", name].concat();
        let head = self.head(&path, id)?;
        let bytes = match &self.tree.inode(id).kind {
            Kind::File(_) => {
                let layout = match self.layouts.get(&id) {
                    Some(slot) => self.image.file(*slot)?,
                    None => FileLayout {
                        fragment: u32::MAX,
                        ..FileLayout::default()
                    },
                };
                inode::file(&head, &layout)
            }
            Kind::Symlink(target) => inode::symlink(&head, target).ok_or_else(|| {
                unsupported(
                    &path,
                    "the symlink's target is too long: squashfs holds 65,535 bytes",
                )
            })?,
            Kind::CharacterDevice(number) | Kind::BlockDevice(number) => inode::device(
                &head, *number,
            )
            .ok_or_else(|| {
                unsupported(
                    &path,
                    "squashfs holds no such device number: major up to 4095, minor up to 1048575",
                )
            })?,
            Kind::Fifo | Kind::Socket => inode::ipc(&head),
            // Directories are written by `write_directory`, before anything asks for them here.
            Kind::Directory(_) => return Err(unsupported(&path, "the directory contains itself")),
        };
        self.image.inode(&bytes)
    }

    fn head(&mut self, path: &[u8], id: InodeId) -> Result<inode::Head, WriteError> {
        let inode = self.tree.inode(id);
        let metadata = &inode.metadata;
        Ok(inode::Head {
            kind: inode::kind(inode),
            mode: metadata.mode & 0o7777,
            uid: self.image.id(metadata.uid)?,
            gid: self.image.id(metadata.gid)?,
            // The format has unsigned 32-bit seconds; what lies outside becomes the nearest.
            mtime: u32::try_from(metadata.mtime.seconds.max(0)).unwrap_or(u32::MAX),
            number: self.survey.numbers[id.index()],
            links: self.survey.links[id.index()],
            xattrs: self.xattrs(path, inode)?,
        })
    }

    fn xattrs(&mut self, path: &[u8], inode: &Inode) -> Result<u32, WriteError> {
        let mut pairs = Vec::new();
        for (key, value) in &inode.metadata.xattrs {
            let known = [&b"user."[..], b"trusted.", b"security."]
                .iter()
                .any(|prefix| key.starts_with(prefix));
            match (known, self.foreign_xattrs) {
                (true, _) => pairs.push((c_string(path, key)?, value)),
                (false, ForeignXattrs::LeaveOut) => {}
                (false, ForeignXattrs::Refuse) => {
                    let key = String::from_utf8_lossy(key);
                    return Err(unsupported(
                        path,
                        &format!(
                            "squashfs cannot hold the attribute {key}; remove it, or use another Format="
                        ),
                    ));
                }
            }
        }
        if pairs.is_empty() {
            return Ok(NO_XATTRS);
        }
        let pairs = pairs
            .iter()
            .map(|(key, value)| -> (&CStr, &[u8]) { (key, value) });
        self.image.xattrs(pairs)
    }
}

/// Reads a file from beginning to end, holes as zeros, and hands out its bytes in order.
fn read(
    content: &Content,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let open = content.open()?;
    let mut ranges = content.data().iter().peekable();
    let mut at = 0;
    while at < content.size() {
        while ranges.next_if(|range| range.end <= at).is_some() {}
        let (data, end) = match ranges.peek() {
            Some(range) if range.start <= at => (true, range.end),
            Some(range) => (false, range.start),
            None => (false, content.size()),
        };
        let length = usize::try_from(end.min(content.size()) - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = &mut buffer[..length];
        if data {
            open.read_exact_at(part, at)?;
        } else {
            part.fill(0);
        }
        each(part)?;
        at += u64::try_from(length).unwrap_or(u64::MAX);
    }
    open.finish()?;
    Ok(())
}

/// The content of a file that has any.
fn data_of(inode: &Inode) -> Option<&Content> {
    match &inode.kind {
        Kind::File(content) if content.size() > 0 => Some(content),
        _ => None,
    }
}

fn c_string(path: &[u8], bytes: &[u8]) -> Result<CString, WriteError> {
    CString::new(bytes).map_err(|_| unsupported(path, "a name holds a NUL byte"))
}

fn unsupported(path: &[u8], what: &str) -> WriteError {
    use std::os::unix::ffi::OsStrExt;
    let path = path.strip_prefix(b"/").unwrap_or(path);
    WriteError::Unsupported {
        path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        what: what.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
