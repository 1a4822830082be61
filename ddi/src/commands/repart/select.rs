//! `--disk=`: the disk that is meant, by what it is instead of by its node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blockdev::select::{self, Candidate, Identity, Rejected, SelectError, Selector};
use blockdev::sysfs::Sysfs;
use blockdev::{Access, FileDevice};
use clap::Args;
use dissect::gpt_auto::survey::loader_partition;

use super::args::RepartArgs;
use crate::exit::Failure;
use crate::ui::Ui;
use crate::ui::table::{self, Align};

/// The partition that the boot loader was started from, which it tells in this variable.
const BOOT_PARTITION: &str =
    "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// How long udev and its like may have a disk locked before its table counts as unknown.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which disk.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Choice of the disk")]
pub(crate) struct Choice {
    /// Operate on the one disk that fits, in place of DEVICE: terms such as serial=NAME, id=NAME,
    /// model=NAME, size>=64G, bus=nvme|usb|ata|virtio, path=PATH, uuid=UUID, boot, with commas between
    #[arg(long, value_name = "SELECTOR", conflicts_with = "device")]
    pub(crate) disk: Vec<Selector>,
    /// The disk is this machine's own, though it is named or below --root=: what the kernel's command line
    /// and the EFI variable for a factory reset ask for counts
    #[arg(long, conflicts_with = "image")]
    pub(crate) own_disk: bool,
}

/// The arguments with the device that `--disk=` means; `None` where that is not given.
pub(crate) fn resolved(args: &RepartArgs, ui: &Ui) -> Result<Option<RepartArgs>, Failure> {
    let selector = match &args.choice.disk[..] {
        [] => return Ok(None),
        [selector] => selector,
        _ => {
            return Err(
                Failure::message("--disk= is given twice, and one run changes one disk")
                    .with_hint("join the terms that must all hold with commas"),
            );
        }
    };
    let mut args = args.clone();
    args.device = Some(node(selector, ui)?);
    Ok(Some(args))
}

/// The node of the one disk that fits.
fn node(selector: &Selector, ui: &Ui) -> Result<PathBuf, Failure> {
    let mut look = |node: &Path| match selector.needs_tables() {
        true => identity(node),
        false => Identity::default(),
    };
    let disks = select::survey(&Sysfs::default(), Path::new("/dev"), &mut look)?;
    let boot = std::fs::read(BOOT_PARTITION).ok();
    let boot = boot.and_then(|variable| loader_partition(&variable));
    let boot = boot.map(|uuid| uuid.to_string());
    match selector.choose(&disks, boot.as_deref()) {
        Ok(disk) => {
            ui.note(&format!("{selector} is {disk}"));
            Ok(disk.node.clone())
        }
        Err(error) => {
            if let SelectError::None { disks, .. } = &error {
                ui.note(rejected(disks).trim_end());
            }
            Err(error.into())
        }
    }
}

fn identity(node: &Path) -> Identity {
    let device = FileDevice::open_waiting(node, Access::ReadOnly, None, PATIENCE);
    device.map_or_else(|_| Identity::default(), |device| select::identity(&device))
}

/// The disks that there are, each with what speaks against it.
fn rejected(disks: &[Rejected]) -> String {
    let header = ["DISK", "SIZE", "BUS", "MODEL", "SERIAL", "WHY NOT"];
    let align = [Align::Left, Align::Right, Align::Left, Align::Left];
    let row = |one: &Rejected| {
        let why: Vec<String> = one.why.iter().map(ToString::to_string).collect();
        let mut cells = cells(&one.disk);
        cells.push(why.join("; "));
        cells
    };
    let rows: Vec<Vec<String>> = disks.iter().map(row).collect();
    table::draw(&header, &rows, &align)
}

fn cells(disk: &Candidate) -> Vec<String> {
    let or_dash = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    vec![
        disk.node.display().to_string(),
        disk.size.to_string(),
        disk.bus.to_string(),
        or_dash(disk.model.as_ref()),
        or_dash(disk.serials.first()),
    ]
}
