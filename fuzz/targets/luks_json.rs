//! The JSON area of LUKS2 headers: what is accepted leads nowhere outside of the header, and is the
//! same when it is written and read again.
#![no_main]

use image_specs::luks_header::{Limits, Metadata};
use image_specs::units::Bytes;
use libfuzzer_sys::fuzz_target;

const HEADER: Bytes = Bytes::kib(16);

fuzz_target!(|data: &[u8]| {
    let area = [data, &[0]].concat();
    let Ok((metadata, json)) = Metadata::parse(&area, HEADER) else {
        return;
    };
    let end = metadata.header_end(HEADER).unwrap();
    for slot in metadata.keyslots.values() {
        assert!(slot.area.start >= Bytes::kib(32) && slot.area.end().unwrap() <= end);
    }
    for token in metadata.tokens.values() {
        assert!(token.keyslots.iter().all(|slot| metadata.keyslots.contains_key(slot)));
    }
    if Limits::with_memory(Bytes::mib(1024)).check(&metadata).is_ok() {
        assert!(metadata.data().count() > 0);
        assert!(metadata.segments.values().all(|segment| !segment.cipher.is_empty()));
    }
    // What a library is given is written anew.
    let again = [json.to_string().as_bytes(), &[0]].concat();
    let again = Metadata::parse(&again, HEADER).unwrap().0;
    assert_eq!(again.keyslots, metadata.keyslots);
    assert_eq!(again.segments, metadata.segments);
    assert_eq!(again.digests, metadata.digests);
    assert_eq!(again.config, metadata.config);
});
