//! Tables of cases for the keys that systemd-repart does not have.

use super::tests::read_all;
use super::*;

#[test]
fn values_arrive_and_nothing_is_the_default() {
    let read = |lines: &str| {
        let mut set = read_all(&[lines]).unwrap_or_else(|error| panic!("{lines}: {error}"));
        set.definitions.remove(0)
    };
    let encrypted = read("Type=home; Encrypt=yes; EncryptVolumeKey=seed; EncryptFreeSpace=no");
    assert!(encrypted.encryption.seeded);
    assert_eq!(encrypted.encryption.free_space, Some(false));
    let reset = read(
        "Type=home; Encrypt=yes; EncryptVolumeKey=seed; EncryptVolumeKey=; EncryptFreeSpace=1; EncryptFreeSpace=; EncryptRecoveryKey=/x; EncryptRecoveryKey=",
    );
    assert!(!reset.encryption.seeded);
    assert_eq!(reset.encryption.free_space, None);
    assert_eq!(reset.encryption.recovery_key, None);

    let tagged = read(
        "Type=home; Integrity=standalone; IntegrityAlgorithm=hmac-sha512; IntegrityKeyFile=/k",
    );
    assert!(tagged.tags.standalone && !tagged.encryption.inline_integrity);
    assert_eq!(tagged.tags.key_file.unwrap().to_str(), Some("/k"));
    assert_eq!(tagged.format.unwrap().name(), "ext4");
    let reset = read(
        "Type=home; Integrity=standalone; IntegrityKeyFile=/k; IntegrityKeyFile=; Integrity=off",
    );
    assert_eq!(reset.tags, super::Tags::default());

    let data = "Type=root; Verity=data; VerityMatchKey=r";
    let hash = "Type=root-verity; Verity=hash; VerityMatchKey=r; VerityHashAlgorithm=sha512; VeritySalt=00ff; VerityHashType=0; VerityFEC=24";
    let set = read_all(&[data, hash]).unwrap();
    let verity = &set.definitions[1].verity;
    assert_eq!(verity.algorithm.unwrap().name(), "sha512");
    assert_eq!(verity.salt.as_ref().unwrap().to_string(), "00ff");
    assert_eq!(verity.hash_type, Some(veritysetup::HashType::ChromeOs));
    assert_eq!(verity.fec.unwrap().get(), 24);
    for none in ["", "0", "00"] {
        let set = read_all(&[data, &format!("{hash}; VerityFEC={none}")]).unwrap();
        assert_eq!(set.definitions[1].verity.fec, None, "{none}");
    }
    let reset = format!("{hash}; VerityHashAlgorithm=; VeritySalt=; VerityHashType=");
    let set = read_all(&[data, &reset]).unwrap();
    let verity = &set.definitions[1].verity;
    assert_eq!((verity.algorithm, verity.hash_type), (None, None));
    assert_eq!(verity.salt, None);
}

#[test]
fn what_is_to_happen_with_partitions_that_exist() {
    let read = |lines: &str| {
        let set = read_all(&[&format!("Type=home; {lines}")]);
        let mut set = set.unwrap_or_else(|error| panic!("{lines}: {error}"));
        set.definitions.remove(0).existing
    };
    let default = Existing::default();
    assert_eq!(read(""), default);
    let all = "IfExists=new; IfMissing=ignore; IfOutOfBounds=fail; Grow=no";
    assert_eq!(
        read(all),
        Existing {
            if_exists: IfExists::New,
            if_missing: IfMissing::Ignore,
            if_out_of_bounds: IfOutOfBounds::Fail,
            grow: false,
            only_on_new_disks: false,
        }
    );
    let reset = format!("{all}; IfExists=; IfMissing=; IfOutOfBounds=; Grow=");
    assert_eq!(read(&reset), default);
    let spelled = "IfExists=use; IfMissing=create; IfOutOfBounds=accept; Grow=yes";
    assert_eq!(read(spelled), default);
}

#[test]
fn shares_and_sizes_replace_each_other() {
    let read = |lines: &str| {
        let set = read_all(&[&format!("Type=home; {lines}")]);
        let mut set = set.unwrap_or_else(|error| panic!("{lines}: {error}"));
        set.definitions.remove(0)
    };
    let shared = read("SizeMinBytes=1M; SizeMinBytes=5%; PaddingMaxBytes=12.5%ram");
    assert_eq!((shared.size_min, shared.padding_max), (None, None));
    assert!(
        shared
            .shares
            .size_min
            .is_some_and(|share| share.of == ShareOf::Disk)
    );
    assert!(
        shared
            .shares
            .padding_max
            .is_some_and(|share| share.of == ShareOf::Memory)
    );
    let plain = read("SizeMinBytes=5%; SizeMinBytes=1M; PaddingMinBytes=1%; PaddingMinBytes=0");
    assert_eq!(plain.shares, Shares::default());
    assert_eq!(plain.size_min, Some(Bytes::mib(1)));
}

#[test]
fn what_is_reset_for_good_is_marked_too() {
    for (value, marked, once) in [
        ("remove", true, true),
        ("yes", true, false),
        ("no", false, false),
        ("remove; FactoryReset=yes", true, false),
        ("remove; FactoryReset=no", false, false),
    ] {
        let set = read_all(&[&format!("Type=home; FactoryReset={value}")]).unwrap();
        let home = &set.definitions[0];
        let read = (home.factory_reset, home.existing.only_on_new_disks);
        assert_eq!(read, (marked, once), "{value}");
    }
}

#[test]
fn an_algorithm_for_tags_that_are_not_there_is_mentioned() {
    let lines = "Type=home; Encrypt=yes; IntegrityAlgorithm=hmac-sha512";
    let set = read_all(&[lines]).unwrap();
    let warnings: Vec<String> = set.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("IntegrityAlgorithm="), "{warnings:?}");
    let inline = "Type=home; Encrypt=yes; Integrity=inline; IntegrityAlgorithm=hmac-sha512";
    assert!(read_all(&[inline]).unwrap().warnings.is_empty());
}

#[test]
fn what_is_refused() {
    for (lines, message) in [
        ("EncryptVolumeKey=seed", "EncryptVolumeKey= needs Encrypt="),
        ("EncryptFreeSpace=no", "EncryptFreeSpace= needs Encrypt="),
        (
            "EncryptRecoveryKey=/x",
            "EncryptRecoveryKey= needs Encrypt=",
        ),
        ("Encrypt=yes; EncryptRecoveryKey=x", "\"x\" is refused"),
        (
            "Encrypt=yes; EncryptVolumeKey=mine",
            "known are random and seed",
        ),
        ("Encrypt=yes; EncryptFreeSpace=some", "\"some\" is refused"),
        ("VeritySalt=00", "VeritySalt= needs Verity=hash"),
        ("VerityHashType=1", "VerityHashType= needs Verity=hash"),
        (
            "Verity=data; VerityMatchKey=r; VerityHashAlgorithm=sha512",
            "VerityHashAlgorithm= needs Verity=hash",
        ),
        (
            "Integrity=standalone; Encrypt=yes",
            "Integrity=standalone cannot be combined with Encrypt=",
        ),
        (
            "Integrity=standalone; Verity=data; VerityMatchKey=r",
            "cannot be combined with Verity=",
        ),
        (
            "Integrity=standalone; BlockDeviceReplace=/x",
            "cannot be combined with BlockDeviceReplace=",
        ),
        (
            "Integrity=standalone; Format=empty",
            "needs a file system or CopyBlocks=",
        ),
        (
            "Integrity=standalone; IntegrityAlgorithm=hmac-sha256",
            "needs IntegrityKeyFile= for an hmac- algorithm",
        ),
        (
            "Integrity=standalone; IntegrityAlgorithm=sha256; IntegrityKeyFile=/k",
            "IntegrityKeyFile= needs an hmac- algorithm",
        ),
        (
            "Integrity=standalone; IntegrityAlgorithm=hmac-sha1; IntegrityKeyFile=/k",
            "needs crc32c, sha256, hmac-sha256 or hmac-sha512",
        ),
        ("Integrity=standalone; IntegrityKeyFile=k", "is refused"),
        (
            "IntegrityKeyFile=/k",
            "IntegrityKeyFile= needs Integrity=standalone",
        ),
        (
            "Encrypt=yes; Integrity=inline; IntegrityAlgorithm=crc32c",
            "needs an hmac- algorithm with Integrity=inline",
        ),
        ("VerityFEC=2", "VerityFEC= needs Verity=hash"),
        (
            "Verity=data; VerityMatchKey=r; VerityFEC=2",
            "VerityFEC= needs Verity=hash",
        ),
        ("VerityFEC=1", "write 2 to 24"),
        ("VerityFEC=25", "write 2 to 24"),
        ("VerityFEC=-2", "is refused"),
        ("VerityFEC=yes", "is refused"),
        ("VerityFEC=18446744073709551616", "is refused"),
        (
            "Verity=hash; VerityMatchKey=r; VerityFEC=2; VerityDataBlockSizeBytes=4096; VerityHashBlockSizeBytes=1024",
            "VerityHashBlockSizeBytes= of one size",
        ),
        (
            "Verity=hash; VerityMatchKey=r; VerityFEC=2; CopyBlocks=/x",
            "VerityFEC= and CopyBlocks= cannot be combined",
        ),
        ("VerityHashAlgorithm=sha1", "need 32 bytes of root hash"),
        ("VerityHashAlgorithm=md4", "write sha256"),
        ("VeritySalt=0", "hex digits"),
        ("VerityHashType=2", "known are 0"),
        ("SizeMinBytes=101%", "write a share as N%"),
        ("PaddingMaxBytes=5%disk", "write a share as N%"),
        ("IfExists=maybe", "known are use, new and fail"),
        ("IfMissing=no", "known are create, fail and ignore"),
        ("IfOutOfBounds=no", "known are accept and fail"),
        ("Grow=maybe", "Grow=\"maybe\" is refused"),
        ("IfExists=fail; IfMissing=fail", "can never be fulfilled"),
        ("IfExists=new; UUID=null", "set UUID="),
        ("IfExists=new; CopyBlocks=auto", "set UUID="),
        ("IfExists=fail; CopyBlocks=auto", "set UUID="),
        ("IfExists=new; Verity=data; VerityMatchKey=r", "set UUID="),
    ] {
        let error = read_all(&[&format!("Type=home; {lines}")]).unwrap_err();
        assert!(error.contains(message), "{lines}: {error}");
        assert!(error.starts_with("/d/10-a.conf:"), "{lines}: {error}");
    }
}

#[test]
fn what_is_refused_between_definitions() {
    let data = "Type=root; Verity=data; VerityMatchKey=r; IfMissing=ignore";
    let hash = "Type=root-verity; Verity=hash; VerityMatchKey=r";
    let error = read_all(&[data, hash]).unwrap_err();
    assert!(error.contains("IfMissing= differs"), "{error}");
    read_all(&[data, &format!("{hash}; IfMissing=ignore")]).unwrap();
    for key in [
        "IfExists=new",
        "IfMissing=fail",
        "IfOutOfBounds=fail",
        "Grow=no",
    ] {
        for keys in [[key, ""], ["", key]] {
            let target = format!("Type=home; {}", keys[0]);
            let supplement = format!("Type=home; SupplementFor=10-a; {}", keys[1]);
            let error = read_all(&[&target, &supplement]).unwrap_err();
            let (name, _) = key.split_once('=').unwrap();
            let message = format!("cannot be combined with {name}= in either");
            assert!(error.contains(&message), "{key}: {error}");
        }
    }
}
