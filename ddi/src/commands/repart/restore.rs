//! `--restore=`: puts back a partition table that an earlier run has kept.

mod parts;

use std::fs;
use std::path::Path;
use std::time::Duration;

use blockdev::partitions::Wanted;
use blockdev::partitions::changes::changes;
use blockdev::saved;
use blockdev::table::{self as tables, ReadTableError};
use blockdev::{Access, BlockDevice, FileDevice};
use image_specs::table_backup::TableBackup;
use image_specs::units::SectorSize;
use repart::build::overwrite::{Weight, WouldLose, refused};
use repart::build::restoring;

use self::parts::{Listed, Part, Parts};
use super::args::RepartArgs;
use crate::exit::{Exit, Failure};
use crate::ui::map::{self, Fill, Span};
use crate::ui::table::{self, Align};
use crate::ui::{Mode, Ui};

/// How long udev and its like may have the disk locked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `--restore=`: shows what would change; `--dry-run=no` changes it.
pub(crate) fn run(args: &RepartArgs, file: &Path, ui: &Ui) -> Result<Exit, Failure> {
    if ui.mode() != Mode::Text {
        return Err(Failure::message(
            "--restore= shows text only; leave out --json=",
        ));
    }
    let Some(disk) = args.device.as_deref().filter(|disk| !super::is_none(disk)) else {
        return Err(
            Failure::message("--restore= needs the disk whose table is put back")
                .with_hint("name the disk, or choose it by --disk="),
        );
    };
    let text = |error: &dyn std::error::Error| {
        Failure::message(format!("cannot use {}: {error}", file.display()))
    };
    let bytes = fs::read(file).map_err(|error| text(&error))?;
    let backup = TableBackup::parse(&bytes).map_err(|error| text(&error))?;
    let access = match args.is_dry_run() {
        true => Access::ReadOnly,
        false => Access::ReadWriteInUse,
    };
    let sector = sector(disk, backup.sector);
    let mut device = FileDevice::open_waiting(disk, access, sector, PATIENCE)?;
    saved::check(&device, &backup)?;
    let now = match tables::read(&device) {
        Ok(label) => Listed::read(&label, &device)?,
        Err(ReadTableError::Device(error)) => return Err(error.into()),
        // What is damaged lists nothing.
        Err(_) => Listed::default(),
    };
    let label = saved::label(&backup)?;
    let then = Listed::read(&label, &saved::View::over(&backup, &device))?;
    show(&backup, &now.parts, &then.parts, ui)?;
    if let Some(why) = &then.unread {
        ui.note(&format!(
            "warning: not all partitions of the table that was kept are known: {why}"
        ));
    }
    refuse_in_use(&device, &now.parts, &then.parts)?;
    refuse_loss(args, &device, &backup, &then)?;
    if args.is_dry_run() {
        ui.note("Nothing was changed; run again with --dry-run=no to put the table back.");
        return Ok(Exit::Ok);
    }
    saved::restore(&mut device, &backup)?;
    ui.note(&format!(
        "The partition table of {} is put back.",
        disk.display()
    ));
    tell(&mut device, &then)
}

/// Files are counted in the sectors of the table; disks have their own.
fn sector(disk: &Path, sector: SectorSize) -> Option<SectorSize> {
    let is_file = disk.metadata().is_ok_and(|found| found.is_file());
    is_file.then_some(sector)
}

/// One row a partition that is there now or then, and the disk before and after.
fn show(backup: &TableBackup, now: &Parts, then: &Parts, ui: &Ui) -> Result<(), Failure> {
    let mut numbers: Vec<u32> = now.keys().chain(then.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let place = |part: Option<&Part>| match part {
        Some(part) => format!("{} at byte {}", part.extent.size, part.extent.start.get()),
        None => "-".to_owned(),
    };
    let row = |number: &u32| {
        let (before, after) = (now.get(number), then.get(number));
        let fate = match (before, after) {
            (Some(before), Some(after)) if before.extent == after.extent => "stays",
            (Some(_), Some(_)) => "changes",
            (Some(_), None) => "goes",
            (None, _) => "comes back",
        };
        let name = after
            .or(before)
            .map(|part| part.name.clone())
            .unwrap_or_default();
        vec![
            number.to_string(),
            name,
            place(before),
            place(after),
            fate.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = numbers.iter().map(row).collect();
    let header = ["PART", "LABEL", "NOW", "THEN", ""];
    let align = [
        Align::Right,
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Left,
    ];
    let width = ui.width().saturating_sub(8);
    let disk = backup.disk_size.get();
    let before = map::draw(&spans(now, then, disk), width, false);
    let after = map::draw(&spans(then, now, disk), width, false);
    ui.print(&format!(
        "{}\nbefore {before} after {after}",
        table::draw(&header, &rows, &align)
    ))?;
    if rows.is_empty() {
        ui.note("The table that was kept is no GPT, and there is none now.");
    }
    Ok(())
}

fn spans(shown: &Parts, other: &Parts, disk: u64) -> Vec<Span> {
    let mut parts: Vec<(&u32, &Part)> = shown.iter().collect();
    parts.sort_by_key(|(_, part)| part.extent);
    let free = |size| Span {
        label: String::new(),
        size,
        fill: Fill::Free,
    };
    let mut spans = Vec::new();
    let mut at = 0;
    for (number, part) in parts {
        let (start, size) = (part.extent.start.get(), part.extent.size.get());
        if start > at {
            spans.push(free(start - at));
        }
        let same = other
            .get(number)
            .is_some_and(|one| one.extent == part.extent);
        spans.push(Span {
            label: part.name.clone(),
            size,
            fill: if same { Fill::Kept } else { Fill::New },
        });
        at = start.saturating_add(size).max(at);
    }
    spans.push(free(disk.saturating_sub(at)));
    spans
}

/// What goes or changes must not be in use. The kernel's own bounds count where it has some: they are
/// what is used, whatever has become of the table since.
fn refuse_in_use(device: &FileDevice, now: &Parts, then: &Parts) -> Result<(), Failure> {
    let known: Vec<Wanted> = device.known_partitions()?.unwrap_or_default();
    let used = |number: u32| {
        let known = known.iter().find(|known| known.number == number);
        let listed = now.get(&number).map(|part| part.extent);
        known.map(|known| known.extent).or(listed)
    };
    let stays = |number: u32| {
        let extent = then.get(&number).map(|part| part.extent);
        extent.is_some() && extent == used(number)
    };
    let mut users = Vec::new();
    for used in device.uses()? {
        match used.partition {
            Some(number) if stays(number) => {}
            Some(number) => users.push(format!("partition {number} is {}", used.user)),
            None => users.push(format!("it is {}", used.user)),
        }
    }
    if users.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the table of {} cannot be put back, because what would change is in use: {}; stop that first",
        device.name(),
        users.join(", ")
    );
    Err(Failure::message(text))
}

/// A disk of the same size may be another one: what is on it and is not in the backup must have been
/// given up by name.
fn refuse_loss(
    args: &RepartArgs,
    device: &FileDevice,
    backup: &TableBackup,
    then: &Listed,
) -> Result<(), Failure> {
    let seen = restoring::lost(device, backup, &then.extents())?;
    let permitted = args.safety.caution().permitted;
    let lost = refused(seen, Weight::Contents, &permitted);
    match lost.is_empty() {
        true => Ok(()),
        false => Err(WouldLose {
            disk: device.path().to_owned(),
            lost,
        }
        .into()),
    }
}

/// The kernel learns what has changed; what it does not take, a person must hear.
fn tell(device: &mut FileDevice, then: &Listed) -> Result<Exit, Failure> {
    let known = device.known_partitions()?;
    // Of a table that is not read nobody knows what to tell.
    let is_read = then.unread.is_none() || !then.wanted().is_empty();
    let Some(known) = known.filter(|_| is_read) else {
        return Ok(Exit::Ok);
    };
    for change in changes(&known, &then.wanted()) {
        device.tell(change)?;
    }
    Ok(Exit::Ok)
}
