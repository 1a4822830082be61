//! The line that tells the kernel of a verity device (Documentation/admin-guide/device-mapper,
//! verity.rst). Pure.

use blockdev::dm::Target;
use blockdev::mapped::DeviceNumber;
use image_specs::units::Bytes;

use crate::fec::Area;
use crate::levels::Levels;
use crate::params::{Params, ParamsError, RootHash};

/// What happens to a read of data that does not fit the hash tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorruption {
    /// It fails.
    #[default]
    Fail,
    /// It is logged, and the wrong data are given.
    Ignore,
    /// The machine starts anew.
    Restart,
    /// The kernel panics.
    Panic,
}

/// How strict a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// What is done about corruption.
    pub on_corruption: OnCorruption,
    /// Whether errors of the devices below count as corruption, where that restarts or panics.
    pub errors_too: bool,
    /// Whether blocks that the tree says are zero are not read at all.
    pub ignore_zero_blocks: bool,
    /// Whether a block that was good once is trusted from then on.
    pub check_at_most_once: bool,
    /// Whether to hash in the interrupt that brings the data.
    pub tasklets: bool,
}

/// Where the kernel finds parity to repair blocks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCorrection {
    /// The device.
    pub device: DeviceNumber,
    /// Where the parity begins on it: a multiple of the block size.
    pub offset: Bytes,
    /// Parity bytes in a code word: 2 to 24.
    pub roots: u8,
    /// How far the hash device is covered: up to its end, or to the parity where that is on it.
    pub hash_end: Bytes,
}

/// Everything in a table but the key of a signature.
#[derive(Clone, Debug)]
pub struct VerityTable<'a> {
    /// The tree.
    pub params: &'a Params,
    /// The root hash that data must lead to.
    pub root: &'a RootHash,
    /// The device with the data.
    pub data: DeviceNumber,
    /// The device with the tree.
    pub hash: DeviceNumber,
    /// How strict the device is.
    pub strictness: Strictness,
    /// Parity, where there is some.
    pub correction: Option<ErrorCorrection>,
}

/// What of an existing table decides whether it can be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Essence {
    root: String,
    strictness: Vec<String>,
    signed: bool,
}

impl VerityTable<'_> {
    /// The table, of one target. `key` describes the key in the caller's keyring that holds the
    /// signature.
    pub fn target(&self, key: Option<&str>) -> Result<Target, ParamsError> {
        let params = self.params;
        let start = Levels::new(params)?.first_block();
        let too_large = || ParamsError::TooLarge(params.data_blocks);
        let bytes = params.data_blocks.checked_mul(params.data_block.get());
        let mut words = vec![
            params.hash_type.number().to_string(),
            self.data.to_string(),
            self.hash.to_string(),
            params.data_block.get().to_string(),
            params.hash_block.get().to_string(),
            params.data_blocks.to_string(),
            start.to_string(),
            params.algorithm.name().to_owned(),
            self.root.to_string(),
            params.salt.to_string(),
        ];
        let options = self.options(start, key)?;
        if !options.is_empty() {
            words.push(options.len().to_string());
            words.extend(options);
        }
        Ok(Target {
            start: 0,
            sectors: bytes.ok_or_else(too_large)? / 512,
            kind: "verity".to_owned(),
            parameters: words.join(" "),
        })
    }

    fn options(&self, start: u64, key: Option<&str>) -> Result<Vec<String>, ParamsError> {
        let mut options: Vec<String> = self.strictness.words().map(str::to_owned).collect();
        if let Some(correction) = &self.correction {
            options.extend(correction.words(self.params, start)?);
        }
        if let Some(key) = key {
            options.extend(["root_hash_sig_key_desc".to_owned(), key.to_owned()]);
        }
        Ok(options)
    }

    /// What an existing table must have in common with this one.
    pub(super) fn essence(&self, signed: bool) -> Essence {
        Essence {
            root: self.root.to_string(),
            strictness: self.strictness.words().map(str::to_owned).collect(),
            signed,
        }
    }
}

impl Essence {
    /// That of a table that the kernel shows; `None` where it is no verity table.
    pub(super) fn of(table: &[Target]) -> Option<Self> {
        let [only] = table else { return None };
        let mut words = only.parameters.split_ascii_whitespace();
        let root = words.nth(8).filter(|_| only.kind == "verity")?.to_owned();
        let mut options = words.skip(2);
        let (mut strictness, mut signed) = (Vec::new(), false);
        while let Some(option) = options.next() {
            match option {
                "root_hash_sig_key_desc" => signed = options.next().is_some(),
                "use_fec_from_device" | "fec_start" | "fec_blocks" | "fec_roots" => {
                    options.next();
                }
                other => strictness.push(other.to_owned()),
            }
        }
        Some(Self {
            root,
            strictness,
            signed,
        })
    }
}

impl Strictness {
    /// In the order in which the kernel shows them.
    fn words(self) -> impl Iterator<Item = &'static str> {
        let mode = match self.on_corruption {
            OnCorruption::Fail => None,
            OnCorruption::Ignore => Some("ignore_corruption"),
            OnCorruption::Restart => Some("restart_on_corruption"),
            OnCorruption::Panic => Some("panic_on_corruption"),
        };
        let errors = match self.on_corruption {
            OnCorruption::Restart => Some("restart_on_error"),
            OnCorruption::Panic => Some("panic_on_error"),
            OnCorruption::Fail | OnCorruption::Ignore => None,
        };
        let rest = [
            (self.ignore_zero_blocks, "ignore_zero_blocks"),
            (self.check_at_most_once, "check_at_most_once"),
            (self.tasklets, "try_verify_in_tasklet"),
        ];
        let rest = rest.into_iter().filter(|(set, _)| *set);
        mode.into_iter()
            .chain(errors.filter(|_| self.errors_too))
            .chain(rest.map(|(_, word)| word))
    }
}

impl ErrorCorrection {
    /// By parity behind the tree, on the device `hash`.
    pub fn of_area(area: &Area, hash: DeviceNumber) -> Self {
        Self {
            device: hash,
            offset: area.offset(),
            roots: area.layout().roots().get(),
            hash_end: area.layout().hash_end(),
        }
    }

    fn words(&self, params: &Params, first_tree_block: u64) -> Result<[String; 8], ParamsError> {
        let block = params.hash_block.get();
        let too_large = || ParamsError::TooLarge(params.data_blocks);
        let tree = (self.hash_end.get().div_ceil(block)).saturating_sub(first_tree_block);
        let blocks = params.data_blocks.checked_add(tree).ok_or_else(too_large)?;
        Ok([
            "use_fec_from_device".to_owned(),
            self.device.to_string(),
            "fec_start".to_owned(),
            (self.offset.get() / block).to_string(),
            "fec_blocks".to_owned(),
            blocks.to_string(),
            "fec_roots".to_owned(),
            self.roots.to_string(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::params::{BlockSize, Salt};

    fn params() -> Params {
        let sizes = (BlockSize::DEFAULT, BlockSize::DEFAULT);
        let salt = Salt::new([0xab, 0xcd]).unwrap();
        Params::for_data(Bytes::new(129 * 4096), sizes, salt, Uuid::nil()).unwrap()
    }

    fn table<'a>(params: &'a Params, root: &'a RootHash) -> VerityTable<'a> {
        let number = |minor| DeviceNumber { major: 7, minor };
        VerityTable {
            params,
            root,
            data: number(1),
            hash: number(2),
            strictness: Strictness::default(),
            correction: None,
        }
    }

    #[test]
    fn lines_are_as_the_kernel_reads_them() {
        let params = params();
        let root = RootHash::new([0x11; 32]);
        let mut table = table(&params, &root);
        let digits = "11".repeat(32);
        let plain = format!("1 7:1 7:2 4096 4096 129 1 sha256 {digits} abcd");
        let target = table.target(None).unwrap();
        assert_eq!(target.parameters, plain);
        assert_eq!(target.sectors, 129 * 8);
        let signed = table.target(Some("key")).unwrap();
        let tail = " 2 root_hash_sig_key_desc key";
        assert_eq!(signed.parameters, format!("{plain}{tail}"));
        table.strictness = Strictness {
            on_corruption: OnCorruption::Restart,
            errors_too: true,
            ignore_zero_blocks: true,
            check_at_most_once: true,
            tasklets: true,
        };
        table.correction = Some(ErrorCorrection {
            device: DeviceNumber { major: 7, minor: 3 },
            offset: Bytes::new(8192),
            roots: 2,
            hash_end: Bytes::new(4 * 4096),
        });
        let all = table.target(None).unwrap().parameters;
        let tail = " 13 restart_on_corruption restart_on_error ignore_zero_blocks \
                    check_at_most_once try_verify_in_tasklet use_fec_from_device 7:3 fec_start 2 \
                    fec_blocks 132 fec_roots 2";
        assert_eq!(all, format!("{plain}{tail}"));
    }

    #[test]
    fn tables_that_check_less_are_others() {
        let params = params();
        let root = RootHash::new([0x11; 32]);
        let strict = table(&params, &root);
        let mut loose = strict.clone();
        loose.strictness.on_corruption = OnCorruption::Ignore;
        let shown = |table: &VerityTable<'_>, key| {
            let target = table.target(key).unwrap();
            Essence::of(&[target]).unwrap()
        };
        assert_eq!(shown(&strict, None), strict.essence(false));
        assert_eq!(shown(&strict, Some("any")), strict.essence(true));
        assert_ne!(shown(&strict, Some("any")), strict.essence(false));
        assert_ne!(shown(&loose, None), strict.essence(false));
        assert_eq!(Essence::of(&[]), None);
        let other = Target {
            start: 0,
            sectors: 8,
            kind: "linear".to_owned(),
            parameters: "7:1 0".to_owned(),
        };
        assert_eq!(Essence::of(&[other]), None);
    }
}
