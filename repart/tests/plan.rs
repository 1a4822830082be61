//! What must hold of every plan, over the random cases that are also compared with systemd-repart.

use std::collections::BTreeMap;

use blockdev::partitions::Wanted;
use blockdev::partitions::changes::Change;
use blockdev::usage::{Use, User};
use image_specs::units::{Bytes, Extent};
use proptest::prelude::*;
use repart::build::steps::Step;
use repart::build::{kernel, table};
use repart::definition::DefinitionSet;
use repart::plan::{self, EmptyMode, Fate, Options, Plan, PlannedPartition, SizeMode};
use repart::report::Report;
use repart::survey::{FoundLabel, FoundPartition, FoundTable, Survey};
use testimages::peer::Case;

mod common;

struct Planned {
    case: Case,
    set: DefinitionSet,
    survey: Survey,
    options: Options,
    plan: Plan,
}

/// Plans the case of `seed`; `None` where its definitions are refused or do not fit.
fn planned(seed: u64) -> Option<Planned> {
    let case = Case::new(seed, "/blocks");
    let set = common::load(&case, "/repart.d").ok()?;
    let survey = common::survey(&case, &set);
    let options = common::options(&case.choices);
    let plan = plan::plan(&survey, &set, &options, &mut || [7; 16]).ok()?;
    Some(Planned {
        case,
        set,
        survey,
        options,
        plan,
    })
}

fn found(survey: &Survey) -> Option<&FoundTable> {
    match &survey.label {
        FoundLabel::Gpt(found) => Some(found),
        _ => None,
    }
}

/// Whether a second run gives out, as systemd-repart does, what the first could not: the rest of a
/// grain in which an older partition ends, or padding that nothing had a use for; or does not count a
/// least padding that is no whole grain, as can be with grains above 4096.
fn is_given_out_again(planned: &Planned) -> bool {
    let grain = planned.plan.grain.get();
    let on_grain = |old: &FoundPartition| {
        old.extent.size.is_multiple_of(grain) && old.extent.start.is_multiple_of(grain)
    };
    let old = found(&planned.survey).map_or(&[][..], |found| &found.partitions);
    let definitions = &planned.set.definitions;
    grain > 4096
        || !old.iter().all(on_grain)
        || (definitions.iter())
            .any(|wanted| wanted.padding_weight > 0 || wanted.padding_max.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_exists_stays_where_it_is_and_never_shrinks(seed: u64) {
        let Some(Planned { survey, plan, .. }) = planned(seed) else { return Ok(()) };
        if plan.table.from_scratch {
            return Ok(());
        }
        for old in found(&survey).into_iter().flat_map(|found| &found.partitions) {
            if plan.reset.contains(old) {
                continue;
            }
            let new = plan.listed().find(|new| new.slot == Some(old.slot));
            let new = new.expect("an existing partition has vanished");
            prop_assert_eq!(new.offset, old.extent.start);
            prop_assert!(new.new_size >= old.extent.size);
            prop_assert_eq!(new.kind, old.kind);
            prop_assert_eq!(new.flags, old.flags);
        }
    }

    #[test]
    fn what_is_deferred_stays_as_it_is_in_the_table(seed: u64) {
        let Some(Planned { case, plan, .. }) = planned(seed) else { return Ok(()) };
        let old = case.disk.as_ref().and_then(common::table);
        let new = table::planned(&plan, old.as_ref()).expect("a plan makes a table");
        let old = old.filter(|_| !plan.table.from_scratch);
        for partition in plan.listed().filter(|partition| partition.deferred) {
            let Some(slot) = partition.slot else { continue };
            let before = old.as_ref().and_then(|old| old.slots().get(&slot));
            let before = before.filter(|_| partition.found.is_some());
            prop_assert_eq!(new.slots().get(&slot), before);
        }
    }

    #[test]
    fn the_kernel_learns_what_the_table_says_and_nothing_else(seed: u64, forgotten: u32) {
        let Some(Planned { case, survey, plan, .. }) = planned(seed) else { return Ok(()) };
        let old = case.disk.as_ref().and_then(common::table);
        let new = table::planned(&plan, old.as_ref()).expect("a plan makes a table");
        let listed = |table: &FoundTable| -> BTreeMap<u32, Extent> {
            let of = |part: &FoundPartition| (part.slot + 1, part.extent);
            table.partitions.iter().map(of).collect()
        };
        let expected = listed(&table::found(&new));
        let mut kernel = found(&survey).map(listed).unwrap_or_default();
        // As if the last run had not told all of it.
        kernel.retain(|number, _| forgotten & (1 << (number % 32)) == 0);
        let wanted = |(number, extent): (&u32, &Extent)| Wanted { number: *number, extent: *extent };
        let known: Vec<Wanted> = kernel.iter().map(wanted).collect();
        for step in kernel::steps(&plan, &known) {
            let Step::Tell(change) = step else { panic!("{step:?}") };
            match change {
                Change::Forget(number) => { kernel.remove(&number); }
                Change::Resize(one) | Change::Add(one) => { kernel.insert(one.number, one.extent); }
            }
        }
        prop_assert_eq!(&kernel, &expected);
        // Nobody who uses what stays is in the way.
        let uses = |number: u32, extent: Extent| {
            let user = User::Holder("x".to_owned());
            [Use { partition: Some(number), extent: Some(extent), user }]
        };
        let old = |part: &PlannedPartition| part.found.as_ref().map(|found| found.extent);
        for part in plan.listed().filter(|_| !plan.table.from_scratch) {
            let number = part.slot.map_or(0, |slot| slot + 1);
            if let Some(extent) = old(part) {
                prop_assert_eq!(kernel::in_the_way(&plan, &uses(number, extent)), []);
            }
        }
        for gone in plan.reset.iter().filter(|_| plan.changed) {
            let uses = uses(gone.slot + 1, gone.extent);
            prop_assert_eq!(kernel::in_the_way(&plan, &uses), uses);
        }
        // What only the kernel still knows is in the way where its place gets another use.
        for part in plan.listed().filter(|part| !part.deferred && part.fate != Fate::Unchanged) {
            let Some(last) = part.extent().end().and_then(|end| end.checked_sub(Bytes::new(1))) else { continue };
            let uses = uses(999, Extent::new(last, Bytes::mib(1)));
            prop_assert_eq!(kernel::in_the_way(&plan, &uses), uses);
        }
    }

    #[test]
    fn nothing_overlaps_and_every_byte_is_accounted_for(seed: u64) {
        let Some(Planned { survey, plan, .. }) = planned(seed) else { return Ok(()) };
        prop_assert_eq!(plan::check(&plan, &survey), Ok(()));
        let mut places: Vec<_> = plan.listed().map(|partition| partition.extent()).collect();
        places.sort();
        for pair in places.windows(2) {
            prop_assert!(!pair[0].overlaps(pair[1]));
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_plan(seed: u64) {
        let Some(first) = planned(seed) else { return Ok(()) };
        let second = planned(seed).expect("it was planned before");
        prop_assert_eq!(first.plan, second.plan);
    }

    #[test]
    fn a_plan_applied_and_planned_again_is_empty(seed: u64) {
        let Some(first) = planned(seed) else { return Ok(()) };
        let left_out = |p: &plan::PlannedPartition| p.deferred || !p.is_listed() || p.definition.is_none();
        if first.plan.partitions.iter().any(left_out) {
            return Ok(()); // what was left out may fit now, or its space be taken
        }
        if is_given_out_again(&first) {
            return Ok(());
        }
        let mut kinds: Vec<_> = first.plan.partitions.iter().map(|p| p.kind.guid()).collect();
        kinds.sort();
        kinds.dedup();
        if kinds.len() < first.plan.partitions.len() {
            return Ok(()); // two of one type may find each other's definition the second time
        }
        let old = first.case.disk.as_ref().and_then(common::table);
        let table = table::planned(&first.plan, old.as_ref()).expect("a plan makes a table");
        let survey = Survey {
            disk_size: first.plan.new_disk_size,
            label: FoundLabel::Gpt(table::found(&table)),
            ..first.survey
        };
        let options = Options {
            empty: EmptyMode::Refuse,
            size: SizeMode::Keep,
            factory_reset: false.into(),
            ..first.options
        };
        let second = plan::plan(&survey, &first.set, &options, &mut || [7; 16]);
        let second = second.expect("what fits once fits again");
        prop_assert!(!second.changed, "{:#?}", Report::new(&second, &first.set.definitions, None));
    }
}

#[test]
fn most_cases_can_be_planned() {
    let planned = (0..1500).filter_map(planned);
    let fates: Vec<Fate> = planned
        .flat_map(|p| p.plan.partitions)
        .map(|p| p.fate)
        .collect();
    for fate in [Fate::Create, Fate::Resize, Fate::Unchanged, Fate::Dropped] {
        assert!(
            fates.iter().filter(|other| **other == fate).count() > 20,
            "{fate:?}"
        );
    }
}
