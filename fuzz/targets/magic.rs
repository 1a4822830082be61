//! Signatures of volumes: nothing behind the end is asked for, and what is cleared is gone. The first
//! byte says how far from the start the rest lies, the second how much follows it.
#![no_main]

use std::convert::Infallible;

use image_specs::magic::{Found, identify, probe};
use image_specs::units::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [place, rest, data @ ..] = data else {
        return;
    };
    let start = [0, 0x400, 0x1000, 0x8000, 0x1_0000][usize::from(*place) % 5];
    let mut volume = vec![0; start];
    volume.extend_from_slice(data);
    volume.resize(volume.len() + usize::from(*rest) * 512, 0);
    let found = look(&volume);
    let _ = identify(&found);
    assert!(found.is_sorted_by_key(Found::start));
    for magic in found.iter().flat_map(|one| &one.magics) {
        let range = magic.start.get()..magic.end().expect("within the volume").get();
        let range = range.start.try_into().unwrap()..range.end.try_into().unwrap();
        volume[range].fill(0);
    }
    for again in look(&volume) {
        let same = |one: &Found| (one.kind, one.start()) == (again.kind, again.start());
        assert!(!found.iter().any(same), "{again:?} survived");
    }
});

fn look(volume: &[u8]) -> Vec<Found> {
    let size = Bytes::new(volume.len().try_into().unwrap_or(u64::MAX));
    let mut read = |offset: u64, buffer: &mut [u8]| -> Result<(), Infallible> {
        let start = usize::try_from(offset).expect("within the volume");
        buffer.copy_from_slice(&volume[start..start + buffer.len()]);
        Ok(())
    };
    let Ok(found) = probe(size, &mut read);
    found
}
