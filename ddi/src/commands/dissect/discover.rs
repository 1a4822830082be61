//! `--discover`: the images in the directories made for them.

use std::path::Path;

use dissect::discover::{self, Class, DiscoveredImage, Scope};
use dissect::metadata;
use dissect::uses::{Purpose, Uses};
use image_specs::units::Bytes;
use image_specs::vpick::Filter;
use serde_json::{Value, json};

use super::files::Files;
use super::{DissectArgs, open};
use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::table::{self, Align};
use crate::ui::{Mode, Ui};

const HEADER: [&str; 7] = ["NAME", "TYPE", "CLASS", "RO", "PATH", "TIME", "USAGE"];

pub(super) fn run(args: &DissectArgs, ui: &Ui) -> Result<Exit, Failure> {
    let mut images = find(args)?;
    images.retain(|image| args.discovery.all || !image.name.starts_with('.'));
    if let Some(purpose) = args.verification.purpose {
        images.retain(|image| serves(args, ui, image, purpose));
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    if ui.mode() != Mode::Text {
        ui.print_json(&images.iter().map(as_json).collect())?;
        return Ok(Exit::Ok);
    }
    if images.is_empty() {
        ui.note("No images found.");
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = images.iter().map(row).collect();
    let mut align = vec![Align::Left; HEADER.len()];
    align[6] = Align::Right;
    let header: &[&str] = if args.output.no_legend { &[] } else { &HEADER };
    ui.print(&table::draw(header, &rows, &align))?;
    Ok(Exit::Ok)
}

/// Whether an image is for this purpose. One that cannot be read is for none.
fn serves(args: &DissectArgs, ui: &Ui, image: &DiscoveredImage, purpose: Purpose) -> bool {
    uses(args, ui, image).is_ok_and(|uses| uses.serve(purpose))
}

fn uses(args: &DissectArgs, ui: &Ui, image: &DiscoveredImage) -> Result<Uses, Failure> {
    if image.path.is_dir() {
        let files = Files::open(args, ui, &image.path)?;
        let metadata = metadata::read(files.reader(), &image.name)?;
        return Ok(Uses::of_files(&metadata));
    }
    let opened = open::open(args, &image.path)?;
    let metadata = open::metadata(args, &opened, &args.unlocking.given(ui)?)?;
    Ok(Uses::of(&opened.dissected, &metadata))
}

/// Both scopes are searched unless one is asked for.
fn find(args: &DissectArgs) -> Result<Vec<DiscoveredImage>, Failure> {
    let variables = surroundings::variables();
    let variable = |name| variables.get(name).map(String::as_str);
    let (system, user) = (args.discovery.system, args.discovery.user);
    let mut scopes = Vec::new();
    if system || !user {
        let initrd = Path::new("/etc/initrd-release").exists();
        scopes.push(Scope::System { initrd });
    }
    if user || !system {
        scopes.push(Scope::User {
            runtime: variable("XDG_RUNTIME_DIR"),
            home: variable("HOME"),
        });
    }
    let filter = Filter {
        native: surroundings::architecture()?,
        architecture: None,
        version: None,
    };
    let mut images = Vec::new();
    for class in Class::ALL {
        let mut listings = Vec::new();
        for directory in scopes.iter().flat_map(|scope| class.directories(*scope)) {
            listings.push(discover::survey(&directory, &filter)?);
        }
        images.extend(discover::decide(class, &listings));
    }
    Ok(images)
}

fn row(image: &DiscoveredImage) -> Vec<String> {
    let none = || "-".to_owned();
    vec![
        image.name.clone(),
        image.form.name().to_owned(),
        image.class.name().to_owned(),
        if image.read_only { "yes" } else { "no" }.to_owned(),
        image.path.display().to_string(),
        image.changed.map_or_else(none, moment),
        image
            .usage
            .map_or_else(none, |usage| Bytes::new(usage).to_string()),
    ]
}

fn as_json(image: &DiscoveredImage) -> Value {
    json!({
        "name": image.name,
        "type": image.form.name(),
        "class": image.class.name(),
        "ro": image.read_only,
        "path": image.path.to_string_lossy(),
        "time": image.changed,
        "usage": image.usage,
    })
}

/// A time as `Tue 2024-01-02 03:04:05 UTC`.
fn moment(microseconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let seconds = microseconds / 1_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let name = usize::try_from(days % 7).map_or("", |day| DAYS[day]);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{name} {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date of a day counted from 1970-01-01: years of 400 have one length, and end in February.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu 1970-01-01 00:00:00 UTC"),
            (951_782_400, "Tue 2000-02-29 00:00:00 UTC"),
            (1_704_164_645, "Tue 2024-01-02 03:04:05 UTC"),
            (4_107_542_399, "Sun 2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "Mon 2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(moment(seconds * 1_000_000), text);
        }
    }
}
