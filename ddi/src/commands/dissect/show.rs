//! Showing an image: header, map of the disk, table of partitions, JSON.

use std::path::Path;

use dissect::Dissected;
use dissect::layout::{self, Part};
use dissect::metadata::Metadata;
use dissect::report::{Candidate, Report};
use dissect::uses::Uses;
use image_specs::release::image_name;
use image_specs::units::Bytes;

use super::DissectArgs;
use super::open::{self, Checked, Opened};
use crate::exit::{Exit, Failure};
use crate::ui::map::{self, Fill, Span};
use crate::ui::table::{self, Align};
use crate::ui::{Mode, Ui};

pub(super) fn run(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Exit, Failure> {
    let opened = open::open(args, path)?;
    let Opened {
        image, dissected, ..
    } = &opened;
    let checked = open::checks(args, image, dissected)?;
    let metadata = look_into(args, ui, &opened)?;
    for finding in &checked.findings {
        ui.note(&format!("warning: {finding}"));
    }
    let mut report = Report::new(dissected, &metadata);
    if args.output.all_versions {
        report = report.with_versions(dissected);
    }
    if ui.mode() != Mode::Text {
        ui.print_json(&serde_json::to_value(&report)?)?;
        return Ok(Exit::Ok);
    }
    ui.print(&header(&report))?;
    ui.print(&verity_line(args, dissected, &checked))?;
    ui.print(&files(&report))?;
    ui.print(&disk(dissected, ui.width()))?;
    ui.print(&mounts(&report, !args.output.no_legend))?;
    ui.print(&versions(&report, !args.output.no_legend))?;
    Ok(Exit::Ok)
}

/// What the image's files say. Where they cannot be read, there is still the table, unless something
/// depends on them.
fn look_into(args: &DissectArgs, ui: &Ui, opened: &Opened) -> Result<Metadata, Failure> {
    let asked = args.verification.check_name || args.verification.purpose.is_some();
    let keys = args.unlocking.given(ui)?;
    let locked = opened.dissected.is_encrypted() && !keys.are_given();
    if locked && !asked {
        ui.note("The image is encrypted; what its files say is not shown.");
        return Ok(Metadata::default());
    }
    match open::metadata(args, opened, &keys) {
        Ok(metadata) => {
            open::check_files(args, &opened.dissected, &metadata)?;
            Ok(metadata)
        }
        Err(failure) if asked => Err(failure),
        Err(failure) => {
            ui.note(&format!(
                "What the image's files say is not shown: {failure}"
            ));
            Ok(Metadata::default())
        }
    }
}

fn header(report: &Report) -> String {
    let architecture = report.architecture.as_deref().unwrap_or("n/a");
    let mut lines = vec![
        ("File Name", report.name.clone()),
        ("Size", Bytes::new(report.size).to_string()),
        ("Sec. Size", report.sector_size.to_string()),
        ("Arch.", architecture.to_owned()),
    ];
    if let Some(uuid) = &report.image_uuid {
        lines.push(("Image UUID", uuid.clone()));
    }
    let name = image_name(&report.name);
    if name != report.name {
        lines.push(("Image Name", name.to_owned()));
    }
    let lines = lines.iter();
    lines.map(|(label, value)| field(label, value)).collect()
}

fn field(label: &str, value: &str) -> String {
    format!("{label:>10}: {value}\n")
}

/// What the image's files say, and what it can be used for.
fn files(report: &Report) -> String {
    let mut text = String::new();
    let hostname = report.hostname.iter().map(|name| ("Hostname", name));
    let machine = report.machine_id.iter().map(|id| ("Machine ID", id));
    for (label, value) in hostname.chain(machine) {
        text += &field(label, value);
    }
    for (label, lines) in [
        ("Mach. Info", &report.machine_info),
        ("OS Release", &report.os_release),
        ("initrd R.", &report.initrd_release),
        ("sysext R.", &report.sysext_release),
        ("confext R.", &report.confext_release),
    ] {
        if !lines.is_empty() {
            text += &field(label, &lines.join("\n            "));
        }
    }
    if !text.is_empty() {
        text.insert(0, '\n');
    }
    text + "\n" + &uses(&report.uses)
}

fn uses(uses: &Uses) -> String {
    let lines = [
        (uses.use_bootable_uefi, "bootable system for UEFI"),
        (uses.use_bootable_container, "bootable system for container"),
        (uses.use_portable_service, "portable service"),
        (uses.use_initrd, "initrd"),
        (uses.use_system_extension, "sysext for system"),
        (
            uses.use_portable_system_extension,
            "sysext for portable service",
        ),
        (uses.use_initrd_system_extension, "sysext for initrd"),
        (uses.use_configuration_extension, "confext for system"),
        (
            uses.use_portable_configuration_extension,
            "confext for portable service",
        ),
        (
            uses.use_initrd_configuration_extension,
            "confext for initrd",
        ),
    ];
    let lines = lines.map(|(yes, what)| format!("{} {what}", if yes { '✓' } else { '✗' }));
    field("Use As", &lines.join("\n            "))
}

/// What is known of the root hash, and what was checked.
fn verity_line(args: &DissectArgs, dissected: &Dissected, checked: &Checked) -> String {
    let Some(verity) = &dissected.verity else {
        return String::new();
    };
    let mut words = match (&verity.signature, &checked.signer) {
        (None, _) => "not signed".to_owned(),
        (Some(_), None) => "signed, by nobody whose certificate is in verity.d".to_owned(),
        (Some(_), Some(signer)) => format!("signed; the certificate is {signer}"),
    };
    if args.verification.verify_data {
        words += "; all data checked";
    }
    field("Root Hash", &format!("{} ({words})", verity.root_hash))
}

/// The whole disk, with what has no designator, too.
fn disk(dissected: &Dissected, width: usize) -> String {
    let Some(table) = &dissected.table else {
        return "\n".to_owned();
    };
    let parts = layout::layout(table, dissected.size).parts;
    let spans: Vec<Span> = parts
        .iter()
        .map(|part| match part {
            Part::Free(extent) => Span {
                label: String::new(),
                size: extent.size.get(),
                fill: Fill::Free,
            },
            Part::Partition(slot) => {
                let label = if slot.label.is_empty() {
                    slot.kind.to_string()
                } else {
                    slot.label.clone()
                };
                let label = format!("{} {} ({})", slot.number, label, slot.extent.size);
                Span {
                    label,
                    size: slot.extent.size.get(),
                    fill: Fill::Kept,
                }
            }
        })
        .collect();
    format!("\n{}\n", map::draw(&spans, width, true))
}

const HEADER: [&str; 10] = [
    "RW",
    "DESIGNATOR",
    "PARTITION UUID",
    "PARTITION LABEL",
    "FSTYPE",
    "ARCHITECTURE",
    "VERITY",
    "GROWFS",
    "PARTNO",
    "CHOSEN",
];

fn mounts(report: &Report, legend: bool) -> String {
    let rows: Vec<Vec<String>> = report.rows().into_iter().map(Vec::from).collect();
    draw(&HEADER[..9], &rows, legend)
}

/// Everything that there is in several versions; nothing, where there is no such thing.
fn versions(report: &Report, legend: bool) -> String {
    let row = |candidate: &Candidate| {
        let chosen = if candidate.chosen { "yes" } else { "no" };
        let row = candidate.mount.row().into_iter();
        row.chain([chosen.to_owned()]).collect()
    };
    let rows: Vec<Vec<String>> = report.versions.iter().map(row).collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!("\n{}", draw(&HEADER, &rows, legend)),
    }
}

fn draw(header: &[&str], rows: &[Vec<String>], legend: bool) -> String {
    let mut align = vec![Align::Left; header.len()];
    align[8] = Align::Right;
    table::draw(if legend { header } else { &[] }, rows, &align)
}
