//! `ddi integrity-volume`, also reached as `systemd-integritysetup`.

use std::path::{Path, PathBuf};

use blockdev::dm::{DeviceMapper, DmName};
use image_specs::tab::{IntegrityMode, IntegrityOptions, device_path};
use image_specs::units::SectorSize;
use luks::integrity::table::{IntegrityTable, Keyed, Mode, Switch};
use luks::integrity::{Algorithm, activate};

use super::tell_unknown;
use crate::commands::integrity::{Node, activation, superblock, whole_file};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::Run;

/// Attach or detach a block device with a tag for each sector
///
/// Started by the units that integritytab asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct IntegrityVolumeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Attach a volume
    Attach {
        /// Its name below /dev/mapper
        #[arg(value_name = "VOLUME")]
        name: String,
        /// The block device or image file, also as UUID=, PARTUUID=, LABEL= or PARTLABEL=
        device: String,
        /// The file with the key for tags, or -
        #[arg(value_name = "KEYFILE")]
        key: Option<PathBuf>,
        /// Options of integritytab, or -
        options: Option<String>,
    },
    /// Detach a volume
    Detach {
        /// Its name below /dev/mapper
        #[arg(value_name = "VOLUME")]
        name: String,
    },
}

impl Run for IntegrityVolumeArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        // systemd's program has no other code for what fails.
        let done = self.perform(ui);
        done.map_err(|failure| failure.with_exit(Exit::Failure))
    }
}

impl IntegrityVolumeArgs {
    fn perform(&self, ui: &Ui) -> Result<Exit, Failure> {
        match &self.command {
            Command::Detach { name } => detach(&DmName::new(name)?),
            Command::Attach {
                name,
                device,
                key,
                options,
            } => {
                let options = options.as_deref().filter(|text| *text != "-");
                let found = IntegrityOptions::parse(options.unwrap_or_default())?;
                tell_unknown(&found.unknown, ui);
                let key = key
                    .as_deref()
                    .filter(|path| !path.as_os_str().is_empty() && *path != Path::new("-"));
                let device = device_path(device);
                attach(
                    &DmName::new(name)?,
                    Path::new(&device),
                    key,
                    &found.options,
                    ui,
                )
            }
        }
    }
}

fn attach(
    name: &DmName,
    device: &Path,
    key: Option<&Path>,
    options: &IntegrityOptions,
    ui: &Ui,
) -> Result<Exit, Failure> {
    let hash = hash(key, options, ui)?;
    let mapper = DeviceMapper::open()?;
    if mapper.info(name)?.is_some_and(|info| info.active) {
        ui.note(&format!("Volume {name} is active already."));
        return Ok(Exit::Ok);
    }
    let superblock = superblock(device)?;
    let sector = SectorSize::new(superblock.sector_size().into()).unwrap_or(SectorSize::S512);
    let node = Node::open(device, sector)?;
    let mut table = IntegrityTable::of(&superblock, node.number(), hash);
    let data = options.data_device.as_deref().map(device_path);
    let data = data
        .map(|path| Node::open(Path::new(&path), sector))
        .transpose()?;
    if let Some(data) = &data {
        table.device = data.number();
        table.metadata = Some(node.number());
    }
    table.mode = match options.mode {
        IntegrityMode::Journal => table.mode,
        IntegrityMode::Bitmap => Mode::Bitmap,
        IntegrityMode::Direct => Mode::Direct,
    };
    table.tuning.journal_watermark = options.journal_watermark;
    table.tuning.journal_commit_time = options.journal_commit_time;
    if options.allow_discards {
        table.switches.push(Switch::AllowDiscards);
    }
    let info = activate::open(&mapper, name, &table).map_err(activation)?;
    mapper.link(name, &info)?;
    Ok(Exit::Ok)
}

/// What tags are calculated with: what the options say, else by whether there is a key.
fn hash(key: Option<&Path>, options: &IntegrityOptions, ui: &Ui) -> Result<Keyed, Failure> {
    let said = options.algorithm.map(Algorithm::from);
    let algorithm = said.unwrap_or_else(|| match key {
        Some(_) => Algorithm::hmac_sha256(),
        None => Algorithm::crc32c(),
    });
    let refusal = match (algorithm.is_keyed(), key) {
        (true, None) => format!("{algorithm} needs a key file"),
        (false, Some(key)) => format!(
            "{algorithm} takes no key, so that {} would protect nothing",
            key.display()
        ),
        _ => {
            let key = key.map(|path| whole_file(path, ui)).transpose()?;
            return Ok(Keyed { algorithm, key });
        }
    };
    Err(Failure::message(refusal)
        .with_hint("integrity-algorithm=hmac-sha256 goes with a key file, - stands for none"))
}

fn detach(name: &DmName) -> Result<Exit, Failure> {
    // Without device-mapper nothing is active.
    let mapper = match DeviceMapper::open() {
        Err(error) if matches!(error.why, blockdev::dm::DmFailure::Unavailable(_)) => {
            return Ok(Exit::Ok);
        }
        mapper => mapper?,
    };
    veritysetup::activate::close(&mapper, name, false)?;
    Ok(Exit::Ok)
}
