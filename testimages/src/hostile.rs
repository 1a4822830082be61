//! Disks with partition tables that somebody has broken, on purpose or not, built by hand: bytes that
//! no writer of ours has touched. Each says what a reader must make of it.

use image_specs::units::SectorSize;

/// Sectors of each disk, of 512 bytes unless the case says otherwise.
pub const SECTORS: u64 = 4096;

/// A disk, and what is to be seen on it.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// What is the matter.
    pub name: &'static str,
    /// The sectors to count it in.
    pub sector: SectorSize,
    /// The whole disk.
    pub bytes: Vec<u8>,
    /// What a reader must say.
    pub expected: Expected,
}

/// What a reader must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No table at all.
    Nothing,
    /// A table of another kind.
    Foreign,
    /// A GPT of which no copy can be used; the message holds this text.
    Damaged(&'static str),
    /// The primary copy, with findings that hold these texts, in order; `true` where the backup is
    /// not as it should be.
    Primary(&'static [&'static str], bool),
    /// The backup copy.
    Backup,
}

/// A GPT that is built field by field, whole until something is changed.
#[derive(Clone, Debug)]
struct Forge {
    sector: u64,
    signature: [u8; 8],
    revision: u32,
    header_size: u32,
    header_crc: Option<u32>,
    my_lba: Option<u64>,
    alternate: Option<u64>,
    first_usable: u64,
    last_usable: Option<u64>,
    entries_lba: Option<u64>,
    entry_count: u32,
    entry_size: u32,
    entries_crc: Option<u32>,
    entries: Vec<Vec<u8>>,
    guard: Vec<(u8, u32, u32)>,
    primary: bool,
    backup: bool,
}

impl Default for Forge {
    fn default() -> Self {
        Self {
            sector: 512,
            signature: *b"EFI PART",
            revision: 0x0001_0000,
            header_size: 92,
            header_crc: None,
            my_lba: None,
            alternate: None,
            first_usable: 64,
            last_usable: None,
            entries_lba: None,
            entry_count: 128,
            entry_size: 128,
            entries_crc: None,
            entries: vec![entry(1, 64, 127)],
            guard: vec![(0xee, 1, 4095)],
            primary: true,
            backup: true,
        }
    }
}

/// A Linux partition whose UUID ends with `number`.
fn entry(number: u8, first: u64, last: u64) -> Vec<u8> {
    let mut bytes = vec![
        0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d,
        0xe4,
    ];
    bytes.extend([0; 15]);
    bytes.push(number);
    bytes.extend(first.to_le_bytes());
    bytes.extend(last.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend([b'x', 0]);
    bytes.resize(128, 0);
    bytes
}

impl Forge {
    /// The entry array: its real bytes, which for absurd counts and sizes are less than it claims.
    fn array(&self) -> Vec<u8> {
        let size = usize::try_from(self.entry_size).unwrap_or(128).min(65536);
        let count = usize::try_from(self.entry_count).unwrap_or(0).min(1024);
        let mut bytes = Vec::new();
        for entry in &self.entries {
            let mut slot = entry.clone();
            slot.resize(size.max(1), 0);
            bytes.extend(slot);
        }
        bytes.resize((size * count).min(128 * 1024), 0);
        bytes
    }

    fn header(&self, at: u64, other: u64, entries_lba: u64) -> Vec<u8> {
        let array = self.array();
        let crc = self.entries_crc.unwrap_or_else(|| crc32fast::hash(&array));
        let room = u64::try_from(array.len()).unwrap().div_ceil(self.sector);
        let last_usable = self.last_usable.unwrap_or(SECTORS - 2 - room);
        let mut bytes = Vec::from(self.signature);
        for field in [self.revision, self.header_size, 0, 0] {
            bytes.extend(field.to_le_bytes());
        }
        let at = self.my_lba.unwrap_or(at);
        for field in [
            at,
            self.alternate.unwrap_or(other),
            self.first_usable,
            last_usable,
        ] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend([0x77; 16]);
        bytes.extend(entries_lba.to_le_bytes());
        for field in [self.entry_count, self.entry_size, crc] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(usize::try_from(self.sector).unwrap(), 0);
        let covered = usize::try_from(self.header_size).unwrap().min(bytes.len());
        let crc = crc32fast::hash(&bytes[..covered]);
        bytes[16..20].copy_from_slice(&self.header_crc.unwrap_or(crc).to_le_bytes());
        bytes
    }

    fn disk(&self) -> Vec<u8> {
        let mut disk = vec![0; usize::try_from(SECTORS * self.sector).unwrap()];
        let array = self.array();
        let room = u64::try_from(array.len()).unwrap().div_ceil(self.sector);
        let last = SECTORS - 1;
        let mut put = |lba: u64, bytes: &[u8]| {
            let start = usize::try_from(lba * self.sector).unwrap_or(usize::MAX);
            let end = start.saturating_add(bytes.len());
            if let Some(place) = disk.get_mut(start..end) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &guard(&self.guard));
        if self.primary {
            let entries = self.entries_lba.unwrap_or(2);
            put(entries.min(SECTORS), &array);
            put(1, &self.header(1, last, entries));
        }
        if self.backup {
            let entries = last - room;
            put(entries, &array);
            put(last, &self.header(last, 1, entries));
        }
        disk
    }
}

fn guard(partitions: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; 446];
    for (kind, first, sectors) in partitions {
        bytes.extend([0, 0, 2, 0, *kind, 0xff, 0xff, 0xff]);
        bytes.extend(first.to_le_bytes());
        bytes.extend(sectors.to_le_bytes());
    }
    bytes.resize(510, 0);
    bytes.extend([0x55, 0xaa]);
    bytes
}

/// Every broken disk.
pub fn tables() -> Vec<Hostile> {
    let mut cases = headers();
    cases.extend(arrays());
    cases.extend(partitions());
    cases.extend(disks());
    cases
}

fn case(name: &'static str, forge: Forge, expected: Expected) -> Hostile {
    Hostile {
        name,
        sector: SectorSize::new(forge.sector).unwrap_or(SectorSize::S512),
        bytes: forge.disk(),
        expected,
    }
}

/// Faults of both headers alike.
fn headers() -> Vec<Hostile> {
    use Expected::{Backup, Damaged, Foreign, Primary};
    let whole = Forge::default;
    let fine = Primary(&[], false);
    let range = Damaged("usable sectors");
    vec![
        case("whole", whole(), fine),
        case(
            "wrong signature",
            Forge {
                signature: *b"EFI PARX",
                ..whole()
            },
            Foreign,
        ),
        case(
            "revision 1.1",
            Forge {
                revision: 0x0001_0001,
                ..whole()
            },
            fine,
        ),
        case(
            "revision 2",
            Forge {
                revision: 0x0002_0000,
                ..whole()
            },
            Damaged("revision"),
        ),
        case(
            "header size 91",
            Forge {
                header_size: 91,
                ..whole()
            },
            Damaged("91 bytes"),
        ),
        case(
            "header size 0",
            Forge {
                header_size: 0,
                ..whole()
            },
            Damaged("0 bytes"),
        ),
        case(
            "header size 512",
            Forge {
                header_size: 512,
                ..whole()
            },
            fine,
        ),
        case(
            "header size 513",
            Forge {
                header_size: 513,
                ..whole()
            },
            Damaged("513 bytes"),
        ),
        case(
            "header size 2^32-1",
            Forge {
                header_size: u32::MAX,
                ..whole()
            },
            Damaged("4294967295 bytes"),
        ),
        case(
            "header checksum",
            Forge {
                header_crc: Some(1),
                ..whole()
            },
            Damaged("checksum"),
        ),
        case(
            "headers at 5",
            Forge {
                my_lba: Some(5),
                ..whole()
            },
            Damaged("says it lies at 5"),
        ),
        case(
            "both headers are the primary",
            Forge {
                my_lba: Some(1),
                ..whole()
            },
            Primary(&[], true),
        ),
        case(
            "usable range ends first",
            Forge {
                last_usable: Some(63),
                ..whole()
            },
            range,
        ),
        case(
            "usable range from 0",
            Forge {
                first_usable: 0,
                ..whole()
            },
            range,
        ),
        case(
            "usable range over the entries",
            Forge {
                first_usable: 33,
                ..whole()
            },
            range,
        ),
        case(
            "usable range past the end",
            Forge {
                last_usable: Some(SECTORS),
                ..whole()
            },
            range,
        ),
        case(
            "usable range to 2^64-1",
            Forge {
                last_usable: Some(u64::MAX),
                ..whole()
            },
            range,
        ),
        case(
            "backup said to be at 2^64-1",
            Forge {
                alternate: Some(u64::MAX),
                ..whole()
            },
            Primary(&["backup table lies at sector 18446744073709551615"], false),
        ),
        case(
            "entries at 1",
            Forge {
                entries_lba: Some(1),
                ..whole()
            },
            Backup,
        ),
        case(
            "entries behind the end",
            Forge {
                entries_lba: Some(SECTORS),
                ..whole()
            },
            Backup,
        ),
        case(
            "entries at 2^64-1",
            Forge {
                entries_lba: Some(u64::MAX),
                ..whole()
            },
            Backup,
        ),
        case(
            "entries behind partition 1",
            Forge {
                entries_lba: Some(2048),
                ..whole()
            },
            Backup,
        ),
        case(
            "entries where the backup's are",
            Forge {
                entries_lba: Some(SECTORS - 33),
                ..whole()
            },
            Backup,
        ),
        case(
            "entries at 40",
            Forge {
                entries_lba: Some(40),
                first_usable: 72,
                ..whole()
            },
            Primary(&["partition 1 lies outside"], false),
        ),
    ]
}

/// Faults of the entry arrays.
fn arrays() -> Vec<Hostile> {
    use Expected::{Damaged, Primary};
    let whole = Forge::default;
    let fine = Primary(&[], false);
    let count = |entry_count, expected| {
        (
            Forge {
                entry_count,
                ..whole()
            },
            expected,
        )
    };
    let size = |entry_size, expected| {
        (
            Forge {
                entry_size,
                ..whole()
            },
            expected,
        )
    };
    let bad_size = Damaged("no multiple of 8");
    let bad_count = Damaged("at most 16 MiB");
    let cases = [
        ("no entries", count(0, bad_count)),
        ("1 entry", count(1, fine)),
        ("2^32-1 entries", count(u32::MAX, bad_count)),
        ("131073 entries", count(131_073, bad_count)),
        ("131072 entries", count(131_072, Damaged("usable sectors"))),
        ("entry size 0", size(0, bad_size)),
        ("entry size 1", size(1, bad_size)),
        ("entry size 64", size(64, bad_size)),
        ("entry size 129", size(129, bad_size)),
        ("entry size 2^31", size(1 << 31, bad_count)),
        ("entry size 2^32-1", size(u32::MAX, bad_size)),
        ("entry size 136", size(136, fine)),
    ];
    let mut cases: Vec<Hostile> = cases
        .into_iter()
        .map(|(name, (forge, expected))| case(name, forge, expected))
        .collect();
    let large = Forge {
        entry_size: 256,
        first_usable: 66,
        entries: vec![entry(1, 66, 127)],
        ..whole()
    };
    cases.push(case("entry size 256", large, fine));
    let huge = Forge {
        entry_count: u32::MAX,
        entry_size: 1 << 31,
        ..whole()
    };
    cases.push(case("2^32-1 entries of 2^31 bytes", huge, bad_count));
    let crc = Forge {
        entries_crc: Some(1),
        ..whole()
    };
    cases.push(case(
        "entries checksum",
        crc,
        Damaged("checksum of the entries"),
    ));
    cases
}

/// Tables that are whole, with partitions that are not.
fn partitions() -> Vec<Hostile> {
    let cases: [(_, Vec<Vec<u8>>, &'static [&'static str]); 12] = [
        ("no partitions", vec![], &[]),
        ("a gap", vec![vec![0; 128], entry(1, 64, 127)], &[]),
        (
            "overlap",
            vec![entry(1, 64, 127), entry(2, 127, 200)],
            &["partition 2 lies over partition 1"],
        ),
        (
            "same place",
            vec![entry(1, 64, 127), entry(2, 64, 127)],
            &["partition 2 lies over partition 1"],
        ),
        (
            "one within another, twice",
            vec![entry(1, 100, 110), entry(2, 64, 1000), entry(3, 900, 901)],
            &[
                "partition 1 lies over partition 2",
                "partition 3 lies over partition 2",
            ],
        ),
        (
            "backwards",
            vec![entry(1, 127, 64)],
            &["partition 1 ends at sector 64, before"],
        ),
        (
            "past the end",
            vec![entry(1, 64, 4096)],
            &["partition 1 ends at sector 4096, but"],
        ),
        (
            "to 2^64-1",
            vec![entry(1, 64, u64::MAX)],
            &["partition 1 ends at sector 18446"],
        ),
        (
            "over the header",
            vec![entry(1, 0, 64)],
            &["partition 1 lies outside"],
        ),
        (
            "over the backup",
            vec![entry(1, 64, 4095)],
            &["partition 1 lies outside"],
        ),
        (
            "same UUID",
            vec![entry(1, 64, 65), entry(1, 66, 67)],
            &["partition 2 has the same UUID as partition 1"],
        ),
        ("ill-formed name", vec![ill_formed_name()], &[]),
    ];
    let forge = |entries| Forge {
        entries,
        ..Forge::default()
    };
    cases
        .into_iter()
        .map(|(name, entries, texts)| case(name, forge(entries), Expected::Primary(texts, false)))
        .collect()
}

fn ill_formed_name() -> Vec<u8> {
    let mut bytes = entry(1, 64, 127);
    bytes[56..62].copy_from_slice(&[0x61, 0, 0, 0xd8, 0x62, 0]);
    bytes
}

/// Copies that are missing, other first sectors, other sizes.
fn disks() -> Vec<Hostile> {
    use Expected::{Backup, Foreign, Nothing, Primary};
    let whole = Forge::default;
    let guarded = |guard| Forge { guard, ..whole() };
    let raw = |name, bytes: Vec<u8>, expected| Hostile {
        name,
        sector: SectorSize::S512,
        bytes,
        expected,
    };
    let disk = whole().disk();
    let half = disk[..disk.len() / 2].to_vec();
    let mut unsigned = disk.clone();
    unsigned[510] = 0;
    let mut grown = disk.clone();
    grown.resize(disk.len() * 2, 0);
    vec![
        case(
            "backup only",
            Forge {
                primary: false,
                ..whole()
            },
            Backup,
        ),
        case(
            "primary only",
            Forge {
                backup: false,
                ..whole()
            },
            Primary(&[], true),
        ),
        case(
            "no copy",
            Forge {
                primary: false,
                backup: false,
                ..whole()
            },
            Foreign,
        ),
        case(
            "hybrid",
            guarded(vec![(0x83, 64, 64), (0xee, 1, 63)]),
            Primary(&[], false),
        ),
        case(
            "guard from 0",
            guarded(vec![(0xee, 0, 4096)]),
            Primary(&[], false),
        ),
        case(
            "guard of another size",
            guarded(vec![(0xee, 1, 5)]),
            Primary(&[], false),
        ),
        case(
            "no guard but a DOS table",
            guarded(vec![(0x83, 64, 64)]),
            Foreign,
        ),
        case("no guard but a signature", guarded(vec![]), Foreign),
        raw("no signature in the first sector", unsigned, Nothing),
        case(
            "4096-byte sectors",
            Forge {
                sector: 4096,
                ..whole()
            },
            Primary(&[], false),
        ),
        raw(
            "grown",
            grown,
            Primary(&["backup table lies at sector 4095"], true),
        ),
        raw("cut in half", half, Expected::Damaged("usable sectors")),
        raw("first 512 bytes", disk[..512].to_vec(), Foreign),
        raw(
            "first 1024 bytes",
            disk[..1024].to_vec(),
            Expected::Damaged("usable sectors"),
        ),
        raw("first 1023 bytes", disk[..1023].to_vec(), Foreign),
        raw("first 511 bytes", disk[..511].to_vec(), Nothing),
        raw("no bytes", Vec::new(), Nothing),
    ]
}
