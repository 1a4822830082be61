//! Compressed extents, at most 128 KiB each way (btrfs documentation, "Compression"). Pure.

use filetree::ReadError;
use libdeflater::Decompressor;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::field::{narrow, u32_at};
use super::lzo;
use crate::reader::source::Source;

/// Bytes of the largest extent that is compressed, before and after.
pub(super) const LARGEST: u64 = 128 << 10;
/// Bits of the largest window of zstd.
const WINDOW: u32 = 17;

/// How an extent is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Algorithm {
    Zlib,
    Lzo,
    Zstd,
}

impl Algorithm {
    /// `None` for data that is as it is.
    pub(super) fn from_number(source: &Source, number: u8) -> Result<Option<Self>, ReadError> {
        Ok(Some(match number {
            0 => return Ok(None),
            1 => Self::Zlib,
            2 => Self::Lzo,
            3 => Self::Zstd,
            _ => {
                let what = format!("it has data compressed by the unknown algorithm {number}");
                return Err(source.unsupported(&what));
            }
        }))
    }

    /// The first `length` bytes that `input` is decompressed to, zeros where it gives less; `None` if
    /// it is damaged. Behind the compressed data is what fills the last sector.
    pub(super) fn unpack(self, input: &[u8], length: usize, sector: usize) -> Option<Vec<u8>> {
        let mut output = match self {
            Self::Zlib => zlib(input)?,
            Self::Lzo => segments(input, length, sector)?,
            Self::Zstd => zstd(input, length)?,
        };
        output.resize(length, 0);
        Some(output)
    }
}

fn zlib(input: &[u8]) -> Option<Vec<u8>> {
    let mut output = vec![0; narrow(LARGEST)];
    let length = Decompressor::new()
        .zlib_decompress(input, &mut output)
        .ok()?;
    output.truncate(length);
    Some(output)
}

fn zstd(input: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut output = vec![0; length];
    let mut decoder = Decoder::new().ok()?;
    decoder
        .set_parameter(DParameter::WindowLogMax(WINDOW))
        .ok()?;
    let mut input = InBuffer::around(input);
    let mut buffer = OutBuffer::around(&mut output);
    loop {
        let before = (input.pos(), buffer.pos());
        let left = decoder.run(&mut input, &mut buffer).ok()?;
        if left == 0 || buffer.pos() == length {
            break;
        }
        if (input.pos(), buffer.pos()) == before {
            return None;
        }
    }
    let length = buffer.pos();
    output.truncate(length);
    Some(output)
}

/// Streams of LZO, each of one sector, behind the length of all; a length of its own is before each,
/// and never across two sectors.
fn segments(input: &[u8], length: usize, sector: usize) -> Option<Vec<u8>> {
    const FIELD: usize = 4;
    let total = narrow(u32_at(input.get(..FIELD)?, 0).into());
    let input = input.get(..total)?;
    let mut output = Vec::with_capacity(length);
    let mut at = FIELD;
    while at < total && output.len() < length {
        let left = sector - at % sector;
        if left < FIELD {
            at += left;
        }
        let size = narrow(u32_at(input.get(at..at + FIELD)?, 0).into());
        at += FIELD;
        let segment = input.get(at..at.checked_add(size)?)?;
        lzo::unpack(segment, &mut output, sector)?;
        at += size;
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use libdeflater::{CompressionLvl, Compressor};

    use super::*;

    fn packed(plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut zlib = vec![0; plain.len() + 4096];
        let mut compressor = Compressor::new(CompressionLvl::default());
        let length = compressor.zlib_compress(plain, &mut zlib).unwrap();
        zlib.truncate(length.next_multiple_of(4096));
        let mut zstd = zstd::bulk::compress(plain, 3).unwrap();
        zstd.resize(zstd.len().next_multiple_of(4096), 0);
        (zlib, zstd)
    }

    #[test]
    fn no_extent_gives_more_than_it_may() {
        let plain: Vec<u8> = (0..100_000_u32)
            .map(|at| (at / 7).to_le_bytes()[0])
            .collect();
        let (zlib, zstd) = packed(&plain);
        for (algorithm, input) in [(Algorithm::Zlib, zlib), (Algorithm::Zstd, zstd)] {
            assert_eq!(algorithm.unpack(&input, 100_000, 4096).unwrap(), plain);
            let longer = algorithm.unpack(&input, 102_400, 4096).unwrap();
            assert_eq!(longer[100_000..], [0; 2400]);
            assert_eq!(algorithm.unpack(&input, 4096, 4096).unwrap(), plain[..4096]);
            assert_eq!(algorithm.unpack(&input[..100], 100_000, 4096), None);
        }
        let (zlib, zstd) = packed(&vec![0; 64 << 20]);
        assert_eq!(Algorithm::Zlib.unpack(&zlib, 131_072, 4096), None);
        // Its window is larger than a kernel has memory for.
        assert_eq!(Algorithm::Zstd.unpack(&zstd, 131_072, 4096), None);
    }

    #[test]
    fn segments_of_lzo_stay_within_their_sectors() {
        let segment = b"\x07\0\0\0\x14abc\x11\0\0";
        let two = [&b"\x1a\0\0\0"[..], segment, segment].concat();
        let unpack = |input: &[u8]| Algorithm::Lzo.unpack(input, 8, 4096);
        assert_eq!(unpack(&two).unwrap(), b"abcabc\0\0");
        for (at, value) in [(0, 0xff), (0, 0x19), (4, 0xff), (7, 0xff), (15, 8)] {
            let mut damaged = two.clone();
            damaged[at] = value;
            assert_eq!(unpack(&damaged), None, "{at}");
        }
    }
}
