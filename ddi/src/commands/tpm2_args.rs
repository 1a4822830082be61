//! The `--tpm2-…` options of verbs that encrypt: what a new key is sealed to, and by which TPM.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use image_specs::tpm2::token::SignedPcrs;
use image_specs::tpm2::{PcrList, PcrSet, Pcrlock, pcrlock};
use luks::tpm2::device::{self, DeviceNameError};
use luks::tpm2::{Device, Enrollment, Sealer, Tpm2Error};

use crate::exit::Failure;
use crate::ui::Ui;
use crate::ui::table::{Align, draw};

/// Sealing keys with a TPM2 chip.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Tpm2Args {
    /// TPM2 device to seal keys with; "list" shows those that there are [default: auto]
    #[arg(long, value_name = "PATH|auto|list|swtpm:…", value_parser = device_arg,
        conflicts_with = "tpm2_device_key")]
    pub(crate) tpm2_device: Option<DeviceArg>,
    /// Seal keys for the TPM2 chip with this public key instead, which need not be there
    #[arg(long, value_name = "PATH")]
    pub(crate) tpm2_device_key: Option<PathBuf>,
    /// Handle of the TPM2 key to seal with, hexadecimal [default: the storage root key]
    #[arg(long, value_name = "HANDLE", value_parser = handle)]
    pub(crate) tpm2_seal_key_handle: Option<u32>,
    /// TPM2 PCRs to bind to, whatever TPM2PCRs= says
    #[arg(long, value_name = "PCR[:BANK[=DIGEST]]+…")]
    pub(crate) tpm2_pcrs: Option<PcrList>,
    /// Public key (PEM) that signs PCR values to bind to; empty for none
    #[arg(long, value_name = "PATH",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) tpm2_public_key: Option<PathBuf>,
    /// What the signatures of PCR values must be for
    #[arg(long, value_name = "STRING")]
    pub(crate) tpm2_public_key_policyref: Option<String>,
    /// PCRs whose values are signed [default: 11]
    #[arg(long, value_name = "PCR+…", value_parser = set)]
    pub(crate) tpm2_public_key_pcrs: Option<PcrSet>,
    /// File of systemd-pcrlock with predicted PCR values to bind to; empty for none
    #[arg(long, value_name = "PATH",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) tpm2_pcrlock: Option<PathBuf>,
}

/// `--tpm2-device=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    List,
    Device(Device),
}

/// What a new key is sealed to, and by whom.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) enrollment: Enrollment,
    pub(crate) sealer: Sealer,
}

const PUBLIC_KEY: &str = "tpm2-pcr-public-key.pem";
const PUBLIC_KEY_FOLDERS: &[&str] = &["/etc/systemd", "/run/systemd", "/usr/lib/systemd"];
pub(crate) const PCRLOCK: &str = "pcrlock.json";
pub(crate) const PCRLOCK_FOLDERS: &[&str] = &["/run/systemd", "/var/lib/systemd"];
const DEFAULT_SIGNED: u8 = 11;
const MAX_KEY: u64 = 64 * 1024;
const CLASS: &str = "/sys/class/tpmrm";

impl Tpm2Args {
    /// Whether the TPMs are to be listed, and nothing else.
    pub(crate) fn lists(&self) -> bool {
        self.tpm2_device == Some(DeviceArg::List)
    }

    /// Loads what the options name. `pcrs` are those of the definition file.
    pub(crate) fn sealing(&self, pcrs: &PcrList) -> Result<Sealing, Failure> {
        Ok(Sealing {
            enrollment: Enrollment {
                pcrs: self.tpm2_pcrs.as_ref().unwrap_or(pcrs).clone(),
                signed: self.signed()?,
                pcrlock: self.pcrlock()?,
                pin: None,
                key_handle: self.tpm2_seal_key_handle,
            },
            sealer: self.sealer()?,
        })
    }

    fn sealer(&self) -> Result<Sealer, Failure> {
        if let Some(path) = &self.tpm2_device_key {
            return read(path, MAX_KEY, "the TPM's public key").map(Sealer::PublicKey);
        }
        Ok(Sealer::Tpm(match &self.tpm2_device {
            Some(DeviceArg::Device(device)) => device.clone(),
            Some(DeviceArg::List) | None => Device::Auto,
        }))
    }

    fn signed(&self) -> Result<Option<SignedPcrs>, Failure> {
        let found = found(
            self.tpm2_public_key.as_deref(),
            PUBLIC_KEY_FOLDERS,
            PUBLIC_KEY,
        );
        let reference = self.tpm2_public_key_policyref.clone().unwrap_or_default();
        let Some(path) = found else {
            if reference.is_empty() && self.tpm2_public_key_pcrs.is_none() {
                return Ok(None);
            }
            let text = "signed PCRs are asked for, but there is no public key";
            return Err(Failure::message(text).with_hint("name it with --tpm2-public-key="));
        };
        let default = PcrSet::EMPTY.with(DEFAULT_SIGNED);
        Ok(Some(SignedPcrs {
            public_key: read(&path, MAX_KEY, "the public key for PCR signatures")?,
            pcrs: self.tpm2_public_key_pcrs.unwrap_or(default),
            reference,
        }))
    }

    fn pcrlock(&self) -> Result<Option<Pcrlock>, Failure> {
        let found = found(self.tpm2_pcrlock.as_deref(), PCRLOCK_FOLDERS, PCRLOCK);
        let Some(path) = found else {
            return Ok(None);
        };
        let most = u64::try_from(pcrlock::MAX_SIZE).unwrap_or(u64::MAX);
        let bytes = read(&path, most, "the pcrlock file")?;
        let parsed = Pcrlock::parse(&bytes);
        parsed.map(Some).map_err(|error| {
            Failure::message(format!("{}: {error}", path.display()))
                .with_hint("make it anew with systemd-pcrlock make-policy")
        })
    }
}

/// Shows the TPMs that the kernel knows.
pub(crate) fn list(ui: &Ui) -> Result<(), Failure> {
    let listed = device::list(Path::new(CLASS))?;
    if listed.is_empty() {
        ui.note("No suitable TPM2 devices found.");
        return Ok(());
    }
    let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |one: device::Listed| {
        vec![
            one.path.display().to_string(),
            text(one.device),
            text(one.driver),
        ]
    };
    let rows: Vec<_> = listed.into_iter().map(row).collect();
    ui.print(&draw(
        &["PATH", "DEVICE", "DRIVER"],
        &rows,
        &[Align::Left; 3],
    ))
}

/// What to do about an error of the TPM, where that can be told.
pub(crate) fn hint(error: &Tpm2Error) -> Option<&'static str> {
    Some(match error {
        Tpm2Error::Values(_) => "write each as PCR:BANK=DIGEST, or use --tpm2-device=",
        Tpm2Error::NoKey(_) | Tpm2Error::CannotSeal(_) | Tpm2Error::Handle(_) => {
            "name a persistent storage key with --tpm2-seal-key-handle=, or leave it out"
        }
        Tpm2Error::OtherTpm => "enroll the volume with this machine's TPM anew",
        Tpm2Error::Pcrs(..) => {
            "use another key; if the change was meant, enroll the volume with the TPM anew"
        }
        Tpm2Error::Predictions(_) | Tpm2Error::OldPcrlock(_) => {
            "use another key, then run systemd-pcrlock make-policy"
        }
        Tpm2Error::Signature(_) | Tpm2Error::SignatureNeeded => {
            "the signatures come with the kernel image, in tpm2-pcr-signature.json"
        }
        Tpm2Error::OfflineShards => "leave one out with --tpm2-pcrlock= or --tpm2-public-key=",
        _ => return None,
    })
}

/// The file that an option names; nothing for an empty name; else the first in its usual places.
pub(crate) fn found(named: Option<&Path>, folders: &[&str], name: &str) -> Option<PathBuf> {
    match named {
        Some(path) if path.as_os_str().is_empty() => None,
        Some(path) => Some(path.to_owned()),
        None => {
            let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
            paths.find(|path| path.exists())
        }
    }
}

pub(crate) fn read(path: &Path, most: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| {
        Failure::message(format!(
            "cannot read {what} from {}: {error}",
            path.display()
        ))
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(failed(io::Error::other(format!(
            "it has more than {most} bytes"
        ))));
    }
    Ok(bytes)
}

fn device_arg(text: &str) -> Result<DeviceArg, DeviceNameError> {
    match text {
        "list" => Ok(DeviceArg::List),
        _ => text.parse().map(DeviceArg::Device),
    }
}

fn handle(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let number = u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| !digits.starts_with('+'));
    number.ok_or_else(|| "write a hexadecimal number such as 81000001".to_owned())
}

fn set(text: &str) -> Result<PcrSet, String> {
    let list: PcrList = text.parse().map_err(|error| format!("{error}"))?;
    if list.values().iter().any(|entry| entry.bank.is_some()) {
        return Err("write PCRs only, without bank or value".to_owned());
    }
    if list.is_empty() {
        return Err("name at least one PCR".to_owned());
    }
    Ok(list.set())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tpm2: Tpm2Args,
    }

    fn parse(words: &[&str]) -> Result<Tpm2Args, clap::Error> {
        Line::try_parse_from([&["x"], words].concat()).map(|line| line.tpm2)
    }

    #[test]
    fn options_become_an_enrollment() {
        let scratch = tempfile::tempdir().unwrap();
        let key = scratch.path().join("key.pem");
        fs::write(&key, "PEM").unwrap();
        let args = parse(&[
            "--tpm2-device=swtpm:host=127.0.0.1,port=1",
            "--tpm2-pcrs=7",
            "--tpm2-seal-key-handle=0x81000002",
            &format!("--tpm2-public-key={}", key.display()),
            "--tpm2-public-key-policyref=initrd",
            "--tpm2-pcrlock=",
        ])
        .unwrap();
        let definition = "4+5".parse().unwrap();
        let Sealing { enrollment, sealer } = args.sealing(&definition).unwrap();
        assert_eq!(enrollment.pcrs.to_string(), "7");
        assert_eq!(enrollment.key_handle, Some(0x8100_0002));
        let signed = enrollment.signed.unwrap();
        assert_eq!(
            (&signed.public_key[..], &signed.reference[..]),
            (&b"PEM"[..], "initrd")
        );
        assert_eq!(signed.pcrs.to_string(), "11");
        assert_eq!(sealer, Sealer::Tpm(Device::Tcp("127.0.0.1".to_owned(), 1)));
        let args = parse(&["--tpm2-pcrlock=", "--tpm2-public-key="]).unwrap();
        let sealing = args.sealing(&definition).unwrap();
        assert_eq!(sealing.enrollment.pcrs, definition);
        assert_eq!(sealing.sealer, Sealer::Tpm(Device::Auto));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for words in [
            &["--tpm2-device=tpmrm0"][..],
            &["--tpm2-device=auto", "--tpm2-device-key=x"],
            &["--tpm2-seal-key-handle=x"],
            &["--tpm2-seal-key-handle=1ffffffff"],
            &["--tpm2-pcrs=24"],
            &["--tpm2-public-key-pcrs="],
            &["--tpm2-public-key-pcrs=7:sha256"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        for words in [
            &["--tpm2-device-key=/nowhere/key"][..],
            &["--tpm2-public-key=/nowhere/key"],
            &["--tpm2-pcrlock=/nowhere/lock"],
            &["--tpm2-pcrlock=/dev/null"],
            &["--tpm2-public-key=", "--tpm2-public-key-policyref=x"],
        ] {
            let args = parse(words).unwrap();
            assert!(args.sealing(&PcrList::default()).is_err(), "{words:?}");
        }
    }
}
