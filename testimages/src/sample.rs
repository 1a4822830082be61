//! Trees to build images from: made here, the same every time, compressible like real ones.

use std::fs;
use std::io;
use std::path::Path;

/// A small generator of pseudo-random numbers (xorshift64*): reproducible, and of no other use.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// A place in a list of `length`, which must not be 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(1))).unwrap_or(0)
    }
}

/// Writes `count` files of `total` bytes in all below `root`, in folders of about 40, like the
/// `/usr` of an operating system: half text, half something like machine code.
pub fn system_tree(root: &Path, count: u64, total: u64) -> io::Result<()> {
    let mut dice = Dice::new(42);
    // Sizes spread widely: most files small, a few large.
    let weights: Vec<u64> = (0..count).map(|_| 1 << dice.below(10)).collect();
    let sum: u64 = weights.iter().sum();
    for (number, weight) in (0..count).zip(weights) {
        let folder = root.join(format!(
            "usr/lib/{:02}/{:02}",
            number / 1600,
            number / 40 % 40
        ));
        if number % 40 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let size = usize::try_from(total * weight / sum).unwrap_or(0);
        let bytes = if number % 2 == 0 {
            text(&mut dice, size)
        } else {
            code(&mut dice, size)
        };
        fs::write(folder.join(format!("file-{number:05}")), bytes)?;
    }
    Ok(())
}

/// Writes `count` files of `total` bytes in all into one folder.
pub fn flat_folder(root: &Path, count: u64, total: u64) -> io::Result<()> {
    let mut dice = Dice::new(7);
    fs::create_dir_all(root)?;
    let size = usize::try_from(total / count).unwrap_or(0);
    for number in 0..count {
        fs::write(
            root.join(format!("module number {number:05}.bin")),
            code(&mut dice, size),
        )?;
    }
    Ok(())
}

fn text(dice: &mut Dice, size: usize) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "partition",
        "the",
        "of",
        "image",
        "system",
        "return",
        "value",
        "struct",
        "and",
        "to",
        "in",
        "{",
        "}",
        "=",
        "a",
        "is",
        "when",
        "file",
        "config",
        "option",
        "default",
        "error",
        "path",
        "0x0f",
        "if",
        "else",
        "true",
        "device",
        "mount",
        "table",
        "\n",
        "\n\t",
        "# ",
        "1024",
        "name",
        "list",
        "size",
        "kernel",
    ];
    let mut bytes = Vec::with_capacity(size + 16);
    while bytes.len() < size {
        if dice.below(6) == 0 {
            bytes.extend_from_slice(format!("{:x}", dice.roll() & 0xff_ffff).as_bytes());
        } else {
            bytes.extend_from_slice(WORDS[dice.index(WORDS.len())].as_bytes());
        }
        bytes.push(b' ');
    }
    bytes.truncate(size);
    bytes
}

fn code(dice: &mut Dice, size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::with_capacity(size + 16);
    while bytes.len() < size {
        let back = bytes.len().min(4096);
        if back > 64 && dice.below(3) == 0 {
            let start = bytes.len() - back + dice.index(back - 32);
            let length = 8 + dice.index(24);
            bytes.extend_from_within(start..start + length.min(bytes.len() - start));
        } else {
            let word = dice.roll().to_le_bytes();
            bytes.extend_from_slice(&[
                0x48,
                word[0] & 0x8f,
                word[1] & 0x3f,
                0,
                0x89,
                word[2],
                0,
                0,
            ]);
        }
    }
    bytes.truncate(size);
    bytes
}
