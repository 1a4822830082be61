//! Varlink messages: however the bytes are cut, the same messages come out, none over the limit; and
//! what is written back has one NUL.
#![no_main]

use image_specs::varlink::{Call, Fault, Frames, failed, replied};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 512;

fn messages(data: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut frames = Frames::new(LIMIT);
    let mut all = Vec::new();
    for piece in data.chunks(piece) {
        frames.push(piece);
        while let Ok(Some(message)) = frames.next_message() {
            all.push(message);
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let sound = data.split(|byte| *byte == 0).all(|part| part.len() <= LIMIT);
    let whole = messages(data, data.len().max(1));
    if sound {
        assert_eq!(messages(data, 7), whole);
    }
    for message in whole {
        assert!(message.len() <= LIMIT);
        let Ok(mut call) = Call::parse(&message) else {
            continue;
        };
        let fault = Fault::method_not_found(&call.method);
        for bytes in [failed(&fault), replied(call.parameters.clone(), true)] {
            assert_eq!(bytes.iter().position(|byte| *byte == 0), Some(bytes.len() - 1));
        }
        let mut parameters = call.take_parameters();
        let _ = (parameters.text("node"), parameters.boolean("dryRun"));
        let _ = (parameters.texts("definitions"), parameters.finish());
    }
});
