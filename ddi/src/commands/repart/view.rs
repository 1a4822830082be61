//! How a plan looks: the table of its partitions, and the disk before and after.

use image_specs::units::Bytes;
use repart::definition::Definition;
use repart::plan::{Fate, Plan, PlannedPartition};
use repart::report::{Activity, Report, Row};

use crate::ui::map::{self, Fill, Span};
use crate::ui::table::{self, Align};

/// The table, one row a partition.
pub(crate) fn table(report: &Report, legend: bool) -> String {
    let mut columns = Columns::default();
    columns.add("TYPE", Align::Left, report, |row| row.type_text());
    columns.add("LABEL", Align::Left, report, |row| {
        or_dash(row.label.clone())
    });
    columns.add("UUID", Align::Left, report, |row| row.uuid.clone());
    columns.add("PART", Align::Right, report, |row| {
        or_dash(
            row.partno
                .map(|number| number.to_string())
                .unwrap_or_default(),
        )
    });
    columns.add("FILE", Align::Left, report, |row| {
        or_dash(file_name(row.file.as_deref()))
    });
    columns.add("RAW SIZE", Align::Right, report, |row| {
        row.new_size.get().to_string()
    });
    columns.add("SIZE", Align::Right, report, |row| {
        change(row, row.old_size, row.new_size)
    });
    columns.add("PADDING", Align::Right, report, |row| {
        change(row, row.old_padding, row.new_padding)
    });
    if report.has_root_hashes() {
        columns.add("ROOTHASH", Align::Left, report, |row| {
            or_dash(row.root_hash.text().unwrap_or_default())
        });
    }
    if report.has_drop_ins() {
        columns.add("DROP-IN FILES", Align::Left, report, |row| {
            let names: Vec<String> = row
                .drop_ins
                .iter()
                .map(|path| file_name(Some(path)))
                .collect();
            or_dash(names.join(","))
        });
    }
    if report.has_split_paths() {
        columns.add("SPLIT PATH", Align::Left, report, |row| {
            or_dash(
                row.split_path
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            )
        });
    }
    let (size, padding) = report.total();
    columns.sum("SIZE", size);
    columns.sum("PADDING", padding);
    columns.draw(legend)
}

#[derive(Default)]
struct Columns {
    header: Vec<&'static str>,
    align: Vec<Align>,
    cells: Vec<Vec<String>>,
    sums: Vec<String>,
}

impl Columns {
    fn add(
        &mut self,
        name: &'static str,
        align: Align,
        report: &Report,
        cell: impl Fn(&Row) -> String,
    ) {
        self.header.push(name);
        self.align.push(align);
        self.cells.push(report.rows.iter().map(cell).collect());
        self.sums.push(String::new());
    }

    fn sum(&mut self, name: &str, bytes: Bytes) {
        if let Some(at) = self.header.iter().position(|known| *known == name) {
            self.sums[at] = format!("Σ = {bytes}");
        }
    }

    fn draw(&self, legend: bool) -> String {
        let rows = self.cells.first().map_or(0, Vec::len);
        let row = |at: usize| self.cells.iter().map(|column| column[at].clone()).collect();
        let mut lines: Vec<Vec<String>> = (0..rows).map(row).collect();
        lines.push(self.sums.clone());
        table::draw(if legend { &self.header } else { &[] }, &lines, &self.align)
    }
}

fn change(row: &Row, old: Bytes, new: Bytes) -> String {
    match row.activity {
        Activity::Create => format!("→ {new}"),
        _ if old == new => new.to_string(),
        _ => format!("{old} → {new}"),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn file_name(path: Option<&std::path::Path>) -> String {
    path.and_then(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The disk after the plan, under the disk before where there was one.
pub(crate) fn map(plan: &Plan, definitions: &[Definition], width: usize) -> String {
    let width = width.saturating_sub(8);
    let after = labelled(
        " after",
        &map::draw(&spans(plan, definitions, After), width, true),
    );
    if plan.table.from_scratch {
        return after;
    }
    let before = map::draw(&spans(plan, definitions, Before), width, false);
    labelled("before", &before) + &after
}

fn labelled(label: &str, drawn: &str) -> String {
    let margin = |at: usize| if at == 0 { label } else { "      " };
    let lines = drawn
        .lines()
        .enumerate()
        .map(|(at, line)| format!("{} {line}", margin(at)).trim_end().to_owned() + "\n");
    lines.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}
use When::{After, Before};

fn spans(plan: &Plan, definitions: &[Definition], when: When) -> Vec<Span> {
    let disk = if when == Before {
        plan.old_disk_size
    } else {
        plan.new_disk_size
    };
    let mut placed: Vec<(u64, u64, Span)> = plan
        .partitions
        .iter()
        .filter_map(|partition| {
            let extent = match when {
                Before => partition.found.as_ref()?.extent,
                After => partition.is_listed().then(|| partition.extent())?,
            };
            let (start, size) = (extent.start.get(), extent.size.get());
            let fill = if when == Before {
                Fill::Kept
            } else {
                fill(partition)
            };
            Some((
                start,
                size,
                Span {
                    label: label(partition, definitions),
                    size,
                    fill,
                },
            ))
        })
        .collect();
    placed.sort_by_key(|(start, ..)| *start);
    let free = |size| Span {
        label: String::new(),
        size,
        fill: Fill::Free,
    };
    let mut spans = Vec::new();
    let mut at = 0;
    for (start, size, span) in placed {
        if start > at {
            spans.push(free(start - at));
        }
        at = start.saturating_add(size);
        spans.push(span);
    }
    if disk.get() > at {
        spans.push(free(disk.get() - at));
    }
    spans
}

fn fill(partition: &PlannedPartition) -> Fill {
    match partition.fate {
        Fate::Create => Fill::New,
        Fate::Resize => Fill::Grown,
        _ => Fill::Kept,
    }
}

fn label(partition: &PlannedPartition, definitions: &[Definition]) -> String {
    let definition = partition.definition.and_then(|at| definitions.get(at));
    let file = file_name(definition.and_then(|definition| definition.origin.path.as_deref()));
    [file, partition.label.clone(), partition.kind.to_string()]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}
