//! What an image has opened, measured into a PCR of the TPM before it is used: root hash and volume
//! keys, under the names of their partitions.

use std::fmt;
use std::io;
use std::path::PathBuf;

use image_specs::partition::Designator;
use luks::tpm2::measure::{self, MeasureError, Measurement, Place};
use luks::tpm2::{Device, Entropy, Tpm, TpmError};

use crate::unlock::Unlocked;
use crate::verity::Verity;

/// Where something is measured into.
pub struct Measuring {
    /// The TPM.
    pub device: Device,
    /// The PCR, in all banks that are in use.
    pub pcr: u8,
    /// The record of what was measured.
    pub log: PathBuf,
    /// The kernel's number of this boot, without dashes.
    pub boot_id: String,
    /// How many microseconds ago the machine was started.
    pub since_boot: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Where random bytes come from.
    pub entropy: Box<dyn Fn() -> io::Result<Entropy> + Send + Sync>,
}

/// Something was not measured, so it is not used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum MeasuringError {
    #[error("there are no random bytes")]
    Entropy(#[source] io::Error),
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

impl Measuring {
    /// Measures the root hash of a verity set.
    pub(super) fn root_hash(&self, verity: &Verity) -> Result<(), MeasuringError> {
        let name = verity.designator.name();
        self.measure(&Measurement::root_hash(name, verity.root_hash.as_bytes()))
    }

    /// Measures a volume key.
    pub(super) fn volume_key(
        &self,
        designator: Designator,
        unlocked: &Unlocked,
    ) -> Result<(), MeasuringError> {
        let (key, uuid) = (&unlocked.key, unlocked.header.uuid());
        let measurement = Measurement::volume_key(key, designator.name(), uuid)?;
        self.measure(&measurement)
    }

    fn measure(&self, measurement: &Measurement<'_>) -> Result<(), MeasuringError> {
        let entropy = (self.entropy)().map_err(MeasuringError::Entropy)?;
        let mut tpm = Tpm::open(&self.device, entropy)?;
        let place = Place {
            pcr: self.pcr,
            banks: &[],
            log: self.log.clone(),
            boot_id: self.boot_id.clone(),
            since_boot: (self.since_boot)(),
        };
        // That it is not recorded does not make the PCR another one.
        if let Err(error) = measure::measure(&mut tpm, measurement, &place)?.record {
            tracing::warn!(%error, "a measurement is not recorded");
        }
        Ok(())
    }
}

impl fmt::Debug for Measuring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Measuring({}, PCR {})", self.device, self.pcr)
    }
}
