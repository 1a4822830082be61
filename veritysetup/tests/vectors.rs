//! Known trees: root hash and the whole hash device's SHA-256, as cryptsetup 2.8 makes them.
#![allow(missing_docs)]

use std::num::NonZeroUsize;

use image_specs::units::Bytes;
use sha2::Digest;
use veritysetup::fec::{self, Layout, Roots};
use veritysetup::verify::VerifyError;
use veritysetup::{BlockSize, HashAlgorithm, HashType, Params, tree, verify};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn params(data_blocks: u64) -> Params {
    Params {
        hash_type: HashType::Normal,
        algorithm: HashAlgorithm::Sha256,
        data_block: BlockSize::DEFAULT,
        hash_block: BlockSize::DEFAULT,
        data_blocks,
        salt: "00".repeat(32).parse().unwrap(),
        superblock: Some("11111111-2222-3333-4444-555555555555".parse().unwrap()),
        hash_offset: Bytes::ZERO,
    }
}

#[test]
fn trees_are_those_of_cryptsetup() {
    let two_levels = "35d7502c55320932d5e1f52c7d38699f8ba2df3409bb52d5b4ad5b6dce18d18c";
    let unsalted = Params {
        salt: "-".parse().unwrap(),
        ..params(129)
    };
    let chrome_os = Params {
        hash_type: HashType::ChromeOs,
        algorithm: HashAlgorithm::Sha1,
        salt: "00112233".parse().unwrap(),
        ..params(129)
    };
    let bare = Params {
        superblock: None,
        ..params(129)
    };
    let small = Params {
        data_block: BlockSize::new(1024).unwrap(),
        hash_block: BlockSize::new(512).unwrap(),
        ..params(64)
    };
    for (params, root, size, digest) in [
        (
            params(1),
            "2e534ef0107d592d1706ac38ad58596b85ef3375d360a6d669f974792df5cb5a",
            4096,
            "16fd44cffed75ae879b935bf346bae4d6361e5a113d37328357a44bb8aa54809",
        ),
        (
            params(10),
            "2fbb51103fbd1a98db682a037d9b9f4a274b7a2c9288452a5a3fa812fda14b7a",
            8192,
            "90d2b60953cb1ecd38b4f9041d8be70db555c5a83222dae85147be47c26df938",
        ),
        (
            params(129),
            two_levels,
            16384,
            "aea83bd3226d7c0c8799d1ac65b5151d34d949a8c0c492f936ad85999b7f9b7c",
        ),
        (
            unsalted,
            "3e5d285ca1f11edfca6327028471f08b75634ff3361264b88d79ee2e95cacb84",
            16384,
            "2576564e19d402627b800dad2b39eb6ebbc42592150ffdff3770fa9de4345fe2",
        ),
        (
            chrome_os,
            "4be0636d3b6e7417ac4cd117ffca13b79be9c918",
            16384,
            "c4ffb6c897f51eb0a2422a7821a6840f6655adc9154c86eb1af4127c3c926f13",
        ),
        (
            bare,
            two_levels,
            12288,
            "669e7ea596b2315865161a05e02116ef3f53a2a3952bcfe9f80eb1e1e8564293",
        ),
        (
            small,
            "fb689e11dbf0747059ece1894cf937ceca9d870b5f64cfa1f9b863cd1e98b1f2",
            3072,
            "91d7ab6fa2a658adbfb4e1064ac4e21920b91953ff448910ff0f6867abeb4ace",
        ),
    ] {
        let bytes = params.data_blocks * params.data_block.get();
        let data = vec![0; usize::try_from(bytes).unwrap()];
        let mut hash = Vec::new();
        let found = tree::build(&params, &data, &mut hash, TWO).unwrap();
        assert_eq!(found.to_string(), root);
        assert_eq!(hash.len(), size);
        assert_eq!(hex::encode(sha2::Sha256::digest(&hash)), digest);
        verify::verify(&params, &data, &hash, &found, TWO).unwrap();
    }
}

#[test]
fn parity_is_that_of_cryptsetup() {
    let params = params(129);
    let data = vec![0; 129 * 4096];
    let (mut hash, mut parity) = (Vec::new(), Vec::new());
    tree::build(&params, &data, &mut hash, TWO).unwrap();
    let layout = Layout::of_tree(&params, Roots::DEFAULT).unwrap();
    fec::encode(&layout, (&data, &hash), &mut parity, TWO).unwrap();
    assert_eq!((parity.len(), layout.size().get()), (8192, 8192));
    assert_eq!(
        hex::encode(sha2::Sha256::digest(&parity)),
        "b74f5df08a2f3539d1bb31e31c231848c6af71936866fe26bdbf1de6b7e2733f"
    );
}

#[test]
fn the_first_bad_block_is_named() {
    let params = params(300);
    let mut data = vec![0; 300 * 4096];
    for (index, block) in data.chunks_mut(4096).enumerate() {
        block[0] = u8::try_from(index % 251).unwrap();
    }
    let mut hash = Vec::new();
    let root = tree::build(&params, &data, &mut hash, TWO).unwrap();
    let check = |data: &Vec<u8>, hash: &Vec<u8>, root| {
        verify::verify(&params, data, hash, root, TWO).unwrap_err()
    };

    let mut bad = data.clone();
    bad[4096 * 290] ^= 1;
    bad[4096 * 200 + 77] ^= 1;
    assert!(matches!(
        check(&bad, &hash, &root),
        VerifyError::DataBlock { block: 200, offset } if offset == 200 * 4096
    ));

    // Superblock, top, then three leaves.
    let mut bad = hash.clone();
    bad[4096 * 4 + 1] ^= 1;
    assert!(matches!(
        check(&data, &bad, &root),
        VerifyError::TreeBlock {
            level: 0,
            block: 2,
            offset: 16384
        }
    ));
    let mut bad = hash.clone();
    bad[4096 + 4095] ^= 1;
    assert!(matches!(
        check(&data, &bad, &root),
        VerifyError::RootHash { .. }
    ));
    let longer = veritysetup::RootHash::new([root.as_bytes(), &[0]].concat());
    assert!(matches!(
        check(&data, &hash, &longer),
        VerifyError::RootHash { .. }
    ));
    assert!(matches!(
        check(&data[..4096].to_vec(), &hash, &root),
        VerifyError::Data(_)
    ));
    assert!(matches!(
        check(&data, &hash[..8192].to_vec(), &root),
        VerifyError::Read { .. }
    ));
}
