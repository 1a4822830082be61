//! What definitions want of partitions that exist: `IfExists=`, `IfMissing=`, `IfOutOfBounds=`,
//! `Grow=`; the comparison of a disk with definitions; shares, factory resets, definitions made of
//! the disk.

#[path = "../common/mod.rs"]
mod common;
mod disks;
mod reset;
mod shares;

use disks::{applied, disk, options, own, planned, rows, set};
use image_specs::partition::FLAG_NO_AUTO;
use proptest::prelude::*;
use repart::build::table;
use repart::plan::{self, EmptyMode, Fate, Options, SizeMode};
use repart::survey::{FoundLabel, Survey};
use testimages::peer::Case;

#[test]
fn what_becomes_of_partitions_that_exist() {
    let mine = format!("home 1 100 {}", own(0));
    let second = format!("home 200 100 {}", own(1));
    let new = "Type=home; SizeMaxBytes=50M; IfExists=new";
    let fail = "Type=home; SizeMaxBytes=50M; IfExists=fail";
    let used = "Type=home; SizeMaxBytes=10M";
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        // Without the keys, the first takes it.
        (
            &["home 1 100"],
            &["Type=home; Grow=yes; Weight=0; SizeMaxBytes=100M"],
            &["home 100M 100M 00"],
        ),
        // A partition of its own, beside the other.
        (
            &["home 1 100"],
            &[new],
            &["home 100M 100M -", "home 0B 50M 00"],
        ),
        // The one that it made is known, wherever it stands; the other is not touched.
        (&[&mine], &[new], &["home 100M 100M 00"]),
        (
            &["home 200 100", &mine],
            &[new],
            &["home 100M 100M 00", "home 100M 100M -"],
        ),
        // Who takes any does not take what another made.
        (
            &[&second],
            &[used, new],
            &["home 0B 10M 00", "home 100M 100M 10"],
        ),
        (
            &[&mine],
            &[new, used],
            &["home 100M 100M 00", "home 0B 10M 10"],
        ),
        // A UUID of another type is not its own, and with UUID= it is known by that.
        (
            &["srv 1 100 00000000-0000-4000-8000-000000000001"],
            &[
                "Type=home; UUID=00000000-0000-4000-8000-000000000002; SizeMaxBytes=50M; IfExists=new",
            ],
            &["srv 100M 100M -", "home 0B 50M 00"],
        ),
        (
            &["home 1 100 00000000-0000-4000-8000-000000000002"],
            &[
                "Type=home; UUID=00000000-0000-4000-8000-000000000002; SizeMaxBytes=50M; IfExists=new",
            ],
            &["home 100M 100M 00"],
        ),
        // None is there, so one is made; the one that was made is no reason to fail.
        (
            &["srv 1 100"],
            &[fail],
            &["srv 100M 100M -", "home 0B 50M 00"],
        ),
        (&[&mine], &[fail], &["home 100M 100M 00"]),
        // Another definition has it.
        (
            &["home 1 100"],
            &[used, fail],
            &["home 100M 100M 00", "home 0B 50M 10"],
        ),
        // Nothing is made, and what is there grows as ever.
        (
            &["srv 1 100"],
            &["Type=home; IfMissing=ignore"],
            &["srv 100M 100M -"],
        ),
        (
            &["home 1 100"],
            &["Type=home; IfMissing=ignore; SizeMaxBytes=200M"],
            &["home 100M 200M 00"],
        ),
        (
            &["srv 1 100"],
            &["Type=home; IfExists=fail; IfMissing=ignore"],
            &["srv 100M 100M -"],
        ),
        (
            &["home 1 100"],
            &["Type=home; IfMissing=fail; SizeMaxBytes=200M"],
            &["home 100M 200M 00"],
        ),
        // Not even up to its least size.
        (
            &["home 1 100"],
            &["Type=home; Grow=no"],
            &["home 100M 100M 00"],
        ),
        (
            &["home 1 100"],
            &["Type=home; Grow=no; SizeMinBytes=200M"],
            &["home 100M 100M 00"],
        ),
        (
            &["home 1 100", "srv 101 100"],
            &["Type=home; Grow=no", "Type=srv; SizeMaxBytes=300M"],
            &["home 100M 100M 00", "srv 100M 300M 10"],
        ),
        // A new one has no size that could not grow.
        (
            &["srv 1 100"],
            &["Type=home; Grow=no; SizeMaxBytes=50M"],
            &["srv 100M 100M -", "home 0B 50M 00"],
        ),
        // In its bounds, to the byte.
        (
            &["home 1 100"],
            &["Type=home; Weight=0; SizeMinBytes=100M; SizeMaxBytes=100M; IfOutOfBounds=fail"],
            &["home 100M 100M 00"],
        ),
    ];
    for (found, files, expected) in cases {
        let survey = disk(found);
        let plan = planned(&survey, files);
        assert_eq!(rows(&plan), *expected, "{found:?} {files:?}");
        let again = planned(&applied(&survey, &plan), files);
        assert!(!again.changed, "{found:?} {files:?}: {:?}", rows(&again));
    }
}

#[test]
fn what_is_refused() {
    let mine = format!("home 1 100 {}", own(0));
    let theirs = format!("srv 1 100 {}", own(0));
    let lasting = options();
    let random = Options {
        seed_lasts: false,
        ..options()
    };
    let cases: &[(&Options, &[&str], &[&str], &str)] = &[
        (
            &lasting,
            &["srv 1 50", "home 100 100"],
            &["Type=home; IfExists=fail"],
            "existing partition 2 has the type of the home partition of /d/00.conf, which wants no other to be there",
        ),
        (
            &lasting,
            &[&mine, "home 200 100"],
            &["Type=home; IfExists=fail"],
            "existing partition 2 has the type",
        ),
        (
            &lasting,
            &[&mine],
            &["Type=home; IfExists=fail; IfMissing=ignore"],
            "existing partition 1 has the type",
        ),
        (
            &lasting,
            &["home 1 100", "home 200 100"],
            &["Type=home", "Type=home; IfExists=fail; IfMissing=ignore"],
            "existing partition 2 has",
        ),
        (
            &lasting,
            &["srv 1 100"],
            &["Type=home; IfMissing=fail"],
            "the home partition of /d/00.conf is not there, but must be",
        ),
        (
            &lasting,
            &["home 1 100"],
            &["Type=home; IfExists=new; IfMissing=fail"],
            "is not there, but must be",
        ),
        (
            &lasting,
            &["home 1 100"],
            &["Type=home; SizeMinBytes=101M; IfOutOfBounds=fail"],
            "has 100M, less than the 101M that",
        ),
        (
            &lasting,
            &["home 1 100"],
            &["Type=home; SizeMaxBytes=99M; IfOutOfBounds=fail"],
            "has 100M, more than the 99M that",
        ),
        (
            &lasting,
            &[&theirs],
            &["Type=home; IfExists=new"],
            "but another partition has",
        ),
        (
            &random,
            &[],
            &["Type=home; IfExists=new"],
            "the seed is another in each run",
        ),
        (
            &random,
            &[],
            &["Type=home; IfExists=fail"],
            "the seed is another in each run",
        ),
    ];
    for (options, found, files, message) in cases {
        let result = plan::plan(&disk(found), &set(files), options, &mut || [7; 16]);
        let error = result.map(|plan| rows(&plan)).unwrap_err();
        assert!(error.to_string().contains(message), "{files:?}: {error}");
        assert_eq!(error.exit().code(), 1);
    }
    let fixed = "Type=home; IfExists=new; UUID=00000000-0000-4000-8000-000000000002";
    plan::plan(&disk(&[]), &set(&[fixed]), &random, &mut || [7; 16]).unwrap();
}

#[test]
fn a_factory_reset_makes_its_own_anew() {
    let mine = format!("home 200 100 {}", own(0));
    let survey = disk(&["home 1 100", &mine]);
    let options = Options {
        factory_reset: true.into(),
        ..options()
    };
    let files = ["Type=home; IfExists=new; FactoryReset=yes; SizeMaxBytes=50M"];
    let plan = plan::plan(&survey, &set(&files), &options, &mut || [7; 16]).unwrap();
    plan::check(&plan, &survey).unwrap();
    assert_eq!(plan.reset.len(), 1);
    assert_eq!(rows(&plan), ["home 100M 100M -", "home 0B 50M 00"]);
    assert_eq!(plan.partitions[0].uuid, own(0));
}

#[test]
fn a_disk_is_compared_with_definitions() {
    let mine = format!("home 1 100 {}", own(0));
    let labelled = "Type=home; Label=old-0; SizeMinBytes=100M; SizeMaxBytes=100M; UUID=00000000-0000-0000-0000-000000000001";
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &[], &[]),
        (&["home 1 100", "srv 200 100"], &[labelled], &[]),
        (
            &[],
            &["Type=home"],
            &["/d/00.conf:2:1: there is no home partition"],
        ),
        (
            &[],
            &[
                "Type=home; IfMissing=ignore",
                "Type=home; Priority=1",
                "Type=srv; IfExists=fail; IfMissing=ignore",
            ],
            &[],
        ),
        (
            &["home 1 100"],
            &["Type=home; IfExists=new"],
            &["/d/00.conf:2:1: there is no home partition"],
        ),
        (
            &[&mine],
            &[
                "Type=home; IfExists=new",
                "Type=home; IfExists=fail; IfMissing=ignore",
            ],
            &[],
        ),
        (
            &["srv 1 100", "home 200 100"],
            &["Type=home; IfExists=fail; IfMissing=ignore"],
            &["/d/00.conf:3:1: partition 2: there is a home partition, but must be none"],
        ),
        (
            &["home 1 100", "home 200 100"],
            &["Type=home; IfExists=fail; IfMissing=ignore", "Type=home"],
            &["/d/00.conf:3:1: partition 2: there is a home partition, but must be none"],
        ),
        (
            &["home 1 100"],
            &[
                "Type=home; Label=x; SizeMinBytes=101M; UUID=00000000-0000-0000-0000-000000000002; Flags=0x8000000000000000",
            ],
            &[
                "/d/00.conf:5:1: partition 1: the UUID is 00000000-0000-0000-0000-000000000001, not 00000000-0000-0000-0000-000000000002",
                "/d/00.conf:3:1: partition 1: the label is \"old-0\", not \"x\"",
                "/d/00.conf:6:1: partition 1: the flags are 0x800000000000000, not 0x8800000000000000",
                "/d/00.conf:4:1: partition 1: the size is 100M, less than 101M",
            ],
        ),
        (
            &["home 1 100"],
            &["Type=home; SizeMaxBytes=99M; NoAuto=yes"],
            &[
                "/d/00.conf: partition 1: the flags are 0x800000000000000, not 0x8800000000000000",
                "/d/00.conf:3:1: partition 1: the size is 100M, more than 99M",
            ],
        ),
        (
            &["srv 1 100"],
            &["Type=home; UUID=00000000-0000-0000-0000-000000000001"],
            &["/d/00.conf:2:1: partition 1: the type is srv, not home"],
        ),
    ];
    for (found, files, expected) in cases {
        let differences = plan::compare(&disk(found), &set(files), &options()).unwrap();
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(lines, *expected, "{found:?} {files:?}");
    }
    assert_eq!(FLAG_NO_AUTO, 1 << 63);
    for label in [FoundLabel::None, FoundLabel::Other] {
        let survey = Survey { label, ..disk(&[]) };
        let differences = plan::compare(&survey, &set(&[]), &options()).unwrap();
        assert_eq!(
            differences[0].to_string(),
            "there is no GUID partition table"
        );
    }
    let random = Options {
        seed_lasts: false,
        ..options()
    };
    plan::compare(&disk(&[]), &set(&["Type=home; IfExists=new"]), &random).unwrap_err();
}

/// The case of `seed` with keys of ddi added to its definitions, as `seed` says.
fn case(seed: u64) -> Case {
    const KEYS: [&str; 8] = [
        "",
        "IfExists=new",
        "IfExists=fail",
        "IfMissing=ignore",
        "IfMissing=fail",
        "IfOutOfBounds=fail",
        "Grow=no",
        "IfExists=new\nGrow=no",
    ];
    let mut case = Case::new(seed, "/blocks");
    for (number, (path, text)) in case.files.iter_mut().enumerate() {
        if !path.contains('/') && !text.is_empty() {
            let at = (seed >> (3 * (number % 20))) & 7;
            let keys = KEYS[usize::try_from(at).unwrap()];
            *text = format!("{text}\n[Partition]\n{keys}\n");
        }
    }
    case
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_exists_is_kept_and_a_second_run_makes_nothing(seed: u64) {
        let case = case(seed);
        let Ok(set) = common::load(&case, "/repart.d") else { return Ok(()) };
        let survey = common::survey(&case, &set);
        let options = common::options(&case.choices);
        let Ok(first) = plan::plan(&survey, &set, &options, &mut || [7; 16]) else { return Ok(()) };
        prop_assert_eq!(plan::check(&first, &survey), Ok(()));
        for partition in &first.partitions {
            let rules = partition.definition.map(|at| set.definitions[at].existing);
            if rules.is_some_and(|rules| !rules.grow) && partition.found.is_some() {
                prop_assert_eq!(partition.fate, Fate::Unchanged);
            }
        }
        // What has no place, or none yet, may find one in the second run.
        let waits = |p: &plan::PlannedPartition| {
            let rules = p.definition.map(|at| set.definitions[at].existing);
            let ignored = rules.is_some_and(|rules| {
                rules.if_missing == repart::definition::IfMissing::Ignore
            });
            p.deferred || p.given_up || (!p.is_listed() && !ignored)
        };
        if first.partitions.iter().any(waits) {
            return Ok(());
        }
        let old = case.disk.as_ref().and_then(common::table);
        let table = table::planned(&first, old.as_ref()).expect("a plan makes a table");
        let again = Survey {
            disk_size: first.new_disk_size,
            label: FoundLabel::Gpt(table::found(&table)),
            ..survey
        };
        let options = Options {
            empty: EmptyMode::Refuse,
            size: SizeMode::Keep,
            factory_reset: false.into(),
            ..options
        };
        let Ok(second) = plan::plan(&again, &set, &options, &mut || [7; 16]) else {
            return Ok(());
        };
        // Sizes are the other properties' matter; here, no definition may make a second one.
        for partition in &second.partitions {
            let rules = partition.definition.map(|at| set.definitions[at].existing);
            if rules.is_some_and(|rules| rules.knows_its_own()) {
                prop_assert_ne!(partition.fate, Fate::Create);
            }
        }
    }
}
