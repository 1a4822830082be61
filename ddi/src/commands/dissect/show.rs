//! Showing an image: header, map of the disk, table of partitions, JSON.

use std::path::Path;

use dissect::Dissected;
use dissect::layout::{self, Part};
use dissect::report::Report;
use image_specs::units::Bytes;

use super::DissectArgs;
use super::open::{self, Opened};
use crate::exit::{Exit, Failure};
use crate::ui::map::{self, Fill, Span};
use crate::ui::table::{self, Align};
use crate::ui::{Mode, Ui};

pub(super) fn run(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Exit, Failure> {
    let Opened {
        image, dissected, ..
    } = open::open(args, path)?;
    let findings = open::checks(args, &image, &dissected)?;
    let report = Report::new(&dissected);
    for finding in &findings {
        ui.note(&format!("warning: {finding}"));
    }
    if ui.mode() != Mode::Text {
        ui.print_json(&serde_json::to_value(&report)?)?;
        return Ok(Exit::Ok);
    }
    ui.print(&header(&report))?;
    ui.print(&verity_line(args, &dissected))?;
    ui.print(&disk(&dissected, ui.width()))?;
    ui.print(&mounts(&report, !args.output.no_legend))?;
    Ok(Exit::Ok)
}

fn header(report: &Report) -> String {
    let mut lines = vec![
        ("File Name", report.name.clone()),
        ("Size", Bytes::new(report.size).to_string()),
        ("Sec. Size", report.sector_size.to_string()),
    ];
    if let Some(architecture) = &report.architecture {
        lines.push(("Arch.", architecture.clone()));
    }
    if let Some(uuid) = &report.image_uuid {
        lines.push(("Image UUID", uuid.clone()));
    }
    let name = image_name(&report.name);
    if name != report.name {
        lines.push(("Image Name", name));
    }
    lines
        .into_iter()
        .map(|(label, value)| format!("{label:>10}: {value}\n"))
        .collect()
}

/// The file name less what only says that it is an image.
fn image_name(file: &str) -> String {
    const SUFFIXES: &[&str] = &[
        ".xz",
        ".gz",
        ".bz2",
        ".zst",
        ".sysext.raw",
        ".confext.raw",
        ".raw",
        ".qcow2",
        ".img",
        ".bin",
    ];
    let mut name = file;
    while let Some(rest) = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        name = rest;
    }
    name.to_owned()
}

/// What is known of the root hash, and what was checked.
fn verity_line(args: &DissectArgs, dissected: &Dissected) -> String {
    let Some(verity) = &dissected.verity else {
        return String::new();
    };
    let mut words = Vec::new();
    words.push(
        match (&verity.signature, args.verification.certificate.is_empty()) {
            (None, _) => "not signed",
            (Some(_), true) => "signed, signature not checked (pass --certificate=)",
            (Some(_), false) => "signed by the given certificate",
        },
    );
    if args.verification.verify_data {
        words.push("all data checked");
    }
    format!(
        "{:>10}: {} ({})\n",
        "Root Hash",
        verity.root_hash,
        words.join("; ")
    )
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

fn mounts(report: &Report, legend: bool) -> String {
    const HEADER: [&str; 9] = [
        "RW",
        "DESIGNATOR",
        "PARTITION UUID",
        "PARTITION LABEL",
        "FSTYPE",
        "ARCHITECTURE",
        "VERITY",
        "GROWFS",
        "PARTNO",
    ];
    let rows: Vec<Vec<String>> = report.rows().into_iter().map(Vec::from).collect();
    let mut align = vec![Align::Left; 9];
    align[8] = Align::Right;
    table::draw(if legend { &HEADER } else { &[] }, &rows, &align)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_lose_their_suffixes() {
        for (file, name) in [
            ("a.raw", "a"),
            ("b_1.sysext.raw", "b_1"),
            ("c.raw.xz", "c"),
            ("d", "d"),
        ] {
            assert_eq!(image_name(file), name);
        }
    }
}
