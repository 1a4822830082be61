//! Effects on files, block devices and the kernel, each behind a small trait with a recording fake.
#![deny(unsafe_code)]

pub mod device;

pub use device::{BlockDevice, DeviceError};
