//! A directory's data: blocks of entries, sorted by the bytes of the names throughout, so that the
//! kernel can search them by halves. Pure.

use filetree::{InodeId, Kind, Tree};
use zerocopy::IntoBytes;

use super::disk::Dirent;

const ENTRY: usize = size_of::<Dirent>();

/// The names of a directory, with `.` and `..`, in their order.
pub(super) struct Listing<'a> {
    entries: Vec<(&'a [u8], InodeId)>,
    block_size: usize,
}

impl<'a> Listing<'a> {
    /// Lists `id`, which lies in `parent`. What is no directory has no names.
    pub(super) fn of(tree: &'a Tree, id: InodeId, parent: InodeId, block_size: u64) -> Self {
        let mut entries: Vec<(&[u8], InodeId)> = vec![(b".", id), (b"..", parent)];
        let named = tree.inode(id).entries().into_iter().flatten();
        entries.extend(named.map(|(name, child)| (name.as_bytes(), *child)));
        entries.sort_unstable();
        Self {
            entries,
            block_size: usize::try_from(block_size).unwrap_or(usize::MAX),
        }
    }

    /// How many bytes it takes: all blocks but the last are whole.
    pub(super) fn size(&self) -> u64 {
        let (mut whole, mut last) = (0, 0);
        for block in self.blocks() {
            whole += 1;
            last = used(block);
        }
        super::length((whole - 1) * self.block_size + last)
    }

    /// The bytes, with the numbers of the inodes and their kinds as `number` and `tree` say.
    pub(super) fn encode(&self, tree: &Tree, number: impl Fn(InodeId) -> u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for block in self.blocks() {
            bytes.resize(bytes.len().next_multiple_of(self.block_size), 0);
            let mut name_at = block.len() * ENTRY;
            for (name, id) in block {
                let entry = Dirent {
                    inode: number(*id).into(),
                    name_offset: u16::try_from(name_at).unwrap_or(u16::MAX).into(),
                    kind: kind(&tree.inode(*id).kind),
                    reserved: 0,
                };
                bytes.extend(entry.as_bytes());
                name_at += name.len();
            }
            bytes.extend(block.iter().flat_map(|(name, _)| *name));
        }
        bytes
    }

    /// The entries of each block: as many as fit.
    fn blocks(&self) -> impl Iterator<Item = &[(&'a [u8], InodeId)]> {
        let mut rest = self.entries.as_slice();
        std::iter::from_fn(move || {
            let mut room = self.block_size;
            let fits = |(name, _): &&(&[u8], InodeId)| {
                let left = room.checked_sub(ENTRY + name.len());
                room = left.unwrap_or(0);
                left.is_some()
            };
            let count = rest.iter().take_while(fits).count();
            let (block, after) = rest.split_at(count);
            rest = after;
            (!block.is_empty()).then_some(block)
        })
    }
}

fn used(block: &[(&[u8], InodeId)]) -> usize {
    block.iter().map(|(name, _)| ENTRY + name.len()).sum()
}

/// The number that a directory entry gives a kind of file.
fn kind(kind: &Kind) -> u8 {
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
