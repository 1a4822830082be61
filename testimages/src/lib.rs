//! Fixtures, oracles, crash harness: for tests and measurements only.
#![forbid(unsafe_code)]

pub mod peer;
pub mod sample;
