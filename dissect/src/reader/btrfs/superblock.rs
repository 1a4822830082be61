//! The superblock, checked (btrfs documentation, "On-disk Format": "Superblock").

use filetree::ReadError;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::checksum::{Checksum, LONGEST};
use super::key::{Level, Pointer};
use crate::reader::source::Source;

/// Where it is, in bytes. The copies behind it are for repairs.
pub(super) const OFFSET: u64 = 65536;
const SIZE: usize = 4096;
const MAGIC: &[u8; 8] = b"_BHRfS_M";

/// `incompat_flags`.
mod incompat {
    /// What changes nothing for this reader, or is found where it is used: mixed back references, a
    /// default subvolume, mixed groups, lzo, zstd, big metadata, extended references, RAID 5 and 6,
    /// skinny metadata, no holes, RAID 1 of three and four, simple quotas.
    pub(super) const KNOWN: u64 = 0x1_0bff;
    pub(super) const METADATA_UUID: u64 = 0x400;
    pub(super) const NAMED: [(u64, &str); 3] = [
        (0x1000, "it is for zoned devices"),
        (0x2000, "it has the extent tree of version 2"),
        (0x4000, "it has a tree of RAID stripes"),
    ];
}

/// `flags`: written, relocated, with errors, and the seed of another file system.
const KNOWN_FLAGS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 32;
/// Made by `btrfs-image`, in its two versions.
const ONLY_METADATA: u64 = 1 << 33 | 1 << 34;

/// The superblock as stored. Nothing here has been checked.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    checksum: [u8; 32],
    uuid: [u8; 16],
    address: U64, // bytes
    flags: U64,
    magic: [u8; 8],
    generation: U64,
    root: U64,
    chunk_root: U64,
    _log: [U64; 2],
    _total: U64, // bytes
    _used: U64,  // bytes
    root_directory: U64,
    devices: U64,
    sector_size: U32, // bytes
    node_size: U32,   // bytes
    _leaf_size: U32,
    _stripe_size: U32,
    system_chunks: U32, // bytes
    chunk_root_generation: U64,
    _compat: U64,
    _compat_ro: U64,
    incompat: U64,
    checksum_type: U16,
    root_level: u8,
    chunk_root_level: u8,
    _log_level: u8,
    device: U64,
    _device: [u8; 90],
    _label: [u8; 256],
    _generations: [U64; 2],
    metadata_uuid: [u8; 16],
    _reserved: [u8; 224],
    system_chunk_array: [u8; 2048],
    _backups: [u8; 672],
    _padding: [u8; 565],
}
const _: () = assert!(size_of::<Raw>() == SIZE);

/// What the superblock says, checked.
#[derive(Debug)]
pub(super) struct Superblock {
    /// What the blocks of the trees say whose they are.
    pub(super) uuid: [u8; 16],
    /// In bytes.
    pub(super) sector_size: u64,
    /// Bytes of a block of a tree.
    pub(super) node_size: usize,
    pub(super) checksum: Checksum,
    /// The tree of trees.
    pub(super) root: Pointer,
    /// The tree of chunks.
    pub(super) chunk_root: Pointer,
    /// The directory in the tree of trees, which names the default subvolume.
    pub(super) root_directory: u64,
    /// The number of the only device.
    pub(super) device: u64,
    /// The chunks that the tree of chunks is in.
    pub(super) system_chunks: Vec<u8>,
}

impl Superblock {
    /// Reads it; `None` if there is none.
    pub(super) fn read(source: &Source, verify: bool) -> Result<Option<Self>, ReadError> {
        let mut bytes = [0; SIZE];
        if source.size() < OFFSET + 4096 {
            return Ok(None);
        }
        source.read(OFFSET, &mut bytes)?;
        let raw: &Raw = zerocopy::transmute_ref!(&bytes);
        if raw.magic != *MAGIC {
            return Ok(None);
        }
        let number = raw.checksum_type.get();
        let checksum = Checksum::from_number(number).ok_or_else(|| {
            source.unsupported(&format!("its checksums are of the unknown kind {number}"))
        })?;
        if verify && !checksum.is(&raw.checksum, &bytes[LONGEST..]) {
            return Err(source.damaged(OFFSET, "the checksum of the superblock is wrong"));
        }
        if let Some(what) = unsupported(raw) {
            return Err(source.unsupported(&what));
        }
        Self::check(raw, checksum)
            .map(Some)
            .map_err(|what| source.damaged(OFFSET, what))
    }

    fn check(raw: &Raw, checksum: Checksum) -> Result<Self, &'static str> {
        let sector_size = u64::from(raw.sector_size.get());
        let node_size = u64::from(raw.node_size.get());
        let is_size = |size: u64| size.is_power_of_two() && (4096..=65536).contains(&size);
        if raw.address.get() != OFFSET {
            return Err("the superblock is not in its place");
        }
        if !is_size(sector_size) || !is_size(node_size) || node_size < sector_size {
            return Err("the size of sectors or nodes is impossible");
        }
        let system_chunks = usize::try_from(raw.system_chunks.get()).ok();
        let system_chunks = system_chunks.and_then(|size| raw.system_chunk_array.get(..size));
        let has_own = raw.incompat.get() & incompat::METADATA_UUID != 0;
        Ok(Self {
            uuid: if has_own { raw.metadata_uuid } else { raw.uuid },
            sector_size,
            node_size: usize::try_from(node_size).unwrap_or(SIZE),
            checksum,
            root: Pointer::to_root(
                raw.root.get(),
                raw.generation.get(),
                Level::new(raw.root_level)?,
            ),
            chunk_root: Pointer::to_root(
                raw.chunk_root.get(),
                raw.chunk_root_generation.get(),
                Level::new(raw.chunk_root_level)?,
            ),
            root_directory: raw.root_directory.get(),
            device: raw.device.get(),
            system_chunks: system_chunks
                .ok_or("the superblock has too many chunks")?
                .to_vec(),
        })
    }
}

/// What keeps a sound file system from being read here.
fn unsupported(raw: &Raw) -> Option<String> {
    let bits = raw.incompat.get();
    if let Some((_, what)) = incompat::NAMED.iter().find(|(bit, _)| bits & bit != 0) {
        return Some((*what).to_owned());
    }
    let unknown = bits & !(incompat::KNOWN | incompat::METADATA_UUID);
    if unknown != 0 {
        return Some(format!(
            "its incompatible feature {unknown:#x} is not known"
        ));
    }
    let flags = raw.flags.get();
    if flags & ONLY_METADATA != 0 {
        return Some("it is an image of metadata only, without the data of files".to_owned());
    }
    let unknown = flags & !KNOWN_FLAGS;
    if unknown != 0 {
        return Some(format!(
            "the flag {unknown:#x} of its superblock is not known"
        ));
    }
    match raw.devices.get() {
        1 => None,
        devices => Some(format!("it is on {devices} devices")),
    }
}
