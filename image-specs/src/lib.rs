//! The published formats and rules of discoverable disk images, as pure code.
//!
//! Everything here maps bytes and text to checked values and back. Nothing reads a file, a clock,
//! the environment or a source of randomness: callers pass such things in.
#![forbid(unsafe_code)]

pub mod arch;
pub mod conf;
pub mod definitions;
pub mod eltorito;
pub mod fec_footer;
pub mod filter;
pub mod gpt;
pub mod guid;
pub mod identity;
pub mod integrity;
pub mod luks_header;
pub mod magic;
pub mod mbr;
pub mod partition;
pub mod policy;
pub mod release;
pub mod search;
pub mod signature;
pub mod specifier;
pub mod tab;
pub mod table_backup;
pub mod tpm2;
pub mod units;
pub mod varlink;
pub mod verity;
pub mod version;
pub mod vpick;
