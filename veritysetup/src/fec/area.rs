//! Parity that lies behind the hash tree, and the footer that tells of it. Pure, but for the reading.
//!
//! The hash device is superblock, tree, parity and, in its last 4096 bytes, the footer
//! (`docs/fec-footer.md`). Nobody vouches for a footer: what it says must fit the tree and the device,
//! and what is repaired by it counts only where the tree confirms it.

use std::io;

use image_specs::fec_footer::{FOOTER_SIZE, Footer, FooterError};
use image_specs::units::Bytes;

use super::layout::{Layout, LayoutError, Roots};
use crate::io::ReadAt;
use crate::params::Params;

/// Bytes of a footer, as a size on a device.
const FOOTER: u64 = 4096;

const _: () = assert!(FOOTER_SIZE == 4096);

/// Parity on the hash device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    layout: Layout,
    offset: u64,
}

/// There is a footer, and its parity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AreaError {
    /// The end of the device cannot be read.
    #[error("cannot read the last bytes of the hash device")]
    Read(#[source] io::Error),
    /// The footer is damaged.
    #[error(transparent)]
    Footer(#[from] FooterError),
    /// No such parity goes with the tree.
    #[error("the footer tells of parity that does not go with the hash tree")]
    Layout(#[from] LayoutError),
    /// The tree has other blocks.
    #[error("the footer tells of parity for blocks of {found} bytes, and the hash tree has {tree}")]
    BlockSize {
        /// What the footer says.
        found: u64,
        /// What the superblock says.
        tree: u64,
    },
    /// Something else is protected than what is there.
    #[error(
        "the footer tells of parity for {found} blocks, and data and hash tree before it are {there}"
    )]
    Blocks {
        /// What the footer says.
        found: u64,
        /// What there is.
        there: u64,
    },
    /// It lies outside of the device, or under the footer.
    #[error(
        "the footer tells of {needed} bytes of parity from byte {offset} on, and there is room up to byte {end}"
    )]
    Outside {
        /// Where it is to begin.
        offset: u64,
        /// Its size.
        needed: u64,
        /// Where the room ends.
        end: u64,
    },
}

impl Area {
    /// Parity right behind the tree.
    pub fn behind_tree(params: &Params, roots: Roots) -> Result<Self, LayoutError> {
        let layout = Layout::of_tree(params, roots)?;
        let offset = layout.hash_end().get();
        Ok(Self { layout, offset })
    }

    /// The parity that the footer at the end of a hash device of `size` bytes tells of; `None` where
    /// there is no footer.
    pub fn find(
        params: &Params,
        hash: &dyn ReadAt,
        size: Bytes,
    ) -> Result<Option<Self>, AreaError> {
        let Some(end) = size.get().checked_sub(FOOTER) else {
            return Ok(None);
        };
        let mut bytes = [0; FOOTER_SIZE];
        hash.read_exact_at(&mut bytes, end)
            .map_err(AreaError::Read)?;
        match Footer::parse(&bytes)? {
            Some(footer) => Self::checked(params, &footer, end).map(Some),
            None => Ok(None),
        }
    }

    /// What a footer says, held against the tree and the end of the room before it.
    fn checked(params: &Params, footer: &Footer, end: u64) -> Result<Self, AreaError> {
        let (found, tree) = (u64::from(footer.block), params.hash_block.get());
        if found != tree {
            return Err(AreaError::BlockSize { found, tree });
        }
        let roots = Roots::new(footer.roots.into())?;
        let layout = Layout::new(params, roots, footer.offset)?;
        let (found, there) = (footer.blocks, layout.blocks());
        if found != there {
            return Err(AreaError::Blocks { found, there });
        }
        let (offset, needed) = (footer.offset.get(), layout.size().get());
        if offset.checked_add(needed).is_none_or(|last| last > end) {
            return Err(AreaError::Outside {
                offset,
                needed,
                end,
            });
        }
        Ok(Self { layout, offset })
    }

    /// What is protected, and how.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the parity begins on the hash device.
    pub const fn offset(&self) -> Bytes {
        Bytes::new(self.offset)
    }

    /// Where it ends.
    pub fn end(&self) -> Bytes {
        self.offset().saturating_add(self.layout.size())
    }

    /// The least size of a hash device that holds tree, parity and footer.
    pub fn device_size(&self) -> Bytes {
        self.end().saturating_add(Bytes::new(FOOTER))
    }

    /// The footer that tells of it.
    pub fn footer(&self) -> Footer {
        Footer {
            roots: self.layout.roots().get(),
            offset: self.offset(),
            blocks: self.layout.blocks(),
            // Block sizes have at most 20 bits.
            block: u32::try_from(self.layout.block).unwrap_or(u32::MAX),
        }
    }
}

/// The least size of a hash device for `data` bytes in blocks of `block`, whose superblock and tree
/// have at most `tree` bytes, with parity and footer: at least what [`Area::device_size`] comes to.
pub fn device_size_at_most(data: u64, tree: u64, block: u64, roots: Roots) -> u64 {
    let protected = data
        .div_ceil(block.max(1))
        .saturating_add(tree.div_ceil(block.max(1)));
    let parity = roots.parity_blocks(protected).saturating_mul(block);
    tree.saturating_add(parity).saturating_add(FOOTER)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::levels::Levels;
    use crate::params::{BlockSize, Salt};

    fn params(blocks: u64) -> Params {
        let sizes = (BlockSize::DEFAULT, BlockSize::DEFAULT);
        Params::for_data(
            Bytes::new(blocks * 4096),
            sizes,
            Salt::default(),
            Uuid::nil(),
        )
        .unwrap()
    }

    fn device(size: u64, footer: &Footer) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        let at = bytes.len() - FOOTER_SIZE;
        bytes[at..].copy_from_slice(&footer.encode().unwrap());
        bytes
    }

    fn find(bytes: &[u8]) -> Result<Option<Area>, AreaError> {
        let size = Bytes::new(u64::try_from(bytes.len()).unwrap());
        Area::find(&params(129), &bytes, size)
    }

    #[test]
    fn what_is_written_is_found() {
        for (blocks, roots) in [(1, 2), (2, 24), (129, 2), (1000, 8)] {
            let params = params(blocks);
            let area = Area::behind_tree(&params, Roots::new(roots).unwrap()).unwrap();
            for more in [0, 4096, 1 << 20] {
                let size = area.device_size().get() + more;
                let bytes = device(size, &area.footer());
                let found = Area::find(&params, &bytes, Bytes::new(size)).unwrap();
                assert_eq!(found.as_ref(), Some(&area), "{blocks} {roots} {more}");
            }
            let tree = Levels::new(&params).unwrap().hash_size().get();
            let bound = device_size_at_most(blocks * 4096, tree, 4096, area.layout().roots());
            assert!(bound >= area.device_size().get());
            assert!(bound <= area.device_size().get() + 4096 * roots);
        }
    }

    #[test]
    fn footers_that_lie_are_refused() {
        let area = Area::behind_tree(&params(129), Roots::DEFAULT).unwrap();
        let size = area.device_size().get();
        let good = area.footer();
        let lie = |footer: Footer| find(&device(size, &footer)).unwrap_err().to_string();
        let at = |offset: u64| Bytes::new(offset);
        for (footer, words) in [
            // Into the tree, before it, under the footer, behind the device.
            (
                Footer {
                    offset: at(8192),
                    ..good.clone()
                },
                "does not go with",
            ),
            (
                Footer {
                    offset: at(0),
                    ..good.clone()
                },
                "does not go with",
            ),
            (
                Footer {
                    offset: at(16384 + 4096),
                    blocks: good.blocks + 1,
                    ..good.clone()
                },
                "there is room up to byte",
            ),
            (
                Footer {
                    offset: at(1 << 40),
                    ..good.clone()
                },
                "for 132 blocks",
            ),
            (
                Footer {
                    offset: at(1 << 62),
                    blocks: 129 + (1 << 50) - 1,
                    ..good.clone()
                },
                "there is room up to byte",
            ),
            (
                Footer {
                    roots: 3,
                    ..good.clone()
                },
                "there is room up to byte",
            ),
            (
                Footer {
                    blocks: 131,
                    ..good.clone()
                },
                "for 131 blocks",
            ),
            (
                Footer {
                    block: 512,
                    ..good.clone()
                },
                "blocks of 512 bytes",
            ),
        ] {
            let said = lie(footer.clone());
            assert!(said.contains(words), "{footer:?}: {said}");
        }
        assert!(find(&[0; 4095]).unwrap().is_none());
        assert!(find(&[0; 8192]).unwrap().is_none());
        let short = Area::find(&params(129), &vec![0; 4096], Bytes::new(8192));
        assert!(matches!(short, Err(AreaError::Read(_))));
        let mut odd = params(129);
        odd.data_block = BlockSize::new(512).unwrap();
        let bytes = device(size, &good);
        let found = Area::find(&odd, &bytes, Bytes::new(size));
        assert!(matches!(found, Err(AreaError::Layout(_))));
    }
}
