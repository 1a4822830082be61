//! Encryption in this process: a disk to write to, copies with all processors, reading back.

#[path = "common/mod.rs"]
mod common;

use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use blockdev::io::{ReadAt, Window};
use blockdev::{BlockDevice, MemoryDevice};
use common::format;
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::bulk::{Cipher, CopyError, Decrypting, Encrypting, copy};
use luks::{Header, Secret, VolumeKey};
use proptest::prelude::*;

const THREADS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

fn cipher(sector: SectorSize) -> Cipher {
    let mut format = format(Bytes::mib(20));
    format.sector_size = sector;
    let header = Header::format(&format).unwrap();
    let (segment, _) = header.segments()[0];
    Cipher::new(&format.volume_key, segment).unwrap()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 7).to_le_bytes()[0] | 1)
        .collect()
}

#[test]
fn copies_are_what_one_thread_encrypts() {
    let plain = pattern(5 << 20);
    for sector in SectorSize::ALL {
        let cipher = cipher(sector);
        let mut whole = plain.clone();
        cipher.encrypt(&mut whole, 0).unwrap();
        let mut copied = Vec::new();
        let extents = [(0, 4096), (8192, 3 << 20), (4 << 20, 1 << 20)]
            .map(|(start, size)| Extent::new(Bytes::new(start), Bytes::new(size)));
        copy(&cipher, &plain, &mut copied, &extents, THREADS).unwrap();
        assert!(copied[..4096] == whole[..4096]);
        assert!(copied[4096..8192].iter().all(|byte| *byte == 0), "no hole");
        assert!(copied[8192..(3 << 20) + 8192] == whole[8192..(3 << 20) + 8192]);
        assert!(copied[4 << 20..] == whole[4 << 20..]);
        let mut read = vec![0; 5000];
        let reader = Decrypting::new(whole, cipher);
        reader.read_exact_at(&mut read, 4_000_001).unwrap();
        assert!(read == plain[4_000_001..4_005_001]);
        assert!(reader.read_exact_at(&mut read, (5 << 20) - 4999).is_err());
    }
}

#[test]
fn copies_that_fail_end() {
    let cipher = cipher(SectorSize::S4096);
    let plain = pattern(1 << 20);
    let extent = |start, size| [Extent::new(Bytes::new(start), Bytes::new(size))];
    let mut target = Vec::new();
    let error = copy(&cipher, &plain, &mut target, &extent(0, 64 << 20), THREADS);
    assert!(matches!(error, Err(CopyError::Read { .. })));
    let error = copy(&cipher, &plain, &mut target, &extent(0, 4097), THREADS);
    assert!(matches!(error, Err(CopyError::Unaligned { .. })));
    let full = Extent::new(Bytes::ZERO, Bytes::kib(4));
    let mut full = Window::new(Vec::new(), full);
    let error = copy(&cipher, &plain, &mut full, &extent(0, 1 << 20), THREADS);
    assert!(matches!(error, Err(CopyError::Write { .. })));
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize, usize),
    Zero(usize, usize),
    Copy(usize, usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let range = || (0_usize..60_000, 1_usize..20_000);
    let act = prop_oneof![
        range().prop_map(|(at, size)| Act::Write(at, size)),
        range().prop_map(|(at, size)| Act::Zero(at, size)),
        range().prop_map(|(at, size)| Act::Copy(at, size)),
    ];
    prop::collection::vec(act, 1..8)
}

fn run(device: &mut dyn BlockDevice, acts: &[Act]) {
    let source = tempfile::tempfile().unwrap();
    // Data, a hole, data.
    source.write_all_at(&pattern(9000), 0).unwrap();
    source.write_all_at(&pattern(60_000), 30_001).unwrap();
    for act in acts {
        let extent =
            |at: usize, size: usize| Extent::new(Bytes::new(at as u64), Bytes::new(size as u64));
        let place = |at: usize| Bytes::new(at as u64);
        let done = match *act {
            Act::Write(at, size) => device.write_all_at(&pattern(size), place(at)),
            Act::Zero(at, size) => device.zero(extent(at, size)),
            // The target of a copy must be zeros.
            Act::Copy(at, size) => device
                .zero(extent(at, size))
                .and_then(|()| device.copy_from(&source, 5000, place(at), Bytes::new(size as u64))),
        };
        done.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_encrypting_disk_is_a_disk(acts in acts(), large in any::<bool>()) {
        static CIPHERS: LazyLock<[Cipher; 2]> =
            LazyLock::new(|| [SectorSize::S512, SectorSize::S4096].map(cipher));
        let cipher = CIPHERS[usize::from(large)].clone();
        let sector = cipher.sector_size();
        let size = Bytes::new(20 * 4096);
        let mut plain = MemoryDevice::new(size, sector).unwrap();
        run(&mut plain, &acts);
        let mut below = MemoryDevice::new(Bytes::new(30 * 4096), sector).unwrap();
        // Not a whole number of sectors: the rest stays unused.
        let extent = Extent::new(Bytes::new(4096), Bytes::new(size.get() + 100));
        let mut device = Encrypting::new(&mut below, extent, cipher.clone(), THREADS).unwrap();
        prop_assert_eq!(device.size(), size);
        run(&mut device, &acts);
        let mut wanted = vec![0; 20 * 4096];
        plain.read_exact_at(&mut wanted, Bytes::ZERO).unwrap();
        let mut found = vec![0; wanted.len() - 3];
        device.read_exact_at(&mut found, Bytes::new(3)).unwrap();
        prop_assert!(found == wanted[3..]);

        // What dm-crypt would read, once what is zero is encrypted too.
        device.fill(&[Extent::new(Bytes::ZERO, Bytes::new(size.get() - 5))]).unwrap();
        let mut bytes = vec![0; 30 * 4096];
        below.read_exact_at(&mut bytes, Bytes::ZERO).unwrap();
        prop_assert!(bytes[..4096].iter().all(|byte| *byte == 0));
        prop_assert!(bytes[21 * 4096..].iter().all(|byte| *byte == 0));
        let reader = Decrypting::new(bytes[4096..].to_vec(), cipher);
        reader.read_exact_at(&mut found, 3).unwrap();
        prop_assert!(found == wanted[3..]);
    }
}

/// IEEE 1619-2007, vector 10: AES-256, data unit 0xff.
#[test]
fn the_standard_says_the_same() {
    let key = "2718281828459045235360287471352662497757247093699959574966967627\
               3141592653589793238462643383279502884197169399375105820974944592";
    let wanted = "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b\
                  5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd";
    let mut format = format(Bytes::mib(20));
    format.sector_size = SectorSize::S512;
    format.volume_key = VolumeKey::new(Secret::new(hex::decode(key).unwrap()));
    let header = Header::format(&format).unwrap();
    let cipher = Cipher::new(&format.volume_key, header.segments()[0].0).unwrap();
    let mut data: Vec<u8> = (0..=255).chain(0..=255).collect();
    cipher.encrypt(&mut data, 0xff).unwrap();
    assert_eq!(hex::encode(&data[..64]), wanted);
}
