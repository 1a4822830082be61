//! `ddi verity-volume`, also reached as `systemd-veritysetup`.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use blockdev::dm::{DeviceMapper, DmFailure, DmName};
use image_specs::tab::{Corruption, RootHashSource, SignatureSource, VerityOptions, device_path};
use image_specs::units::{Bytes, SectorSize};
use image_specs::verity::Superblock;
use veritysetup::activate::{
    self, ActivateError, DeviceNumber, ErrorCorrection, Lifetime, OnCorruption, Request,
    Strictness, VerityTable,
};
use veritysetup::signature::Signature;
use veritysetup::{BlockSize, HashType, Params, RootHash, Salt};

use super::{tell_unknown, udev_property};
use crate::commands::integrity::Node;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::Run;

/// Longest text of a root hash.
const MOST_ROOT: u64 = 4096;
/// Longest signature.
const MOST_SIGNATURE: u64 = 1 << 20;

/// Attach or detach a block device that a hash tree protects
///
/// Started by the units that veritytab and the kernel's command line ask for.
#[derive(Debug, clap::Args)]
pub(crate) struct VerityVolumeArgs {
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
        /// The block device or image file with the data, also as UUID=, PARTUUID=, LABEL= or PARTLABEL=
        #[arg(value_name = "DATADEVICE")]
        data: String,
        /// The same with the hash tree
        #[arg(value_name = "HASHDEVICE")]
        hash: String,
        /// The root hash: in hex, auto (or -) for what udev has found, or the path of a file or socket with it
        #[arg(value_name = "ROOTHASH", allow_hyphen_values = true)]
        root: String,
        /// Options of veritytab
        #[arg(allow_hyphen_values = true)]
        options: Option<String>,
    },
    /// Detach a volume
    Detach {
        /// Its name below /dev/mapper
        #[arg(value_name = "VOLUME")]
        name: String,
    },
}

impl Run for VerityVolumeArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        // systemd's program has no other code for what fails.
        let done = self.perform(ui);
        done.map_err(|failure| failure.with_exit(Exit::Failure))
    }
}

impl VerityVolumeArgs {
    fn perform(&self, ui: &Ui) -> Result<Exit, Failure> {
        match &self.command {
            Command::Detach { name } => detach(&DmName::new(name)?, ui),
            Command::Attach {
                name,
                data,
                hash,
                root,
                options,
            } => {
                let name = DmName::new(name)?;
                let options = options.as_deref().filter(|text| *text != "-");
                let found = VerityOptions::parse(options.unwrap_or_default())?;
                tell_unknown(&found.unknown, ui);
                let wanted = Wanted {
                    name,
                    data: device_path(data),
                    hash: device_path(hash),
                    root: RootHashSource::parse(root)?,
                    options: found.options,
                };
                wanted.attach(ui)
            }
        }
    }
}

/// A volume to attach.
struct Wanted {
    name: DmName,
    data: String,
    hash: String,
    root: RootHashSource,
    options: VerityOptions,
}

impl Wanted {
    fn attach(&self, ui: &Ui) -> Result<Exit, Failure> {
        self.check(ui)?;
        let mapper = DeviceMapper::open()?;
        if mapper.info(&self.name)?.is_some_and(|info| info.active) {
            ui.note(&format!("Volume {} is active already.", self.name));
            return Ok(Exit::Ok);
        }
        let open = |path: &str| Node::open_read_only(Path::new(path), SectorSize::S512);
        let (data, hash) = (open(&self.data)?, open(&self.hash)?);
        let parity = self.options.fec_device.as_deref().map(open).transpose()?;
        let params = self.params(&data, &hash)?;
        let root = self.root_hash(&data)?;
        let signature = self.signature(&data)?;
        let table = VerityTable {
            params: &params,
            root: &root,
            data: number(&data),
            hash: number(&hash),
            strictness: self.strictness(),
            correction: self.correction(&hash, parity.as_ref())?,
        };
        let request = Request {
            table,
            signature: signature.as_ref(),
            lifetime: Lifetime::UntilRemoved,
        };
        let active = match activate::open(&mapper, &self.name, &request) {
            Err(error @ ActivateError::Signature { .. }) => {
                ui.note(&format!(
                    "warning: {}; going on without the signature, as it protects nothing here",
                    Failure::from(error)
                ));
                let request = Request {
                    signature: None,
                    ..request
                };
                activate::open(&mapper, &self.name, &request)
            }
            done => done,
        };
        let active = active?;
        mapper.link(&self.name, active.info())?;
        Ok(Exit::Ok)
    }

    fn check(&self, ui: &Ui) -> Result<(), Failure> {
        if self.options.old_signature {
            ui.note("warning: write the signature as root-hash-signature=; alone it is not taken for ever");
        }
        match &self.options.measure {
            None => Ok(()),
            Some(name) => Err(Failure::message(format!(
                "tpm2-measure-nvpcr= asks for a measurement into the NvPCR {name}, which is not part of this version \
                 of ddi"
            ))
            .with_hint("remove the option, or use the original tool for this volume")),
        }
    }

    fn params(&self, data: &Node, hash: &Node) -> Result<Params, Failure> {
        let options = &self.options;
        let offset = Bytes::new(options.hash_offset);
        if options.superblock {
            let mut start = [0; 512];
            hash.file()
                .read_exact_at(&mut start, offset.get())
                .map_err(|error| {
                    Failure::message(format!(
                        "cannot read the superblock of {}: {error}",
                        self.hash
                    ))
                })?;
            let superblock = Superblock::parse(&start)?.ok_or_else(|| {
                Failure::message(format!("{} has no verity superblock", self.hash))
                    .with_hint("hash-offset= says where it is, superblock=no that there is none")
            })?;
            let params = Params::from_superblock(&superblock)?;
            return Ok(Params {
                hash_offset: offset,
                ..params
            });
        }
        let blocks = match options.data_blocks {
            Some(blocks) => blocks,
            None => data.size()?.get() / u64::from(options.data_block),
        };
        Ok(Params {
            hash_type: match options.format {
                0 => HashType::ChromeOs,
                _ => HashType::Normal,
            },
            algorithm: options.hash.as_deref().unwrap_or("sha256").parse()?,
            data_block: BlockSize::new(options.data_block.into())?,
            hash_block: BlockSize::new(options.hash_block.into())?,
            data_blocks: blocks,
            salt: Salt::new(options.salt.clone().unwrap_or_default())?,
            superblock: None,
            hash_offset: offset,
        })
    }

    fn strictness(&self) -> Strictness {
        Strictness {
            on_corruption: match self.options.corruption {
                Corruption::Fail => OnCorruption::Fail,
                Corruption::Ignore => OnCorruption::Ignore,
                Corruption::Restart => OnCorruption::Restart,
                Corruption::Panic => OnCorruption::Panic,
            },
            ignore_zero_blocks: self.options.ignore_zero_blocks,
            check_at_most_once: self.options.check_at_most_once,
            ..Strictness::default()
        }
    }

    fn correction(
        &self,
        hash: &Node,
        parity: Option<&Node>,
    ) -> Result<Option<ErrorCorrection>, Failure> {
        let Some(parity) = parity else {
            return Ok(None);
        };
        let offset = Bytes::new(self.options.fec_offset);
        // On the hash device itself it covers what is before it.
        let hash_end = match parity.number() == hash.number() {
            true => offset,
            false => hash.size()?,
        };
        Ok(Some(ErrorCorrection {
            device: number(parity),
            offset,
            roots: self.options.fec_roots,
            hash_end,
        }))
    }

    fn root_hash(&self, data: &Node) -> Result<RootHash, Failure> {
        match &self.root {
            RootHashSource::Bytes(bytes) => Ok(hex(bytes).parse()?),
            RootHashSource::File(path) => {
                let text = String::from_utf8(read(Path::new(path), MOST_ROOT, "the root hash")?);
                let text = text.map_err(|_| Failure::message(format!("{path} holds no text")))?;
                Ok(text.trim().parse()?)
            }
            RootHashSource::Auto => {
                let found = udev_property(data.number(), "ID_DISSECT_PART_ROOTHASH");
                let found = found.ok_or_else(|| {
                    Failure::message(format!("udev knows no root hash of {}", self.data)).with_hint(
                        "it dissects disks with a signed verity partition; else write the root hash",
                    )
                })?;
                Ok(found.parse()?)
            }
        }
    }

    fn signature(&self, data: &Node) -> Result<Option<Signature>, Failure> {
        let source = match self.options.signature.clone() {
            Some(SignatureSource::Auto) => {
                let found = udev_property(data.number(), "ID_DISSECT_PART_ROOTHASH_SIG");
                let found = found.ok_or_else(|| {
                    Failure::message(format!("udev knows no signature of {}", self.data))
                })?;
                Some(SignatureSource::parse(&format!("base64:{found}"))?)
            }
            said => said,
        };
        let der = match source {
            Some(SignatureSource::Bytes(bytes)) => bytes,
            Some(SignatureSource::File(path)) => {
                read(Path::new(&path), MOST_SIGNATURE, "the signature")?
            }
            Some(SignatureSource::Auto) | None => return Ok(None),
        };
        Ok(Some(Signature::from_der(der)?))
    }
}

fn number(node: &Node) -> DeviceNumber {
    let number = node.number();
    DeviceNumber {
        major: number.major,
        minor: number.minor,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file holds, or what a socket says until it ends.
fn read(path: &Path, most: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::message(format!(
            "cannot read {what} from {}: {error}",
            path.display()
        ))
    };
    let socket = fs::metadata(path).map_err(failed)?.file_type().is_socket();
    let mut source: Box<dyn Read> = match socket {
        true => Box::new(UnixStream::connect(path).map_err(failed)?),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    source
        .by_ref()
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match u64::try_from(bytes.len()).is_ok_and(|size| size <= most) {
        true => Ok(bytes),
        false => Err(Failure::message(format!(
            "{} holds more than {most} bytes, which {what} never has",
            path.display()
        ))),
    }
}

fn detach(name: &DmName, ui: &Ui) -> Result<Exit, Failure> {
    // Without device-mapper nothing is active.
    let mapper = match DeviceMapper::open() {
        Err(error) if matches!(error.why, DmFailure::Unavailable(_)) => return Ok(Exit::Ok),
        mapper => mapper?,
    };
    if !activate::close(&mapper, name, false)? {
        ui.note(&format!("Volume {name} is not active."));
    }
    Ok(Exit::Ok)
}
