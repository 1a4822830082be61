//! Effects on files, block devices and the kernel, each behind a small trait with a recording fake.
#![deny(unsafe_code)]

pub mod copy;
pub mod create;
pub mod device;
pub mod file;
pub mod lock;
pub mod memory;
pub mod signatures;
pub mod space;
mod sys;
pub mod table;
pub mod tool;
pub mod usage;

pub use create::NewImage;
pub use device::{BlockDevice, DeviceError};
pub use file::{Access, FileDevice};
pub use memory::MemoryDevice;
