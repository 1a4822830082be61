//! Access control lists, which the disk holds in a form of their own. Pure.

use super::superblock::{u16_at, u32_at};

const STORED_VERSION: u32 = 1;
const SHOWN_VERSION: u32 = 2;
/// Who an entry is about if it names nobody.
const NOBODY: u32 = u32::MAX;

/// The list in the form that programs see (`posix_acl_xattr.h`); `None` if it has no entries.
pub(super) fn shown(stored: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    const WHAT: &str = "an access control list is impossible";
    let (version, mut rest) = stored.split_at_checked(4).ok_or(WHAT)?;
    if u32_at(version, 0) != STORED_VERSION {
        return Err(WHAT);
    }
    let mut shown = SHOWN_VERSION.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let (entry, behind) = rest.split_at_checked(4).ok_or(WHAT)?;
        shown.extend_from_slice(entry);
        rest = match u16_at(entry, 0) {
            0x01 | 0x04 | 0x10 | 0x20 => {
                shown.extend_from_slice(&NOBODY.to_le_bytes());
                behind
            }
            0x02 | 0x08 => {
                let (id, behind) = behind.split_at_checked(4).ok_or(WHAT)?;
                shown.extend_from_slice(id);
                behind
            }
            _ => return Err(WHAT),
        };
    }
    Ok((shown.len() > 4).then_some(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_shown_as_programs_know_them() {
        let stored = b"\x01\0\0\0\x01\0\x06\0\x02\0\x04\0\xe8\x03\0\0\x20\0\x04\0";
        let wanted = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x20\0\x04\0\xff\xff\xff\xff";
        assert_eq!(shown(stored).unwrap().unwrap(), wanted);
        assert_eq!(shown(&stored[..4]).unwrap(), None);
        for bad in [
            &stored[..3],
            &stored[..6],
            &stored[..14],
            b"\x02\0\0\0",
            b"\x01\0\0\0\x03\0\0\0",
        ] {
            assert!(shown(bad).is_err(), "{bad:?}");
        }
    }
}
