//! Measuring into a PCR: volume keys and root hashes, with a record of what was measured.
//!
//! The record is the TCG's canonical event log in its JSON form, one object after the other
//! (RFC 7464), without record numbers, as systemd keeps it. The log is locked before the PCR is
//! extended, and marked (by the file's sticky bit) until the record is whole: a log that is marked and not
//! locked is one that somebody was torn from, and nothing can be proved with it.
//!
//! A secret is measured as HMAC of a public text with the secret as key, so that nothing that was
//! derived from it goes over the bus to the TPM.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use image_specs::tpm2::{Bank, PcrSet};
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::PKey;
use openssl::sign::Signer;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync};
use serde_json::{Value, json};

use super::commands::plain;
use super::tpm::{Auth, Entity, Tpm, TpmError};
use super::unseal::measured;
use crate::{Secret, VolumeKey};

/// The PCR that systemd measures volume keys into.
pub const SYSTEM_IDENTITY: u8 = 15;

/// Where systemd keeps the record.
pub const LOG: &str = "/run/log/systemd/tpm2-measure.log";

/// What is measured.
#[derive(Clone, Debug)]
pub struct Measurement<'a> {
    /// The text that stands for it, which the record has.
    text: String,
    secret: Option<&'a Secret>,
    event: &'static str,
}

impl<'a> Measurement<'a> {
    /// The key of a volume, and the name that it is opened under. A key that only the kernel has
    /// cannot be measured.
    pub fn volume_key(key: &'a VolumeKey, name: &str, uuid: &str) -> Result<Self, MeasureError> {
        if key.is_in_kernel() {
            return Err(MeasureError::InKernel);
        }
        Ok(Self {
            text: VolumeKey::measured_text(name, uuid),
            secret: Some(key.secret()),
            event: "volume-key",
        })
    }

    /// The root hash of a verity volume, and the name that it is opened under.
    pub fn root_hash(name: &str, root_hash: &[u8]) -> Self {
        let root_hash = hex::encode(root_hash);
        Self {
            text: format!("verity:{}:{root_hash}", crate::volume_key::escaped(name)),
            secret: None,
            event: "dm-verity",
        }
    }

    fn digest(&self, bank: Bank) -> Result<Vec<u8>, ErrorStack> {
        let algorithm = match bank {
            Bank::Sha1 => MessageDigest::sha1(),
            Bank::Sha256 => MessageDigest::sha256(),
            Bank::Sha384 => MessageDigest::sha384(),
            Bank::Sha512 => MessageDigest::sha512(),
        };
        let Some(secret) = self.secret else {
            return Ok(hash(algorithm, self.text.as_bytes())?.to_vec());
        };
        let key = PKey::hmac(secret.expose())?;
        let mut signer = Signer::new(algorithm, &key)?;
        signer.sign_oneshot_to_vec(self.text.as_bytes())
    }
}

/// Where to measure into, and where and when to record it.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The PCR.
    pub pcr: u8,
    /// The banks; all that are in use if empty.
    pub banks: &'a [Bank],
    /// The log.
    pub log: PathBuf,
    /// The kernel's number of this boot, without dashes.
    pub boot_id: String,
    /// Microseconds since the boot.
    pub since_boot: u64,
}

/// What has been measured.
#[derive(Debug)]
pub struct Measured {
    /// The digests that the PCR was extended with.
    pub digests: Vec<(Bank, Vec<u8>)>,
    /// What came of the record: the PCR is extended in any case.
    pub record: Result<(), RecordError>,
}

/// Nothing was measured.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum MeasureError {
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error("OpenSSL cannot calculate what is to be measured")]
    OpenSsl(#[from] ErrorStack),
    #[error("the TPM has no PCR {0} in the bank {1}")]
    NoPcr(u8, Bank),
    #[error("only the kernel has the volume key, so it cannot be measured")]
    InKernel,
    #[error("the TPM has no PCR {0}")]
    NoBank(u8),
}

/// The record of a measurement is lost.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum RecordError {
    #[error("cannot write the log of measurements {0}")]
    Io(PathBuf, #[source] io::Error),
    #[error("the log of measurements {0} is no regular file")]
    Kind(PathBuf),
    #[error("an earlier record of the log of measurements {0} is not whole")]
    Torn(PathBuf),
}

/// Extends a PCR, and records it.
pub fn measure(
    tpm: &mut Tpm,
    measurement: &Measurement<'_>,
    place: &Place<'_>,
) -> Result<Measured, MeasureError> {
    // The lock comes first: nobody may come between what is known of the PCR, it and its record.
    let log = Log::open(&place.log);
    let extended = extend(tpm, measurement, place);
    let record = match (&extended, log) {
        (Ok(digests), Ok(mut log)) => log.append(&record(measurement, place, digests)),
        // After a broken connection nobody knows what was measured; all else has changed nothing.
        (Err(MeasureError::Tpm(TpmError::Channel(_))), log) => log.map(drop),
        (Err(_), Ok(log)) => log.unmark(),
        (_, Err(error)) => Err(error),
    };
    let digests = extended?;
    Ok(Measured { digests, record })
}

fn extend(
    tpm: &mut Tpm,
    measurement: &Measurement<'_>,
    place: &Place<'_>,
) -> Result<Vec<(Bank, Vec<u8>)>, MeasureError> {
    let digest = |bank: Bank| Ok((bank, measurement.digest(bank)?));
    let banks = banks(tpm, place)?.into_iter();
    let digests: Vec<_> = banks.map(digest).collect::<Result<_, MeasureError>>()?;
    tpm.pcr_extend(place.pcr, &digests)?;
    Ok(digests)
}

/// The banks to measure into: those that are named, or those that the firmware uses, or all.
fn banks(tpm: &mut Tpm, place: &Place<'_>) -> Result<Vec<Bank>, MeasureError> {
    let there: Vec<Bank> = tpm
        .banks()?
        .into_iter()
        .filter(|(_, set)| set.contains(place.pcr))
        .map(|(bank, _)| bank)
        .collect();
    if let Some(lacking) = place.banks.iter().find(|bank| !there.contains(bank)) {
        return Err(MeasureError::NoPcr(place.pcr, *lacking));
    }
    if !place.banks.is_empty() {
        return Ok(place.banks.to_vec());
    }
    if there.is_empty() {
        return Err(MeasureError::NoBank(place.pcr));
    }
    let mut used = Vec::new();
    for bank in &there {
        if measured(&tpm.pcr_read(*bank, PcrSet::EMPTY.with(place.pcr))?) {
            used.push(*bank);
        }
    }
    Ok(if used.is_empty() { there } else { used })
}

fn record(measurement: &Measurement<'_>, place: &Place<'_>, digests: &[(Bank, Vec<u8>)]) -> Value {
    let digest = |(bank, digest): &(Bank, Vec<u8>)| json!({"hashAlg": bank.name(), "digest": hex::encode(digest)});
    json!({
        "pcr": place.pcr,
        "digests": digests.iter().map(digest).collect::<Vec<_>>(),
        "content_type": "systemd",
        "content": {
            "string": measurement.text,
            "bootId": place.boot_id,
            "timestamp": place.since_boot,
            "eventType": measurement.event,
        },
    })
}

const MARK: Mode = Mode::SVTX;
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);
const RECORD_SEPARATOR: u8 = 0x1e;

/// The log, locked and marked.
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    fn open(path: &Path) -> Result<Self, RecordError> {
        let failed = |error: io::Error| RecordError::Io(path.to_owned(), error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let flags =
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let opened = rustix::fs::open(path, flags, OWNER_ONLY);
        let file = File::from(opened.map_err(|errno| failed(errno.into()))?);
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let status = fstat(&file).map_err(|errno| failed(errno.into()))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(RecordError::Kind(path.to_owned()));
        }
        if Mode::from_raw_mode(status.st_mode).contains(MARK) {
            return Err(RecordError::Torn(path.to_owned()));
        }
        fchmod(&file, OWNER_ONLY | MARK).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    fn append(&mut self, record: &Value) -> Result<(), RecordError> {
        let mut text = vec![RECORD_SEPARATOR];
        text.extend(record.to_string().into_bytes());
        text.push(b'\n');
        let written = self
            .file
            .seek(SeekFrom::End(0))
            .and_then(|_| self.file.write_all(&text))
            .and_then(|()| self.file.sync_all());
        written.map_err(|error| RecordError::Io(self.path.clone(), error))?;
        self.unmark()
    }

    fn unmark(&self) -> Result<(), RecordError> {
        fchmod(&self.file, OWNER_ONLY)
            .and_then(|()| fsync(&self.file))
            .map_err(|errno| RecordError::Io(self.path.clone(), errno.into()))
    }
}

impl Tpm {
    /// Extends a PCR in several banks.
    fn pcr_extend(&mut self, pcr: u8, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError> {
        let count = u8::try_from(digests.len()).unwrap_or(u8::MAX);
        let mut parameters = vec![0, 0, 0, count];
        for (bank, digest) in digests {
            parameters.extend(bank.algorithm().to_be_bytes());
            parameters.extend(digest);
        }
        let pcr = Entity::plain(u32::from(pcr));
        let handles = [&pcr];
        let command = plain("extend a PCR", 0x182, &handles, parameters);
        self.run(&command, &mut [Auth::Empty]).map(drop)
    }
}
