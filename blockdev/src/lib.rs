//! Effects on files, block devices and the kernel, each behind a small trait with a recording fake.
#![deny(unsafe_code)]

pub mod backing;
pub mod candidates;
pub mod clog;
pub mod copy;
pub mod create;
pub mod device;
pub mod dm;
pub mod file;
pub mod grow;
pub mod io;
pub mod keyring;
pub mod lock;
pub mod locked;
pub mod loopdev;
pub mod mapped;
pub mod mbr;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod partitions;
pub mod saved;
pub mod sectors;
pub mod select;
pub mod signatures;
pub mod socket;
pub mod space;
mod sys;
pub mod sysfs;
pub mod table;
pub mod tool;
pub mod udev;
pub mod usage;

pub use create::NewImage;
pub use device::{BlockDevice, DeviceError};
pub use file::{Access, FileDevice};
pub use memory::MemoryDevice;
