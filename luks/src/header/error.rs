//! What can be wrong with a header.

use std::io;

use image_specs::luks_header::{Luks1Error, LuksError, MetadataError, Refusal};
use image_specs::units::Bytes;

use crate::clib::LibraryError;
use crate::volume_key::HashError;

/// A header cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum HeaderError {
    #[error("cannot read the LUKS header")]
    Read(#[source] io::Error),
    #[error("cannot write the LUKS header")]
    Write(#[source] io::Error),
    #[error("cannot make a private copy of the LUKS header")]
    Copy(#[source] io::Error),
    #[error(transparent)]
    Binary(#[from] LuksError),
    #[error("both copies of the LUKS header are damaged: the first: {first}; the second: {second}")]
    BothDamaged {
        first: Box<HeaderError>,
        second: Box<HeaderError>,
    },
    #[error(transparent)]
    Old(#[from] Luks1Error),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("this copy of the LUKS header says that it belongs to byte {0}")]
    Place(u64),
    #[error("the LUKS header's data begins at byte {start}, and the partition has {size} bytes")]
    Size { start: u64, size: u64 },
    #[error("the volume is of LUKS version 1, which is not wanted here")]
    Version1,
    #[error("a key of {given} bytes does not fit the cipher {cipher}, which takes {}", sizes(.takes))]
    KeySize {
        cipher: String,
        given: usize,
        takes: &'static [usize],
    },
    #[error("a LUKS partition needs more than 16 MiB for its header, and there are {} bytes", .0.get())]
    TooSmall(Bytes),
    #[error("{0:?} cannot be a label: up to 47 bytes without control characters are possible")]
    Label(String),
    #[error("a volume whose data is authenticated cannot pass discards on")]
    Discards,
    #[error("the passphrase or key opens no key slot")]
    WrongKey,
    #[error("the volume has no key slot that a passphrase or key could open")]
    NoKeyslot,
    #[error("all 32 key slots are in use")]
    KeyslotsFull,
    #[error("there is no key slot {0}")]
    NoSuchKeyslot(u32),
    #[error("key slot {0} is the last one; without it the data is lost")]
    LastKeyslot(u32),
    #[error("a token needs a \"type\" and a list of \"keyslots\" that exist")]
    Token,
    #[error(
        "the volume key is needed to add a key slot, and is not known; unlock the header first"
    )]
    Locked,
    #[error("this is possible with LUKS version 2 only")]
    Version2Only,
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Library(#[from] LibraryError),
}

fn sizes(sizes: &[usize]) -> String {
    let texts: Vec<_> = sizes.iter().map(usize::to_string).collect();
    texts.join(" or ")
}
