//! `Run`: the options are those of the command line, and so is all that follows.

use std::path::PathBuf;

use clap::FromArgMatches as _;
use image_specs::guid;
use image_specs::varlink::{Fault, Map, Parameters, Value};
use repart::build::overwrite::Caution;
use repart::build::phase::Doing;
use repart::build::session::{Replay, Session};
use repart::build::target::Target;
use repart::survey::FoundLabel;

use super::super::args::{EmptyArg, RepartArgs};
use super::super::prepare::{in_session, prepare, read};
use super::super::{failure, untold};
use super::faults;
use crate::exit::Failure;
use crate::notify::Notifier;
use crate::ui::{Mode, Ui};
use crate::values::SeedArg;
use crate::varlink::connection::Answers;
use crate::varlink::service::{Answer, Request};

/// Plans, and carries the plan out where that is asked for.
pub(super) fn run(request: Request, answers: &mut Answers<'_>) -> Answer {
    let args = args(request.parameters)?;
    // A dry run reads with the rights of the service, too.
    if !request.peer.is_trusted() {
        return Err(Fault::permission_denied());
    }
    let ui = Ui::new(Mode::Text);
    let notifier = Notifier::from_environment();
    let mut watch = |doing: &Doing| {
        notifier.tell(doing);
        told(doing, answers);
    };
    carry_out(&args, &ui, &mut watch).map_err(|failure| {
        ui.fail(&failure);
        faults::of(&failure)
    })
}

fn told(doing: &Doing, answers: &mut Answers<'_>) {
    let Some(phase) = doing.phase else { return };
    let mut parameters = Map::from_iter([("phase".to_owned(), phase.name().into())]);
    if let Some(object) = &doing.object {
        let object = object.to_string_lossy().into_owned();
        parameters.insert("object".to_owned(), object.into());
    }
    if let Some(percent) = doing.percent {
        parameters.insert("progress".to_owned(), percent.into());
    }
    answers.part(parameters);
}

/// The parameters as options of the command line.
fn args(mut given: Parameters) -> Result<RepartArgs, Fault> {
    let node = absolute(given.text("node")?.into_iter().collect(), "node")?;
    let empty = given.text("empty")?;
    let empty = empty.and_then(|name| empty_mode(&name));
    let dry_run = given.boolean("dryRun")?;
    let seed = given.text("seed")?;
    let seed = seed.map(|text| guid::parse(&text).map_err(|_| Fault::invalid_parameter("seed")));
    let definitions = given.texts("definitions")?.unwrap_or_default();
    let mut args = defaults()?;
    args.partitions.defer_partitions_empty = given.boolean("deferPartitionsEmpty")?;
    args.partitions.defer_partitions_factory_reset =
        given.boolean("deferPartitionsFactoryReset")?;
    given.finish()?;
    args.operation.empty = Some(empty.ok_or_else(|| Fault::invalid_parameter("empty"))?);
    args.operation.dry_run = Some(dry_run.ok_or_else(|| Fault::invalid_parameter("dryRun"))?);
    args.operation.seed = seed.transpose()?.map(SeedArg::Fixed);
    args.configuration.definitions = absolute(definitions, "definitions")?;
    args.device = match node.into_iter().next() {
        None if dry_run != Some(true) => return Err(Fault::invalid_parameter("dryRun")),
        // Only the least size is asked for.
        None => Some(PathBuf::from("-")),
        node => node,
    };
    Ok(args)
}

/// The options as they are when none is given.
fn defaults() -> Result<RepartArgs, Fault> {
    let command = <RepartArgs as clap::Args>::augment_args(clap::Command::new("repart"));
    let matches = command.try_get_matches_from(["repart"]);
    let args = matches.and_then(|matches| RepartArgs::from_arg_matches(&matches));
    args.map_err(|_| Fault::method_not_implemented("io.systemd.Repart.Run"))
}

fn empty_mode(name: &str) -> Option<EmptyArg> {
    match name {
        "refuse" => Some(EmptyArg::Refuse),
        "allow" => Some(EmptyArg::Allow),
        "require" => Some(EmptyArg::Require),
        "force" => Some(EmptyArg::Force),
        _ => None,
    }
}

/// A service has no working directory that a client could mean.
fn absolute(paths: Vec<String>, parameter: &str) -> Result<Vec<PathBuf>, Fault> {
    match paths.iter().all(|path| path.starts_with('/')) {
        true => Ok(paths.into_iter().map(PathBuf::from).collect()),
        false => Err(Fault::invalid_parameter(parameter)),
    }
}

fn carry_out(
    args: &RepartArgs,
    ui: &Ui,
    watch: &mut dyn FnMut(&Doing),
) -> Result<Map<String, Value>, Failure> {
    let (wanted, target) = read(args, ui, watch)?;
    let job = prepare(args, ui, wanted, target.as_ref(), watch)?;
    in_session(&job, target, |mut session, random| {
        session.set_caution(Caution {
            // The interface is systemd's.
            force_forgets: true,
            ..Caution::default()
        });
        let block_device = session.target().is_some_and(Target::is_block_device);
        session.set_keep(args.safety.keep(block_device));
        Run { args, ui, session }.go(random, watch)
    })
}

struct Run<'a> {
    args: &'a RepartArgs,
    ui: &'a Ui,
    session: Session<'a>,
}

impl Run<'_> {
    fn go(
        &mut self,
        random: &mut Replay<'_>,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<Map<String, Value>, Failure> {
        let found = self.found();
        let Some(found) = found else {
            return Ok(Map::from_iter([self.minimal(random, watch)?]));
        };
        let planned = self.session.plan(random, watch);
        self.notices();
        let plan = planned.map_err(failure)?;
        self.session.require_safe(&plan).map_err(failure)?;
        if self.args.is_dry_run() {
            let minimal = self.minimal(random, &mut |_| {})?;
            return Ok([minimal].into_iter().chain(found).collect());
        }
        let grows = plan.new_disk_size != plan.old_disk_size;
        if plan.changed || grows || self.session.kernel_differs(&plan) {
            let applied = self.session.apply(plan, false, watch);
            self.notices();
            let applied = applied.map_err(failure)?;
            for notice in &applied.notices {
                self.ui.note(notice);
            }
            untold(&applied)?;
        }
        Ok(Map::new())
    }

    /// The size of the disk, and how many partitions it has where its table counts.
    fn found(&self) -> Option<Vec<(String, Value)>> {
        let target = self.session.target()?;
        let size = target.device().size().get();
        let mut found = vec![("currentSizeBytes".to_owned(), size.into())];
        let looks = matches!(
            self.args.operation.empty,
            Some(EmptyArg::Refuse | EmptyArg::Allow)
        );
        if let FoundLabel::Gpt(table) = target.label()
            && looks
        {
            found.push(("partitionCount".to_owned(), table.partitions.len().into()));
        }
        Some(found)
    }

    fn minimal(
        &mut self,
        random: &mut Replay<'_>,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<(String, Value), Failure> {
        let size = self.session.minimal_size(random, watch).map_err(failure);
        self.notices();
        Ok(("minimalSizeBytes".to_owned(), size?.get().into()))
    }

    fn notices(&mut self) {
        for notice in self.session.take_notices() {
            self.ui.note(&notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::varlink::service::Peer;

    fn of(value: Value) -> Result<RepartArgs, Fault> {
        let Value::Object(all) = value else {
            panic!("no object");
        };
        args(Parameters::new(all))
    }

    #[test]
    fn parameters_are_options() {
        let args = of(json!({
            "node": "/dev/x", "empty": "require", "dryRun": false, "definitions": ["/a", "/b"],
            "seed": "11111111-2222-3333-4444-555555555555",
            "deferPartitionsEmpty": true, "deferPartitionsFactoryReset": null,
        }));
        let args = args.unwrap();
        assert_eq!(args.device.as_deref(), Some(Path::new("/dev/x")));
        assert_eq!(args.operation.empty, Some(EmptyArg::Require));
        assert!(!args.is_dry_run());
        assert!(matches!(args.operation.seed, Some(SeedArg::Fixed(_))));
        assert_eq!(args.configuration.definitions.len(), 2);
        assert_eq!(args.partitions.defer_partitions_empty, Some(true));
        assert_eq!(args.partitions.defer_partitions_factory_reset, None);
        let args = of(json!({"empty": "allow", "dryRun": true})).unwrap();
        assert_eq!(args.device.as_deref(), Some(Path::new("-")));
        assert!(args.is_dry_run());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (given, name) in [
            (json!({}), "empty"),
            (json!({"empty": "create", "dryRun": true}), "empty"),
            (json!({"empty": "allow"}), "dryRun"),
            (json!({"empty": "allow", "dryRun": false}), "dryRun"),
            (json!({"empty": "allow", "dryRun": "yes"}), "dryRun"),
            (
                json!({"empty": "allow", "dryRun": true, "node": ""}),
                "node",
            ),
            (
                json!({"empty": "allow", "dryRun": true, "node": "-"}),
                "node",
            ),
            (
                json!({"empty": "allow", "dryRun": true, "seed": "x"}),
                "seed",
            ),
            (
                json!({"empty": "allow", "dryRun": true, "definitions": ["x"]}),
                "definitions",
            ),
            (
                json!({"empty": "allow", "dryRun": true, "extra": 1}),
                "extra",
            ),
        ] {
            let fault = of(given.clone()).unwrap_err();
            assert_eq!(fault, Fault::invalid_parameter(name), "{given}");
        }
    }

    #[test]
    fn only_root_and_the_own_user_may_run() {
        let mut output = Vec::new();
        let mut answers = Answers::new(&mut output);
        let given = json!({"empty": "allow", "dryRun": true});
        let request = Request {
            method: "Run".to_owned(),
            parameters: Parameters::new(given.as_object().unwrap().clone()),
            peer: Peer::User(u32::MAX - 1),
        };
        let answer = run(request, &mut answers);
        assert_eq!(answer, Err(Fault::permission_denied()));
        assert!(Peer::User(0).is_trusted());
    }
}
