//! Keys that a TPM2 chip keeps: sealed when a volume is made, released when it is opened.
//!
//! [`enroll`] makes a secret, has a TPM (or, without one, its public key) seal it under a policy, and
//! describes the result in a token as systemd-cryptenroll writes it; [`unseal`] gives the secret back
//! where the policy holds. The policy is any of: PCR values, a signature over PCR values, predictions of
//! systemd-pcrlock, a PIN. [`measure`] extends PCRs, and records what was measured.
//!
//! Commands are written to the device byte by byte (`tpm`), not through a TSS library: the wrapper
//! for it has no `PolicyAuthorizeNV`, which pcrlock is made of, and keeps secrets in memory that nobody
//! erases.

mod channel;
mod commands;
mod crypto;
pub mod device;
mod enroll;
mod entropy;
mod error;
mod keys;
pub mod measure;
mod offline;
mod pin;
mod policy;
mod policy_commands;
mod response;
mod session;
mod signer;
mod tpm;
mod unseal;

pub use channel::ChannelError;
pub use crypto::AgreeError;
pub use device::Device;
pub use enroll::{Enrolled, Enrollment, Sealer, enroll};
pub use entropy::Entropy;
pub use error::Tpm2Error;
pub use pin::{Pin, PinCost, PinError};
pub use response::ResponseCode;
pub use signer::SignerError;
pub use tpm::{Tpm, TpmError};
pub use unseal::{Unsealing, unseal};
