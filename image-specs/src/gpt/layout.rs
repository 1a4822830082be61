//! Header and entry exactly as stored (UEFI 2.10, tables 5.5 and 5.6). Nothing here has been checked.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(super) const SIGNATURE: [u8; 8] = *b"EFI PART";
pub(super) const REVISION: u32 = 0x0001_0000;
pub(super) const HEADER_SIZE: u32 = 92;
pub(super) const ENTRY_SIZE: u32 = 128;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) signature: [u8; 8],
    pub(super) revision: U32,
    pub(super) header_size: U32, // bytes that the CRC covers
    pub(super) header_crc: U32,  // with this field as zero
    pub(super) reserved: U32,
    pub(super) my_lba: U64,
    pub(super) alternate_lba: U64,
    pub(super) first_usable: U64,
    pub(super) last_usable: U64, // inclusive
    pub(super) disk_guid: [u8; 16],
    pub(super) entries_lba: U64,
    pub(super) entry_count: U32,
    pub(super) entry_size: U32, // bytes
    pub(super) entries_crc: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) kind: [u8; 16],
    pub(super) uuid: [u8; 16],
    pub(super) first: U64,
    pub(super) last: U64, // inclusive
    pub(super) attributes: U64,
    pub(super) label: [U16; 36],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_SIZE as usize);
const _: () = assert!(size_of::<RawEntry>() == ENTRY_SIZE as usize);
