//! LUKS2 volumes and dm-integrity: what is encrypted or authenticated, and by which keys.
#![forbid(unsafe_code)]

mod secret;
pub mod tpm2;

pub use secret::Secret;
