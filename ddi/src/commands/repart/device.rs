//! The disk to work on where none is named, and the root directory of the system that it belongs to.

use std::fs;
use std::path::{Path, PathBuf};

use blockdev::backing;
use blockdev::candidates::{self, Candidate};
use blockdev::sysfs::{Number, Sysfs};
use repart::plan::EmptyMode;
use serde_json::json;

use super::args::RepartArgs;
use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::{Mode, Ui};

/// A device in place of the root file system, where that is in memory (systemd-volatile-root.service(8)).
const VOLATILE: &str = "/run/systemd/volatile-root";

/// Where udev keeps what it knows of devices.
const UDEV: &str = "/run/udev/data";

/// The options, with root directory and disk named as they would be by hand.
pub(crate) fn resolved(args: &RepartArgs) -> Result<RepartArgs, Failure> {
    let mut args = args.clone();
    let configuration = &mut args.configuration;
    if configuration.root.is_none() && configuration.image.is_none() && surroundings::in_initrd() {
        configuration.root = Some(initrd_root());
    }
    if args.device.is_none() {
        args.device = Some(found(&args)?);
    }
    Ok(args)
}

/// The system that an initrd prepares.
fn initrd_root() -> PathBuf {
    let usr = fs::File::open("/sysusr/usr");
    let mounted = usr.is_ok_and(|usr| backing::is_mount_root(&usr).unwrap_or(false));
    PathBuf::from(if mounted { "/sysusr" } else { "/sysroot" })
}

fn found(args: &RepartArgs) -> Result<PathBuf, Failure> {
    if args.empty() == EmptyMode::Create {
        let text = "--empty=create makes a new image, which needs a name; give its path";
        return Err(Failure::message(text));
    }
    let sysfs = Sysfs::default();
    let root = args.configuration.root.as_deref();
    let disk = match fs::metadata(VOLATILE) {
        Ok(device) => {
            use std::os::unix::fs::MetadataExt;
            backing::disk(sysfs.block(Number::from_dev(device.rdev()))?)?
        }
        Err(_) => backing::disk_of_system(root.unwrap_or(Path::new("/")), &sysfs)?,
    };
    match disk {
        Some(disk) => Ok(disk.node()?),
        None => Err(none(root.unwrap_or(Path::new("/")))),
    }
}

fn none(root: &Path) -> Failure {
    let root = root.display();
    let text = format!("the file system of {root} is on no disk, or on several");
    Failure::message(text).with_exit(Exit::NoDisk).with_hint(
        "name the disk or image file to work on; --list-devices shows those that there are",
    )
}

/// The disks that can be partitioned.
pub(crate) fn candidates() -> Result<Vec<Candidate>, Failure> {
    Ok(candidates::list(&Sysfs::default(), Path::new(UDEV))?)
}

/// `--list-devices`: all of them.
pub(crate) fn list(ui: &Ui) -> Result<Exit, Failure> {
    let found = candidates()?;
    if ui.mode() == Mode::Text {
        ui.print(&found.iter().map(text).collect::<String>())?;
    } else {
        ui.print_json(&found.iter().map(object).collect())?;
    }
    Ok(Exit::Ok)
}

/// The node, and its other names below it.
fn text(candidate: &Candidate) -> String {
    let mut lines = format!("{}\n", candidate.node.display());
    for link in &candidate.links {
        lines += &format!("  {}\n", link.display());
    }
    lines
}

/// The fields of `io.systemd.Repart.ListCandidateDevices`.
pub(crate) fn object(candidate: &Candidate) -> serde_json::Value {
    json!({
        "node": candidate.node,
        "symlinks": candidate.links,
        "diskseq": candidate.sequence,
        "sizeBytes": candidate.size.get(),
        "vendor": candidate.vendor,
        "model": candidate.model,
        "subsystem": candidate.subsystem,
    })
}
