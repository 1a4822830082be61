//! Factory resets: who asks for them, and what they leave.

use repart::plan::{self, EmptyMode, Options, Plan, ResetMode};
use repart::survey::{FoundLabel, Survey};
use uuid::Uuid;

use super::disks::{applied, disk, options, rows, seed, set};

const MARKED: &str = "Type=home; FactoryReset=yes; SizeMaxBytes=50M";
const FOR_GOOD: &str = "Type=home; FactoryReset=remove; SizeMaxBytes=50M";
const ROOT: &str = "Type=root; SizeMaxBytes=300M";

/// The disk, with all bits of its UUID set or not.
fn asking(found: &[&str], asks: bool) -> Survey {
    let mut survey = disk(found);
    if let FoundLabel::Gpt(table) = &mut survey.label
        && asks
    {
        table.disk_uuid = Uuid::max();
    }
    survey
}

fn reset(survey: &Survey, files: &[&str], mode: ResetMode) -> Plan {
    let options = Options {
        factory_reset: mode,
        ..options()
    };
    let plan = plan::plan(survey, &set(files), &options, &mut || [7; 16]).unwrap();
    plan::check(&plan, survey).unwrap();
    plan
}

#[test]
fn who_asks_for_a_reset_and_what_it_leaves() {
    use ResetMode::{Leave, Never, Recreate, WhenAsked};
    const OLD: &[&str] = &["root 1 100", "home 101 200"];
    let kept: &[&str] = &["root 100M 100M 00", "home 200M 200M 10"];
    let anew: &[&str] = &["root 100M 300M 00", "home 0B 50M 10"];
    let gone: &[&str] = &["root 100M 300M 00"];
    let left: &[&str] = &["root 100M 100M -"];
    let cases: &[(bool, ResetMode, &str, &[&str])] = &[
        (false, WhenAsked, MARKED, kept),
        (false, Never, MARKED, kept),
        (true, Never, MARKED, kept),
        (true, WhenAsked, MARKED, anew),
        (false, Recreate, MARKED, anew),
        (true, Recreate, MARKED, anew),
        (false, Leave, MARKED, left),
        (true, Leave, MARKED, left),
        (false, WhenAsked, FOR_GOOD, kept),
        (true, WhenAsked, FOR_GOOD, gone),
        (false, Recreate, FOR_GOOD, gone),
        (false, Leave, FOR_GOOD, left),
    ];
    for (asks, mode, home, expected) in cases {
        let survey = asking(OLD, *asks);
        let plan = reset(&survey, &[ROOT, home], *mode);
        let case = format!("{asks} {mode:?} {home}");
        assert_eq!(rows(&plan), *expected, "{case}");
        let removes = *expected != kept;
        assert_eq!(
            (plan.reset.len(), plan.changed),
            (usize::from(removes), removes),
            "{case}"
        );
        let wanted = match asks {
            true if removes => seed().disk(),
            true => Uuid::max(),
            false => Uuid::from_u128(99),
        };
        assert_eq!(plan.table.disk_uuid, wanted, "{case}");
        // The next run heeds the request no more, and makes what a reset has left out, if at all.
        let after = applied(&survey, &plan);
        let next = reset(&after, &[ROOT, home], WhenAsked);
        if *mode == Never && *asks {
            continue;
        }
        assert!(next.reset.is_empty(), "{case}");
        let makes = *mode == Leave;
        assert_eq!(next.changed, makes, "{case}: {:?}", rows(&next));
        assert_eq!(
            rows(&next).len(),
            match home.contains("remove") && removes {
                true => 1,
                false => 2,
            },
            "{case}"
        );
    }
}

#[test]
fn a_request_is_answered_even_where_nothing_is_marked() {
    let survey = asking(&["root 1 300"], true);
    let plan = reset(&survey, &[ROOT], ResetMode::WhenAsked);
    assert!(plan.changed && plan.reset.is_empty());
    assert_eq!(plan.table.disk_uuid, seed().disk());
    let next = reset(&applied(&survey, &plan), &[ROOT], ResetMode::WhenAsked);
    assert!(!next.changed);
}

#[test]
fn what_is_removed_for_good_comes_with_new_tables_only() {
    let survey = Survey {
        label: FoundLabel::None,
        ..disk(&[])
    };
    let options = Options {
        empty: EmptyMode::Allow,
        ..options()
    };
    let plan = plan::plan(&survey, &set(&[FOR_GOOD]), &options, &mut || [7; 16]).unwrap();
    assert_eq!(rows(&plan), ["home 0B 50M 00"]);
    let none = plan::plan(&disk(&[]), &set(&[FOR_GOOD]), &options, &mut || [7; 16]).unwrap();
    assert!(rows(&none).is_empty() && !none.changed);
    assert!(
        plan::compare(&disk(&[]), &set(&[FOR_GOOD]), &options)
            .unwrap()
            .is_empty()
    );
    for mode in [ResetMode::Recreate, ResetMode::Leave] {
        let options = Options {
            empty: EmptyMode::Force,
            factory_reset: mode,
            ..options.clone()
        };
        let error = plan::plan(&survey, &set(&[MARKED]), &options, &mut || [7; 16]).unwrap_err();
        assert_eq!(error, plan::PlanError::ResetOfNewTable);
    }
}
