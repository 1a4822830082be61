//! What a plan is made from, beside the definitions: memory, factory reset, definitions made of the
//! disk itself.

use clap::Args;
use image_specs::conf::{boolean, size};
use image_specs::units::Bytes;
use repart::build::target::Target;
use repart::definition::{DefinitionSet, ShareOf};
use repart::plan::{self, ResetMode};
use repart::survey::FoundLabel;

use super::args::RepartArgs;
use crate::exit::Failure;
use crate::surroundings;
use crate::ui::Ui;

/// What the plan is made from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Planning")]
pub(crate) struct PlanningArgs {
    /// The memory that sizes such as 50%ram count on [default: that of this machine]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) memory: Option<u64>,
    /// Read no definitions; let the last partition whose file system can grow take the space behind it
    #[arg(long, conflicts_with_all = ["definitions", "make_ddi", "sysext", "confext", "portable",
        "copy_from", "check", "empty", "factory_reset", "can_factory_reset"])]
    pub(crate) auto_definitions: bool,
}

/// `--factory-reset=`.
pub(super) fn reset_mode(text: &str) -> Result<ResetMode, String> {
    match text {
        "leave" => Ok(ResetMode::Leave),
        _ => boolean(text)
            .map(ResetMode::from)
            .map_err(|_| "write yes, no or leave".to_owned()),
    }
}

/// What becomes of partitions marked for a factory reset; to ask whether there are any is no reset.
pub(super) fn factory_reset(args: &RepartArgs) -> ResetMode {
    match args.reset.can_factory_reset {
        true => ResetMode::Never,
        false => args.reset.factory_reset.unwrap_or_default(),
    }
}

/// The definitions that were read, or those that the disk itself asks for.
pub(super) fn definitions(
    args: &RepartArgs,
    ui: &Ui,
    read: DefinitionSet,
    target: Option<&Target>,
) -> Result<DefinitionSet, Failure> {
    if !args.planning.auto_definitions {
        return Ok(read);
    }
    let Some(FoundLabel::Gpt(table)) = target.map(Target::label) else {
        return Ok(read);
    };
    let set = plan::growable(table)?;
    if set.definitions.is_empty() {
        ui.note("No partition has a file system that can grow.");
    }
    Ok(set)
}

/// The memory that shares count on; it is looked up only where one does.
pub(super) fn memory(args: &RepartArgs, wanted: &DefinitionSet) -> Option<Bytes> {
    let mut shares = wanted
        .definitions
        .iter()
        .flat_map(|wanted| wanted.shares.iter());
    match args.planning.memory {
        Some(bytes) => Some(Bytes::new(bytes)),
        None => (shares.any(|share| share.of == ShareOf::Memory)).then(surroundings::memory),
    }
}
