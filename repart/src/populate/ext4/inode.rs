//! One inode as stored. Pure.

use filetree::{DeviceNumber, Kind, Metadata, Timestamp};

use super::bytes::{low16, low32, put16, put32, u16_at, u32_at};
use super::checksum::crc32c;
use super::volume::Geometry;

pub(super) const EXTENTS: u32 = 0x8_0000;

/// What an inode says besides its metadata.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) mode: u16,
    pub(super) links: u16,
    pub(super) size: u64,
    /// Blocks of the file system that it takes, those of its map and attributes included.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    /// The 60 bytes of the map, the target or the device number.
    pub(super) map: Vec<u8>,
    /// The block of attributes.
    pub(super) xattr_block: u64,
    /// What follows the fields.
    pub(super) xattrs: Vec<u8>,
}

/// The number from which the checksums of an inode and its blocks start (generation 0).
pub(super) fn seed(geometry: &Geometry, number: u32) -> u32 {
    crc32c(crc32c(geometry.seed, &number.to_le_bytes()), &[0; 4])
}

/// The bytes of inode `number`.
pub(super) fn encode(
    geometry: &Geometry,
    number: u32,
    metadata: &Metadata,
    fields: &Fields,
) -> Vec<u8> {
    let mut inode = vec![0; geometry.inode_size];
    put16(&mut inode, 0, fields.mode);
    put16(&mut inode, 2, low16(metadata.uid.into()));
    put16(&mut inode, 120, low16(u64::from(metadata.uid) >> 16));
    put16(&mut inode, 24, low16(metadata.gid.into()));
    put16(&mut inode, 122, low16(u64::from(metadata.gid) >> 16));
    put32(&mut inode, 4, low32(fields.size));
    put32(&mut inode, 108, low32(fields.size >> 32));
    put16(&mut inode, 26, fields.links);
    let sectors = fields.blocks * (geometry.block_size / 512);
    put32(&mut inode, 28, low32(sectors));
    put16(&mut inode, 116, low16(sectors >> 32));
    put32(&mut inode, 32, fields.flags);
    inode[40..40 + fields.map.len()].copy_from_slice(&fields.map);
    put32(&mut inode, 104, low32(fields.xattr_block));
    put16(&mut inode, 118, low16(fields.xattr_block >> 32));
    let (seconds, extra) = time(metadata.mtime);
    for at in [8, 12, 16] {
        put32(&mut inode, at, seconds);
    }
    if geometry.inode_size > 128 {
        put16(&mut inode, 128, geometry.extra_size);
        if geometry.extra_size >= 28 {
            for at in [132, 136, 140, 148] {
                put32(&mut inode, at, extra);
            }
            put32(&mut inode, 144, seconds);
        }
        let behind = 128 + usize::from(geometry.extra_size);
        inode[behind..behind + fields.xattrs.len()].copy_from_slice(&fields.xattrs);
    }
    seal(geometry, number, &mut inode);
    inode
}

/// Sets an inode's checksum.
pub(super) fn seal(geometry: &Geometry, number: u32, inode: &mut [u8]) {
    if !geometry.metadata_checksums {
        return;
    }
    let high = inode.len() > 128 && u16_at(inode, 128) >= 4;
    put16(inode, 124, 0);
    if high {
        put16(inode, 130, 0);
    }
    let generation = u32_at(inode, 100).to_le_bytes();
    let seed = crc32c(crc32c(geometry.seed, &number.to_le_bytes()), &generation);
    let checksum = u64::from(crc32c(seed, inode));
    put16(inode, 124, low16(checksum));
    if high {
        put16(inode, 130, low16(checksum >> 16));
    }
}

/// The kind and permission bits.
pub(super) fn mode(kind: &Kind, metadata: &Metadata) -> u16 {
    let kind = match kind {
        Kind::Fifo => 0o010_000,
        Kind::CharacterDevice(_) => 0o020_000,
        Kind::Directory(_) => 0o040_000,
        Kind::BlockDevice(_) => 0o060_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::Socket => 0o140_000,
    };
    kind | metadata.mode & 0o7777
}

/// The number that a directory entry gives a kind of file.
pub(super) fn entry_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::CharacterDevice(_) => 3,
        Kind::BlockDevice(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// A device number in the inode's map: the short form where it fits. `None` where it has no room.
pub(super) fn device(number: DeviceNumber) -> Option<Vec<u8>> {
    let DeviceNumber { major, minor } = number;
    let mut map = vec![0; 60];
    if major < 256 && minor < 256 {
        put32(&mut map, 0, major << 8 | minor);
    } else if major < 1 << 12 && minor < 1 << 20 {
        put32(
            &mut map,
            4,
            (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
        );
    } else {
        return None;
    }
    Some(map)
}

/// Seconds and the word with nanoseconds and the two bits above the seconds.
fn time(time: Timestamp) -> (u32, u32) {
    let bits = time.seconds.cast_unsigned();
    let low = low32(bits);
    let signed = i64::from(low.cast_signed());
    let epoch = low32((time.seconds.wrapping_sub(signed)).cast_unsigned() >> 32) & 3;
    (low, time.nanoseconds << 2 | epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_32_bits() {
        for (seconds, wanted) in [
            (0, (0, 4)),
            (-1, (u32::MAX, 4)),
            (0x7fff_ffff, (0x7fff_ffff, 4)),
            (0x8000_0000, (0x8000_0000, 5)),
            (0x1_0000_0000, (0, 5)),
        ] {
            let moment = Timestamp {
                seconds,
                nanoseconds: 1,
            };
            assert_eq!(time(moment), wanted, "{seconds}");
        }
    }
}
