//! Access control lists, which the disk holds in a form of their own. Pure.

use super::bytes::{be16, be32};

const SHOWN_VERSION: u32 = 2;
/// Bytes of an entry: tag, who, permissions.
const ENTRY: usize = 12;
/// Who an entry is about if it names nobody.
const NOBODY: u32 = u32::MAX;

/// The list in the form that programs see (`posix_acl_xattr.h`); `None` if it has no entries.
pub(super) fn shown(stored: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    const WHAT: &str = "an access control list is impossible";
    let (count, entries) = stored.split_at_checked(4).ok_or(WHAT)?;
    let length = usize::try_from(be32(count, 0)).unwrap_or(usize::MAX);
    let entries = entries.get(..length.saturating_mul(ENTRY)).ok_or(WHAT)?;
    let mut shown = SHOWN_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(ENTRY) {
        let tag = u16::try_from(be32(entry, 0)).map_err(|_| WHAT)?;
        let who = match tag {
            0x02 | 0x08 => be32(entry, 4),
            0x01 | 0x04 | 0x10 | 0x20 => NOBODY,
            _ => return Err(WHAT),
        };
        shown.extend_from_slice(&tag.to_le_bytes());
        shown.extend_from_slice(&be16(entry, 8).to_le_bytes());
        shown.extend_from_slice(&who.to_le_bytes());
    }
    Ok((length > 0).then_some(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_shown_as_programs_know_them() {
        let stored =
            b"\0\0\0\x02\0\0\0\x01\xff\xff\xff\xff\0\x06\0\0\0\0\0\x02\0\0\x03\xe8\0\x04\0\0";
        let wanted = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0";
        assert_eq!(shown(stored).unwrap().unwrap(), wanted);
        assert_eq!(shown(&[0; 4]).unwrap(), None);
        let mut tag = stored.to_vec();
        tag[7] = 3;
        for bad in [&stored[..3], &stored[..27], &[0xff; 8], &tag] {
            assert!(shown(bad).is_err(), "{bad:?}");
        }
    }
}
