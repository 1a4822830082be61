//! Disks that are parts of something larger, and the file systems of other systems: RAID sets of
//! controllers, ZFS, bcache, DRBD. Places are counted from the end where the format does so. Pure.
//!
//! Sources: SNIA DDF 2.0, section 4 (anchor header); OpenZFS on-disk format, chapter 1 (vdev labels);
//! Linux `bcache.h` and `bcachefs_format.h`; DRBD's `md_on_disk` of versions 8 and 9; Apple File System
//! Reference (`nx_superblock_t`) and TN1150 (HFS Plus volume header).

use super::{Bytes, Extent, Found, Kind, Probe, details, length};

/// bcache's magic, which the first versions of bcachefs had as well; both 24 bytes into their
/// superblock, which begins at 4096.
pub(super) const BCACHE: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
];

const SECTOR: u64 = 512;

const INTEL: &[u8] = b"Intel Raid ISM Cfg Sig. ";
const DDF: [u8; 4] = [0xde, 0x11, 0xde, 0x11];

/// DRBD's metadata: in the last 4 KiB, with the magic 60 bytes into them.
const DRBD_SIZE: u64 = 4096;
const DRBD_MAGIC: u64 = 60;
const DRBD: [[u8; 4]; 3] = [
    [0x83, 0x74, 0x02, 0x6b],
    [0x83, 0x74, 0x02, 0x6c], // version 8.4, not cleanly left
    [0x83, 0x74, 0x02, 0x6d], // version 9
];

/// A ZFS label: 256 KiB, two at the start of the disk and two at its end.
const LABEL: u64 = 256 << 10;
/// Name and value pairs in a label begin here, in XDR: encoding, version, flags, and `version` first.
const PAIRS: u64 = 16 << 10;
const FIRST_NAME: &[u8] = b"\0\0\0\x07version";
/// Then come uberblocks to the end of the label, each of at least 1 KiB.
const RING: u64 = 128 << 10;
const UBERBLOCK: usize = 1024;
const UBERBLOCK_MAGIC: u64 = 0x00ba_b10c;

/// Whether the superblock with bcache's magic is bcache's: that tells its own sector.
pub(super) fn is_bcache<E>(probe: &Probe<'_, E>) -> bool {
    probe.array(4096 + 8).map(u64::from_le_bytes) == Some(8)
}

pub(super) fn find<E>(probe: &mut Probe<'_, E>) -> Result<Vec<Found>, E> {
    let mut found = Vec::new();
    found.extend(intel(probe)?);
    found.extend(ddf(probe)?);
    found.extend(drbd(probe)?);
    found.extend(zfs(probe)?);
    Ok(found)
}

/// Intel's RAID sets: in the last sector but one.
fn intel<E>(probe: &mut Probe<'_, E>) -> Result<Option<Found>, E> {
    let Some(offset) = (probe.size / SECTOR).checked_sub(2) else {
        return Ok(None);
    };
    let offset = offset * SECTOR;
    let start = probe.fetch(offset, INTEL.len())?;
    let found = start.is_some_and(|start| start == INTEL);
    Ok(found.then(|| Found::bare(Kind::IswRaid, offset, 24)))
}

/// The anchor of a DDF set: in the last sector, or in front of 128 KiB of work space.
fn ddf<E>(probe: &mut Probe<'_, E>) -> Result<Option<Found>, E> {
    for behind in [1, 257] {
        let Some(offset) = probe.size.checked_sub(behind * SECTOR) else {
            continue;
        };
        if let Some(header) = probe.fetch(offset, 40)?
            && header.starts_with(&DDF)
        {
            return Ok(Some(Found::bare(Kind::DdfRaid, offset, 4)));
        }
    }
    Ok(None)
}

fn drbd<E>(probe: &mut Probe<'_, E>) -> Result<Option<Found>, E> {
    let Some(offset) = probe.size.checked_sub(DRBD_SIZE) else {
        return Ok(None);
    };
    let offset = offset + DRBD_MAGIC;
    let magic = probe.fetch(offset, 4)?.unwrap_or_default();
    let known = DRBD.iter().any(|known| magic == known);
    Ok(known.then(|| Found::bare(Kind::Drbd, offset, 4)))
}

/// Every ZFS label. ZFS reads the pairs; older libblkid the uberblocks: clear both.
fn zfs<E>(probe: &mut Probe<'_, E>) -> Result<Vec<Found>, E> {
    let end = probe.size / LABEL * LABEL;
    let places = [
        Some(0),
        Some(LABEL),
        end.checked_sub(2 * LABEL),
        end.checked_sub(LABEL),
    ];
    let mut found: Vec<Found> = Vec::new();
    for start in places.into_iter().flatten() {
        let pairs = start + PAIRS;
        let head = probe
            .fetch(pairs, 12 + 8 + FIRST_NAME.len())?
            .unwrap_or_default();
        let known = found.iter().any(|one| one.start() == Bytes::new(pairs));
        if known || !is_pairs(&head) {
            continue;
        }
        let mut one = Found::bare(Kind::Zfs, pairs, length(head.len()).get());
        let size = usize::try_from(LABEL - RING).unwrap_or(0);
        let ring = probe.fetch(start + RING, size)?.unwrap_or_default();
        for (index, block) in (0..).zip(ring.chunks_exact(UBERBLOCK)) {
            if is_uberblock(block) {
                let offset = index * length(UBERBLOCK).get();
                let at = Bytes::new(start + RING + offset);
                one.magics.push(Extent::new(at, Bytes::new(8)));
            }
        }
        found.push(one);
    }
    Ok(found)
}

/// XDR (1), either byte order, list version 0, unique names, two sizes, then the first name.
fn is_pairs(head: &[u8]) -> bool {
    head.first() == Some(&1)
        && head.get(2..12) == Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        && head.ends_with(FIRST_NAME)
}

fn is_uberblock(block: &[u8]) -> bool {
    let magic = block.first_chunk().copied().unwrap_or_default();
    [u64::from_le_bytes(magic), u64::from_be_bytes(magic)].contains(&UBERBLOCK_MAGIC)
}

/// What bcache tells of itself.
pub(super) fn bcache<E>(probe: &Probe<'_, E>, found: Found) -> Found {
    Found {
        uuid: details::uuid(probe, 4096 + 40),
        label: details::label(probe, 4096 + 72, 32),
        ..found
    }
}

/// HFS Plus has versions 4 and 5 behind its two letters.
pub(super) fn is_hfs_plus<E>(probe: &Probe<'_, E>) -> bool {
    let known = [(*b"H+", 4), (*b"HX", 5)];
    let letters: Option<[u8; 2]> = probe.array(1024);
    let version = probe.array(1026).map(u16::from_be_bytes);
    known
        .iter()
        .any(|(name, number)| letters == Some(*name) && version == Some(*number))
}
