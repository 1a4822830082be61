//! Choices as systemd-dissect 262.1 makes them, observed on images with the same tables.

use image_specs::partition::{FLAG_GROW_FILE_SYSTEM, FLAG_NO_AUTO, FLAG_READ_ONLY, PartitionType};
use uuid::Uuid;

use super::*;
use crate::options::VeritySettings;
use crate::probe::{Found, Kind};

/// The bit by which firmware is told to leave an ESP alone.
const FLAG_NO_BLOCK_IO: u64 = 1 << 1;

const NATIVE: Architecture = Architecture::X86_64;

/// Partitions from lines of type, label and attribute bits; their UUIDs are their numbers.
fn probed(lines: &[(&str, &str, u64)]) -> Probed {
    let found = (1..).zip(lines).map(|(number, (kind, label, attributes))| {
        let kind = PartitionType::parse(kind, NATIVE).unwrap();
        Found {
            number,
            kind: Kind {
                designator: kind.designator(),
                architecture: kind.architecture(),
            },
            uuid: Some(Uuid::from_u128(number.into())),
            label: (!label.is_empty()).then(|| (*label).to_owned()),
            attributes: *attributes,
            extent: Extent::new(Bytes::mib(number.into()), Bytes::mib(1)),
            signs: None,
        }
    });
    Probed {
        path: "image.raw".into(),
        size: Bytes::mib(100),
        sector_size: SectorSize::S512,
        uuid: None,
        content: Content::Partitions(found.collect()),
        table: None,
    }
}

fn assigned(lines: &[(&str, &str, u64)], options: &Options) -> Result<String, AssignError> {
    let dissected = assign(probed(lines), options)?;
    let describe = |one: &Partition| {
        let mode = if one.writable { "rw" } else { "ro" };
        let grow = if one.grow { "+" } else { "" };
        format!("{}={}:{mode}{grow}", one.designator, one.number.unwrap())
    };
    let all: Vec<String> = dissected.partitions.values().map(describe).collect();
    Ok(all.join(" "))
}

#[test]
fn partitions_are_chosen_as_systemd_does() {
    for (lines, expected) in [
        (vec![], ""),
        // Of equal ones the first; the newest label of root and its kin only.
        (
            vec![
                ("root", "root_2", 0),
                ("root-verity", "v_2", 0),
                ("root", "root_10", 0),
                ("root-verity", "v_10", 0),
                ("root", "root_10", 0),
                ("home", "a_1", 0),
                ("home", "a_2", 0),
            ],
            "root=3:rw home=6:rw root-verity=4:ro",
        ),
        // Native, then secondary, then any architecture, whatever the label.
        (
            vec![
                ("root-arm64", "r_9", 0),
                ("root-x86", "r_8", 0),
                ("root-x86-64", "r_1", 0),
            ],
            "root=3:rw",
        ),
        (
            vec![("root-arm64", "r_9", 0), ("root-x86", "r_8", 0)],
            "root=2:rw",
        ),
        (vec![("root-arm64", "", 0)], "root=1:rw"),
        // Bits, and who listens to them.
        (
            vec![
                ("root", "", FLAG_GROW_FILE_SYSTEM),
                ("home", "", FLAG_READ_ONLY | FLAG_GROW_FILE_SYSTEM),
                ("srv", "", FLAG_NO_AUTO),
                ("esp", "", FLAG_NO_AUTO | FLAG_READ_ONLY),
                ("swap", "", FLAG_READ_ONLY),
            ],
            "root=1:rw+ home=2:ro esp=4:rw swap=5:rw",
        ),
        (
            vec![("root", "", 0), ("esp", "", FLAG_NO_BLOCK_IO)],
            "root=1:rw",
        ),
        (
            vec![
                ("root", "_empty", 0),
                ("root", "root_1", 0),
                ("user-home", "", 0),
            ],
            "root=2:rw",
        ),
        // One of no special type is the root, unless there is another.
        (vec![("linux-generic", "g", FLAG_READ_ONLY)], "root=1:ro"),
        (vec![("linux-generic", "g", 0), ("usr", "", 0)], "usr=2:rw"),
        (vec![("linux-generic", "g", FLAG_NO_AUTO)], ""),
        // A verified usr beside a plain root is fine.
        (
            vec![("usr", "", 0), ("usr-verity", "", 0), ("root", "", 0)],
            "root=3:rw usr=1:rw usr-verity=2:ro",
        ),
    ] {
        let found = assigned(&lines, &Options::new(NATIVE)).unwrap();
        assert_eq!(found, expected, "{lines:?}");
    }
}

#[test]
fn partitions_that_make_no_image_are_refused() {
    let unpaired = |found, missing| AssignError::Unpaired { found, missing };
    for (lines, expected) in [
        (
            vec![("root-verity", "", 0)],
            unpaired(Designator::RootVerity, Designator::Root),
        ),
        (
            vec![("usr", "", 0), ("usr-verity-sig", "", 0)],
            unpaired(Designator::UsrVeritySig, Designator::UsrVerity),
        ),
        (
            vec![("root", "", 0), ("usr-arm64", "", 0)],
            AssignError::Architectures {
                root: NATIVE,
                usr: Architecture::Arm64,
            },
        ),
        (
            vec![("linux-generic", "", 0), ("linux-generic", "", 0)],
            AssignError::SeveralGeneric,
        ),
        (
            vec![("root", "", 0), ("root-verity", "", 0), ("usr", "", 0)],
            AssignError::VerityRootWithUsr,
        ),
        (
            vec![
                ("root", "", 0),
                ("root-verity", "", 0),
                ("usr", "", 0),
                ("usr-verity", "", 0),
            ],
            AssignError::TwoVerity,
        ),
    ] {
        let error = assigned(&lines, &Options::new(NATIVE)).unwrap_err();
        assert_eq!(error, expected, "{lines:?}");
    }
}

#[test]
fn a_root_hash_picks_its_pair() {
    let lines = [
        ("root", "root_9", 0),
        ("root-verity", "v_9", 0),
        ("root", "root_1", 0),
        ("root-verity", "v_1", 0),
        ("home", "", 0),
    ];
    let given = |data: u128, hash: u128| {
        let bytes = [data.to_be_bytes(), hash.to_be_bytes()].concat();
        Options {
            verity: VeritySettings::of(Designator::Root, RootHash::new(bytes)),
            ..Options::new(NATIVE)
        }
    };
    assert_eq!(
        assigned(&lines, &given(3, 4)).unwrap(),
        "root=3:rw home=5:rw root-verity=4:ro"
    );
    for (data, hash) in [(3, 7), (7, 4)] {
        let error = assigned(&lines, &given(data, hash)).unwrap_err();
        let wrong = matches!(
            error,
            AssignError::NoSuchHash { .. } | AssignError::Unpaired { .. }
        );
        assert!(wrong, "{error}");
    }
    let error = assigned(&lines, &given(0, 4)).unwrap_err();
    assert!(matches!(error, AssignError::UnusableHash(_)));
}

#[test]
fn the_filter_looks_at_labels() {
    let lines = [
        ("root", "root_9", 0),
        ("root", "root_1", 0),
        ("home", "", 0),
    ];
    let filtered = |text: &str| Options {
        filter: text.parse().unwrap(),
        ..Options::new(NATIVE)
    };
    for (filter, expected) in [
        ("", "root=1:rw home=3:rw"),
        ("root=root_1", "root=2:rw home=3:rw"),
        ("root=root_1:home=?*", "root=2:rw"),
        ("root=x*", "home=3:rw"),
    ] {
        assert_eq!(assigned(&lines, &filtered(filter)).unwrap(), expected);
    }
    let generic = [("linux-generic", "data", 0), ("linux-generic", "os", 0)];
    assert_eq!(
        assigned(&generic, &filtered("root=os")).unwrap(),
        "root=2:rw"
    );
}
