//! The decompressors, each bounded by the output that is asked for.

use std::fmt;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The most that one stored extent gives.
const LONGEST: usize = 12 << 20;

/// Zstandard's window may be so long, as a power of two.
const WINDOW: u32 = 23;

/// How data is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Lz4,
    /// MicroLZMA.
    Lzma,
    Deflate,
    Zstd,
}

impl Algorithm {
    pub(super) fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Lz4,
            1 => Self::Lzma,
            2 => Self::Deflate,
            3 => Self::Zstd,
            _ => return None,
        })
    }
}

/// What can be used again, of which no thread uses any now.
#[derive(Default)]
pub(super) struct Decompressors {
    deflate: Mutex<Vec<libdeflater::Decompressor>>,
    zstd: Mutex<Vec<DCtx<'static>>>,
}

impl fmt::Debug for Decompressors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressors")
    }
}

impl Decompressors {
    /// Fills `output`, or gives `None` if the input is damaged. `whole` says that the input ends where
    /// the output does.
    pub(super) fn run(
        &self,
        algorithm: Algorithm,
        input: &mut [u8],
        output: &mut [u8],
        whole: bool,
    ) -> Option<()> {
        match algorithm {
            Algorithm::Lz4 if whole => {
                let length = lz4_flex::block::decompress_into(input, output).ok()?;
                (length == output.len()).then_some(())
            }
            Algorithm::Lz4 => lz4(input, output),
            Algorithm::Lzma => lzma(input, output),
            Algorithm::Deflate => {
                let mut deflate = taken(&self.deflate).unwrap_or_default();
                let outcome = match whole {
                    true => inflate(&mut deflate, input, output),
                    false => inflate_part(&mut deflate, input, output),
                };
                give(&self.deflate, deflate);
                outcome
            }
            Algorithm::Zstd => {
                let mut zstd = taken(&self.zstd).unwrap_or_default();
                let outcome = match whole {
                    true => unzstd(&mut zstd, input, output),
                    false => unzstd_part(&mut zstd, input, output),
                };
                give(&self.zstd, zstd);
                outcome
            }
        }
    }
}

fn taken<T>(idle: &Mutex<Vec<T>>) -> Option<T> {
    idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give<T>(idle: &Mutex<Vec<T>>, one: T) {
    idle.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(one);
}

/// MicroLZMA is LZMA whose first byte, always zero, is used for the properties.
fn lzma(input: &mut [u8], output: &mut [u8]) -> Option<()> {
    let first = input.first_mut()?;
    let properties = !std::mem::take(first);
    let dictionary = u32::try_from(output.len().max(4096)).ok()?;
    let size = u64::try_from(output.len()).ok()?;
    let reader =
        lzma_rust2::LzmaReader::new_with_props(&*input, u64::MAX, properties, dictionary, None);
    let mut reader = reader.ok()?.take(size);
    reader.read_exact(output).ok()
}

fn inflate(deflate: &mut libdeflater::Decompressor, input: &[u8], output: &mut [u8]) -> Option<()> {
    let length = deflate.deflate_decompress(input, output).ok()?;
    (length == output.len()).then_some(())
}

/// This decompressor wants room for all that there is, so it gets more until that is enough.
fn inflate_part(
    deflate: &mut libdeflater::Decompressor,
    input: &[u8],
    output: &mut [u8],
) -> Option<()> {
    let mut room = output.len();
    loop {
        let mut all = vec![0; room];
        match deflate.deflate_decompress(input, &mut all) {
            Ok(length) => {
                let part = all.get(..length)?.get(..output.len())?;
                output.copy_from_slice(part);
                return Some(());
            }
            Err(libdeflater::DecompressionError::InsufficientSpace) if room < LONGEST => {
                room = room.saturating_mul(2).min(LONGEST);
            }
            Err(_) => return None,
        }
    }
}

fn unzstd(zstd: &mut DCtx<'static>, input: &[u8], output: &mut [u8]) -> Option<()> {
    let length = zstd.decompress(output, input).ok()?;
    (length == output.len()).then_some(())
}

fn unzstd_part(zstd: &mut DCtx<'static>, input: &[u8], output: &mut [u8]) -> Option<()> {
    zstd.init().ok()?;
    zstd.set_parameter(DParameter::WindowLogMax(WINDOW)).ok()?;
    let mut input = InBuffer::around(input);
    let wanted = output.len();
    let mut output = OutBuffer::around(output);
    while output.pos() < wanted {
        let before = (input.pos(), output.pos());
        zstd.decompress_stream(&mut output, &mut input).ok()?;
        if before == (input.pos(), output.pos()) {
            return None;
        }
    }
    Some(())
}

/// LZ4 whose input goes on after the output is full, which the library does not take.
fn lz4(input: &[u8], output: &mut [u8]) -> Option<()> {
    let mut input = input;
    let mut at = 0;
    while at < output.len() {
        let token = next(&mut input)?;
        let count = long(&mut input, token >> 4)?.min(output.len() - at);
        let (literals, rest) = input.split_at_checked(count)?;
        output[at..at + count].copy_from_slice(literals);
        at += count;
        if at == output.len() {
            break;
        }
        input = rest;
        let distance = u16::from_le_bytes([next(&mut input)?, next(&mut input)?]);
        let count = long(&mut input, token & 15)?.saturating_add(4);
        let count = count.min(output.len() - at);
        let from = at.checked_sub(distance.into()).filter(|_| distance > 0)?;
        // What is copied may be what was just written.
        for index in 0..count {
            output[at + index] = output[from + index];
        }
        at += count;
    }
    Some(())
}

/// A length whose bytes go on while they are 255, if its first part is full.
fn long(input: &mut &[u8], first: u8) -> Option<usize> {
    let mut length = usize::from(first);
    if first < 15 {
        return Some(length);
    }
    loop {
        let more = next(input)?;
        length = length.checked_add(more.into())?;
        if more < 255 {
            return Some(length);
        }
    }
}

fn next(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lz4_stops_where_the_output_does() {
        // "abcd", then eight bytes from four back, then "xyz12".
        let whole = [
            0x44, b'a', b'b', b'c', b'd', 4, 0, 0x50, b'x', b'y', b'z', b'1', b'2',
        ];
        let text = b"abcdabcdabcdxyz12";
        for length in 0..=text.len() {
            let mut output = vec![0; length];
            assert_eq!(lz4(&whole, &mut output), Some(()), "{length}");
            assert_eq!(output, text[..length]);
            let zeros = [&whole[..], &[0; 20]].concat();
            assert_eq!(lz4(&zeros, &mut output), Some(()), "{length}");
        }
        for bad in [
            &whole[..3],
            &whole[..6],
            &[0x44, b'a', b'b', b'c', b'd', 0, 0],
            &[0x44, b'a', b'b', b'c', b'd', 5, 0],
            &[0xf0, 255, 255],
            &[],
        ] {
            assert_eq!(lz4(bad, &mut [0; 17]), None, "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_made_of_damage() {
        let decompressors = Decompressors::default();
        for number in 0..4 {
            let algorithm = Algorithm::new(number).unwrap();
            for whole in [true, false] {
                for input in [
                    &[][..],
                    &[1],
                    &[0xff; 100],
                    &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3],
                ] {
                    let mut output = [0; 1000];
                    let made =
                        decompressors.run(algorithm, &mut input.to_vec(), &mut output, whole);
                    assert_eq!(made, None, "{algorithm:?} {input:?}");
                }
            }
        }
        assert_eq!(Algorithm::new(4), None);
    }
}
