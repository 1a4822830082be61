//! Headers from untrusted bytes: which of the two copies holds, and whether it may be used.

use std::fs::File;
use std::os::unix::fs::FileExt;

use blockdev::io::ReadAt;
use image_specs::luks_header::{Limits, Luks2, LuksError, LuksHeader, Metadata, SECOND_OFFSETS};
use image_specs::units::Bytes;
use serde_json::Value;

use super::{CHUNK, Header, HeaderError, Notice, Version, read, version1};
use crate::clib;

/// The binary part, of which there are two.
const BINARY: Bytes = Bytes::new(4096);

/// Which headers are accepted.
#[derive(Clone, Copy, Debug)]
pub struct Strictness {
    /// What key slots may cost, and the like.
    pub limits: Limits,
    /// Whether version 1 will do.
    pub version1: bool,
    /// Whether the data lies elsewhere: then its size is not known here.
    pub detached: bool,
}

impl Strictness {
    /// The usual: version 1 as well, data behind the header, KDFs up to so much memory.
    pub const fn with_memory(memory: Bytes) -> Self {
        Self {
            limits: Limits::with_memory(memory),
            version1: true,
            detached: false,
        }
    }
}

/// A sound copy: its binary part, what its JSON area says, and that area's text.
pub(super) struct Sound {
    pub(super) binary: Luks2,
    metadata: Metadata,
    pub(super) json: Value,
}

impl Header {
    /// Reads the header at the start of `source`, a partition of `size` bytes; `Ok(None)` is no LUKS.
    ///
    /// Nothing is repaired: where one copy is damaged or old, the other one serves and
    /// [`Header::notices`] says so. [`Header::bytes`] then has two good ones.
    pub fn load(
        source: &dyn ReadAt,
        size: Bytes,
        strictness: &Strictness,
    ) -> Result<Option<Self>, HeaderError> {
        if size < BINARY {
            return Ok(None);
        }
        let start = read(source, 0, BINARY).map_err(HeaderError::Read)?;
        match LuksHeader::parse(&start) {
            Ok(Some(LuksHeader::V1 { .. })) if !strictness.version1 => Err(HeaderError::Version1),
            Ok(Some(LuksHeader::V1 { .. })) => version1::load(source, size, strictness).map(Some),
            Err(error @ LuksError::Version(_)) => Err(error.into()),
            first => {
                let Some((sound, notices)) = either(source, size, first)? else {
                    return Ok(None);
                };
                accept(source, size, strictness, sound, notices).map(Some)
            }
        }
    }
}

/// The copy that holds, of the two.
fn either(
    source: &dyn ReadAt,
    size: Bytes,
    first: Result<Option<LuksHeader>, LuksError>,
) -> Result<Option<(Sound, Vec<Notice>)>, HeaderError> {
    let first = match first {
        Ok(Some(LuksHeader::V2(header))) => Some(whole(source, header, 0, size)),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    };
    let place = match &first {
        Some(Ok(sound)) => Some(sound.binary.header_size.get()),
        _ => None,
    };
    let second = second(source, size, place);
    let damaged = |which, error: HeaderError| Notice::CopyDamaged {
        which,
        why: error.to_string(),
    };
    Ok(match (first, second) {
        (None, None) => None,
        (Some(Err(error)), None) => return Err(error),
        (Some(Err(first)), Some(Err(second))) => {
            return Err(HeaderError::BothDamaged {
                first: Box::new(first),
                second: Box::new(second),
            });
        }
        (None, Some(second)) => {
            let missing = Notice::CopyDamaged {
                which: "first",
                why: "it is not there".to_owned(),
            };
            Some((second?, vec![missing]))
        }
        (Some(Ok(first)), None) => {
            let missing = Notice::CopyDamaged {
                which: "second",
                why: "it is not there".to_owned(),
            };
            Some((first, vec![missing]))
        }
        (Some(Ok(first)), Some(Err(error))) => Some((first, vec![damaged("second", error)])),
        (Some(Err(error)), Some(Ok(second))) => Some((second, vec![damaged("first", error)])),
        (Some(Ok(first)), Some(Ok(second))) => Some(newer(first, second)),
    })
}

fn newer(first: Sound, second: Sound) -> (Sound, Vec<Notice>) {
    let (one, two) = (first.binary.sequence, second.binary.sequence);
    match one.cmp(&two) {
        std::cmp::Ordering::Equal => (first, Vec::new()),
        std::cmp::Ordering::Greater => (first, vec![Notice::CopyOld("second")]),
        std::cmp::Ordering::Less => (second, vec![Notice::CopyOld("first")]),
    }
}

/// The second copy, where the first one says that it is, or where there is one.
fn second(
    source: &dyn ReadAt,
    size: Bytes,
    place: Option<u64>,
) -> Option<Result<Sound, HeaderError>> {
    let mut failed = None;
    for offset in SECOND_OFFSETS {
        let elsewhere = place.is_some_and(|place| place != offset);
        if elsewhere || offset.saturating_add(BINARY.get()) > size.get() {
            continue;
        }
        let found = read(source, offset, BINARY)
            .map_err(HeaderError::Read)
            .and_then(|bytes| Ok(Luks2::parse_second(&bytes)?))
            .and_then(|header| {
                let sound = header.map(|header| whole(source, header, offset, size));
                sound.transpose()
            });
        match found {
            Ok(None) => {}
            Ok(Some(sound)) => return Some(Ok(sound)),
            Err(error) => failed = failed.or(Some(Err(error))),
        }
    }
    failed
}

/// Reads and checks all of a copy.
fn whole(
    source: &dyn ReadAt,
    binary: Luks2,
    offset: u64,
    size: Bytes,
) -> Result<Sound, HeaderError> {
    if binary.offset.get() != offset {
        return Err(HeaderError::Place(binary.offset.get()));
    }
    // A second copy stands where the first one ends.
    if offset != 0 && offset != binary.header_size.get() {
        return Err(HeaderError::Place(offset));
    }
    let end = Bytes::new(offset).saturating_add(binary.header_size);
    if end > size {
        return Err(HeaderError::Size {
            start: end.get(),
            size: size.get(),
        });
    }
    let bytes = read(source, offset, binary.header_size).map_err(HeaderError::Read)?;
    binary.verify(&bytes)?;
    let area = binary.json_area(&bytes).unwrap_or_default();
    let (metadata, json) = Metadata::parse(area, binary.header_size)?;
    Ok(Sound {
        binary,
        metadata,
        json,
    })
}

/// The first copy of what stands in a private copy.
pub(super) fn first(copy: &dyn ReadAt, size: Bytes) -> Result<Sound, HeaderError> {
    let start = read(copy, 0, BINARY).map_err(HeaderError::Read)?;
    match LuksHeader::parse(&start)? {
        Some(LuksHeader::V2(binary)) => whole(copy, binary, 0, size),
        _ => Err(LuksError::Truncated(0).into()),
    }
}

/// Writes both copies anew.
pub(super) fn store(copy: &File, binary: &Luks2, json: &Value) -> Result<(), HeaderError> {
    let json = json.to_string();
    let header_size = binary.header_size.get();
    for (offset, second) in [(0, false), (header_size, true)] {
        let bytes = binary.encode(&json, second);
        let bytes = bytes.ok_or(LuksError::HeaderSize(header_size))?;
        copy.write_all_at(&bytes, offset)
            .map_err(HeaderError::Copy)?;
    }
    Ok(())
}

/// What the first copy in a private copy says, and how much of that is header.
pub(super) fn sound(
    copy: &dyn ReadAt,
    size: Bytes,
) -> Result<(Luks2, Metadata, Bytes), HeaderError> {
    let sound = first(copy, size)?;
    // A data device elsewhere was accepted when the header was read.
    let end = extent(&sound, size, true)?;
    Ok((sound.binary, sound.metadata, end))
}

/// Where the header ends, which must be before the data begins.
fn extent(sound: &Sound, size: Bytes, detached: bool) -> Result<Bytes, HeaderError> {
    let end = sound.metadata.header_end(sound.binary.header_size);
    let end = end.unwrap_or(Bytes::MAX);
    let data = sound.metadata.data().map(|(_, segment)| segment.offset);
    let start = match detached {
        true => end,
        false => data.min().unwrap_or(end),
    };
    match end <= start && end <= size && (detached || start < size) {
        true => Ok(end),
        false => Err(HeaderError::Size {
            start: start.get(),
            size: size.get(),
        }),
    }
}

/// Makes the private copy: both binary parts written anew from what was parsed, then the key slots.
fn accept(
    source: &dyn ReadAt,
    size: Bytes,
    strictness: &Strictness,
    sound: Sound,
    notices: Vec<Notice>,
) -> Result<Header, HeaderError> {
    let end = extent(&sound, size, strictness.detached)?;
    strictness.limits.check(&sound.metadata)?;
    check_sizes(&sound.metadata, size, strictness)?;
    let copy = clib::private_file(size).map_err(HeaderError::Copy)?;
    store(&copy, &sound.binary, &sound.json)?;
    for slot in sound.metadata.keyslots.values() {
        carry(source, &copy, slot.area.start, slot.area.size)?;
    }
    Ok(Header {
        copy,
        uuid: sound.binary.uuid,
        label: sound.binary.label,
        size: end,
        version: Version::Two(Box::new(sound.metadata)),
        volume_key: None,
        notices,
    })
}

/// Segments must fit the partition.
fn check_sizes(
    metadata: &Metadata,
    size: Bytes,
    strictness: &Strictness,
) -> Result<(), HeaderError> {
    for (_, segment) in metadata.data() {
        let end = segment
            .offset
            .checked_add(segment.size.unwrap_or(segment.sector_size.bytes()));
        if !strictness.detached && end.is_none_or(|end| end > size) {
            return Err(HeaderError::Size {
                start: segment.offset.get(),
                size: size.get(),
            });
        }
    }
    Ok(())
}

/// Copies a range to the same place of the private copy.
pub(super) fn carry(
    source: &dyn ReadAt,
    copy: &File,
    start: Bytes,
    size: Bytes,
) -> Result<(), HeaderError> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < size.get() {
        let left = usize::try_from(size.get() - done).unwrap_or(CHUNK);
        let part = &mut buffer[..left.min(CHUNK)];
        let at = start.get() + done;
        source.read_exact_at(part, at).map_err(HeaderError::Read)?;
        copy.write_all_at(part, at).map_err(HeaderError::Copy)?;
        done += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }
    Ok(())
}
