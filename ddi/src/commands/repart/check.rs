//! `ddi repart --check`: whether a disk is as its definitions say. Nothing is planned or written.

use std::path::Path;

use clap::Args;
use repart::build::target::Target;
use repart::definition::DefinitionSet;
use repart::plan::{self, Difference, Options};
use repart::survey::Survey;
use serde_json::{Value, json};

use super::args::RepartArgs;
use super::planning;
use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};

/// Comparing instead of changing.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Check")]
pub(crate) struct CheckArgs {
    /// Only check that the partitions are as defined: exit with 0 if so, with 1 if not
    #[arg(long, conflicts_with_all = ["dry_run", "empty", "size", "factory_reset",
        "can_factory_reset", "split", "make_ddi", "sysext", "confext", "portable",
        "defer_partitions", "defer_partitions_empty", "defer_partitions_factory_reset",
        "generate_fstab", "generate_crypttab", "el_torito"])]
    pub(crate) check: bool,
}

/// Compares the disk with the definitions and prints a line for each difference.
pub(super) fn run(
    args: &RepartArgs,
    ui: &Ui,
    wanted: &DefinitionSet,
    target: Option<&Target>,
) -> Result<Exit, Failure> {
    let Some(target) = target else {
        return Err(Failure::message("--check needs a disk or image to look at"));
    };
    let survey = Survey {
        disk_size: target.device().size(),
        sector: target.device().sector_size(),
        label: target.label().clone(),
        contents: Vec::new(),
    };
    let seed = super::seed::choose(args)?;
    let options = Options {
        seed_lasts: seed.lasts,
        grain: super::grain(args),
        memory: planning::memory(args, wanted),
        ..Options::new(seed.seed)
    };
    let differences = plan::compare(&survey, wanted, &options)?;
    match ui.mode() {
        Mode::Text => show(ui, target.path(), &differences)?,
        _ => ui.print_json(&to_json(&differences))?,
    }
    Ok(match differences.is_empty() {
        true => Exit::Ok,
        false => Exit::Different,
    })
}

fn show(ui: &Ui, disk: &Path, differences: &[Difference]) -> Result<(), Failure> {
    if differences.is_empty() {
        ui.note(&format!("{} is as defined.", disk.display()));
    }
    let lines: String = differences.iter().map(|d| format!("{d}\n")).collect();
    ui.print(&lines)
}

fn to_json(differences: &[Difference]) -> Value {
    let one = |difference: &Difference| {
        let position = difference.position.as_ref();
        json!({
            "what": difference.deviation.name(),
            "partno": difference.slot,
            "file": position.map(|position| position.path.clone()),
            "message": difference.to_string(),
        })
    };
    json!({
        "asDefined": differences.is_empty(),
        "differences": differences.iter().map(one).collect::<Vec<_>>(),
    })
}
