//! Fixtures, oracles, crash harness, real kernels: for tests and measurements only.
#![forbid(unsafe_code)]

pub mod builds;
pub mod crash;
pub mod dissections;
pub mod guest;
pub mod hostile;
pub mod hostile_images;
pub mod peer;
pub mod sample;
pub mod swtpm;
