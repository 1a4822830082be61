//! Long names in UTF-16 over several entries, and short ones in code page 437, as Linux shows them.
//! Pure.

/// Units in one entry of a long name.
const UNITS: usize = 13;
/// The most entries that a long name has.
const MAX_SLOTS: u8 = 20;
/// Marks the last part of a long name, which comes first.
const LAST: u8 = 0x40;
/// Where the units are in an entry.
const PLACES: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// The upper half of code page 437.
const CODE_PAGE: [char; 128] = [
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', //
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', //
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»', //
    '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐', //
    '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', //
    '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', //
    'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', //
    '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', '\u{a0}',
];

/// A long name, as far as its entries have come.
#[derive(Debug, Default)]
pub(super) struct LongName {
    units: Vec<u16>,
    /// Parts that are still to come.
    left: u8,
    /// Of the short name that it belongs to.
    checksum: u8,
}

impl LongName {
    /// Takes an entry of a long name: the next part, or the first one of another name.
    pub(super) fn take(&mut self, entry: &[u8; 32]) {
        let slot = entry[0];
        let goes_on = self.left > 0 && slot & !LAST == self.left && entry[13] == self.checksum;
        if !goes_on {
            let slots = slot & !LAST;
            let begins = slot & LAST != 0 && (1..=MAX_SLOTS).contains(&slots);
            *self = Self {
                units: vec![
                    0;
                    if begins {
                        usize::from(slots) * UNITS
                    } else {
                        0
                    }
                ],
                left: if begins { slots } else { 0 },
                checksum: entry[13],
            };
            if !begins {
                return;
            }
        }
        self.left -= 1;
        let start = usize::from(self.left) * UNITS;
        for (unit, at) in self.units[start..].iter_mut().zip(PLACES) {
            *unit = u16::from_le_bytes([entry[at], entry[at + 1]]);
        }
    }

    /// The name, if it is whole and belongs to this short one.
    pub(super) fn finish(self, short: &[u8; 11]) -> Option<String> {
        let whole = self.left == 0 && !self.units.is_empty();
        let belongs = self.checksum == checksum(short);
        (whole && belongs).then(|| text(&self.units))
    }
}

/// UTF-16 up to the first NUL. Halves of pairs are left out.
fn text(units: &[u16]) -> String {
    let units = units.iter().copied().take_while(|unit| *unit != 0);
    char::decode_utf16(units).filter_map(Result::ok).collect()
}

fn checksum(short: &[u8; 11]) -> u8 {
    short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// A short name with its dot; `case` says which part is shown in lower case.
pub(super) fn short(name: &[u8; 11], case: u8) -> String {
    const LOWER_BASE: u8 = 0x08;
    const LOWER_EXTENSION: u8 = 0x10;
    let mut name = *name;
    if name[0] == 0x05 {
        name[0] = 0xe5; // so that it does not look deleted
    }
    let (base, extension) = name.split_at(8);
    let base = part(base, case & LOWER_BASE != 0);
    let extension = part(extension, case & LOWER_EXTENSION != 0);
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

/// Up to a NUL, without the spaces behind.
fn part(bytes: &[u8], lower: bool) -> String {
    let used = bytes.iter().take_while(|byte| **byte != 0);
    let all: String = used.map(|byte| character(*byte, lower)).collect();
    all.trim_end_matches(' ').to_owned()
}

fn character(byte: u8, lower: bool) -> char {
    let of_page = |byte: u8| match byte.checked_sub(0x80) {
        Some(index) => CODE_PAGE[usize::from(index)],
        None => char::from(byte),
    };
    let upper = of_page(byte);
    let mut lowered = upper.to_lowercase();
    match lowered.next() {
        // What has no small letter in the code page stays as it is.
        Some(small) if lower && (small.is_ascii() || CODE_PAGE.contains(&small)) => small,
        _ => upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names() {
        for (name, case, wanted) in [
            (b"README  TXT", 0, "README.TXT"),
            (b"README  TXT", 0x18, "readme.txt"),
            (b"README  TXT", 0x08, "readme.TXT"),
            (b"A B     C  ", 0x10, "A B.c"),
            (b"NOEXT      ", 0, "NOEXT"),
            (b"\x05BC        ", 0, "σBC"),
            (b"\x8e\x9a      \xea  ", 0x18, "äü.Ω"),
        ] {
            assert_eq!(short(name, case), wanted);
        }
    }

    #[test]
    fn long_names() {
        let slot = |number: u8, sum: u8, units: &str| {
            let mut entry = [0; 32];
            (entry[0], entry[13]) = (number, sum);
            for (unit, at) in units.encode_utf16().zip(PLACES) {
                entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            entry
        };
        let name = b"AFILE~1 TXT";
        let sum = checksum(name);
        let read = |slots: &[[u8; 32]]| {
            let mut long = LongName::default();
            slots.iter().for_each(|slot| long.take(slot));
            long.finish(name)
        };
        let (one, two) = (slot(1, sum, "a 💾 file .tx"), slot(0x42, sum, "t"));
        assert_eq!(read(&[two, one]).unwrap(), "a 💾 file .txt");
        let other = slot(0x41, sum, "x");
        assert_eq!(read(&[two, other]).unwrap(), "x");
        for bad in [
            &[one][..],
            &[two],
            &[one, two],
            &[two, slot(1, sum ^ 1, "a")],
            &[slot(0x55, sum, "a")],
            &[slot(0x40, sum, "a")],
            &[],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
