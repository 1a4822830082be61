//! Tar archives: what is read and written reads the same. Checksums of members are made to fit, so
//! that what is behind them is reached.
#![no_main]

use std::io;
use std::sync::Arc;

use filetree::{ReadAt, tar};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Archive(Vec<u8>);

impl ReadAt for Archive {
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
    data.chunks_exact_mut(512).for_each(repair);
    let Ok(tree) = read(data) else {
        return;
    };
    let mut written = vec![];
    tar::write(&tree, &mut written).expect("memory takes all");
    let again = read(written).expect("what was written reads");
    assert_eq!(
        filetree::diff::diff(&tree, &again).expect("files can be read"),
        []
    );
});

fn read(data: Vec<u8>) -> Result<filetree::Tree, tar::ReadTarError> {
    let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
    tar::read(Arc::new(Archive(data)), size)
}

/// Makes a member's checksum fit, where the block looks like one.
fn repair(block: &mut [u8]) {
    if &block[257..262] == b"ustar" {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
}
