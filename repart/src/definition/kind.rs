//! `Type=`: what a partition is in a GPT, in a master boot record, and in the record beside a GPT.
//! Pure.

use image_specs::mbr::MbrType;
use image_specs::partition::PartitionType;

use super::read::Settings;
use super::{Definition, Reason};

/// The `mbr:` and `hybrid:` words of `Type=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MbrTypes {
    /// `mbr:`: the type on a disk with a master boot record.
    pub own: Option<MbrType>,
    /// Whether there is no type for a GPT beside it.
    pub alone: bool,
    /// `hybrid:`: the type by which the first sector of a GPT disk lists the partition, too.
    pub hybrid: Option<MbrType>,
}

/// Reads `Type=`: a GPT type, bare or after `gpt:`; the words `mbr:TYPE` and `hybrid:TYPE`; each once.
pub(super) fn parse(value: &str, settings: &Settings) -> Result<(PartitionType, MbrTypes), Reason> {
    if !value.contains(':') {
        return Ok((
            PartitionType::parse(value, settings.native)?,
            MbrTypes::default(),
        ));
    }
    let mut gpt = None;
    let mut mbr = MbrTypes::default();
    for word in value.split_whitespace() {
        let again = match word.split_once(':') {
            Some(("mbr", name)) => mbr.own.replace(MbrType::parse(name)?).is_some(),
            Some(("hybrid", name)) => mbr.hybrid.replace(MbrType::parse(name)?).is_some(),
            Some(("gpt", name)) => set(&mut gpt, name, settings)?,
            _ => set(&mut gpt, word, settings)?,
        };
        if again {
            return Err(Reason::TypeTwice);
        }
    }
    match (gpt, mbr.own) {
        (Some(kind), _) => Ok((kind, mbr)),
        (None, Some(own)) if mbr.hybrid.is_none() => {
            mbr.alone = true;
            Ok((own.nearest(), mbr))
        }
        _ => Err(Reason::HybridAlone),
    }
}

fn set(gpt: &mut Option<PartitionType>, name: &str, settings: &Settings) -> Result<bool, Reason> {
    let kind = PartitionType::parse(name, settings.native)?;
    Ok(gpt.replace(kind).is_some())
}

impl Definition {
    /// The type of its partition in a master boot record: as `Type=` says, or as follows from its
    /// designator; `None` where nothing follows.
    pub fn mbr_type(&self) -> Option<MbrType> {
        let implied = self.kind.designator().map(MbrType::of);
        self.mbr.own.or(implied.unwrap_or(Some(MbrType::LINUX)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_all;

    #[test]
    fn words_say_what_a_partition_is_in_each_table() {
        for (value, kind, own, alone, hybrid) in [
            ("home", "home", Some(0x83), false, None),
            ("gpt:home", "home", Some(0x83), false, None),
            ("mbr:linux", "linux-generic", Some(0x83), true, None),
            ("mbr:0x0c", "linux-generic", Some(0x0c), true, None),
            ("mbr:ef", "esp", Some(0xef), true, None),
            ("gpt:swap mbr:83", "swap", Some(0x83), false, None),
            ("mbr:83  swap", "swap", Some(0x83), false, None),
            ("swap", "swap", Some(0x82), false, None),
            ("xbootldr", "xbootldr", Some(0xea), false, None),
            ("esp hybrid:fat32", "esp", Some(0xef), false, Some(0x0c)),
            (
                "aaaaaaaa-8483-4772-8e79-3d69d8477de4",
                "aaaaaaaa-8483-4772-8e79-3d69d8477de4",
                Some(0x83),
                false,
                None,
            ),
        ] {
            let mut set = read_all(&[&format!("Type={value}")]).unwrap();
            let one = set.definitions.remove(0);
            assert_eq!(one.kind.to_string(), kind, "{value}");
            assert_eq!(one.mbr_type().map(|kind| kind.byte()), own, "{value}");
            assert_eq!(one.mbr.alone, alone, "{value}");
            assert_eq!(one.mbr.hybrid.map(|kind| kind.byte()), hybrid, "{value}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (value, words) in [
            ("mbr:extended", "no type of an MBR partition"),
            ("mbr:0", "no type of an MBR partition"),
            ("home mbr:ee", "no type of an MBR partition"),
            ("gpt:mbr:83", "not a partition type"),
            ("gpt:home gpt:srv", "each once"),
            ("gpt:home home", "each once"),
            ("mbr:83 mbr:82", "each once"),
            ("hybrid:83", "hybrid: stands beside a GPT type"),
            ("mbr:83 hybrid:83", "hybrid: stands beside a GPT type"),
        ] {
            let error = read_all(&[&format!("Type={value}")]).unwrap_err();
            assert!(error.contains(words), "{value}: {error}");
        }
    }
}
