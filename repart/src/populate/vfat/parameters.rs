//! What a FAT file system is made with. Pure.

use filetree::Timestamp;

/// How a FAT file system is made: what systemd-repart passes to mkfs.vfat, and that program's
/// options.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The volume's number.
    pub volume_id: u32,
    /// The volume's name, in the boot sector and as an entry of the root directory.
    pub label: Label,
    /// How wide the entries of the table are.
    pub width: Width,
    /// Bytes of a sector.
    pub sector_size: SectorSize,
    /// When the label was given: `SOURCE_DATE_EPOCH` or now.
    pub time: Timestamp,
    /// Sectors of a cluster; as mkfs.vfat chooses where `None`.
    pub(super) cluster: Option<u8>,
    /// How many copies of the table.
    pub(super) tables: u8,
    /// Sectors before the first table.
    pub(super) reserved: Option<u16>,
    /// Entries of the root directory of FAT12 and FAT16.
    pub(super) root_entries: Option<u16>,
    /// The backup boot sector of FAT32, 0 for none.
    pub(super) backup: Option<u16>,
    /// Whether structures begin at multiples of the cluster size.
    pub(super) align: Option<bool>,
    /// The kind of medium.
    pub(super) media: Option<u8>,
    /// The BIOS's drive number.
    pub(super) drive: Option<u8>,
    /// Heads and sectors per track.
    pub(super) geometry: Option<(u16, u16)>,
    /// Sectors before the partition, as far as the file system says.
    pub(super) hidden: u32,
}

/// How many bits an entry of the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "their names")]
pub enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// Bytes of a sector: a power of two from 512 to 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorSize(u16);

/// A volume's name: 11 bytes of upper-case letters, digits and few signs, padded with spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label([u8; 11]);

/// A parameter that FAT does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// No sector size.
    #[error("FAT has no sectors of {0} bytes: they have 512, 1024, 2048 or 4096")]
    SectorSize(u32),
}

/// A name that no volume can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the label of a FAT file system: it must have at most 11 ASCII characters, without *?.,;:/\\|+=<>[]\" and control characters"
)]
pub struct LabelError(pub String);

impl Parameters {
    /// What systemd-repart passes: FAT32 with a number, a name and a sector size.
    pub fn new(volume_id: u32, label: Label, sector_size: SectorSize, time: Timestamp) -> Self {
        Self {
            volume_id,
            label,
            width: Width::Fat32,
            sector_size,
            time,
            cluster: None,
            tables: 2,
            reserved: None,
            root_entries: None,
            backup: None,
            align: None,
            media: None,
            drive: None,
            geometry: None,
            hidden: 0,
        }
    }
}

impl SectorSize {
    /// Checks a sector size in bytes.
    pub fn new(bytes: u32) -> Result<Self, ParameterError> {
        match bytes {
            512 | 1024 | 2048 | 4096 => u16::try_from(bytes).map(Self).ok(),
            _ => None,
        }
        .ok_or(ParameterError::SectorSize(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u16 {
        self.0
    }
}

/// What a label must not have.
const UNSUITABLE: &[u8] = b"*?.,;:/\\|+=<>[]\"";

impl Label {
    /// The name that a partition's label becomes, as systemd-repart makes it: at most 11
    /// characters, in upper case, each unsuitable one replaced by `_`.
    pub fn from_text(text: &str) -> Self {
        let mut label = *b"           ";
        let bytes = text.chars().map(|character| match u8::try_from(character) {
            Ok(byte) if suitable(byte) => byte.to_ascii_uppercase(),
            _ => b'_',
        });
        for (place, byte) in label.iter_mut().zip(bytes) {
            *place = byte;
        }
        Self::named(label)
    }

    /// A name that is taken as it is.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        if text.len() > 11 || !text.bytes().all(suitable) {
            return Err(LabelError(text.to_owned()));
        }
        let mut label = *b"           ";
        label[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self::named(label))
    }

    fn named(label: [u8; 11]) -> Self {
        if label == *b"           " {
            Self::none()
        } else {
            Self(label)
        }
    }

    /// No name.
    pub fn none() -> Self {
        Self(*b"NO NAME    ")
    }

    pub(super) fn bytes(&self) -> &[u8; 11] {
        &self.0
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

fn suitable(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_control() && !UNSUITABLE.contains(&byte)
}

impl Width {
    /// What the boot sector calls it.
    pub(super) fn name(self) -> &'static [u8; 8] {
        match self {
            Self::Fat12 => b"FAT12   ",
            Self::Fat16 => b"FAT16   ",
            Self::Fat32 => b"FAT32   ",
        }
    }

    /// Bytes that `entries` entries of a table take.
    pub(super) fn bytes(self, entries: u64) -> u64 {
        match self {
            Self::Fat12 => (entries * 3).div_ceil(2),
            Self::Fat16 => entries * 2,
            Self::Fat32 => entries * 4,
        }
    }

    /// Takes up to `count` entries (an even number) and gives them as they are stored.
    pub(super) fn pack(self, entries: &mut impl Iterator<Item = u32>, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut taken = entries.take(count);
        while let Some(entry) = taken.next() {
            match self {
                Self::Fat12 => {
                    let pair = entry & 0xfff | (taken.next().unwrap_or(0) & 0xfff) << 12;
                    bytes.extend_from_slice(&pair.to_le_bytes()[..3]);
                }
                Self::Fat16 => bytes.extend_from_slice(&entry.to_le_bytes()[..2]),
                Self::Fat32 => bytes.extend_from_slice(&(entry & 0x0fff_ffff).to_le_bytes()),
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_made_from_text() {
        for (text, label) in [
            ("esp", *b"ESP        "),
            ("EFI System Partition", *b"EFI SYSTEM "),
            ("a.b/ä\u{1}x", *b"A_B___X    "),
            ("", *b"NO NAME    "),
        ] {
            assert_eq!(Label::from_text(text).bytes(), &label, "{text}");
        }
        assert!(Label::parse("TWELVE CHARS").is_err());
        assert!(Label::parse("A.B").is_err());
        assert_eq!(Label::parse("Mixed").unwrap().bytes(), b"Mixed      ");
    }

    #[test]
    fn entries_are_packed() {
        let entries = [0xff8, 0xfff, 0x003];
        let pack = |width: Width| width.pack(&mut entries.into_iter(), 8);
        assert_eq!(pack(Width::Fat12), [0xf8, 0xff, 0xff, 0x03, 0, 0]);
        assert_eq!(pack(Width::Fat16), [0xf8, 0x0f, 0xff, 0x0f, 3, 0]);
        assert_eq!(pack(Width::Fat32).len(), 12);
    }
}
