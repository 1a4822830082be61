//! `ddi veritysetup-generator` and `ddi integritysetup-generator`, also reached as systemd's.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dissect::gpt_auto::cmdline;
use image_specs::tab::units::{Files, Item, Settings, Source};
use image_specs::tab::{
    IntegrityOptions, OptionError, RootHashSource, Table, Unknown, VerityOptions, Volume,
};

use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;
use crate::verb::Run;

/// Where units go.
#[derive(Debug, clap::Args)]
struct Folders {
    /// Directory for units with ordinary priority: all of them
    #[arg(value_name = "NORMAL-DIR")]
    normal: Option<PathBuf>,
    /// Directory for units that come before all others (nothing is written there)
    #[arg(value_name = "EARLY-DIR", requires = "late")]
    early: Option<PathBuf>,
    /// Directory for units that come after all others (nothing is written there)
    #[arg(value_name = "LATE-DIR")]
    late: Option<PathBuf>,
}

/// Write the units for volumes of veritytab and of the kernel's command line
///
/// Started by the service manager in early boot. Without a directory it shows what it would write. A line of
/// /etc/veritytab that makes no sense is told with its place, and costs no other volume.
#[derive(Debug, clap::Args)]
pub(crate) struct VerityGeneratorArgs {
    #[command(flatten)]
    folders: Folders,
}

/// Write the units for volumes of integritytab
///
/// Started by the service manager in early boot. Without a directory it shows what it would write. A line of
/// /etc/integritytab that makes no sense is told with its place, and costs no other volume.
#[derive(Debug, clap::Args)]
pub(crate) struct IntegrityGeneratorArgs {
    #[command(flatten)]
    folders: Folders,
}

impl Run for VerityGeneratorArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let words = cmdline::words(&command_line()?);
        let settings =
            Settings::parse(words.iter().map(String::as_str), surroundings::in_initrd())?;
        if settings.is_off() {
            return Ok(Exit::Ok);
        }
        let mut files = Files::new();
        if settings.reads_table() {
            let path = table_path("SYSTEMD_VERITYTAB", "/etc/veritytab");
            add(Table::Verity, &path, &mut files, ui)?;
        }
        let named = settings.units(&mut files);
        self.folders.write(&files, ui)?;
        named?;
        Ok(Exit::Ok)
    }
}

impl Run for IntegrityGeneratorArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let mut files = Files::new();
        let path = table_path("SYSTEMD_INTEGRITYTAB", "/etc/integritytab");
        add(Table::Integrity, &path, &mut files, ui)?;
        self.folders.write(&files, ui)?;
        Ok(Exit::Ok)
    }
}

/// Adds the units of a table; what is wrong with it is told.
fn add(table: Table, path: &Path, files: &mut Files, ui: &Ui) -> Result<(), Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let text = format!("cannot read {}: {error}", path.display());
            return Err(Failure::message(text));
        }
    };
    let (volumes, errors) = table.parse(&bytes);
    let shown = path.display().to_string();
    for error in errors {
        ui.note(&format!("{shown}:{error}"));
    }
    let source = Source {
        table,
        path: &shown,
    };
    for volume in &volumes {
        tell_options(table, &shown, volume, ui);
        source.units(volume, files);
    }
    Ok(())
}

/// What the program that sets the volume up would say of its options; its unit is written all the same, so
/// that what waits for it learns why.
fn tell_options(table: Table, path: &str, volume: &Volume, ui: &Ui) {
    let options = volume.options.as_ref();
    let text = options.map_or("", |(_, text)| text);
    let place = options.map_or(volume.location, |(place, _)| *place);
    let tell = |result: Result<Vec<Unknown>, OptionError>| match result {
        Ok(unknown) => {
            for option in unknown {
                ui.note(&format!("{path}:{place}: {option}"));
            }
        }
        Err(error) => ui.note(&format!("{path}:{place}: {error}")),
    };
    match table {
        Table::Verity => {
            let root = volume.fields.get(2).map_or("", String::as_str);
            tell(RootHashSource::parse(root).map(|_| Vec::new()));
            tell(VerityOptions::parse(text).map(|found| found.unknown));
        }
        Table::Integrity => tell(IntegrityOptions::parse(text).map(|found| found.unknown)),
    }
}

impl Folders {
    fn write(&self, files: &Files, ui: &Ui) -> Result<(), Failure> {
        let Some(normal) = &self.normal else {
            return ui.print(&text(files));
        };
        for (path, item) in files {
            let path = normal.join(path);
            let parent = path.parent().unwrap_or(normal);
            let written = fs::create_dir_all(parent).and_then(|()| match item {
                Item::File(text) => fs::write(&path, text),
                Item::Link(target) => symlink(target, &path),
            });
            written.map_err(|error| {
                Failure::message(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// All files and links, for people.
fn text(files: &Files) -> String {
    let show = |(path, item): (&String, &Item)| match item {
        Item::Link(target) => format!("{path} -> {target}\n"),
        Item::File(lines) => format!("{path}:\n{lines}\n"),
    };
    files.iter().map(show).collect()
}

fn table_path(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
}

fn command_line() -> Result<String, Failure> {
    if let Ok(line) = std::env::var("SYSTEMD_PROC_CMDLINE") {
        return Ok(line);
    }
    fs::read_to_string("/proc/cmdline").map_err(|error| {
        Failure::message(format!("cannot read the kernel's command line: {error}"))
    })
}
