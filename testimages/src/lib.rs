//! Fixtures, oracles, crash harness, real kernels: for tests and measurements only.
#![forbid(unsafe_code)]

pub mod builds;
pub mod crash;
pub mod guest;
pub mod hostile;
pub mod peer;
pub mod sample;
