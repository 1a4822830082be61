//! What is encoded is parsed again, and nothing that is parsed can panic.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::partition::PartitionType;
use crate::units::{Bytes, Lba, SectorSize};

fn sector() -> impl Strategy<Value = SectorSize> {
    prop::sample::select(SectorSize::ALL.to_vec())
}

fn entry() -> impl Strategy<Value = Entry> {
    let parts = (
        1..=u128::MAX,
        any::<u128>(),
        any::<[u64; 3]>(),
        any::<[u16; 32]>(),
    );
    parts.prop_map(|(kind, uuid, [first, last, attributes], units)| {
        let mut label = [7; Label::UNITS];
        label[..32].copy_from_slice(&units);
        Entry {
            kind: PartitionType::new(Uuid::from_u128(kind)),
            uuid: Uuid::from_u128(uuid),
            first: Lba::new(first),
            last: Lba::new(last),
            attributes,
            label: Label::from_units(label),
            tail: Vec::new(),
        }
    })
}

proptest! {
    #[test]
    fn both_copies_say_what_was_encoded(
        sector in sector(),
        sectors in 300..10_000_000_000_u64,
        slots in prop::collection::btree_map(0..128_u32, entry(), 0..20),
    ) {
        let size = Bytes::new(sectors * sector.get());
        let mut table = Table::new(Uuid::from_u128(1), sector, size).unwrap();
        for (slot, entry) in slots {
            table.insert(slot, entry).unwrap();
        }
        let new = table.encode();
        for (header, entries) in [
            (&new.primary_header, &new.primary_entries),
            (&new.backup_header, &new.backup_entries),
        ] {
            let parsed = Header::parse(&header.bytes, header.lba).unwrap().unwrap();
            prop_assert_eq!(parsed.entries_extent().start, entries.lba.start(sector).unwrap());
            prop_assert!(parsed.check_disk(size).is_ok());
            prop_assert_eq!(&Table::parse(&parsed, &entries.bytes).unwrap(), &table);
        }
        prop_assert!(table.fits(size));
        prop_assert!(table.insert(128, Entry::clone(&sample())).is_err());
    }

    #[test]
    fn changed_headers_do_not_panic(changes in prop::collection::vec((0..92_usize, any::<u8>()), 1..8)) {
        let table = Table::new(Uuid::nil(), SectorSize::S512, Bytes::mib(8)).unwrap();
        let mut bytes = table.encode().primary_header.bytes;
        for (at, value) in changes {
            bytes[at] = value;
        }
        // A right checksum, so that the checks behind it are reached.
        bytes[16..20].fill(0);
        let size = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let covered = usize::try_from(size).unwrap().min(bytes.len());
        let crc = crc32fast::hash(&bytes[..covered]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        if let Ok(Some(header)) = Header::parse(&bytes, Lba::new(1)) {
            let extent = header.entries_extent();
            prop_assert!(extent.size.get() <= MAX_ENTRIES_SIZE);
            prop_assert!(extent.end().is_some());
            let _ = header.check_disk(Bytes::mib(8));
            let entries = vec![0; usize::try_from(extent.size.get()).unwrap()];
            let _ = Table::parse(&header, &entries);
        }
    }
}

fn sample() -> Entry {
    Entry {
        kind: PartitionType::new(Uuid::from_u128(1)),
        uuid: Uuid::from_u128(2),
        first: Lba::new(64),
        last: Lba::new(127),
        attributes: 0,
        label: Label::EMPTY,
        tail: vec![1, 2, 3],
    }
}

#[test]
fn what_is_longer_than_the_entry_is_cut_off() {
    let mut table = Table::new(Uuid::nil(), SectorSize::S512, Bytes::mib(8)).unwrap();
    table.insert(0, sample()).unwrap();
    let new = table.encode();
    assert_eq!(new.primary_entries.bytes.len(), 128 * 128);
    assert_eq!(new.primary_entries.bytes[128..131], [0; 3]);
}

#[test]
fn extents_are_checked() {
    let extent = |first, last| {
        let entry = Entry {
            first: Lba::new(first),
            last: Lba::new(last),
            ..sample()
        };
        entry.extent(SectorSize::S4096)
    };
    assert_eq!(
        extent(1, 2).map(|one| (one.start.get(), one.size.get())),
        Some((4096, 8192))
    );
    assert_eq!(extent(2, 1), None);
    assert_eq!(extent(3, 1), None);
    assert_eq!(extent(0, u64::MAX), None);
    assert_eq!(extent(u64::MAX, u64::MAX), None);
}
