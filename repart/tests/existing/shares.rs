//! Sizes that are shares of the disk or of the memory.

use image_specs::units::{Bytes, Grain};
use proptest::prelude::*;
use repart::plan::{self, EmptyMode, Options, SizeMode};
use repart::survey::{FoundContent, FoundLabel, Survey};

use super::disks::{applied, disk, options, planned, rows, set};

/// What partitions may use of [`disk`]: all but the first MiB and the sectors behind.
const USABLE: u64 = (1 << 30) - (1 << 20) - 33 * 512;

fn with_memory(mib: u64) -> Options {
    Options {
        memory: Some(Bytes::mib(mib)),
        ..options()
    }
}

#[test]
fn shares_become_sizes() {
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        // 25% of 1047 MiB less 16.5 KiB, rounded up to 4096 and down to 4096.
        (
            &[],
            &[
                "Type=home; SizeMinBytes=25%; SizeMaxBytes=25.01%; Weight=0",
                "Type=srv; SizeMaxBytes=10M",
            ],
            &["home 0B 255.8M 00", "srv 0B 10M 10"],
        ),
        (
            &[],
            &["Type=swap; SizeMinBytes=50%ram; SizeMaxBytes=50%ram"],
            &["swap 0B 100M 00"],
        ),
        (
            &["home 1 100"],
            &["Type=home; SizeMaxBytes=150%ram"],
            &["home 100M 300M 00"],
        ),
        // A share never shrinks what exists.
        (
            &["home 1 100"],
            &["Type=home; SizeMaxBytes=1%"],
            &["home 100M 100M 00"],
        ),
        (
            &["home 1 100"],
            &["Type=home; SizeMinBytes=50%ram; SizeMaxBytes=50%ram; PaddingMinBytes=100%ram"],
            &["home 100M 100M 00"],
        ),
    ];
    for (found, files, expected) in cases {
        let survey = disk(found);
        let plan = plan::plan(&survey, &set(files), &with_memory(200), &mut || [7; 16]).unwrap();
        plan::check(&plan, &survey).unwrap();
        assert_eq!(rows(&plan), *expected, "{found:?} {files:?}");
        let again = applied(&survey, &plan);
        let again = plan::plan(&again, &set(files), &with_memory(200), &mut || [7; 16]).unwrap();
        assert!(!again.changed, "{files:?}");
    }
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let auto = Options {
        size: SizeMode::Auto,
        empty: EmptyMode::Force,
        ..with_memory(200)
    };
    let cases: &[(&Options, &str, &str)] = &[
        (
            &options(),
            "Type=home; SizeMinBytes=50%ram",
            "the home partition of /d/00.conf is to have a share of the memory",
        ),
        (
            &auto,
            "Type=home; SizeMinBytes=50%",
            "is to have a share of the disk, whose size is not known",
        ),
        (
            &with_memory(200),
            "Type=home; SizeMinBytes=100%ram; SizeMaxBytes=50%ram",
            "is to have at least 200M, more than 100M at most",
        ),
        (
            &with_memory(200),
            "Type=home; PaddingMinBytes=1G; PaddingMaxBytes=50%",
            "is to have at least 1G, more than",
        ),
        (
            &with_memory(200),
            "Type=home; SizeMinBytes=10000%ram",
            "the partitions do not fit",
        ),
        (
            &with_memory(200),
            "Type=home; Format=ext4; Minimize=guess; SizeMaxBytes=10%",
            "the contents of the home partition of /d/00.conf need 200M, more than",
        ),
    ];
    for (options, keys, message) in cases {
        let survey = Survey {
            contents: vec![FoundContent {
                blocks: Some(Bytes::mib(200)).filter(|_| keys.contains("Minimize")),
                ..FoundContent::default()
            }],
            ..disk(&[])
        };
        let error = plan::plan(&survey, &set(&[keys]), options, &mut || [7; 16]);
        let error = error.map(|plan| rows(&plan)).unwrap_err();
        assert!(error.to_string().contains(message), "{keys}: {error}");
    }
    let minimal = plan::minimal_size(
        &disk(&[]),
        &set(&["Type=home; SizeMinBytes=1%"]),
        &options(),
    );
    minimal.unwrap_err();
    let text = [
        "Type=home; SizeMinBytes=1%ram",
        "Type=home; SizeMaxBytes=20%; Label=x",
    ];
    assert_eq!(
        plan::compare(&disk(&["home 1 100"]), &set(&text[1..]), &options())
            .unwrap()
            .len(),
        1
    );
    assert!(plan::compare(&disk(&["home 1 100"]), &set(&text[..1]), &options()).is_err());
}

#[test]
fn the_last_that_can_grow_grows_without_definitions() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["esp 1 100", "root 101 100"],
            &["esp 100M 100M -", "root 100M 922.9M 00"],
        ),
        // By its place on the disk, not by its slot; only into what is free behind it.
        (
            &["home 201 100", "root 1 100"],
            &["root 100M 100M -", "home 100M 822.9M 00"],
        ),
        (
            &["home 1 100", "home 101 100", "swap 301 100"],
            &["home 100M 100M -", "home 100M 200M 00", "swap 100M 100M -"],
        ),
        // Verity keeps its data as they are.
        (
            &["home 1 100", "root 101 100", "root-verity 201 100"],
            &[
                "home 100M 100M 00",
                "root 100M 100M -",
                "root-verity 100M 100M -",
            ],
        ),
        (
            &["esp 1 100", "swap 201 100"],
            &["esp 100M 100M -", "swap 100M 100M -"],
        ),
    ];
    for (found, expected) in cases {
        let survey = disk(found);
        let FoundLabel::Gpt(table) = &survey.label else {
            panic!()
        };
        let set = plan::growable(table).unwrap();
        let plan = plan::plan(&survey, &set, &options(), &mut || [7; 16]).unwrap();
        plan::check(&plan, &survey).unwrap();
        assert_eq!(rows(&plan), *expected, "{found:?}");
        let after = applied(&survey, &plan);
        let FoundLabel::Gpt(table) = &after.label else {
            panic!()
        };
        let set = plan::growable(table).unwrap();
        let again = plan::plan(&after, &set, &options(), &mut || [7; 16]).unwrap();
        assert!(!again.changed, "{found:?}");
    }
    let nameless = ["root 1 100 00000000-0000-0000-0000-000000000000"];
    let survey = disk(&nameless);
    let FoundLabel::Gpt(table) = &survey.label else {
        panic!()
    };
    let error = plan::growable(table).unwrap_err();
    assert!(
        error.to_string().contains("partition 1 could grow"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn shares_are_respected(min in 0_u64..40, more in 0_u64..40, ram in 1_u64..400, of_ram: bool) {
        let (unit, whole) = match of_ram {
            true => ("%ram", Bytes::mib(ram)),
            false => ("%", Bytes::new(USABLE)),
        };
        let max = min + more;
        let home = format!("Type=home; SizeMinBytes={min}{unit}; SizeMaxBytes={max}{unit}");
        let files = [home.as_str(), "Type=srv"];
        let survey = disk(&[]);
        let plan = plan::plan(&survey, &set(&files), &with_memory(ram), &mut || [7; 16]);
        let Ok(plan) = plan else {
            // At least and at most round apart where they are equal.
            prop_assert_eq!(min, max);
            return Ok(());
        };
        prop_assert_eq!(plan::check(&plan, &survey), Ok(()));
        let size = plan.partitions[0].new_size.get();
        let part = |percent: u64| whole.get() * percent / 100;
        prop_assert!(size >= part(min));
        prop_assert!(size <= part(max).max(10 << 20) || part(max) < 4096);
        prop_assert!(Bytes::new(size).is_multiple_of(Grain::DEFAULT.get()));
        let again = applied(&survey, &plan);
        let again = plan::plan(&again, &set(&files), &with_memory(ram), &mut || [7; 16]).unwrap();
        prop_assert!(!again.changed);
    }
}

#[test]
fn without_shares_nothing_is_looked_up() {
    let plan = planned(&disk(&[]), &["Type=home; SizeMaxBytes=10M"]);
    assert_eq!(rows(&plan), ["home 0B 10M 00"]);
}
