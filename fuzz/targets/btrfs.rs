//! Images of btrfs: whatever they say, reading them and all their files ends, and within the limits.
//!
//! An input is a list of what is not zero in an image of 1 GiB: a place (4 bytes), a length (2 bytes),
//! and the bytes. Checksums are not asked for, since no mutation would get past them.
#![no_main]

use std::io;
use std::sync::Arc;

use dissect::reader::btrfs;
use filetree::reader::{Follow, load, resolve};
use filetree::{Kind, Limits, ReadAt, Tree};
use libfuzzer_sys::fuzz_target;

const SIZE: u64 = 1 << 30;
const MOST: usize = 1000;

#[derive(Debug)]
struct Image(Vec<(u64, Vec<u8>)>);

impl Image {
    fn parse(mut data: &[u8]) -> Self {
        let mut parts = Vec::new();
        while let Some((header, rest)) = data.split_first_chunk::<6>()
            && parts.len() < MOST
        {
            let place = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let (bytes, rest) = rest.split_at(length.min(rest.len()));
            parts.push((place.into(), bytes.to_vec()));
            data = rest;
        }
        Self(parts)
    }
}

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        for (place, bytes) in &self.0 {
            let start = (*place).max(offset);
            let stop = (place + bytes.len() as u64).min(end);
            if start < stop {
                let from = &bytes[(start - place) as usize..(stop - place) as usize];
                buffer[(start - offset) as usize..(stop - offset) as usize].copy_from_slice(from);
            }
        }
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let image = Arc::new(Image::parse(data));
    let Ok(Some(btrfs)) = btrfs::open_with(image, SIZE, false) else {
        return;
    };
    let _ = resolve(&btrfs, b"sub/dir/file", Follow::Yes);
    let limits = Limits {
        memory: 4 << 20,
        ..Limits::default()
    };
    if let Ok(tree) = load(&btrfs, limits) {
        read_files(&tree);
    }
});

/// Reads the first bytes and the last of some parts of every file that are no holes.
fn read_files(tree: &Tree) {
    let mut buffer = [0; 5000];
    for (_, id) in tree.walk() {
        let Kind::File(content) = &tree.inode(id).kind else {
            continue;
        };
        let open = content.open().expect("nothing is opened");
        for range in content.data().iter().take(4) {
            let length = range.end.saturating_sub(range.start).min(5000);
            let part = &mut buffer[..usize::try_from(length).expect("small")];
            let _ = open.read_exact_at(part, range.start);
            let _ = open.read_exact_at(part, range.end - length);
        }
    }
}
