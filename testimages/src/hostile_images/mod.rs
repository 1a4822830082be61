//! Images that lie: file systems and verity sets that a tool made, and one field of which was changed
//! then. Every structure is cut, looped, moved out of range or given a size that cannot be.

mod base;
mod erofs;
mod ext;
mod fat;
mod luks;
mod names;
mod sets;
mod squashfs;

pub use base::Base;
pub use sets::sets;

/// A hostile image and what comes of looking into it.
#[derive(Clone, Debug)]
pub struct HostileImage {
    /// What is wrong, in words.
    pub name: String,
    /// The image.
    pub bytes: Vec<u8>,
    /// What it does to a reader.
    pub verdict: Verdict,
}

/// What comes of reading all of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is refused, at the latest when all files are read, with these words.
    Refused(&'static str),
    /// Its files are read, but whether it is valid is denied, with these words.
    Invalid(&'static str),
    /// It is read: what is wrong with it harms nobody.
    Read,
}

/// All of them. Runs mkfs programs in a scratch folder.
pub fn images() -> Vec<HostileImage> {
    let base = Base::new();
    [
        ext::cases(&base),
        squashfs::cases(&base),
        erofs::cases(&base),
        fat::cases(&base),
        names::cases(&base),
        luks::cases(&base),
    ]
    .concat()
}

/// A changed copy of an image.
fn case(
    format: &str,
    what: &str,
    image: &[u8],
    change: impl FnOnce(&mut Vec<u8>),
    verdict: Verdict,
) -> HostileImage {
    let mut bytes = image.to_vec();
    change(&mut bytes);
    HostileImage {
        name: format!("{format}: {what}"),
        bytes,
        verdict,
    }
}

/// Writes little-endian bytes at a place.
fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u16_at(image: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([image[at], image[at + 1]]))
}

fn u32_at(image: &[u8], at: usize) -> usize {
    let bytes = image[at..at + 4].try_into().unwrap();
    usize::try_from(u32::from_le_bytes(bytes)).unwrap()
}

/// Where `bytes` stand for the first time.
fn find(image: &[u8], bytes: &[u8]) -> usize {
    let mut windows = image.windows(bytes.len());
    windows.position(|window| window == bytes).unwrap()
}
