//! Master boot records: whatever stands there, the guard that replaces it is one sector and a guard.
#![no_main]

use image_specs::mbr::{ForeignLabel, Mbr, MbrKind, protective};
use image_specs::units::{Lba, SectorSize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Mbr::parse(data).map(|mbr| mbr.kind());
    let _ = ForeignLabel::detect(data);
    for sector in SectorSize::ALL {
        let last = Lba::new(u64::try_from(data.len()).unwrap_or(0));
        let guard = protective(data, sector, last);
        assert_eq!(guard.len() as u64, sector.get());
        assert_eq!(
            Mbr::parse(&guard).map(|mbr| mbr.kind()),
            Some(MbrKind::Protective)
        );
        assert_eq!(protective(&guard, sector, last), guard);
    }
});
