//! Whole images, from the table to verity: a sound signed image is changed in the places where
//! its structures lie, then taken apart and checked. The first byte says whether the checksums of
//! the table are made to fit, whether the image ends early, and what it is held against; each change is a place (one byte for
//! the structure, two within it), a length and bytes.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use blockdev::table::{Commit, commit};
use blockdev::{BlockDevice, MemoryDevice};
use dissect::contents::{Access, Verification};
use dissect::report::Report;
use dissect::{Options, check, metadata, probe};
use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Label, Table};
use image_specs::identity::{Seed, verity_pair};
use image_specs::partition::PartitionType;
use image_specs::signature::VeritySignature;
use image_specs::units::{Bytes, Lba, SectorSize};
use libfuzzer_sys::fuzz_target;
use repart::build::hash_tree;
use repart::definition::Verity;
use uuid::Uuid;

const ARCH: Architecture = Architecture::X86_64;
const SECTORS: usize = 256;
const ENTRIES: usize = 128 * 128;
/// First sectors of data, hash and signature partitions, and how many sectors each has.
const PARTITIONS: [(&str, u64, u64); 3] = [
    ("root", 64, 64),
    ("root-verity", 128, 32),
    ("root-verity-sig", 160, 32),
];
/// Where changes are made: guard, primary copy, the partitions, backup copy.
const PLACES: [usize; 7] = [
    0,
    512,
    1024,
    64 * 512,
    128 * 512,
    160 * 512,
    (SECTORS - 33) * 512,
];

fuzz_target!(|data: &[u8]| {
    let Some((mode, changes)) = data.split_first() else {
        return;
    };
    let mut image = sound().to_vec();
    change(&mut image, changes);
    if mode & 1 == 0 {
        repair(&mut image, 512, 1024);
        repair(&mut image, (SECTORS - 1) * 512, (SECTORS - 33) * 512);
    }
    if mode & 2 != 0 {
        image.truncate(usize::from(*mode) * 512);
    }
    let Some((file, path)) = in_memory(&image) else {
        return;
    };
    let options = options(*mode);
    match dissect::dissect(&path, &options) {
        Ok((image, mut dissected)) => {
            for designator in dissected.partitions.keys() {
                assert!(options.policy.may_use(*designator));
            }
            let verification = Verification {
                policy: &options.policy,
                certificates: &[],
            };
            let access = Access {
                verification,
                keys: None,
                file_systems: &options.file_systems,
            };
            let metadata = metadata::of(&image, &dissected, access).unwrap_or_default();
            let _ = probe::passed_over(&image, &mut dissected, &options);
            let report = Report::new(&dissected, &metadata).with_versions(&dissected);
            let _ = report.rows();
            for finding in check::findings(&dissected) {
                assert!(!finding.to_string().is_empty());
            }
            let _ = check::signature(&dissected, &[]);
            let _ = check::data(&image, &dissected, NonZeroUsize::MIN);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    drop(file);
});

/// The other bits of the first byte choose a policy and whether a root hash must be told by a signature.
fn options(mode: u8) -> Options {
    const POLICIES: [&str; 4] = [
        "*",
        "root=signed+absent:home=unused+absent",
        "root=verity+encrypted+unprotected+read-only-off:=ignore",
        "@sysext",
    ];
    let mut options = Options::new(ARCH);
    let policy = POLICIES[usize::from(mode >> 2 & 3)];
    options.policy = policy.parse().expect("a policy");
    options.rules.guess_hash = mode & 16 == 0;
    options.rules.embedded_hash = mode & 32 == 0;
    options
}

fn change(image: &mut [u8], mut changes: &[u8]) {
    while let [place, low, high, length, rest @ ..] = changes {
        let at = PLACES[usize::from(*place) % PLACES.len()]
            + usize::from(u16::from_le_bytes([*low, *high]));
        let (bytes, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        if let Some(room) = image.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        changes = rest;
    }
}

/// Makes the checksums of one copy of the table fit.
fn repair(image: &mut [u8], header: usize, entries: usize) {
    let crc = crc32fast::hash(&image[entries..entries + ENTRIES]);
    image[header + 88..header + 92].copy_from_slice(&crc.to_le_bytes());
    image[header + 16..header + 20].fill(0);
    let crc = crc32fast::hash(&image[header..header + 92]);
    image[header + 16..header + 20].copy_from_slice(&crc.to_le_bytes());
}

fn in_memory(image: &[u8]) -> Option<(File, PathBuf)> {
    let fd = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = File::from(fd);
    file.write_all(image).ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Some((file, path.into()))
}

/// A squashfs superblock in a root partition, its hash tree, and a signature.
fn sound() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| build().expect("a sound image"))
}

fn build() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let size = Bytes::new(u64::try_from(SECTORS * 512)?);
    let mut disk = MemoryDevice::new(size, SectorSize::S512)?;
    let mut entries = Vec::new();
    for (kind, first, count) in PARTITIONS {
        entries.push(Entry {
            kind: PartitionType::parse(kind, ARCH)?,
            uuid: Uuid::from_u128(u128::from(first)),
            first: Lba::new(first),
            last: Lba::new(first + count - 1),
            attributes: 0,
            label: Label::new(kind)?,
            tail: Vec::new(),
        });
    }
    let extents: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.extent(SectorSize::S512))
        .collect();
    disk.write_all_at(b"hsqs", extents[0].start)?;
    disk.write_all_at(
        &4u16.to_le_bytes(),
        extents[0].start.saturating_add(Bytes::new(28)),
    )?;
    let params = hash_tree::params(
        extents[0].size,
        &Verity::default(),
        4096,
        Seed::new(Uuid::nil()),
    )?;
    let tree = hash_tree::HashTree {
        params: &params,
        parity: None,
        scratch: &std::env::temp_dir(),
    };
    let root = tree.write(&mut disk, extents[0], extents[1])?;
    if let Some((data, hash)) = verity_pair(root.as_bytes()) {
        (entries[0].uuid, entries[1].uuid) = (data, hash);
    }
    let signature = VeritySignature {
        root_hash: root.as_bytes().to_vec(),
        fingerprint: Some([5; 32]),
        signature: SIGNATURE.to_vec(),
        more: Vec::new(),
    };
    disk.write_all_at(signature.to_json().as_bytes(), extents[2].start)?;
    let mut table = Table::new(Uuid::from_u128(1), SectorSize::S512, size)?;
    for (slot, entry) in (0u32..).zip(entries) {
        table.insert(slot, entry)?;
    }
    commit(&mut disk, &table, Commit::Create)?;
    Ok(disk.into_bytes())
}

/// The least that is a PKCS#7 object: signed data with nothing in it.
const SIGNATURE: &[u8] = &[
    0x30, 0x27, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x1a, 0x30,
    0x18, 0x02, 0x01, 0x01, 0x31, 0x00, 0x30, 0x0f, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d,
    0x01, 0x07, 0x01, 0xa0, 0x02, 0x04, 0x00, 0x31, 0x00,
];
