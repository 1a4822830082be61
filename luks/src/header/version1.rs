//! Version 1 headers: only read.

use blockdev::io::ReadAt;
use image_specs::luks_header::{Luks1, Segment};
use image_specs::units::{Bytes, SectorSize};

use super::load::{Strictness, carry};
use super::{Header, HeaderError, Version, read};
use crate::clib;

/// The largest version 1 header that is copied; cryptsetup makes them of 2 MiB.
const LARGEST: Bytes = Bytes::mib(64);

/// Reads one that is known to be there.
pub(super) fn load(
    source: &dyn ReadAt,
    size: Bytes,
    strictness: &Strictness,
) -> Result<Header, HeaderError> {
    let start = read(source, 0, Bytes::new(1024)).map_err(HeaderError::Read)?;
    let header = Luks1::parse(&start, &strictness.limits)?;
    let end = header.end.min(size);
    let fits = header.end <= size && end <= LARGEST;
    if !fits || (!strictness.detached && header.data_offset >= size) {
        return Err(HeaderError::Size {
            start: header.data_offset.get(),
            size: size.get(),
        });
    }
    let copy = clib::private_file(size).map_err(HeaderError::Copy)?;
    carry(source, &copy, Bytes::ZERO, end)?;
    Ok(Header {
        copy,
        uuid: header.uuid,
        label: String::new(),
        size: end,
        version: Version::One(Segment {
            kind: "crypt".to_owned(),
            offset: header.data_offset,
            size: None,
            cipher: header.cipher,
            sector_size: SectorSize::S512,
            iv_tweak: 0,
            integrity: None,
            flags: Vec::new(),
        }),
        volume_key: None,
        notices: Vec::new(),
    })
}
