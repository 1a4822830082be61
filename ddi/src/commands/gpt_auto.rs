//! `ddi gpt-auto-generator`, also reached as `systemd-gpt-auto-generator`.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use blockdev::loopdev::LoopReference;
use blockdev::sysfs::{Block, Number, Sysfs};
use dissect::gpt_auto::cmdline::Settings;
use dissect::gpt_auto::pins::Pins;
use dissect::gpt_auto::units::{Folder, Item};
use dissect::gpt_auto::{self, Disk, Names, Plan, survey};
use dissect::{
    DissectError, Dissected, OpenError, Options, ProbeError, Rules, VarCheck, VeritySettings,
};
use image_specs::guid;
use image_specs::partition::Designator;
use image_specs::policy::ImagePolicy;
use uuid::Uuid;

use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;
use crate::verb::Run;

/// The credential that lists the UUIDs that partitions must have.
const CREDENTIAL: &str = "gpt-auto.partition-uuids";

/// How long others may hold a lock on the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where credentials of the whole system are.
const CREDENTIALS: &str = "/run/credentials/@system";

/// Write the units that mount the partitions of the disk that was booted from
///
/// Started by the service manager in early boot. Without a directory it shows what it would write.
/// Partitions are found by their types. ddi.gpt_auto_device= on the kernel's command line names another
/// disk, or an image file, to take them from. The credential gpt-auto.partition-uuids lists, one a line as
/// home=UUID, the UUIDs that partitions must have: others are not used, and the generator fails.
#[derive(Debug, clap::Args)]
pub(crate) struct GptAutoArgs {
    /// Directory for units with ordinary priority
    #[arg(value_name = "NORMAL-DIR")]
    normal: Option<PathBuf>,
    /// Directory for units that come before all others (nothing is written there)
    #[arg(value_name = "EARLY-DIR", requires = "late")]
    early: Option<PathBuf>,
    /// Directory for units that come after all others (default: NORMAL-DIR)
    #[arg(value_name = "LATE-DIR")]
    late: Option<PathBuf>,
}

impl Run for GptAutoArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let settings = Settings::parse(&command_line()?)?;
        // A container has the disks of its host, but none of its own unless one is named.
        if is_container() && settings.device.is_none() {
            return Ok(Exit::Ok);
        }
        let facts = survey::facts(Path::new("/"), surroundings::in_initrd());
        let on_host = !facts.initrd && settings.enabled(false);
        let disk = match on_host {
            true => disk(&settings)?,
            false => None,
        };
        let plan = gpt_auto::plan(&settings, &facts, disk.as_ref(), &pins()?);
        for note in &plan.notes {
            ui.note(note);
        }
        match &self.normal {
            None => ui.print(&text(&plan))?,
            Some(normal) => {
                let late = self.late.as_ref().unwrap_or(normal);
                plan.files.write(normal, late)?;
            }
        }
        let mut refused = plan.refused.into_iter();
        let first = refused.next();
        refused.for_each(|other| ui.note(&format!("error: {other}")));
        match first {
            None => Ok(Exit::Ok),
            Some(refused) => Err(Failure::from(refused).with_hint(format!(
                "the credential {CREDENTIAL} lists what must be there"
            ))),
        }
    }
}

/// All files and links, for people.
fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (folder, path, item) in plan.files.iter() {
        let folder = match folder {
            Folder::Normal => "normal",
            Folder::Late => "late",
        };
        text += &match item {
            Item::Link(target) => format!("{folder}/{path} -> {target}\n"),
            Item::File(lines) => format!("{folder}/{path}:\n{lines}\n"),
        };
    }
    text
}

pub(crate) fn is_container() -> bool {
    let marks = ["/run/systemd/container", "/run/host/container-manager"];
    marks.iter().any(|mark| Path::new(mark).exists())
}

pub(crate) fn command_line() -> Result<String, Failure> {
    if let Ok(line) = std::env::var("SYSTEMD_PROC_CMDLINE") {
        return Ok(line);
    }
    fs::read_to_string("/proc/cmdline").map_err(|error| {
        Failure::message(format!("cannot read the kernel's command line: {error}"))
    })
}

fn pins() -> Result<Pins, Failure> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    let folder = folder.map_or_else(|| CREDENTIALS.into(), PathBuf::from);
    let path = folder.join(CREDENTIAL);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Pins::parse(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Pins::default()),
        Err(error) => Err(Failure::message(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

/// The disk to take partitions from; `None` where there is none with a GPT.
fn disk(settings: &Settings) -> Result<Option<Disk>, Failure> {
    let Some((path, names)) = find(settings)? else {
        return Ok(None);
    };
    match dissect_waiting(&path, &options(settings)?) {
        Ok(dissected) => Ok(Some(Disk { dissected, names })),
        Err(DissectError::Probe(ProbeError::Nothing(_))) if settings.device.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Dissects a disk. A unit that is missing after a reload is stopped, so others with a lock are waited
/// for.
fn dissect_waiting(path: &Path, options: &Options) -> Result<Dissected, DissectError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match dissect::dissect(path, options) {
            Err(DissectError::Open(OpenError::Device(error)))
                if error.is_locked() && Instant::now() < end =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            result => return result.map(|(_, dissected)| dissected),
        }
    }
}

fn find(settings: &Settings) -> Result<Option<(PathBuf, Names)>, Failure> {
    let sysfs = Sysfs::default();
    let Some(path) = &settings.device else {
        let disk = survey::root_disk(&sysfs)?;
        return disk.map(|disk| named(&disk)).transpose();
    };
    let path = path.canonicalize().map_err(|error| {
        Failure::message(format!("cannot find {}: {error}", path.display()))
            .with_hint("ddi.gpt_auto_device= on the kernel's command line names it")
    })?;
    let metadata = path.metadata()?;
    if metadata.file_type().is_block_device() {
        let block = sysfs.block(Number::from_dev(metadata.rdev()))?;
        return named(&block.disk().unwrap_or(block)).map(Some);
    }
    // It goes into unit files, and udev makes a link of it.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._+-".contains(letter);
    let reference = LoopReference::of_file_name(&path)
        .filter(|reference| reference.as_str().chars().all(plain));
    let reference = reference.ok_or_else(|| {
        Failure::message(format!("{} cannot name a loop device", path.display()))
            .with_hint("give the image a name of plain letters")
    })?;
    let reference = reference.as_str().to_owned();
    let file = path.clone();
    Ok(Some((path, Names::Loop { file, reference })))
}

fn named(disk: &Block) -> Result<(PathBuf, Names), Failure> {
    let node = disk.node()?;
    let names = disk
        .sequence()
        .map_or_else(|| Names::Node(node.clone()), Names::Sequence);
    Ok((node, names))
}

fn options(settings: &Settings) -> Result<Options, Failure> {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = guid::parse(machine.trim()).unwrap_or(Uuid::nil());
    let policy = settings.policy.clone();
    let hash = |designator, hash: &Option<_>| {
        let hash = hash.clone()?;
        Some(VeritySettings::of(designator, hash))
    };
    let root = hash(Designator::Root, &settings.root_hash);
    Ok(Options {
        filter: settings.filter.clone(),
        policy: policy.unwrap_or_else(ImagePolicy::host),
        verity: root
            .or_else(|| hash(Designator::Usr, &settings.usr_hash))
            .unwrap_or_default(),
        rules: Rules {
            generic_root: false,
            only_gpt: true,
            var: VarCheck::Machine(machine),
            ..Rules::default()
        },
        ..Options::new(surroundings::architecture()?)
    })
}
