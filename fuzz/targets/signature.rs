//! Verity signatures: what is accepted is written as a text that reads the same.
#![no_main]

use image_specs::signature::VeritySignature;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(signature) = VeritySignature::parse(data) else {
        return;
    };
    let text = signature.to_json();
    assert_eq!(
        VeritySignature::parse(text.as_bytes()).expect("what was written reads"),
        signature
    );
    let partition = signature
        .to_partition(text.len() + 512)
        .expect("there is room");
    assert_eq!(
        VeritySignature::parse(&partition).expect("padding is passed over"),
        signature
    );
});
