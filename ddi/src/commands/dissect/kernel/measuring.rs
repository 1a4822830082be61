//! `--tpm2-measure-pcr=`: where what an image opens is measured into.

use std::fs;
use std::io;

use dissect::activate::Measuring;
use image_specs::conf::boolean;
use luks::tpm2::measure::{LOG, SYSTEM_IDENTITY};
use luks::tpm2::{Device, Entropy};
use rustix::time::{ClockId, clock_gettime};

use crate::exit::Failure;

/// Reads the option: a PCR, or yes for the one that systemd uses.
pub(crate) fn pcr(text: &str) -> Result<u8, String> {
    match (text.parse::<u8>(), boolean(text)) {
        (Ok(pcr), _) if pcr < 24 => Ok(pcr),
        (Err(_), Ok(true)) => Ok(SYSTEM_IDENTITY),
        _ => Err("write a PCR from 0 to 23, or yes for 15".to_owned()),
    }
}

/// Measuring into this PCR.
pub(super) fn into(pcr: u8, device: Device) -> Result<Measuring, Failure> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot_id = boot_id.map_err(|error| {
        Failure::message(format!(
            "cannot tell the kernel's number of this boot: {error}"
        ))
    })?;
    Ok(Measuring {
        device,
        pcr,
        log: LOG.into(),
        boot_id: boot_id.trim().replace('-', ""),
        since_boot: Box::new(|| {
            let time = clock_gettime(ClockId::Boottime);
            let micros = u64::try_from(time.tv_nsec).unwrap_or(0) / 1000;
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds.saturating_mul(1_000_000).saturating_add(micros)
        }),
        entropy: Box::new(entropy),
    })
}

/// Random bytes for the sessions with a TPM.
pub(crate) fn entropy() -> io::Result<Entropy> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(Entropy::new(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pcrs_are_numbers_or_the_usual_one() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("23", Some(23)),
            ("yes", Some(15)),
            ("24", None),
            ("no", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(pcr(text).ok(), expected, "{text}");
        }
    }
}
