//! Many shapes of trees against the `veritysetup` program: the same bytes, and it accepts ours.
#![allow(missing_docs)]

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Output};

use image_specs::units::Bytes;
use uuid::Uuid;
use veritysetup::{BlockSize, HashAlgorithm, HashType, Params, tree, verify};

const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output
}

/// Bytes that do not repeat from block to block, with some blocks of zeros.
fn noise(blocks: u64, block: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::new();
    for index in 0..blocks {
        for _ in 0..block / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = if index % 5 == 3 { 0 } else { state };
            data.extend_from_slice(&word.to_le_bytes());
        }
    }
    data
}

fn check(folder: &Path, params: &Params) {
    let [data, ours, theirs] = ["data", "ours", "theirs"].map(|name| folder.join(name));
    let bytes = noise(params.data_blocks, params.data_block.get());
    std::fs::write(&data, bytes).unwrap();
    let _ = std::fs::remove_file(&theirs);
    let threads = NonZeroUsize::new(3).unwrap();
    let source = File::open(&data).unwrap();
    let root = tree::build(params, &source, &mut File::create(&ours).unwrap(), threads).unwrap();

    let mut common = vec![
        format!("--hash={}", params.algorithm),
        format!("--format={}", params.hash_type.number()),
        format!("--data-block-size={}", params.data_block.get()),
        format!("--hash-block-size={}", params.hash_block.get()),
        format!("--data-blocks={}", params.data_blocks),
        format!("--hash-offset={}", params.hash_offset.get()),
        format!("--salt={}", params.salt),
    ];
    match params.superblock {
        Some(uuid) => common.push(format!("--uuid={uuid}")),
        None => common.push("--no-superblock".to_owned()),
    }
    let paths = [&data, &ours, &theirs].map(|path| path.to_str().unwrap());
    let mut format: Vec<&str> = common.iter().map(String::as_str).collect();
    format.extend(["format", paths[0], paths[2]]);
    let said = String::from_utf8(run("veritysetup", &format).stdout).unwrap();
    assert!(said.contains(&root.to_string()), "{params:?}: {said}");
    let same = std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap();
    assert!(same, "{params:?}");

    let hex = root.to_string();
    let mut check: Vec<&str> = common
        .iter()
        .map(String::as_str)
        .filter(|option| !option.starts_with("--uuid"))
        .collect();
    check.extend(["verify", paths[0], paths[1], &hex]);
    run("veritysetup", &check);
    verify::verify(params, &source, &File::open(&ours).unwrap(), &root, threads).unwrap();
}

#[test]
fn trees_of_many_shapes_are_those_of_veritysetup() {
    let folder = tempfile::tempdir().unwrap();
    let base = Params {
        hash_type: HashType::Normal,
        algorithm: HashAlgorithm::Sha256,
        data_block: BlockSize::DEFAULT,
        hash_block: BlockSize::DEFAULT,
        data_blocks: 1,
        salt: "2a".repeat(32).parse().unwrap(),
        superblock: Some(Uuid::parse_str(UUID).unwrap()),
        hash_offset: Bytes::ZERO,
    };
    let size = |bytes| BlockSize::new(bytes).unwrap();
    for data_blocks in [1, 2, 3, 63, 64, 65, 127, 128, 129, 1000] {
        check(
            folder.path(),
            &Params {
                data_blocks,
                ..base.clone()
            },
        );
    }
    for (data, hash, data_blocks) in [
        (512, 512, 1),
        (512, 512, 4097),
        (512, 4096, 777),
        (4096, 512, 300),
        (1024, 2048, 66),
        (2048, 1024, 1025),
    ] {
        let shape = Params {
            data_block: size(data),
            hash_block: size(hash),
            data_blocks,
            ..base.clone()
        };
        check(folder.path(), &shape);
    }
    for (algorithm, hash_type, salt, data_blocks) in [
        (HashAlgorithm::Sha256, HashType::Normal, "-".to_owned(), 200),
        (
            HashAlgorithm::Sha256,
            HashType::ChromeOs,
            "ab".repeat(9),
            200,
        ),
        (
            HashAlgorithm::Sha256,
            HashType::Normal,
            "cd".repeat(256),
            200,
        ),
        (
            HashAlgorithm::Sha512,
            HashType::Normal,
            "ab".repeat(32),
            200,
        ),
        (
            HashAlgorithm::Sha384,
            HashType::ChromeOs,
            "-".to_owned(),
            200,
        ),
        (
            HashAlgorithm::Sha224,
            HashType::Normal,
            "ab".to_owned(),
            200,
        ),
        (
            HashAlgorithm::Sha1,
            HashType::Normal,
            "00112233".to_owned(),
            300,
        ),
        (
            HashAlgorithm::Sha1,
            HashType::ChromeOs,
            "00112233".to_owned(),
            300,
        ),
    ] {
        let shape = Params {
            algorithm,
            hash_type,
            salt: salt.parse().unwrap(),
            data_blocks,
            ..base.clone()
        };
        check(folder.path(), &shape);
    }
    for (superblock, offset) in [
        (None, 0),
        (None, 8192),
        (base.superblock, 512),
        (base.superblock, 8192),
    ] {
        let shape = Params {
            superblock,
            hash_offset: Bytes::new(offset),
            data_blocks: 130,
            ..base.clone()
        };
        check(folder.path(), &shape);
    }
}
