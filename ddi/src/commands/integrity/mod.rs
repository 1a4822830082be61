//! `ddi integrity`, also reached as `integritysetup`.

mod device;
mod format;
mod keys;
mod open;
mod progress;
mod show;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use blockdev::dm::{BadName, DmError, DmFailure, DmName};
use clap::ArgAction;
use image_specs::conf::size;
use image_specs::units::SectorSize;
use luks::integrity::Algorithm;
use luks::integrity::activate::ActivateError;

use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::Run;

pub(super) use device::Node;
pub(super) use keys::whole_file;
pub(super) use show::superblock;

/// Protect block devices with a tag for each sector (dm-integrity)
///
/// Tags tell whether a sector is what was written; with a key (hmac-sha256) nobody without it can write
/// one that passes. Formatting needs neither root nor the kernel where the algorithm is crc32, crc32c,
/// xxhash64, sha1, sha256, sha512, hmac-sha256 or hmac-sha512 and the journal has no key.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of the tool")]
pub(crate) struct IntegrityArgs {
    /// format DEVICE, open DEVICE NAME, close NAME, status NAME, dump DEVICE or resize NAME
    #[arg(value_name = "ACTION", required_unless_present_any = ["show_tool_version", "usage"])]
    action: Option<String>,
    /// The device (or image file), the name below /dev/mapper
    #[arg(value_name = "DEVICE|NAME")]
    operands: Vec<OsString>,

    /// What tags are calculated with [default: crc32c]
    #[arg(short = 'I', long, value_name = "ALGORITHM")]
    integrity: Option<Algorithm>,
    /// Read the key for tags from this file
    #[arg(long, value_name = "FILE")]
    integrity_key_file: Option<PathBuf>,
    /// How many bytes of it are the key, up to 4096
    #[arg(long, value_name = "BYTES")]
    integrity_key_size: Option<u64>,
    /// Bytes of a tag, where these are not all that the algorithm gives (format)
    #[arg(short, long, value_name = "BYTES")]
    tag_size: Option<u16>,
    /// Bytes of a sector: 512, 1024, 2048 or 4096 (format) [default: 512]
    #[arg(short, long, value_name = "BYTES", value_parser = sector_size)]
    sector_size: Option<SectorSize>,
    /// Bytes of the journal (format)
    #[arg(short, long, value_name = "BYTES")]
    journal_size: Option<u64>,
    /// Sectors of data between areas of tags (format)
    #[arg(long, value_name = "SECTORS")]
    interleave_sectors: Option<u32>,
    /// How full the journal may be before it is written back
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    journal_watermark: Option<u8>,
    /// After how many milliseconds the journal is written
    #[arg(long, value_name = "MS")]
    journal_commit_time: Option<u32>,
    /// What authenticates the journal
    #[arg(long, value_name = "ALGORITHM")]
    journal_integrity: Option<Algorithm>,
    /// Read the key for that from this file
    #[arg(long, value_name = "FILE")]
    journal_integrity_key_file: Option<PathBuf>,
    /// How many bytes of it are the key, up to 4096
    #[arg(long, value_name = "BYTES")]
    journal_integrity_key_size: Option<u64>,
    /// What encrypts the journal
    #[arg(long, value_name = "ALGORITHM")]
    journal_crypt: Option<Algorithm>,
    /// Read the key for that from this file
    #[arg(long, value_name = "FILE")]
    journal_crypt_key_file: Option<PathBuf>,
    /// How many bytes of it are the key, up to 4096
    #[arg(long, value_name = "BYTES")]
    journal_crypt_key_size: Option<u64>,
    /// Sectors of a buffer of tags
    #[arg(long, value_name = "SECTORS")]
    buffer_sectors: Option<u32>,
    /// The data are on this device; DEVICE has the tags
    #[arg(long, value_name = "DEVICE")]
    data_device: Option<PathBuf>,

    /// Write without a journal: after a crash, sectors may not verify
    #[arg(short = 'D', long, conflicts_with_all = ["integrity_bitmap_mode", "integrity_recovery_mode"])]
    integrity_no_journal: bool,
    /// Keep a bitmap of what may not verify after a crash, in place of the journal
    #[arg(short = 'B', long, conflicts_with = "integrity_recovery_mode")]
    integrity_bitmap_mode: bool,
    /// Look at no tags and replay no journal, to save what can be saved
    #[arg(short = 'R', long)]
    integrity_recovery_mode: bool,
    /// Use the integrity data that the device has for each sector (format)
    #[arg(long)]
    integrity_inline: bool,
    /// Sectors for which a bit of the bitmap stands (open)
    #[arg(long, value_name = "SECTORS")]
    bitmap_sectors_per_bit: Option<u32>,
    /// After how many milliseconds the bitmap is written (open)
    #[arg(long, value_name = "MS")]
    bitmap_flush_time: Option<u32>,
    /// Calculate tags anew from where that ended (open)
    #[arg(long)]
    integrity_recalculate: bool,
    /// Calculate all tags anew (open)
    #[arg(long)]
    integrity_recalculate_reset: bool,
    /// Allow that for tags with a key on devices without a salt (open)
    #[arg(long)]
    integrity_legacy_recalculate: bool,
    /// Pad areas of tags as old kernels do (format)
    #[arg(long)]
    integrity_legacy_padding: bool,
    /// Have no salt in tags, as old kernels do (format)
    #[arg(long)]
    integrity_legacy_hmac: bool,
    /// Let sectors be given back (open)
    #[arg(long)]
    allow_discards: bool,
    /// The same where tags have a key; who can write to the device can then make sectors zero (open)
    #[arg(long)]
    allow_discards_keyed: bool,

    /// Write no data and tags: sectors cannot be read before they are written (format)
    #[arg(long)]
    no_wipe: bool,
    /// Write zeros to what is new (resize)
    #[arg(long)]
    wipe: bool,
    /// The new size in sectors of 512 bytes (resize)
    #[arg(short = 'b', long, value_name = "SECTORS")]
    size: Option<u64>,
    /// The new size in bytes (resize)
    #[arg(long, value_name = "BYTES", value_parser = size, conflicts_with = "size")]
    device_size: Option<u64>,
    /// Do not look for what the device holds, nor clear it (format)
    #[arg(long)]
    disable_blkid: bool,
    /// Remove the device when its last user closes it (close)
    #[arg(long, conflicts_with = "cancel_deferred")]
    deferred: bool,
    /// Take that back (close)
    #[arg(long)]
    cancel_deferred: bool,

    /// Do not ask, and say less
    #[arg(short = 'q', long)]
    batch_mode: bool,
    /// Show progress each so many seconds
    #[arg(long, value_name = "SECONDS")]
    progress_frequency: Option<u64>,
    /// Show progress as lines of JSON
    #[arg(long)]
    progress_json: bool,
    /// Say how it ended
    #[arg(short, long)]
    verbose: bool,
    /// Show debug messages
    #[arg(long)]
    debug: bool,
    /// Print version
    #[arg(short = 'V')]
    show_tool_version: bool,
    /// Show how it is called
    #[arg(long)]
    usage: bool,
    /// Print help
    #[arg(short = '?', action = ArgAction::Help)]
    short_help: Option<bool>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Format,
    Open,
    Close,
    Status,
    Dump,
    Resize,
}

/// The commands that options are for; all others are for every command.
const LIMITED: [(&str, &[Action]); 20] = [
    ("tag-size", &[Action::Format]),
    ("sector-size", &[Action::Format]),
    ("journal-size", &[Action::Format]),
    ("interleave-sectors", &[Action::Format]),
    ("integrity-inline", &[Action::Format]),
    ("integrity-legacy-padding", &[Action::Format]),
    ("integrity-legacy-hmac", &[Action::Format]),
    ("no-wipe", &[Action::Format]),
    ("disable-blkid", &[Action::Format]),
    ("bitmap-sectors-per-bit", &[Action::Open]),
    ("bitmap-flush-time", &[Action::Open]),
    ("integrity-recalculate", &[Action::Open]),
    ("integrity-recalculate-reset", &[Action::Open]),
    ("integrity-legacy-recalculate", &[Action::Open]),
    ("allow-discards", &[Action::Open]),
    ("allow-discards-keyed", &[Action::Open]),
    ("wipe", &[Action::Resize]),
    ("size", &[Action::Resize]),
    ("device-size", &[Action::Resize]),
    ("deferred", &[Action::Close]),
];

impl Run for IntegrityArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        if self.debug {
            crate::cli::log("debug");
        }
        if self.show_tool_version {
            ui.print(&crate::cli::cryptsetup_version("integritysetup"))?;
            return Ok(Exit::Ok);
        }
        if self.usage {
            let command = clap::Command::new("integritysetup");
            let mut command = <Self as clap::Args>::augment_args(command);
            ui.print(&format!("{}\n", command.render_usage()))?;
            return Ok(Exit::Ok);
        }
        let done = self.perform(ui);
        if self.verbose {
            let code = match &done {
                Ok(exit) => exit.code(),
                Err(failure) => failure.exit.code(),
            };
            ui.note(&match code {
                0 => "Command successful.".to_owned(),
                code => format!("Command failed with code -{code}."),
            });
        }
        done
    }
}

impl IntegrityArgs {
    fn perform(&self, ui: &Ui) -> Result<Exit, Failure> {
        let word = self.action.as_deref().unwrap_or_default();
        let action = match word {
            "format" => Action::Format,
            "open" | "create" => Action::Open,
            "close" | "remove" => Action::Close,
            "status" => Action::Status,
            "dump" => Action::Dump,
            "resize" => Action::Resize,
            _ => {
                return Err(
                    Failure::message(format!("{word:?} is no action of integritysetup"))
                        .with_hint("known are format, open, close, status, dump and resize"),
                );
            }
        };
        self.check_options(action, word)?;
        let operand = |number: usize, what: &str| {
            let found = self.operands.get(number);
            found.ok_or_else(|| Failure::message(format!("{word} needs {what}")))
        };
        match action {
            Action::Format => format::run(self, Path::new(operand(0, "a device")?), ui),
            Action::Dump => show::dump(Path::new(operand(0, "a device")?), ui),
            Action::Open => {
                // As it was called of old, the name comes first.
                let (device, named) = if word == "create" { (1, 0) } else { (0, 1) };
                let device = Path::new(operand(device, "a device and a name")?);
                open::run(
                    self,
                    device,
                    &name(operand(named, "a device and a name")?)?,
                    ui,
                )
            }
            Action::Close => open::close(self, &name(operand(0, "a name")?)?),
            Action::Status => show::status(&name(operand(0, "a name")?)?, ui),
            Action::Resize => open::resize(self, &name(operand(0, "a name")?)?, ui),
        }
    }

    fn check_options(&self, action: Action, word: &str) -> Result<(), Failure> {
        for (option, actions) in LIMITED {
            if self.has(option) && !actions.contains(&action) {
                return Err(Failure::message(format!(
                    "option --{option} is not allowed with {word}"
                )));
            }
        }
        if self.cancel_deferred && action != Action::Close {
            return Err(Failure::message(format!(
                "option --cancel-deferred is not allowed with {word}"
            )));
        }
        Ok(())
    }

    fn has(&self, option: &str) -> bool {
        match option {
            "tag-size" => self.tag_size.is_some(),
            "sector-size" => self.sector_size.is_some(),
            "journal-size" => self.journal_size.is_some(),
            "interleave-sectors" => self.interleave_sectors.is_some(),
            "integrity-inline" => self.integrity_inline,
            "integrity-legacy-padding" => self.integrity_legacy_padding,
            "integrity-legacy-hmac" => self.integrity_legacy_hmac,
            "no-wipe" => self.no_wipe,
            "disable-blkid" => self.disable_blkid,
            "bitmap-sectors-per-bit" => self.bitmap_sectors_per_bit.is_some(),
            "bitmap-flush-time" => self.bitmap_flush_time.is_some(),
            "integrity-recalculate" => self.integrity_recalculate,
            "integrity-recalculate-reset" => self.integrity_recalculate_reset,
            "integrity-legacy-recalculate" => self.integrity_legacy_recalculate,
            "allow-discards" => self.allow_discards,
            "allow-discards-keyed" => self.allow_discards_keyed,
            "wipe" => self.wipe,
            "size" => self.size.is_some(),
            "device-size" => self.device_size.is_some(),
            "deferred" => self.deferred,
            _ => false,
        }
    }
}

fn name(text: &OsString) -> Result<DmName, BadName> {
    DmName::new(&text.to_string_lossy())
}

fn sector_size(text: &str) -> Result<SectorSize, &'static str> {
    let bytes = text.parse().ok();
    bytes
        .and_then(SectorSize::new)
        .ok_or("write 512, 1024, 2048 or 4096")
}

/// The exit code of integritysetup for what device-mapper says.
pub(super) fn kernel(error: DmError) -> Failure {
    let exit = code(&error.why);
    Failure::from(error).with_exit(exit)
}

/// The same for what became of a device.
pub(super) fn activation(error: ActivateError) -> Failure {
    let exit = match &error {
        ActivateError::Exists(_) => Exit::InUse,
        ActivateError::Missing(_) => Exit::NoDevice,
        ActivateError::Kernel(error) => code(&error.why),
        _ => Exit::Failure,
    };
    Failure::from(error).with_exit(exit)
}

fn code(why: &DmFailure) -> Exit {
    match why {
        DmFailure::Denied(_) => Exit::Refused,
        DmFailure::Missing => Exit::NoDevice,
        DmFailure::Exists | DmFailure::Busy => Exit::InUse,
        _ => Exit::Failure,
    }
}
