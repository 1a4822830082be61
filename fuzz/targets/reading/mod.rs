//! Reads all that a file system has, as a command would.

use std::io;
use std::sync::Arc;

use filetree::{Kind, Limits, ReadAt, Reader, Tree, reader};

/// Bytes in memory with zeros behind them.
#[derive(Debug)]
struct Image(Vec<u8>);

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.0.get(start..).unwrap_or_default();
        let stored = bytes.len().min(buffer.len());
        buffer[..stored].copy_from_slice(&bytes[..stored]);
        buffer[stored..].fill(0);
        Ok(())
    }
}

pub fn image(data: &[u8]) -> Arc<dyn ReadAt> {
    Arc::new(Image(data.to_vec()))
}

/// Loads everything and reads the first bytes and the last of some parts of every file.
pub fn read(reader: &dyn Reader) {
    let limits = Limits {
        memory: 16 << 20,
        ..Limits::default()
    };
    if let Ok(tree) = reader::load(reader, limits) {
        read_files(&tree);
    }
}

fn read_files(tree: &Tree) {
    let mut buffer = [0; 5000];
    for id in tree.ids() {
        let Kind::File(content) = &tree.inode(id).kind else {
            continue;
        };
        let open = content.open().expect("nothing is opened");
        let (mut last, size) = (0, content.size());
        for range in content.data() {
            assert!(range.start < range.end, "a part is empty");
            assert!(
                range.start >= last && range.end <= size,
                "parts are in order"
            );
            last = range.end;
        }
        for range in content.data().iter().take(4) {
            let length = (range.end - range.start).min(5000);
            let part = &mut buffer[..usize::try_from(length).expect("small")];
            let _ = open.read_exact_at(part, range.start);
            let _ = open.read_exact_at(part, range.end - length);
        }
    }
}
