//! Partition tables: one sector with a header, then entries. The first byte says whether checksums
//! are made to fit, so that the checks behind them are reached. What is accepted encodes to bytes
//! that parse to the same table.
#![no_main]

use image_specs::gpt::{Header, Table};
use image_specs::units::{Bytes, Lba};
use libfuzzer_sys::fuzz_target;

const SECTOR: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some((mode, disk)) = data.split_first() else {
        return;
    };
    if disk.len() < SECTOR {
        return;
    }
    let mut disk = disk.to_vec();
    if mode & 1 == 0 {
        repair(&mut disk);
    }
    let (sector, entries) = disk.split_at(SECTOR);
    let stored = u64::from_le_bytes(sector[24..32].try_into().unwrap_or_default());
    let Ok(Some(header)) = Header::parse(sector, Lba::new(stored)) else {
        return;
    };
    assert!(header.entries_extent().size.get() <= 16 << 20);
    let Ok(table) = Table::parse(&header, entries) else {
        return;
    };
    for size in [0, 1 << 20, 1 << 40, u64::MAX] {
        let _ = table.findings(Bytes::new(size));
        let _ = table.clone().resize(Bytes::new(size));
    }
    let encoded = table.encode();
    let again = Header::parse(&encoded.primary_header.bytes, Lba::new(1));
    if let Ok(Some(header)) = again {
        assert_eq!(
            Table::parse(&header, &encoded.primary_entries.bytes),
            Ok(table)
        );
    }
});

/// Makes the checksums of the entries and then of the header fit, where their sizes are sane.
fn repair(disk: &mut [u8]) {
    let number = |disk: &[u8], at: usize| {
        usize::try_from(u32::from_le_bytes(
            disk[at..at + 4].try_into().unwrap_or_default(),
        ))
        .unwrap_or(0)
    };
    let length = number(disk, 80).saturating_mul(number(disk, 84));
    if let Some(entries) = disk[SECTOR..].get(..length) {
        let crc = crc32fast::hash(entries);
        disk[88..92].copy_from_slice(&crc.to_le_bytes());
    }
    disk[16..20].fill(0);
    let length = number(disk, 12).clamp(92, SECTOR);
    let crc = crc32fast::hash(&disk[..length]);
    disk[16..20].copy_from_slice(&crc.to_le_bytes());
}
