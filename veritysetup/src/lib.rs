//! dm-verity: hash trees, their checks, signatures of root hashes, and the kernel's devices.
//!
//! `Params → Levels → RootHash`: [`tree::build`] reads data blocks once, with several threads and
//! bounded memory, and writes the superblock and tree; [`verify::verify`] checks the same in whole,
//! [`Verified`] block by block as it is read;
//! [`fec`] makes parity that repairs both, and repairs with it; [`signature`] signs and checks root hashes as PKCS#7; [`activate`] has the kernel check blocks as
//! they are read.
#![forbid(unsafe_code)]

pub mod activate;
pub mod algorithm;
pub mod fec;
pub mod hasher;
pub mod levels;
pub mod params;
mod pipeline;
pub mod signature;
pub mod tree;
pub mod verified;
pub mod verify;

pub use algorithm::HashAlgorithm;
pub use blockdev::io;
pub use levels::Levels;
pub use params::{BlockSize, HashType, Params, RootHash, Salt};
pub use verified::Verified;
