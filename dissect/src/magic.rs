//! File systems by their magic numbers, named as blkid does. Pure.

use uuid::Uuid;

/// How many bytes from the start are needed.
pub(crate) const PROBE_SIZE: usize = 128 * 1024;

struct Magic {
    kind: &'static str,
    offset: usize,
    bytes: &'static [u8],
    uuid: Option<usize>,
}

const fn magic(
    kind: &'static str,
    offset: usize,
    bytes: &'static [u8],
    uuid: Option<usize>,
) -> Magic {
    Magic {
        kind,
        offset,
        bytes,
        uuid,
    }
}

const MAGICS: &[Magic] = &[
    magic("crypto_LUKS", 0, b"LUKS\xba\xbe", None),
    magic("squashfs", 0, b"hsqs", None),
    magic("xfs", 0, b"XFSB", Some(32)),
    magic("erofs", 1024, b"\xe2\xe1\xf5\xe0", Some(1024 + 48)),
    magic("f2fs", 1024, b"\x10\x20\xf5\xf2", Some(1024 + 108)),
    magic("btrfs", 0x10040, b"_BHRfS_M", Some(0x10020)),
    magic("swap", 4086, b"SWAPSPACE2", Some(1036)),
    magic("ext4", 0x438, b"\x53\xef", Some(0x468)),
    magic("vfat", 0x52, b"FAT32   ", None),
    magic("vfat", 0x36, b"FAT16   ", None),
    magic("vfat", 0x36, b"FAT12   ", None),
];

/// What the bytes are the start of, and its UUID where it has a whole one.
pub(crate) fn detect(start: &[u8]) -> Option<(&'static str, Option<Uuid>)> {
    let at = |offset: usize, size: usize| start.get(offset..offset.checked_add(size)?);
    let found = MAGICS
        .iter()
        .find(|magic| at(magic.offset, magic.bytes.len()) == Some(magic.bytes))?;
    let uuid = found.uuid.and_then(|offset| at(offset, 16));
    let uuid = uuid.and_then(|bytes| Uuid::from_slice(bytes).ok());
    Some((found.kind, uuid.filter(|uuid| !uuid.is_nil())))
}
