//! Images of erofs: whatever they say, reading them and all their files ends, and within the limits.
#![no_main]

use std::io;
use std::sync::Arc;

use filetree::reader::{Follow, load, resolve};
use filetree::{Kind, Limits, ReadAt, Tree};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Image(Vec<u8>);

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self
            .0
            .get(start..)
            .and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    // Without the feature, the checksum of the superblock is not asked for.
    if let Some(features) = data.get_mut(1032) {
        *features &= !1;
    }
    let size = data.len() as u64;
    let Ok(Some(erofs)) = dissect::reader::erofs::open(Arc::new(Image(data)), size) else {
        return;
    };
    let _ = resolve(&erofs, b"dir/tail", Follow::Yes);
    let limits = Limits {
        memory: 16 << 20,
        ..Limits::default()
    };
    if let Ok(tree) = load(&erofs, limits) {
        read_files(&tree);
    }
});

/// Reads the first bytes and the last of every part of every file that is no hole.
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
