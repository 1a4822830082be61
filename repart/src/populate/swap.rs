//! The header of a swap area, as mkswap writes it with 4 KiB pages.
//!
//! Facts: the header takes the first page; version 1, the number of the last page, UUID and label
//! from byte 1024 on, and a magic word at the page's end. Pure, but for the writing.

use filetree::{Tree, WriteAt, WriteError, Writer};
use uuid::Uuid;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Pages without which no system takes the area.
const FEWEST_PAGES: u64 = 10;

/// Writes swap areas that fill their target.
#[derive(Clone, Debug)]
pub struct SwapWriter {
    label: [u8; 16],
    uuid: Uuid,
}

impl SwapWriter {
    /// A writer with a UUID and a label, of which the first 15 bytes are taken (to the end of a
    /// character).
    pub fn new(label: &str, uuid: Uuid) -> Self {
        let end = (0..=15)
            .rev()
            .find(|end| label.is_char_boundary(*end))
            .unwrap_or(0)
            .min(label.len());
        let mut bytes = [0; 16];
        bytes[..end].copy_from_slice(&label.as_bytes()[..end]);
        Self { label: bytes, uuid }
    }
}

impl Writer for SwapWriter {
    /// Swap fills what it is given.
    fn size(&self, _: &Tree) -> Result<Option<u64>, WriteError> {
        Ok(None)
    }

    /// The tree plays no part: swap has no files.
    fn write(&self, _: &Tree, target: &mut dyn WriteAt) -> Result<u64, WriteError> {
        let size = target.size();
        let pages = size / PAGE;
        if pages < FEWEST_PAGES {
            return Err(WriteError::TooSmall {
                needed: FEWEST_PAGES * PAGE,
                available: size,
            });
        }
        // The header counts in 32 bits; what lies behind stays unused, as mkswap leaves it.
        let last = u32::try_from(pages - 1).unwrap_or(u32::MAX);
        let header = [
            &1u32.to_le_bytes()[..],
            &last.to_le_bytes(),
            &0u32.to_le_bytes(),
            self.uuid.as_bytes(),
            &self.label,
        ]
        .concat();
        let put = |target: &mut dyn WriteAt, bytes: &[u8], offset| {
            target
                .write_all_at(bytes, offset)
                .map_err(WriteError::Target)
        };
        put(target, &header, 1024)?;
        put(target, b"SWAPSPACE2", PAGE - 10)?;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use filetree::Metadata;

    use super::*;

    struct Target(Vec<u8>);

    impl WriteAt for Target {
        fn size(&self) -> u64 {
            self.0.len().try_into().unwrap()
        }

        fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
            let offset = usize::try_from(offset).unwrap();
            self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn bytes_are_those_of_mkswap() {
        let uuid = Uuid::from_u128(0x99f6_2f2f_14e7_40e3_8f13_857d_7856_bfe9);
        for (label, size) in [
            ("", 40_960),
            ("swap", 1 << 20),
            ("fifteen bytes ä more", (1 << 20) + 5000),
        ] {
            let mut target = Target(vec![0; size]);
            let tree = Tree::new(Metadata::default());
            let writer = SwapWriter::new(label, uuid);
            writer.write(&tree, &mut target).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(size.try_into().unwrap()).unwrap();
            let cut = std::str::from_utf8(&writer.label)
                .unwrap()
                .trim_end_matches('\0');
            let made = Command::new("/usr/sbin/mkswap")
                .args(["-p", "4096", "-U", &uuid.to_string(), "-L", cut])
                .arg(file.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            assert!(std::fs::read(file.path()).unwrap() == target.0, "{label}");
        }
    }

    #[test]
    fn too_small_an_area_is_refused() {
        let tree = Tree::new(Metadata::default());
        let writer = SwapWriter::new("", Uuid::nil());
        let error = writer
            .write(&tree, &mut Target(vec![0; 36_864]))
            .unwrap_err();
        assert!(matches!(error, WriteError::TooSmall { needed: 40_960, .. }));
    }
}
