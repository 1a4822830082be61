//! LUKS headers: whatever is accepted has a size that may be allocated and text that may be shown.
#![no_main]

use image_specs::luks_header::{Cipher, Limits, Luks1, Luks2, LuksHeader};
use image_specs::units::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let shown = |text: &str| assert!(!text.contains(char::is_control));
    let check = |header: &Luks2| {
        assert!(header.header_size.get() <= 4 << 20);
        shown(&header.subsystem);
        let _ = header.verify(data);
    };
    if let Ok(Some(header)) = LuksHeader::parse(data) {
        shown(header.uuid());
        shown(header.label().unwrap_or_default());
        if let LuksHeader::V2(header) = &header {
            check(header);
        }
    }
    if let Ok(Some(cipher)) = Cipher::parse(data) {
        assert!(!cipher.name.is_empty() && !cipher.name.contains("cipher_null"));
    }
    if let Ok(header) = Luks1::parse(data, &Limits::with_memory(Bytes::mib(1024))) {
        shown(&header.uuid);
        // A key of 512 bytes, 4000 times, at the last sector there can be.
        assert!(header.end.get() <= (u64::from(u32::MAX) << 9) + 512 * 4000);
    }
    if let Ok(Some(header)) = Luks2::parse_second(data) {
        check(&header);
    }
});
