//! Encrypting and decrypting data in this process, as dm-crypt would: no root, no device.
//!
//! [`Cipher`] is a key and the way in which it is used; [`copy`] encrypts ranges of a source with all
//! processors; [`Encrypting`] is a disk that encrypts what is written to it; [`Decrypting`] reads.
//! [`Authenticated`] and [`AuthenticatedReader`] are for volumes whose data is authenticated as well,
//! [`SegmentReader`] reads either.

mod authenticated;
mod cipher;
mod copy;
mod device;
mod reader;
mod segment;

pub use authenticated::{Authenticated, AuthenticatedError, AuthenticatedReader};
pub use cipher::{BulkError, Cipher, Worker};
pub use copy::{CopyError, copy};
pub use device::Encrypting;
pub use reader::Decrypting;
pub use segment::{SegmentError, SegmentReader};
