//! FAT12, FAT16 and FAT32, written in one pass.
//!
//! The layout comes first: every directory and file gets one run of clusters, in the order of the
//! paths. The tables follow from it, so boot sectors, tables, directories and data are written once
//! and in ascending order, and nothing is read back. Geometry and cluster sizes are those that
//! mkfs.vfat chooses. The same tree and parameters give the same bytes.
//!
//! FAT has neither owners nor modes, and no other kinds than files and directories: others are left
//! out, as mcopy does for systemd-repart. Spec: Microsoft's FAT specification of 2004.

mod boot;
mod directory;
mod free;
mod geometry;
mod layout;
mod names;
mod options;
mod parameters;

use filetree::{Content, Tree, WriteAt, WriteError, Writer};

pub use free::free;
use geometry::Geometry;
use layout::{Layout, Node};
pub use options::OptionError;
pub use parameters::{Label, LabelError, ParameterError, Parameters, SectorSize, Width};

/// Bytes of data and tables that are written at a time.
const CHUNK: usize = 1 << 20;
const MIB: u64 = 1 << 20;
/// No parameters need more bytes for an empty file system.
const LARGEST_MINIMUM: u64 = 1 << 30;

/// Writes FAT file systems that fill their target.
#[derive(Clone, Debug)]
pub struct VfatWriter {
    parameters: Parameters,
}

impl VfatWriter {
    /// A writer with these parameters.
    pub fn new(parameters: Parameters) -> Self {
        Self { parameters }
    }

    /// Bytes of a file system in which a third is free once `tree` is in it, as systemd-repart's
    /// "guess" has it. It depends on the size how large clusters are, and so what the tree takes.
    pub fn guess(&self, tree: &Tree) -> Result<u64, WriteError> {
        let mut size = MIB;
        loop {
            let geometry = match Geometry::new(&self.parameters, size) {
                // FAT16 has a least size.
                Err(_) if size < LARGEST_MINIMUM => {
                    size *= 2;
                    continue;
                }
                geometry => geometry?,
            };
            let (needed, fits) = match Layout::new(tree, &self.parameters, &geometry) {
                Ok(layout) => {
                    let used = u64::from(layout.clusters()) * geometry.cluster_bytes();
                    (geometry.cluster_offset(2) + used, true)
                }
                Err(WriteError::TooSmall { needed, .. }) => (needed, false),
                Err(error) => return Err(error),
            };
            let wanted = needed.saturating_add(needed / 2).next_multiple_of(MIB);
            if fits && wanted <= size {
                return Ok(size);
            }
            size = wanted.max(size + MIB);
        }
    }
}

impl Writer for VfatWriter {
    /// FAT fills what it is given.
    fn size(&self, _: &Tree) -> Result<Option<u64>, WriteError> {
        Ok(None)
    }

    fn write(&self, tree: &Tree, target: &mut dyn WriteAt) -> Result<u64, WriteError> {
        let size = target.size();
        let geometry = Geometry::new(&self.parameters, size)?;
        let layout = Layout::new(tree, &self.parameters, &geometry)?;
        let mut writing = Writing {
            parameters: &self.parameters,
            geometry: &geometry,
            layout: &layout,
            target,
            buffer: vec![0; CHUNK],
        };
        writing.boot()?;
        writing.tables()?;
        writing.nodes()?;
        Ok(size)
    }
}

struct Writing<'a> {
    parameters: &'a Parameters,
    geometry: &'a Geometry,
    layout: &'a Layout<'a>,
    target: &'a mut dyn WriteAt,
    buffer: Vec<u8>,
}

impl Writing<'_> {
    fn boot(&mut self) -> Result<(), WriteError> {
        let boot = boot::sector(self.parameters, self.geometry);
        self.put(&boot, 0)?;
        if self.geometry.width != Width::Fat32 {
            return Ok(());
        }
        let information = boot::information(self.geometry, self.layout.clusters());
        let sector = u64::from(self.geometry.sector);
        self.put(&information, sector)?;
        if let Some(backup) = self.geometry.backup {
            let backup = u64::from(backup) * sector;
            self.put(&boot, backup)?;
            self.put(&information, backup + sector)?;
        }
        Ok(())
    }

    /// Writes every copy of the table, up to the last entry that is used.
    fn tables(&mut self) -> Result<(), WriteError> {
        for copy in 0..u64::from(self.geometry.tables) {
            let start = self.geometry.table_offset(copy);
            let mut at = start;
            let mut entries = self.layout.entries(self.geometry);
            loop {
                let bytes = self.geometry.width.pack(&mut entries, CHUNK / 8);
                if bytes.is_empty() {
                    break;
                }
                self.put(&bytes, at)?;
                at += length(bytes.len());
            }
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<(), WriteError> {
        for node in &self.layout.nodes {
            let offset = match node.first_cluster() {
                Some(cluster) => self.geometry.cluster_offset(cluster),
                None => self.geometry.root_offset(),
            };
            match node {
                Node::Directory(directory) => {
                    let bytes = self
                        .layout
                        .directory(directory, self.parameters, self.geometry);
                    self.put(&bytes, offset)?;
                }
                Node::File { content, .. } => self.data(content, offset)?,
            }
        }
        Ok(())
    }

    /// Copies the parts of a file that are no holes.
    fn data(&mut self, content: &Content, offset: u64) -> Result<(), WriteError> {
        let open = content.open()?;
        for range in content.data() {
            let mut at = range.start;
            while at < range.end {
                let part = usize::try_from(range.end - at)
                    .unwrap_or(CHUNK)
                    .min(self.buffer.len());
                let part = &mut self.buffer[..part];
                open.read_exact_at(part, at)?;
                self.target
                    .write_all_at(part, offset + at)
                    .map_err(WriteError::Target)?;
                at += length(part.len());
            }
        }
        open.finish()?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        self.target
            .write_all_at(bytes, offset)
            .map_err(WriteError::Target)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
