//! What the kernel shows of a verity device's table, taken apart. Pure.

use blockdev::dm::Target;
use blockdev::mapped::DeviceNumber;

/// A verity table as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// 0 or 1.
    pub hash_type: u32,
    /// The device with the data.
    pub data: DeviceNumber,
    /// The device with the tree.
    pub hash: DeviceNumber,
    /// Bytes of a data block.
    pub data_block: u64,
    /// Bytes of a tree block.
    pub hash_block: u64,
    /// Blocks of data.
    pub data_blocks: u64,
    /// The tree's first block.
    pub hash_start: u64,
    /// The hash.
    pub algorithm: String,
    /// The root hash in hex.
    pub root: String,
    /// The salt in hex, or `-`.
    pub salt: String,
    /// Parity, where there is some.
    pub correction: Option<ShownCorrection>,
    /// Whether a signature was asked for.
    pub signed: bool,
    /// All other options.
    pub flags: Vec<String>,
}

/// Where the kernel finds parity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCorrection {
    /// The device.
    pub device: DeviceNumber,
    /// Where parity begins, in blocks.
    pub start: u64,
    /// Parity bytes in a code word.
    pub roots: u32,
}

impl Shown {
    /// Takes the table of a device apart; `None` where it is none of verity.
    pub fn parse(table: &[Target]) -> Option<Self> {
        let [only] = table else { return None };
        let mut words = only.parameters.split_ascii_whitespace();
        let mut next = || words.next().filter(|_| only.kind == "verity");
        let mut shown = Self {
            hash_type: next()?.parse().ok()?,
            data: device(next()?)?,
            hash: device(next()?)?,
            data_block: next()?.parse().ok()?,
            hash_block: next()?.parse().ok()?,
            data_blocks: next()?.parse().ok()?,
            hash_start: next()?.parse().ok()?,
            algorithm: next()?.to_owned(),
            root: next()?.to_owned(),
            salt: next()?.to_owned(),
            correction: None,
            signed: false,
            flags: Vec::new(),
        };
        shown.options(words.skip(1))?;
        Some(shown)
    }

    fn options<'a>(&mut self, mut words: impl Iterator<Item = &'a str>) -> Option<()> {
        let (mut found, mut start, mut roots) = (None, None, None);
        while let Some(word) = words.next() {
            match word {
                "use_fec_from_device" => found = device(words.next()?),
                "fec_start" => start = words.next()?.parse().ok(),
                "fec_roots" => roots = words.next()?.parse().ok(),
                "fec_blocks" => _ = words.next()?,
                "root_hash_sig_key_desc" => self.signed = words.next().is_some(),
                flag => self.flags.push(flag.to_owned()),
            }
        }
        if let Some(device) = found {
            self.correction = Some(ShownCorrection {
                device,
                start: start?,
                roots: roots?,
            });
        }
        Some(())
    }
}

/// `MAJOR:MINOR`.
fn device(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(parameters: &str) -> Target {
        Target {
            start: 0,
            sectors: 8,
            kind: "verity".to_owned(),
            parameters: parameters.to_owned(),
        }
    }

    #[test]
    fn tables_are_taken_apart() {
        let plain = "1 7:1 7:2 4096 1024 129 4 sha256 aabb -";
        let shown = Shown::parse(&[target(plain)]).unwrap();
        let DeviceNumber { major, minor } = shown.hash;
        assert_eq!(
            (shown.data_blocks, shown.hash_start, major, minor),
            (129, 4, 7, 2)
        );
        assert!(shown.correction.is_none() && shown.flags.is_empty() && !shown.signed);
        let more = "13 restart_on_corruption check_at_most_once use_fec_from_device 7:3 \
                    fec_start 2 fec_blocks 132 fec_roots 24 root_hash_sig_key_desc fec_start";
        let shown = Shown::parse(&[target(&format!("{plain} {more}"))]).unwrap();
        assert_eq!(shown.flags, ["restart_on_corruption", "check_at_most_once"]);
        let correction = shown.correction.unwrap();
        assert_eq!((correction.start, correction.roots), (2, 24));
        assert!(shown.signed);
    }

    #[test]
    fn what_is_no_verity_table_is_none() {
        for text in ["", "1 7:1", "1 7:1 x 4096 1024 129 4 sha256 aabb -"] {
            assert_eq!(Shown::parse(&[target(text)]), None, "{text}");
        }
        let mut other = target("1 7:1 7:2 4096 1024 129 4 sha256 aabb -");
        other.kind = "linear".to_owned();
        assert_eq!(Shown::parse(&[other]), None);
        let cut = "1 7:1 7:2 4096 1024 129 4 sha256 aabb - 2 use_fec_from_device 7:3";
        assert_eq!(Shown::parse(&[target(cut)]), None);
    }
}
