//! Why a secret was not sealed or not released.

use image_specs::tpm2::public::PublicError;
use image_specs::tpm2::signature::Unfit;
use image_specs::tpm2::wire::{Short, TooLong};
use image_specs::tpm2::{Bank, PcrSet};

use super::crypto::AgreeError;
use super::pin::PinError;
use super::signer::SignerError;
use super::tpm::TpmError;

/// A secret was not sealed, or not released.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum Tpm2Error {
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error("the TPM is locked against guessing of PINs{}", again(*.0))]
    Lockout(Option<u32>),
    #[error("the PIN is wrong{}", left(*.0))]
    WrongPin(Option<u32>),
    #[error("the key is sealed with a PIN, and none was given")]
    PinNeeded,
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error("{} than when the key was sealed", others(*.0, *.1))]
    Pcrs(PcrSet, Bank),
    #[error("the PCRs {0} have values that the pcrlock policy does not predict")]
    Predictions(PcrSet),
    #[error("the TPM's index {0:#010x} holds another pcrlock policy than the pcrlock file")]
    OldPcrlock(u32),
    #[error("the TPM has no index {0:#010x}, which the pcrlock policy is in")]
    NoIndex(u32),
    #[error("the key is sealed to another index than that of the pcrlock file")]
    OtherPcrlock,
    #[error("the key is sealed to a pcrlock policy, and no pcrlock file was given")]
    PcrlockNeeded,
    #[error("the policy that the key is sealed to is none that this token tells")]
    Policy,
    #[error("the key is sealed to signed PCR values, and no signature file was given")]
    SignatureNeeded,
    #[error("no PCR signature fits: {0}")]
    Signature(#[from] Unfit),
    #[error("the PCR signature is not one of this public key")]
    BadSignature,
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error("the key was sealed by another TPM, or this TPM was cleared since")]
    OtherTpm,
    #[error("the TPM has no key at {0:#010x}")]
    NoKey(u32),
    #[error("the TPM's key at {0:#010x} is none that seals")]
    CannotSeal(u32),
    #[error("{0:#010x} is no handle of a key that stays in the TPM")]
    Handle(u32),
    #[error("the TPM's public key is not valid")]
    Public(#[from] PublicError),
    #[error("the TPM's public key is none that seals")]
    DeviceKey,
    #[error("without the TPM all PCR values must be given; PCRs {0} have none")]
    Values(PcrSet),
    #[error("without the TPM a PCR bank must be named")]
    Bank,
    #[error("without the TPM a key cannot be sealed to signed PCRs and pcrlock together")]
    OfflineShards,
    #[error("the TPM has no PCR bank that holds the PCRs {0}")]
    NoBank(PcrSet),
    #[error("the TPM has no PCRs {0} in the bank {1}")]
    NoPcrs(PcrSet, Bank),
    #[error("the sealed blob of the token is damaged")]
    Blob(#[from] Short),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error(transparent)]
    Agree(#[from] AgreeError),
    #[error("the TPM did not give back what it had sealed; the key was not enrolled")]
    Verify,
}

/// A policy's digest tells that a value differs, not which.
fn others(pcrs: PcrSet, bank: Bank) -> String {
    match pcrs.iter().count() {
        0 | 1 => format!("the PCR {pcrs} (bank {bank}) has another value"),
        _ => format!("some of the PCRs {pcrs} (bank {bank}) have other values"),
    }
}

fn again(seconds: Option<u32>) -> String {
    match seconds {
        Some(0) | None => "; clear its lockout, or use another key".to_owned(),
        Some(seconds) => {
            format!("; one more try is possible in at most {seconds} seconds, or use another key")
        }
    }
}

fn left(tries: Option<u32>) -> String {
    match tries {
        None => String::new(),
        Some(0) => "; the TPM is locked against guessing now".to_owned(),
        Some(1) => "; one more wrong PIN locks the TPM".to_owned(),
        Some(tries) => format!("; {tries} tries are left before the TPM is locked"),
    }
}
