//! An inode as stored, checked, and its forks ("XFS Algorithms & Data Structures", "On-disk Inode").

use std::ops::Range;
use std::sync::Arc;

use filetree::{DeviceNumber, ReadError, Timestamp};

use super::Volume;
use super::bytes::{be16, be32, be64, is_sound};

/// Where the forks begin, in version 3 and before.
const CORE: usize = 176;
const OLD_CORE: usize = 100;
const CHECKSUM: usize = 100;

/// `di_flags`: the data are on another device.
const REALTIME: u16 = 0x1;
/// `di_flags2`: times in nanoseconds, large counts of extents.
const BIG_TIME: u64 = 0x8;
const BIG_COUNTS: u64 = 0x10;

/// One inode.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) number: u64,
    /// Where it is, in bytes.
    pub(super) offset: u64,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) realtime: bool,
    data: Fork,
    attributes: Option<Fork>,
    block: Arc<[u8]>,
}

/// One of the two things that an inode leads to: its data or its attributes.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    format: Format,
    /// How many extents there are, if they are within the inode.
    extents: u64,
    range: Range<usize>,
}

/// How a fork is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Device,
    Local,
    Extents,
    Tree,
}

/// A fork with its bytes within the inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root<'a> {
    pub(super) format: Format,
    pub(super) extents: u64,
    pub(super) bytes: &'a [u8],
}

impl Stored {
    /// Reads an inode that a name leads to.
    pub(super) fn read(volume: &Volume, number: u64) -> Result<Self, ReadError> {
        let (source, superblock) = (&volume.source, &volume.superblock);
        let offset = superblock
            .inode(number)
            .ok_or_else(|| source.damaged(0, "a name leads to no inode"))?;
        let within = offset % superblock.block_u64();
        let block = source.block(offset - within, superblock.block_size)?;
        let start = usize::try_from(within).unwrap_or(0);
        Self::parse(volume, number, offset, (block, start))
            .map_err(|what| source.damaged(offset, what))
    }

    fn parse(
        volume: &Volume,
        number: u64,
        offset: u64,
        (block, start): (Arc<[u8]>, usize),
    ) -> Result<Self, &'static str> {
        let superblock = &volume.superblock;
        let inode = &block[start..start + superblock.inode_size];
        if !inode.starts_with(b"IN") {
            return Err("a name leads to no inode");
        }
        let version = inode[4];
        if !(1..=3).contains(&version) || (version == 3) != superblock.version5 {
            return Err("the version of an inode is impossible");
        }
        if superblock.checksums && !is_sound(inode, CHECKSUM) {
            return Err("the checksum of an inode is wrong");
        }
        if superblock.checksums && be64(inode, 152) != number {
            return Err("an inode is in the place of another one");
        }
        let links = if version == 1 {
            u32::from(be16(inode, 6))
        } else {
            be32(inode, 16)
        };
        if links == 0 {
            return Err("a name leads to an inode that is not in use");
        }
        let size = be64(inode, 56);
        if size > u64::MAX >> 1 {
            return Err("the size of a file is impossible");
        }
        let more = if version == 3 { be64(inode, 120) } else { 0 };
        let (data, attributes) = forks(inode, version == 3, more & BIG_COUNTS != 0)?;
        let shift = |fork: Fork| Fork {
            range: fork.range.start + start..fork.range.end + start,
            ..fork
        };
        Ok(Self {
            number,
            offset,
            mode: be16(inode, 2),
            uid: be32(inode, 8),
            gid: be32(inode, 12),
            size,
            mtime: time(inode, more & BIG_TIME != 0)?,
            realtime: be16(inode, 90) & REALTIME != 0,
            data: shift(data),
            attributes: attributes.map(shift),
            block: Arc::clone(&block),
        })
    }

    pub(super) fn data(&self) -> Root<'_> {
        self.root(&self.data)
    }

    pub(super) fn attributes(&self) -> Option<Root<'_>> {
        self.attributes.as_ref().map(|fork| self.root(fork))
    }

    fn root(&self, fork: &Fork) -> Root<'_> {
        Root {
            format: fork.format,
            extents: fork.extents,
            bytes: &self.block[fork.range.clone()],
        }
    }

    /// The number of a device; `None` where there is none.
    pub(super) fn device(&self) -> Option<DeviceNumber> {
        let data = self.data();
        if data.format != Format::Device || data.bytes.len() < 4 {
            return None;
        }
        let number = be32(data.bytes, 0);
        Some(DeviceNumber {
            major: number >> 18 & 0x3fff,
            minor: number & 0x3_ffff,
        })
    }
}

/// The two forks share what is behind the fields.
fn forks(inode: &[u8], version3: bool, big: bool) -> Result<(Fork, Option<Fork>), &'static str> {
    let core = if version3 { CORE } else { OLD_CORE };
    let split = core + usize::from(inode[82]) * 8;
    if split > inode.len() {
        return Err("the forks of an inode are impossible");
    }
    let has_attributes = split > core;
    let (extents, attributes) = match big {
        true => (be64(inode, 24), u64::from(be32(inode, 76))),
        false => (be32(inode, 76).into(), be16(inode, 80).into()),
    };
    let data = Fork {
        format: format(inode[5])?,
        extents,
        range: core..if has_attributes { split } else { inode.len() },
    };
    if !has_attributes {
        return Ok((data, None));
    }
    let second = Fork {
        format: format(inode[83])?,
        extents: attributes,
        range: split..inode.len(),
    };
    Ok((data, Some(second)))
}

fn format(number: u8) -> Result<Format, &'static str> {
    Ok(match number {
        0 => Format::Device,
        1 => Format::Local,
        2 => Format::Extents,
        3 => Format::Tree,
        _ => return Err("the format of an inode is unknown"),
    })
}

fn time(inode: &[u8], big: bool) -> Result<Timestamp, &'static str> {
    const AT: usize = 40;
    const BILLION: u64 = 1_000_000_000;
    if big {
        let all = be64(inode, AT);
        let seconds = i64::try_from(all / BILLION).unwrap_or(i64::MAX);
        return Ok(Timestamp {
            seconds: seconds - (1 << 31),
            nanoseconds: u32::try_from(all % BILLION).unwrap_or(0),
        });
    }
    let nanoseconds = be32(inode, AT + 4);
    if u64::from(nanoseconds) >= BILLION {
        return Err("a time has too many nanoseconds");
    }
    Ok(Timestamp {
        seconds: be32(inode, AT).cast_signed().into(),
        nanoseconds,
    })
}
