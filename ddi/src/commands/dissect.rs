//! `ddi dissect`, also reached as `systemd-dissect`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ArgAction;
use dissect::assign::GivenHash;
use dissect::layout::{self, Part};
use dissect::report::Report;
use dissect::{Dissected, Image, Options, check, probe};
use image_specs::conf::boolean;
use image_specs::filter::ImageFilter;
use image_specs::partition::Designator;
use image_specs::units::Bytes;
use veritysetup::RootHash;
use veritysetup::signature::{Certificate, CertificateSource};

use super::repart_args::JsonArg;
use super::repart_sign;
use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::map::{self, Fill, Span};
use crate::ui::table::{self, Align};
use crate::ui::{Mode, Ui};
use crate::values::Tristate;
use crate::verb;

/// Show what is in a disk image, without root and without mounting it
#[derive(Debug, clap::Args)]
pub(crate) struct DissectArgs {
    /// Disk image to look at
    #[arg(value_name = "IMAGE")]
    image: Option<PathBuf>,
    /// What actions that are not built yet would take
    #[arg(value_name = "ARGUMENT", hide = true, trailing_var_arg = true)]
    more: Vec<PathBuf>,
    /// Only say whether the image is sound: exit with 0 and print OK, or fail
    #[arg(long)]
    validate: bool,
    /// Print the result as JSON
    #[arg(long, value_name = "FORMAT", value_enum)]
    json: Option<JsonArg>,
    /// Do not print column headers
    #[arg(long)]
    no_legend: bool,
    /// Do not pipe output into a pager (none is ever started)
    #[arg(long)]
    no_pager: bool,
    /// Root hash that the root partition must have
    #[arg(long, value_name = "HEX", conflicts_with = "usr_hash")]
    root_hash: Option<String>,
    /// Root hash that the usr partition must have
    #[arg(long, value_name = "HEX")]
    usr_hash: Option<String>,
    /// Labels that partitions must have, by designator
    #[arg(long, value_name = "FILTER")]
    image_filter: Option<String>,
    /// Check the signature against this certificate (PEM; can be repeated)
    #[arg(long, value_name = "PATH")]
    certificate: Vec<PathBuf>,
    /// Read all data and check it against the root hash
    #[arg(long)]
    verify_data: bool,
    #[command(flatten)]
    later: Later,
    #[command(flatten)]
    idle: Idle,
}

/// Options of systemd-dissect for mounting, attaching and discovering: showing and checking an image
/// does none of this, so they change nothing, there as here.
#[derive(Debug, clap::Args)]
struct Idle {
    #[arg(long, hide = true)]
    mkdir: bool,
    #[arg(long, hide = true)]
    rmdir: bool,
    #[arg(short = 'r', long, hide = true)]
    read_only: bool,
    #[arg(long, hide = true, value_name = "MODE", value_enum)]
    discard: Option<Discard>,
    #[arg(long, hide = true)]
    in_memory: bool,
    #[arg(long, hide = true, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    fsck: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    growfs: Option<bool>,
    #[arg(long, hide = true, value_name = "NAME")]
    loop_ref: Option<String>,
    #[arg(long, hide = true)]
    loop_ref_auto: bool,
    #[arg(long, hide = true, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    mtree_hash: Option<bool>,
    #[arg(long, hide = true)]
    system: bool,
    #[arg(long, hide = true)]
    user: bool,
    #[arg(long, hide = true)]
    all: bool,
    #[arg(short = 'q', long, hide = true)]
    quiet: bool,
    #[arg(long, hide = true, value_name = "BOOL", value_parser = Tristate::parse, action = ArgAction::Set)]
    copy_ownership: Option<Tristate>,
}

/// `--discard=`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Discard {
    Disabled,
    Loop,
    All,
    #[value(alias = "crypt")]
    Crypto,
}

/// Actions of systemd-dissect that a later version brings: known, so that they can be refused.
#[derive(Debug, clap::Args)]
struct Later {
    #[arg(short = 'm', long, hide = true)]
    mount: bool,
    #[arg(short = 'M', hide = true)]
    mount_mkdir: bool,
    #[arg(short = 'u', long, hide = true)]
    umount: bool,
    #[arg(short = 'U', hide = true)]
    umount_rmdir: bool,
    #[arg(long, hide = true)]
    attach: bool,
    #[arg(long, hide = true)]
    detach: bool,
    #[arg(short = 'l', long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    mtree: bool,
    #[arg(long, hide = true)]
    with: bool,
    #[arg(short = 'x', long, hide = true)]
    copy_from: bool,
    #[arg(short = 'a', long, hide = true)]
    copy_to: bool,
    #[arg(long, hide = true)]
    make_archive: bool,
    #[arg(long, hide = true)]
    discover: bool,
    #[arg(long, hide = true)]
    shift: bool,
    #[arg(long, hide = true, value_name = "POLICY")]
    image_policy: Option<String>,
    #[arg(long, hide = true, value_name = "SIG", conflicts_with = "usr_hash_sig")]
    root_hash_sig: Option<String>,
    #[arg(long, hide = true, value_name = "SIG")]
    usr_hash_sig: Option<String>,
    #[arg(long, hide = true, value_name = "PATH")]
    verity_data: Option<PathBuf>,
}

impl verb::Run for DissectArgs {
    fn mode(&self) -> Mode {
        JsonArg::mode(self.json)
    }

    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        run(self, ui)
    }
}

fn run(args: &DissectArgs, ui: &Ui) -> Result<Exit, Failure> {
    args.later.refuse()?;
    let Some(path) = &args.image else {
        return Err(
            Failure::message("no image is named").with_hint("pass the path of a disk image")
        );
    };
    if let Some(stray) = args.more.first() {
        return Err(Failure::message(format!(
            "{} is one argument too many",
            stray.display()
        )));
    }
    let options = Options {
        native: surroundings::architecture()?,
        filter: args
            .image_filter
            .as_deref()
            .unwrap_or_default()
            .parse::<ImageFilter>()?,
        root_hash: given_hash(args)?,
    };
    let (image, dissected) = dissect::dissect(path, &options)?;
    let findings = checks(args, &image, &dissected)?;
    let report = Report::new(&dissected);
    if args.validate {
        return match findings.first() {
            None => ui.print("OK\n").map(|()| Exit::Ok),
            Some(finding) => Err(Failure::message(format!("{}: {finding}", path.display()))),
        };
    }
    for finding in &findings {
        ui.note(&format!("warning: {finding}"));
    }
    if ui.mode() != Mode::Text {
        ui.print_json(&serde_json::to_value(&report)?)?;
        return Ok(Exit::Ok);
    }
    ui.print(&header(&report))?;
    ui.print(&verity_line(args, &dissected))?;
    ui.print(&disk(&image, ui.width())?)?;
    ui.print(&mounts(&report, !args.no_legend))?;
    Ok(Exit::Ok)
}

impl Later {
    fn refuse(&self) -> Result<(), Failure> {
        let asked = [
            (self.mount || self.mount_mkdir, "mounting (--mount)"),
            (self.umount || self.umount_rmdir, "unmounting (--umount)"),
            (self.attach, "--attach"),
            (self.detach, "--detach"),
            (self.list, "--list"),
            (self.mtree, "--mtree"),
            (self.with, "--with"),
            (self.copy_from, "--copy-from"),
            (self.copy_to, "--copy-to"),
            (self.make_archive, "--make-archive"),
            (self.discover, "--discover"),
            (self.shift, "--shift"),
            (self.image_policy.is_some(), "--image-policy="),
            (self.root_hash_sig.is_some(), "--root-hash-sig="),
            (self.usr_hash_sig.is_some(), "--usr-hash-sig="),
            (self.verity_data.is_some(), "--verity-data="),
        ];
        match asked.into_iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, action)) => Err(Failure::message(format!("{action} is not supported yet"))
                .with_hint(
                    "this version shows and checks images; use systemd-dissect for the rest",
                )),
        }
    }
}

fn given_hash(args: &DissectArgs) -> Result<Option<GivenHash>, Failure> {
    let (designator, text) = match (&args.root_hash, &args.usr_hash) {
        (Some(text), _) => (Designator::Root, text),
        (None, Some(text)) => (Designator::Usr, text),
        (None, None) => return Ok(None),
    };
    let hash: RootHash = text.parse()?;
    Ok(Some(GivenHash {
        designator,
        hash,
        signature: None,
    }))
}

/// Everything that does not belong together; a signature or data that fails is an error.
fn checks(
    args: &DissectArgs,
    image: &Image,
    dissected: &Dissected,
) -> Result<Vec<String>, Failure> {
    let probed = probe::probe(image)?;
    let table = probed
        .table
        .iter()
        .flat_map(|table| table.findings(probed.size));
    let mut findings: Vec<String> = table.map(|finding| finding.to_string()).collect();
    findings.extend(check::findings(dissected).iter().map(ToString::to_string));
    if !args.certificate.is_empty() {
        let load = |path: &PathBuf| {
            Certificate::load(
                &path.display().to_string(),
                &CertificateSource::File,
                &repart_sign::openssl(),
            )
        };
        let certificates = args
            .certificate
            .iter()
            .map(load)
            .collect::<Result<Vec<_>, _>>()?;
        check::signature(dissected, &certificates)?;
    }
    if args.verify_data {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        check::data(image, dissected, threads)?;
    }
    Ok(findings)
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
    words.push(match (&verity.signature, args.certificate.is_empty()) {
        (None, _) => "not signed",
        (Some(_), true) => "signed, signature not checked (pass --certificate=)",
        (Some(_), false) => "signed by the given certificate",
    });
    if args.verify_data {
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
fn disk(image: &Image, width: usize) -> Result<String, Failure> {
    let probed = probe::probe(image)?;
    let Some(table) = &probed.table else {
        return Ok("\n".to_owned());
    };
    let parts = layout::layout(table, probed.size).parts;
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
    Ok(format!("\n{}\n", map::draw(&spans, width, true)))
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
