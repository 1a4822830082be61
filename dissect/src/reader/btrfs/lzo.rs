//! LZO1X (Linux documentation, "LZO stream format as understood by Linux' LZO decompressor"), in its
//! first version. Pure.

/// What comes before an instruction decides what the smallest ones mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A match with no literals behind it.
    Nothing,
    /// Up to three literals.
    Few,
    /// A run of literals.
    Run,
}

/// Decompresses one stream and appends what it gives to `output`, at most `most` bytes; `None` if it
/// is damaged or gives more.
pub(super) fn unpack(input: &[u8], output: &mut Vec<u8>, most: usize) -> Option<()> {
    let start = output.len();
    let mut stream = Stream {
        input,
        output,
        start,
        end: start.checked_add(most)?,
    };
    let mut before = stream.first()?;
    loop {
        before = match stream.step(before)? {
            Some(before) => before,
            None => return Some(()),
        };
    }
}

struct Stream<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
    /// Where this stream's output begins, and where it must have ended.
    start: usize,
    end: usize,
}

impl Stream<'_> {
    /// A first byte above 17 is a number of literals; 17 is another version.
    fn first(&mut self) -> Option<Before> {
        match *self.input.first()? {
            0..17 => Some(Before::Nothing),
            17 => None,
            byte => {
                self.byte()?;
                let literals = usize::from(byte - 17);
                self.literals(literals)?;
                Some(if literals < 4 {
                    Before::Few
                } else {
                    Before::Run
                })
            }
        }
    }

    /// One instruction; `None` in `Some` is the end.
    fn step(&mut self, before: Before) -> Option<Option<Before>> {
        let byte = usize::from(self.byte()?);
        let (distance, length, literals) = match byte {
            0..16 if before == Before::Nothing => {
                let length = self.length(byte, 15)? + 3;
                self.literals(length)?;
                return Some(Some(Before::Run));
            }
            0..16 => {
                let high = usize::from(self.byte()?) << 2;
                let (base, length) = match before {
                    Before::Run => (2049, 3),
                    _ => (1, 2),
                };
                (base + high + (byte >> 2), length, byte & 3)
            }
            16..32 => {
                let length = self.length(byte & 7, 7)? + 2;
                let word = self.word()?;
                let distance = 16384 + ((byte & 8) << 11) + (word >> 2);
                if distance == 16384 {
                    return Some(None);
                }
                (distance, length, word & 3)
            }
            32..64 => {
                let length = self.length(byte & 31, 31)? + 2;
                let word = self.word()?;
                ((word >> 2) + 1, length, word & 3)
            }
            _ => {
                let high = usize::from(self.byte()?) << 3;
                let length = match byte {
                    64..128 => 3 + (byte >> 5 & 1),
                    _ => 5 + (byte >> 5 & 3),
                };
                (high + (byte >> 2 & 7) + 1, length, byte & 3)
            }
        };
        self.repeat(distance, length)?;
        self.literals(literals)?;
        Some(Some(if literals == 0 {
            Before::Nothing
        } else {
            Before::Few
        }))
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<usize> {
        let low = usize::from(self.byte()?);
        Some(low | usize::from(self.byte()?) << 8)
    }

    /// A length that is in the instruction, or if that says 0, behind it: `base`, 255 for each zero,
    /// and the byte that is none.
    fn length(&mut self, stored: usize, base: usize) -> Option<usize> {
        if stored != 0 {
            return Some(stored);
        }
        let zeros = self.input.iter().take_while(|byte| **byte == 0).count();
        self.input = self.input.get(zeros..)?;
        let last = usize::from(self.byte()?);
        zeros.checked_mul(255)?.checked_add(base + last)
    }

    fn literals(&mut self, length: usize) -> Option<()> {
        let (literals, rest) = self.input.split_at_checked(length)?;
        self.room(length)?;
        self.output.extend_from_slice(literals);
        self.input = rest;
        Some(())
    }

    /// Repeats `length` bytes from `distance` bytes before the end, which may be among those.
    fn repeat(&mut self, distance: usize, length: usize) -> Option<()> {
        let from = self.output.len().checked_sub(distance)?;
        if from < self.start {
            return None;
        }
        self.room(length)?;
        for at in from..from + length {
            let byte = self.output[at];
            self.output.push(byte);
        }
        Some(())
    }

    fn room(&self, length: usize) -> Option<()> {
        (self.output.len().checked_add(length)? <= self.end).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(input: &[u8], most: usize) -> Option<Vec<u8>> {
        let mut output = b"before".to_vec();
        unpack(input, &mut output, most)?;
        Some(output.split_off(6))
    }

    #[test]
    fn streams_are_read_as_linux_reads_them() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"\x14abc\x11\0\0", b"abc"),
            (b"\x15abcd\x4c\0\x11\0\0", b"abcdabc"),
            (b"\x15abcd\x21\0\0\x11\0\0", b"abcdddd"),
            (
                b"\x15abcd\x20\x02\0\0\x11\0\0",
                &[b"abcd", &[b'd'; 35][..]].concat(),
            ),
            (b"\0\x01nineteen characters\x11\0\0", b"nineteen characters"),
            // A literal behind a match, and the shortest match behind that.
            (b"\x15abcd\x4d\0x\x04\0\x11\0\0", b"abcdabcxcx"),
        ];
        for (input, expected) in cases {
            assert_eq!(unpacked(input, expected.len()).unwrap(), expected);
            assert_eq!(unpacked(input, expected.len() - 1), None, "too much");
            for end in 0..input.len() {
                assert_eq!(unpacked(&input[..end], 100), None, "cut off");
            }
        }
        for damaged in [
            &b"\x11\x01\0\0\0"[..],
            b"\x14abc\x4c\0\x11\0\0",
            b"\x14abc\x4c\xff\x11\0\0",
            b"\x15abcd\x20\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(unpacked(damaged, 1 << 20), None, "{damaged:?}");
        }
    }
}
