//! `--restore=`: puts back a partition table that an earlier run has kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use blockdev::partitions::Wanted;
use blockdev::partitions::changes::{Change, changes};
use blockdev::saved;
use blockdev::table::{self as tables, Label};
use blockdev::{Access, BlockDevice, FileDevice};
use image_specs::gpt::{Entry, Table};
use image_specs::table_backup::TableBackup;
use image_specs::units::{Extent, SectorSize};

use super::args::RepartArgs;
use crate::exit::{Exit, Failure};
use crate::ui::map::{self, Fill, Span};
use crate::ui::table::{self, Align};
use crate::ui::{Mode, Ui};

/// How long udev and its like may have the disk locked.
const PATIENCE: Duration = Duration::from_secs(10);

/// A partition, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    extent: Extent,
    name: String,
}

/// Partitions by number.
type Parts = BTreeMap<u32, Part>;

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
    let now = tables::read(&device).ok();
    let then = saved::label(&backup)?;
    let (now, then) = (
        now.map_or_else(Parts::new, |label| parts(&label)),
        parts(&then),
    );
    show(&backup, &now, &then, ui)?;
    refuse_in_use(&device, &now, &then)?;
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

fn parts(label: &Label) -> Parts {
    match label {
        Label::Gpt(found) => gpt_parts(&found.table),
        _ => Parts::new(),
    }
}

fn gpt_parts(table: &Table) -> Parts {
    let part = |(slot, entry): (&u32, &Entry)| {
        let label = entry.label.to_string();
        let part = Part {
            extent: entry.extent(table.sector_size())?,
            name: match label.is_empty() {
                true => entry.kind.to_string(),
                false => label,
            },
        };
        Some((slot.checked_add(1)?, part))
    };
    table.slots().iter().filter_map(part).collect()
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

/// What goes or changes must not be in use.
fn refuse_in_use(device: &FileDevice, now: &Parts, then: &Parts) -> Result<(), Failure> {
    let ends = |number: u32| {
        now.get(&number).map(|part| part.extent) != then.get(&number).map(|part| part.extent)
    };
    let mut users = Vec::new();
    for used in device.uses()? {
        match used.partition {
            Some(number) if ends(number) => {
                users.push(format!("partition {number} is {}", used.user));
            }
            Some(_) => {}
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

/// The kernel learns what has changed; what it does not take, a person must hear.
fn tell(device: &mut FileDevice, then: &Parts) -> Result<Exit, Failure> {
    let Some(known) = device.known_partitions()? else {
        return Ok(Exit::Ok);
    };
    let wanted = |(number, part): (&u32, &Part)| Wanted {
        number: *number,
        extent: part.extent,
    };
    let wanted: Vec<Wanted> = then.iter().map(wanted).collect();
    let all: Vec<Change> = changes(&known, &wanted);
    for change in all {
        device.tell(change)?;
    }
    Ok(Exit::Ok)
}
