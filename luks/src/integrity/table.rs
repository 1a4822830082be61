//! The line that tells the kernel of an integrity device (Documentation/admin-guide/device-mapper,
//! dm-integrity.rst), and what such a line says. Pure.
//!
//! A line has its keys in it, in hex: it goes to the kernel, is erased, and is never shown.

use std::fmt::Write as _;

use blockdev::dm::Target;
use blockdev::sysfs::Number;
use image_specs::integrity::{Flags, Superblock};
use zeroize::Zeroizing;

use super::Algorithm;
use crate::Secret;

/// How tags are kept in step with data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both go through a journal.
    #[default]
    Journal,
    /// A bitmap tells where they may be out of step.
    Bitmap,
    /// Nothing does.
    Direct,
    /// Tags are not looked at, and nothing is replayed: to save what can be saved.
    Recovery,
    /// Tags come with each sector of the device.
    Inline,
}

/// Switches of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// Areas of tags end at four KiB.
    FixPadding,
    /// The salt is part of tags.
    FixHmac,
    /// Tags with a key may be calculated anew although there is no salt.
    LegacyRecalculate,
    /// Tags are calculated anew from where that ended.
    Recalculate,
    /// Tags are calculated anew from the beginning.
    ResetRecalculate,
    /// Sectors may be given back.
    AllowDiscards,
}

/// An algorithm with its key.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The key, for what takes one.
    pub key: Option<Secret>,
}

/// Numbers that the kernel chooses where they are not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Sectors for the journal, when a device is formatted.
    pub journal_sectors: Option<u64>,
    /// Sectors between areas of tags, when a device is formatted.
    pub interleave_sectors: Option<u32>,
    /// Bytes of a sector, when a device is formatted.
    pub block_size: Option<u32>,
    /// Sectors of a buffer.
    pub buffer_sectors: Option<u32>,
    /// How full the journal may be before it is written back, in percent.
    pub journal_watermark: Option<u8>,
    /// After how many milliseconds the journal is written.
    pub journal_commit_time: Option<u32>,
    /// Sectors for which a bit of the bitmap stands.
    pub sectors_per_bit: Option<u32>,
    /// After how many milliseconds the bitmap is written.
    pub bitmap_flush_time: Option<u32>,
}

/// A device to be made.
#[derive(Clone, Debug)]
pub struct IntegrityTable {
    /// The device with the data, and the tags if they are among them.
    pub device: Number,
    /// The device with superblock, journal and tags, if they are apart.
    pub metadata: Option<Number>,
    /// Sectors of 512 bytes that the device is to have.
    pub sectors: u64,
    /// Bytes of a tag.
    pub tag_size: u16,
    /// How tags are kept in step with data.
    pub mode: Mode,
    /// What tags are calculated with.
    pub hash: Keyed,
    /// What authenticates the journal.
    pub journal_mac: Option<Keyed>,
    /// What encrypts the journal.
    pub journal_crypt: Option<Keyed>,
    /// Numbers.
    pub tuning: Tuning,
    /// Switches.
    pub switches: Vec<Switch>,
}

/// What a line in force says; keys are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The device with the data, as `MAJOR:MINOR`.
    pub device: String,
    /// Bytes of a tag.
    pub tag_size: u32,
    /// How tags are kept in step with data.
    pub mode: Mode,
    /// The device with superblock, journal and tags, if they are apart.
    pub metadata: Option<String>,
    /// What tags are calculated with.
    pub hash: Option<String>,
    /// What authenticates the journal.
    pub journal_mac: Option<String>,
    /// What encrypts the journal.
    pub journal_crypt: Option<String>,
    /// Numbers.
    pub tuning: Tuning,
    /// Sectors may be given back.
    pub allow_discards: bool,
}

impl Mode {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Journal, "J"),
        (Self::Bitmap, "B"),
        (Self::Direct, "D"),
        (Self::Recovery, "R"),
        (Self::Inline, "I"),
    ];

    fn letter(self) -> &'static str {
        let found = Self::ALL.iter().find(|(mode, _)| *mode == self);
        found.map_or("J", |(_, letter)| letter)
    }
}

impl Switch {
    const fn word(self) -> &'static str {
        match self {
            Self::FixPadding => "fix_padding",
            Self::FixHmac => "fix_hmac",
            Self::LegacyRecalculate => "legacy_recalculate",
            Self::Recalculate => "recalculate",
            Self::ResetRecalculate => "reset_recalculate",
            Self::AllowDiscards => "allow_discards",
        }
    }
}

impl Keyed {
    /// `ALGORITHM` or `ALGORITHM:KEY`.
    fn word(&self, name: &str) -> Zeroizing<String> {
        let key = self.key.as_ref().map_or(&[][..], Secret::expose);
        // In one allocation: one that grows would leave pieces of the key behind.
        let room = name.len() + self.algorithm.kernel_name().len() + 2 + 2 * key.len();
        let mut text = Zeroizing::new(String::with_capacity(room));
        // A String takes every text.
        let _ = write!(text, "{name}:{}", self.algorithm);
        if self.key.is_some() {
            text.push(':');
            for byte in key {
                let _ = write!(text, "{byte:02x}");
            }
        }
        text
    }
}

impl Tuning {
    fn words(&self, mode: Mode) -> Vec<String> {
        let bitmap = mode == Mode::Bitmap;
        let journal = matches!(mode, Mode::Journal);
        let number = |value: Option<u32>| value.map(u64::from);
        let words = [
            ("journal_sectors", self.journal_sectors),
            ("interleave_sectors", number(self.interleave_sectors)),
            ("block_size", number(self.block_size)),
            ("buffer_sectors", number(self.buffer_sectors)),
            (
                "journal_watermark",
                self.journal_watermark.map(u64::from).filter(|_| journal),
            ),
            (
                "commit_time",
                number(self.journal_commit_time).filter(|_| journal),
            ),
            (
                "sectors_per_bit",
                number(self.sectors_per_bit).filter(|_| bitmap),
            ),
            (
                "bitmap_flush_interval",
                number(self.bitmap_flush_time).filter(|_| bitmap),
            ),
        ];
        let said = words.into_iter();
        said.filter_map(|(name, value)| Some(format!("{name}:{}", value?)))
            .collect()
    }
}

impl IntegrityTable {
    /// The table for a device with this superblock; all that it does not say is the kernel's choice.
    pub fn of(superblock: &Superblock, device: Number, hash: Keyed) -> Self {
        let flags = [
            (Flags::FIXED_PADDING, Switch::FixPadding),
            (Flags::FIXED_HMAC, Switch::FixHmac),
            (Flags::RECALCULATING, Switch::Recalculate),
        ];
        let set = flags.iter().filter(|(flag, _)| superblock.flags.has(*flag));
        let inline = superblock.flags.has(Flags::INLINE);
        let sector = superblock.sector_size();
        Self {
            device,
            metadata: None,
            sectors: superblock.provided_sectors,
            tag_size: superblock.tag_size,
            mode: if inline { Mode::Inline } else { Mode::Journal },
            hash,
            journal_mac: None,
            journal_crypt: None,
            tuning: Tuning {
                block_size: (sector != 512).then_some(sector),
                ..Tuning::default()
            },
            switches: set.map(|(_, switch)| *switch).collect(),
        }
    }

    /// The table, of one target.
    pub fn target(&self) -> Target {
        let mut words: Vec<Zeroizing<String>> = Vec::new();
        let mut say = |word: String| words.push(Zeroizing::new(word));
        if let Some(metadata) = self.metadata {
            say(format!("meta_device:{metadata}"));
        }
        self.tuning.words(self.mode).into_iter().for_each(&mut say);
        for switch in &self.switches {
            say(switch.word().to_owned());
        }
        words.push(self.hash.word("internal_hash"));
        let mac = self
            .journal_mac
            .iter()
            .map(|keyed| keyed.word("journal_mac"));
        words.extend(mac);
        let crypt = self
            .journal_crypt
            .iter()
            .map(|keyed| keyed.word("journal_crypt"));
        words.extend(crypt);
        let head = format!(
            "{} 0 {} {} {}",
            self.device,
            self.tag_size,
            self.mode.letter(),
            words.len()
        );
        let room = words.iter().map(|word| word.len() + 1).sum::<usize>();
        let mut parameters = String::with_capacity(head.len() + room);
        parameters.push_str(&head);
        for word in &words {
            parameters.push(' ');
            parameters.push_str(word);
        }
        Target {
            start: 0,
            sectors: self.sectors,
            kind: "integrity".to_owned(),
            parameters,
        }
    }
}

impl Shown {
    /// Reads a table in force; `None` where it is none of an integrity device.
    pub fn parse(table: &[Target]) -> Option<Self> {
        let [target] = table else { return None };
        let mut words = target.parameters.split(' ');
        if target.kind != "integrity" {
            return None;
        }
        let mut shown = Self {
            device: words.next()?.to_owned(),
            ..Self::default()
        };
        words.next()?; // the offset
        shown.tag_size = words.next()?.parse().ok()?;
        let letter = words.next()?;
        let mode = Mode::ALL.iter().find(|(_, known)| *known == letter);
        shown.mode = mode?.0;
        let count: usize = words.next()?.parse().ok()?;
        words.take(count).for_each(|word| shown.take(word));
        Some(shown)
    }

    fn take(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        // What follows another colon is a key.
        let plain = || value.split(':').next().map(str::to_owned);
        let number = || value.parse().ok();
        match name {
            "meta_device" => self.metadata = Some(value.to_owned()),
            "internal_hash" => self.hash = plain(),
            "journal_mac" => self.journal_mac = plain(),
            "journal_crypt" => self.journal_crypt = plain(),
            "journal_sectors" => self.tuning.journal_sectors = value.parse().ok(),
            "interleave_sectors" => self.tuning.interleave_sectors = number(),
            "block_size" => self.tuning.block_size = number(),
            "buffer_sectors" => self.tuning.buffer_sectors = number(),
            "journal_watermark" => self.tuning.journal_watermark = value.parse().ok(),
            "commit_time" => self.tuning.journal_commit_time = number(),
            "sectors_per_bit" => self.tuning.sectors_per_bit = number(),
            "bitmap_flush_interval" => self.tuning.bitmap_flush_time = number(),
            "allow_discards" => self.allow_discards = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> IntegrityTable {
        IntegrityTable {
            device: Number { major: 7, minor: 1 },
            metadata: None,
            sectors: 800,
            tag_size: 32,
            mode: Mode::Journal,
            hash: Keyed {
                algorithm: Algorithm::hmac_sha256(),
                key: Some(Secret::new(vec![0xab, 1])),
            },
            journal_mac: None,
            journal_crypt: None,
            tuning: Tuning {
                journal_watermark: Some(30),
                bitmap_flush_time: Some(9),
                ..Tuning::default()
            },
            switches: vec![Switch::FixPadding, Switch::AllowDiscards],
        }
    }

    #[test]
    fn tables_are_as_the_kernel_reads_them() {
        let target = table().target();
        assert_eq!(
            target.parameters,
            "7:1 0 32 J 4 journal_watermark:30 fix_padding allow_discards internal_hash:hmac(sha256):ab01"
        );
        assert!(!format!("{target:?}").contains("ab01"));
        assert!(!format!("{:?}", table()).contains("171"));
        let mut other = table();
        other.mode = Mode::Bitmap;
        other.metadata = Some(Number { major: 7, minor: 2 });
        other.journal_mac = Some(other.hash.clone());
        let words = other.target().parameters;
        let start = "7:1 0 32 B 6 meta_device:7:2 bitmap_flush_interval:9 fix_padding";
        assert!(words.starts_with(start), "{words}");
        assert!(words.ends_with(" journal_mac:hmac(sha256):ab01"), "{words}");
    }

    #[test]
    fn keys_are_not_taken_from_tables() {
        let mut table = table();
        table.tuning.journal_sectors = Some(88);
        let shown = Shown::parse(&[table.target()]).unwrap();
        assert_eq!(shown.hash.as_deref(), Some("hmac(sha256)"));
        assert_eq!(shown.device, "7:1");
        assert_eq!((shown.tag_size, shown.mode), (32, Mode::Journal));
        assert_eq!(shown.tuning.journal_sectors, Some(88));
        assert!(shown.allow_discards && shown.metadata.is_none());
        assert!(!format!("{shown:?}").contains("ab01"));
        let target = |kind: &str, parameters: &str| Target {
            start: 0,
            sectors: 8,
            kind: kind.to_owned(),
            parameters: parameters.to_owned(),
        };
        for (kind, words) in [
            ("verity", "7:1 0 4 J 0"),
            ("integrity", "7:1 0 4 X 0"),
            ("integrity", "7:1 0 4 J"),
            ("integrity", ""),
        ] {
            assert_eq!(Shown::parse(&[target(kind, words)]), None, "{words}");
        }
    }
}
