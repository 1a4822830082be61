//! What every run begins with, whoever asks for it: options become a job and a target, and these a
//! session with random numbers.

use repart::build::job::Job;
use repart::build::phase::{Doing, Phase};
use repart::build::session::{Replay, Session};
use repart::build::target::Target;
use repart::definition::DefinitionSet;

use super::args::RepartArgs;
use super::{failure, is_none, job, load, open, refusals};
use crate::exit::Failure;
use crate::surroundings;
use crate::ui::Ui;

/// Reads the definitions, and opens the target where there is one.
pub(super) fn read(
    args: &RepartArgs,
    ui: &Ui,
    watch: &mut dyn FnMut(&Doing),
) -> Result<(DefinitionSet, Option<Target>), Failure> {
    refusals::check(args)?;
    watch(&Doing::new(Phase::LoadingDefinitions));
    let wanted = load::definitions(args, ui)?;
    for warning in &wanted.warnings {
        ui.note(&format!("warning: {warning}"));
    }
    let node = args.device.clone().filter(|device| !is_none(device));
    if node.is_some() {
        watch(&Doing::new(Phase::LoadingTable));
    }
    let target = node.as_deref().map(|node| open(args, node)).transpose()?;
    Ok((wanted, target))
}

/// Reads all else that the options name.
pub(super) fn prepare(
    args: &RepartArgs,
    ui: &Ui,
    wanted: DefinitionSet,
    target: Option<&Target>,
    watch: &mut dyn FnMut(&Doing),
) -> Result<Job, Failure> {
    let job = job(args, ui, wanted, target)?;
    if !args.is_dry_run() {
        repart::definition::unsupported(&job.wanted)
            .map_or(Ok(()), |error| Err(Failure::from(error)))?;
    }
    for definition in job.definitions() {
        if definition.copy_blocks.is_some() {
            let file = definition.origin.path.as_deref();
            watch(&Doing::new(Phase::OpeningCopyBlockSources).of(file));
        }
    }
    Ok(job)
}

/// Begins a run and has `work` lead it.
pub(super) fn in_session<'a, T>(
    job: &'a Job,
    target: Option<Target>,
    work: impl FnOnce(Session<'a>, &mut Replay<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut failed = None;
    let mut source = || {
        surroundings::random().unwrap_or_else(|failure| {
            failed = Some(failure);
            [0; 16]
        })
    };
    let mut random = Replay::new(&mut source);
    let session = Session::new(job, target).map_err(failure)?;
    let result = work(session, &mut random);
    failed.map_or(result, Err)
}
