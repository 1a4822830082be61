//! LUKS headers: whatever is accepted has a size that may be allocated and text that may be shown.
#![no_main]

use image_specs::luks_header::{Cipher, Luks2, LuksHeader};
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
    if let Ok(Some(header)) = Luks2::parse_second(data) {
        check(&header);
    }
});
