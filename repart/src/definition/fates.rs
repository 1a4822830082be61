//! What becomes of each key: none may be read and then do nothing.

use super::tests::read_all;
use super::*;

enum Fate {
    /// Something reads the field that it sets.
    Applied(&'static str),
    /// Applying stops and names the key.
    Refused,
}
use Fate::{Applied, Refused};

/// Key, lines that it needs beside it, a value, fate. Without a value, other tests have it.
const FATES: &[(Key, &str, Option<&str>, Fate)] = &[
    (Key::Type, "", Some("srv"), Applied("plan, table")),
    (Key::Label, "", Some("x"), Applied("plan::label")),
    (
        Key::VolumeLabel,
        "Encrypt=yes",
        Some("x"),
        Applied("build::encrypt"),
    ),
    (Key::UUID, "", Some("null"), Applied("plan::identity")),
    (Key::Priority, "", Some("5"), Applied("plan: drops")),
    (
        Key::FactoryReset,
        "",
        Some("yes"),
        Applied("plan: factory reset"),
    ),
    (Key::SupplementFor, "", None, Applied("plan: merges")),
    (Key::Weight, "", Some("5"), Applied("plan: space")),
    (Key::PaddingWeight, "", Some("5"), Applied("plan: space")),
    (Key::SizeMinBytes, "", Some("20M"), Applied("plan: space")),
    (Key::SizeMaxBytes, "", Some("1G"), Applied("plan: space")),
    (Key::PaddingMinBytes, "", Some("1M"), Applied("plan: space")),
    (Key::PaddingMaxBytes, "", Some("1M"), Applied("plan: space")),
    (
        Key::Minimize,
        "Format=ext4",
        Some("guess"),
        Applied("build::staging"),
    ),
    (
        Key::CopyBlocks,
        "",
        Some("/x"),
        Applied("build::session, build::apply"),
    ),
    (Key::Format, "", Some("ext4"), Applied("populate")),
    (
        Key::CopyFiles,
        "Format=ext4",
        Some("/a"),
        Applied("load; fsverity=copy is refused"),
    ),
    (
        Key::ExcludeFiles,
        "Format=ext4",
        Some("/a"),
        Applied("load"),
    ),
    (
        Key::ExcludeFilesTarget,
        "Format=ext4",
        Some("/a"),
        Applied("load"),
    ),
    (
        Key::MakeDirectories,
        "Format=ext4",
        Some("/a"),
        Applied("load"),
    ),
    (
        Key::MakeSymlinks,
        "Format=ext4",
        Some("/a:b"),
        Applied("load"),
    ),
    (
        Key::Subvolumes,
        "Format=btrfs",
        Some("/a"),
        Applied("populate::btrfs; else a warning"),
    ),
    (
        Key::DefaultSubvolume,
        "Format=btrfs; Subvolumes=/a",
        Some("/a"),
        Applied("populate::btrfs; else a warning"),
    ),
    (
        Key::Compression,
        "Format=btrfs",
        Some("zstd"),
        Applied("populate: squashfs, erofs, btrfs; else a warning"),
    ),
    (
        Key::CompressionLevel,
        "Format=btrfs; Compression=zstd",
        Some("5"),
        Applied("populate: squashfs, erofs, btrfs; else a warning"),
    ),
    (
        Key::AddValidateFS,
        "Format=ext4",
        Some("no"),
        Applied("load"),
    ),
    (
        Key::FileSystemSectorSize,
        "Format=ext4",
        Some("4096"),
        Applied("populate: vfat, ext4, btrfs, xfs, f2fs; hash trees; no other format has sectors"),
    ),
    (Key::BlockDeviceReplace, "", Some("/x"), Refused),
    (Key::MountPoint, "", Some("/x"), Applied("fstab, load")),
    (
        Key::SplitName,
        "",
        Some("x"),
        Applied("build: split artifacts"),
    ),
    (
        Key::Encrypt,
        "",
        Some("yes"),
        Applied("build::encrypt; plan: space"),
    ),
    (
        Key::KeyFile,
        "Encrypt=yes",
        None,
        Applied("the binary: keys"),
    ),
    (
        Key::TPM2PCRs,
        "Encrypt=yes",
        Some("7"),
        Applied("build::encrypt"),
    ),
    (
        Key::EncryptKDF,
        "Encrypt=yes",
        Some("minimal"),
        Applied("build::encrypt"),
    ),
    (
        Key::Discard,
        "Encrypt=yes",
        Some("no"),
        Applied("build::encrypt"),
    ),
    (Key::Integrity, "Encrypt=yes", Some("inline"), Refused),
    (
        Key::Integrity,
        "Format=ext4",
        Some("standalone"),
        Applied("build::integrity, plan: space"),
    ),
    (
        Key::IntegrityAlgorithm,
        "Integrity=standalone",
        Some("sha256"),
        Applied("build::integrity"),
    ),
    (
        Key::IntegrityKeyFile,
        "Integrity=standalone",
        Some("/x"),
        Applied("the binary: keys"),
    ),
    (Key::VolumeName, "", None, Refused),
    (
        Key::EncryptedVolume,
        "Encrypt=yes",
        Some("x"),
        Applied("crypttab"),
    ),
    (
        Key::Verity,
        "",
        None,
        Applied("build::hash_tree, signatures"),
    ),
    (Key::VerityMatchKey, "", None, Applied("definition::link")),
    (
        Key::VerityDataBlockSizeBytes,
        "",
        None,
        Applied("build::hash_tree"),
    ),
    (
        Key::VerityHashBlockSizeBytes,
        "",
        None,
        Applied("build::hash_tree"),
    ),
    (
        Key::VerityHashAlgorithm,
        "",
        None,
        Applied("build::hash_tree, plan: space"),
    ),
    (Key::VeritySalt, "", None, Applied("build::hash_tree")),
    (Key::VerityHashType, "", None, Applied("build::hash_tree")),
    (
        Key::VerityFEC,
        "",
        None,
        Applied("build::hash_tree, plan: space"),
    ),
    (
        Key::EncryptVolumeKey,
        "Encrypt=yes",
        Some("seed"),
        Applied("build::encrypt"),
    ),
    (
        Key::EncryptRecoveryKey,
        "Encrypt=yes",
        Some("/x"),
        Applied("build::recovery, build::encrypt"),
    ),
    (
        Key::EncryptFreeSpace,
        "Encrypt=yes",
        Some("yes"),
        Applied("build::encrypt"),
    ),
    (Key::IfExists, "", Some("new"), Applied("plan::existing")),
    (Key::IfMissing, "", Some("fail"), Applied("plan::existing")),
    (
        Key::IfOutOfBounds,
        "",
        Some("fail"),
        Applied("plan::existing"),
    ),
    (Key::Grow, "", Some("no"), Applied("plan: space")),
    (Key::Flags, "", Some("0x4000000000000000"), Applied("table")),
    (Key::NoAuto, "", Some("yes"), Applied("table")),
    (Key::ReadOnly, "", Some("yes"), Applied("table")),
    (
        Key::GrowFileSystem,
        "ReadOnly=yes",
        Some("yes"),
        Applied("table"),
    ),
];

#[test]
fn every_key_is_applied_or_refused() {
    let mut keys: Vec<Key> = FATES.iter().map(|(key, ..)| *key).collect();
    keys.sort();
    keys.dedup();
    let mut all = Key::ALL.to_vec();
    all.sort();
    assert_eq!(keys, all);
    for (key, beside, value, fate) in FATES {
        let Some(value) = value else { continue };
        let without = format!("Type=home; {beside}");
        let with = format!("{without}; {key}{value}");
        let [mut without, mut with] = [without, with].map(|lines| {
            let set = read_all(&[&lines]);
            set.unwrap_or_else(|error| panic!("{lines}: {error}"))
        });
        let refused = unsupported(&with).map(|refused| refused.to_string());
        match fate {
            Applied(place) => assert_eq!(refused, None, "{key} {place}"),
            Refused => assert!(refused.unwrap().contains(&key.to_string()), "{key}"),
        }
        for set in [&mut without, &mut with] {
            set.definitions[0].origin = Origin::default();
        }
        assert_ne!(without.definitions, with.definitions, "{key}");
    }
}
