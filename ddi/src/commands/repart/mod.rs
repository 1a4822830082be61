//! `ddi repart`, also reached as `systemd-repart`.

pub(crate) mod args;
mod check;
mod convert;
mod device;
mod growing;
mod image;
mod keys;
mod load;
mod planning;
mod prepare;
mod refusals;
mod request;
mod restore;
mod safety;
mod seed;
mod select;
pub(crate) mod sign;
mod table_args;
mod times;
mod varlink;
mod view;

use std::path::{Path, PathBuf};

use blockdev::partitions::changes::TellError;
use image_specs::eltorito::Identifiers;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Grain, SectorSize};
use luks::tpm2::Tpm2Error;
use repart::build::apply::Applied;
use repart::build::job::{Fstab, Job};
use repart::build::phase::{Doing, Phase};
use repart::build::session::{Replay, Session, SessionError};
use repart::build::target::{Target, TargetError};
use repart::definition::DefinitionSet;
use repart::fstab::Append;
use repart::plan::{Defer, EmptyMode, ExitClass, Options, Plan, SizeMode};
use repart::report::Report;

use self::args::{AppendArg, EmptyArg, RepartArgs};
use self::growing::Grown;
use self::prepare::{in_session, prepare, read};
use self::request::Request;
use self::times::Times;
use super::tpm2_args;
use crate::exit::{Exit, Failure};
use crate::notify::Notifier;
use crate::surroundings;
use crate::ui::progress::Progress;
use crate::ui::{Mode, Ui};
use crate::values::{SizeArg, Tristate};
use crate::verb;

impl verb::Run for RepartArgs {
    fn mode(&self) -> Mode {
        self.output.mode()
    }

    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        if let Some(invocation) = varlink::asked()? {
            return varlink::run(invocation);
        }
        let request = Request::read(self)?;
        if request.is_off() {
            ui.note("ddi.repart=no on the kernel's command line: nothing is done.");
            return Ok(Exit::Ok);
        }
        let asked = request.apply(self);
        let notifier = Notifier::from_environment();
        let result = match select::resolved(&asked, ui)? {
            Some(args) => run(&args, ui, &notifier, &request),
            None => run(&asked, ui, &notifier, &request),
        };
        let exit = result
            .as_ref()
            .map_or_else(|failure| failure.exit, |exit| *exit);
        notifier.ended(exit.code());
        result
    }
}

fn run(
    args: &RepartArgs,
    ui: &Ui,
    notifier: &Notifier,
    request: &Request,
) -> Result<Exit, Failure> {
    if args.encryption.tpm2.lists() {
        tpm2_args::list(ui)?;
        return Ok(Exit::Ok);
    }
    if let Some(file) = &args.safety.restore {
        return restore::run(args, file, ui);
    }
    if args.configuration.list_devices {
        return device::list(ui);
    }
    if let Some(bytes) = args.table.convert_sector_size {
        let path = args.device.as_deref();
        let path = path.ok_or_else(|| Failure::message("--convert-sector-size= needs an image"))?;
        return convert::run(path, bytes, args.is_dry_run(), ui);
    }
    if let Some(path) = &args.configuration.image {
        return image::run(args, ui, path, |args| run(args, ui, notifier, request));
    }
    let args = &device::resolved(args)?;
    let mut tell = |doing: &Doing| notifier.tell(doing);
    let (wanted, target) = read(args, ui, &mut tell)?;
    let wanted = planning::definitions(args, ui, wanted, target.as_ref())?;
    if args.check.check {
        return check::run(args, ui, &wanted, target.as_ref());
    }
    let job = prepare(args, ui, wanted, target.as_ref(), &mut tell)?;
    in_session(&job, target, |mut session, random| {
        session.set_caution(args.safety.caution());
        let block_device = session.target().is_some_and(Target::is_block_device);
        session.set_keep(args.safety.keep(block_device));
        let mut run = Run {
            args,
            ui,
            job: &job,
            session,
            notifier,
            request,
        };
        run.go(random)
    })
}

struct Run<'a> {
    args: &'a RepartArgs,
    ui: &'a Ui,
    job: &'a Job,
    session: Session<'a>,
    notifier: &'a Notifier,
    request: &'a Request,
}

impl Run<'_> {
    fn go(&mut self, random: &mut Replay<'_>) -> Result<Exit, Failure> {
        if self.session.target().is_none() {
            return self.minimal_size(random);
        }
        self.mention_damage();
        let progress = Progress::start(self.ui, "reading definitions".to_owned());
        let watch = &mut |doing: &Doing| progress.follow(doing, self.notifier);
        let planned = self.session.plan(random, watch);
        drop(progress);
        self.notices();
        let plan = planned.map_err(failure)?;
        if self.args.reset.can_factory_reset {
            return Ok(self.can_factory_reset(&plan));
        }
        let split = self.args.operation.split.unwrap_or(false);
        self.show_plan(&plan)?;
        self.session.require_safe(&plan).map_err(failure)?;
        let grows = plan.new_disk_size != plan.old_disk_size;
        let beside = self.session.restores_copy(&plan)
            || split
            || self.job.fstab.is_some()
            || self.job.crypttab.is_some();
        let tells = self.session.kernel_differs(&plan);
        if self.args.is_dry_run() || !(plan.changed || grows || beside || tells) {
            let exit = self.leave(&plan, tells)?;
            self.finish(&Applied::nothing(plan), false)?;
            return Ok(exit);
        }
        if !plan.changed {
            self.ui.note("No changes.");
        }
        let disk = self.session.disk();
        let progress = Progress::start(self.ui, "preparing".to_owned());
        let mut times = Times::new();
        let watch = &mut |doing: &Doing| {
            // What is done, or takes no time, is no step.
            if doing.percent.is_none() && doing.phase != Some(Phase::AdjustingPartition) {
                times.begin(&doing.text);
            }
            progress.follow(doing, self.notifier);
        };
        let applied = self.session.apply(plan, split, watch);
        drop(progress);
        self.notices();
        // At once: a reset that is asked for again would delete what is new, whatever fails from here on.
        let cleared = self.cleared(self.session.is_committed());
        let applied = applied.map_err(failure)?;
        let grown = self.grow(disk.as_deref(), &applied.plan, &mut times)?;
        let quiet = self.ui.mode() != Mode::Text || self.args.output.pretty == Some(false);
        if let Some(told) = times.told().filter(|_| !quiet) {
            self.ui.note(&told);
        }
        for notice in &applied.notices {
            self.ui.note(notice);
        }
        self.finish(&applied, split)?;
        untold(&applied)?;
        Ok(grown.exit.unwrap_or(cleared))
    }

    /// Clears the request for what is `done`; how the run ends where that fails.
    fn cleared(&self, done: bool) -> Exit {
        let cleared = if done { self.request.done() } else { Ok(()) };
        match cleared {
            Ok(()) => Exit::Ok,
            Err(failure) => {
                self.ui.fail(&failure);
                failure.exit
            }
        }
    }

    /// The table stays as it is.
    fn leave(&self, plan: &Plan, tells: bool) -> Result<Exit, Failure> {
        let dry = self.args.is_dry_run();
        let cleared = self.cleared(!dry);
        let disk = self.session.disk().filter(|_| !dry);
        let grown = self.grow(disk.as_deref(), plan, &mut Times::new())?;
        self.ui.note(match (plan.changed, tells, grown.anything) {
            (true, ..) => "Nothing was changed; run again with --dry-run=no to apply.",
            (false, true, _) => "No changes, but the kernel knows other partitions; run again with --dry-run=no to tell it.",
            (false, false, true) => "No changes.",
            (false, false, false) => "No changes. There is nothing to do.",
        });
        Ok(grown.exit.unwrap_or(cleared))
    }

    fn grow(&self, disk: Option<&Path>, plan: &Plan, times: &mut Times) -> Result<Grown, Failure> {
        let asked = self.args.growing.grow_file_systems == Some(true);
        match disk.filter(|_| asked) {
            Some(disk) => growing::run(self.ui, disk, (self.job, plan), times),
            None => Ok(Grown::default()),
        }
    }

    fn minimal_size(&mut self, random: &mut Replay<'_>) -> Result<Exit, Failure> {
        let size = self
            .session
            .minimal_size(random, &mut |_| {})
            .map_err(failure)?;
        self.notices();
        self.ui.note(&format!(
            "The image needs at least {size} ({} bytes).",
            size.get()
        ));
        if self.ui.mode() != Mode::Text {
            self.ui
                .print_json(&serde_json::json!({"minimalSizeBytes": size.get()}))?;
        }
        Ok(Exit::Ok)
    }

    /// A table that is only sound in one copy is read; that a person must hear.
    fn mention_damage(&self) {
        let found = self.session.target().and_then(Target::found);
        if let Some((found, other)) = found.and_then(|found| Some((found, found.other.as_ref()?))) {
            self.ui.note(&format!(
                "warning: only the {:?} copy of the partition table is sound ({other} in the other); writing it mends both",
                found.copy
            ));
        }
    }

    fn notices(&mut self) {
        for notice in self.session.take_notices() {
            self.ui.note(&notice);
        }
    }

    fn can_factory_reset(&self, plan: &Plan) -> Exit {
        let marked = plan.partitions.iter().any(|partition| {
            let definition = partition.definition.map(|at| &self.job.definitions()[at]);
            partition.found.is_some()
                && definition.is_some_and(|definition| definition.factory_reset)
        });
        if marked { Exit::Ok } else { Exit::Failure }
    }

    fn show_plan(&self, plan: &Plan) -> Result<(), Failure> {
        if self.ui.mode() != Mode::Text || self.args.output.pretty == Some(false) {
            return Ok(());
        }
        let report = self.report(plan);
        if report.rows.is_empty() {
            self.ui.note("No partitions are defined.");
            return Ok(());
        }
        let table = view::table(&report, !self.args.output.no_legend);
        let map = view::map(plan, self.job.definitions(), self.ui.width());
        self.ui.print(&format!("{table}\n{map}\n"))
    }

    fn report(&self, plan: &Plan) -> Report {
        let node = self.args.device.as_deref().map(absolute);
        let mut report = Report::new(plan, self.job.definitions(), node.as_deref());
        if let Some(root) = &self.args.configuration.root {
            report.show_files_below(root);
        }
        report
    }

    /// JSON comes once, at the end; the table again only where root hashes are new in it.
    fn finish(&self, applied: &Applied, split: bool) -> Result<(), Failure> {
        let mut report = self.report(&applied.plan);
        for (index, root_hash) in &applied.root_hashes {
            if let Some(slot) = applied.plan.partitions[*index].slot {
                report.set_root_hash(slot, root_hash.as_bytes());
            }
        }
        if let (true, Some(node)) = (split, &self.args.device) {
            let artifacts = repart::build::split::artifacts(self.job, &applied.plan, node)?;
            let paths: Vec<_> = artifacts
                .into_iter()
                .map(|artifact| (artifact.slot, artifact.path))
                .collect();
            report.set_split_paths(&paths);
        }
        if self.ui.mode() != Mode::Text {
            return self.ui.print_json(&report.json());
        }
        let more = !applied.root_hashes.is_empty() || report.has_split_paths();
        if more && self.args.output.pretty != Some(false) {
            return self
                .ui
                .print(&view::table(&report, !self.args.output.no_legend));
        }
        Ok(())
    }
}

impl RepartArgs {
    /// `--empty=create` is meant to write, everything else only on request; also what changes a table
    /// that exists in place of making an image.
    pub(crate) fn is_dry_run(&self) -> bool {
        let asked = self
            .operation
            .dry_run
            .or(self.operation.dry_run_short.then_some(true));
        let in_place = self.safety.restore.is_some() || self.table.convert_sector_size.is_some();
        self.reset.can_factory_reset
            || self.check.check
            || asked.unwrap_or(in_place || self.empty() != EmptyMode::Create)
    }

    pub(crate) fn empty(&self) -> EmptyMode {
        match self.operation.empty {
            None if self.ddi_kind().is_some() => EmptyMode::Create,
            None | Some(EmptyArg::Refuse) => EmptyMode::Refuse,
            Some(EmptyArg::Allow) => EmptyMode::Allow,
            Some(EmptyArg::Require) => EmptyMode::Require,
            Some(EmptyArg::Force) => EmptyMode::Force,
            Some(EmptyArg::Create) => EmptyMode::Create,
        }
    }

    pub(crate) fn size(&self) -> SizeMode {
        match self.operation.size {
            None if self.ddi_kind().is_some() => SizeMode::Auto,
            None => SizeMode::Keep,
            Some(SizeArg::Auto) => SizeMode::Auto,
            Some(SizeArg::Bytes(bytes)) => {
                let bytes = Bytes::new(bytes);
                SizeMode::AtLeast(bytes.round_up(Grain::DEFAULT).unwrap_or(bytes))
            }
        }
    }
}

/// The table is committed; what the kernel has not learned of it needs a person.
fn untold(applied: &Applied) -> Result<(), Failure> {
    if applied.untold.is_empty() {
        return Ok(());
    }
    let one = |error: &TellError| format!("{error}: {}", error.why);
    let all: Vec<String> = applied.untold.iter().map(one).collect();
    let text = format!("the partition table is written, but {}", all.join("; "));
    Err(Failure::message(text).with_hint(
        "reboot; or stop what uses the partitions, and run this again: it tells the kernel what is missing",
    ))
}

/// `-` or an empty name asks only for the minimal size.
pub(crate) fn is_none(device: &Path) -> bool {
    device.as_os_str().is_empty() || device == Path::new("-")
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn open(args: &RepartArgs, node: &Path) -> Result<Target, Failure> {
    let sector = args.operation.sector_size.and_then(SectorSize::new);
    let mut target = Target::open(node, args.empty(), !args.is_dry_run(), sector)
        .map_err(|error| failure(error.into()))?;
    match args.operation.cow {
        Some(Tristate::Yes) => target.set_copy_on_write(true),
        Some(Tristate::No) => target.set_copy_on_write(false),
        Some(Tristate::Auto) | None => {}
    }
    Ok(target)
}

fn job(
    args: &RepartArgs,
    ui: &Ui,
    wanted: DefinitionSet,
    target: Option<&Target>,
) -> Result<Job, Failure> {
    let asked = args.operation.sector_size.and_then(SectorSize::new);
    let sector = target.map_or(asked.unwrap_or(SectorSize::S512), |target| {
        target.device().sector_size()
    });
    let architecture = match args.operation.architecture {
        Some(architecture) => architecture,
        None => surroundings::architecture()?,
    };
    let copy_source = args
        .copying
        .copy_source
        .as_ref()
        .or(args.configuration.root.as_ref());
    let keys = keys::keys(args, &wanted, ui)?;
    let seed = seed::choose(args)?;
    Ok(Job {
        options: Options {
            seed: seed.seed,
            seed_lasts: seed.lasts,
            grain: grain(args),
            empty: args.empty(),
            size: args.size(),
            factory_reset: planning::factory_reset(args),
            memory: planning::memory(args, &wanted),
            defer: defer(args)?,
            fs_sector: asked.map_or(4096, SectorSize::get),
        },
        wanted,
        sector,
        architecture,
        environment: surroundings::environment()?,
        root: args.configuration.root.clone(),
        copy_source: copy_source.cloned(),
        discard: args.operation.discard.unwrap_or(true),
        fstab: args.auxiliary.generate_fstab.clone().map(|path| Fstab {
            path,
            append: append(args),
        }),
        crypttab: args.auxiliary.generate_crypttab.clone(),
        el_torito: el_torito(args)?,
        keys,
        signing: sign::signing(&args.signing)?,
    })
}

fn grain(args: &RepartArgs) -> Option<Grain> {
    args.operation.grain_size.and_then(Grain::new)
}

fn append(args: &RepartArgs) -> Append {
    match args.auxiliary.append_fstab {
        None | Some(AppendArg::No) => Append::No,
        Some(AppendArg::Auto) => Append::Auto,
        Some(AppendArg::Replace) => Append::Replace,
    }
}

fn el_torito(args: &RepartArgs) -> Result<Option<Identifiers>, Failure> {
    let options = &args.auxiliary;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let names = Identifiers::new(
        &text(&options.el_torito_system),
        &text(&options.el_torito_volume),
        &text(&options.el_torito_publisher),
    )?;
    Ok(options.el_torito.unwrap_or(false).then_some(names))
}

/// Types are those of this machine, then moved to `--architecture=` where that has such a type.
fn defer(args: &RepartArgs) -> Result<Defer, Failure> {
    let list = args.partitions.defer_partitions.as_deref();
    let asked = args.operation.architecture;
    let moved = |kind: PartitionType| {
        asked
            .and_then(|arch| kind.with_architecture(arch))
            .unwrap_or(kind)
    };
    let types = types(list.unwrap_or_default(), surroundings::architecture()?)?;
    Ok(Defer {
        types: types.into_iter().map(moved).collect(),
        empty: args.partitions.defer_partitions_empty.unwrap_or(false),
        factory_reset: args
            .partitions
            .defer_partitions_factory_reset
            .unwrap_or(false),
    })
}

/// A comma list of partition types.
pub(crate) fn types(
    list: &str,
    native: image_specs::arch::Architecture,
) -> Result<Vec<PartitionType>, Failure> {
    let names = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| Ok(PartitionType::parse(name, native)?))
        .collect()
}

/// The exit code and hint that go with an error.
fn failure(error: SessionError) -> Failure {
    let exit = match &error {
        SessionError::Plan { source, .. } if source.exit() == ExitClass::NotForUs => Exit::NoLabel,
        SessionError::Target(TargetError::OtherSectors { .. }) => Exit::NoLabel,
        _ => Exit::Failure,
    };
    let hint = tpm2_error(&error).and_then(tpm2_args::hint);
    let failure = Failure::from(error).with_exit(exit);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// What the TPM had to say, if it is to blame.
fn tpm2_error(error: &SessionError) -> Option<&Tpm2Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
