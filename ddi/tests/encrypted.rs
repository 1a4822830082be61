//! Encrypted partitions, built by an ordinary user: what is inside, who opens them, and that nothing
//! plain is on the disk.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use blockdev::io::{ReadAt, Window};
use image_specs::tpm2::Token;
use image_specs::units::{Bytes, Extent};
use luks::bulk::{Cipher, Decrypting};
use luks::tpm2::{self, Entropy, Unsealing};
use luks::{DATA_OFFSET, Header, Secret, Strictness};
use serde_json::Value;
use testimages::swtpm::Swtpm;

use common::{SEED, Scratch, cut, fails, partitions, repart, run, unprivileged};

const MIB: u64 = 1 << 20;
/// What repart takes off an encrypted partition.
const RESERVE: u64 = 32 * MIB;

fn key(scratch: &Scratch) -> String {
    let path = scratch.path("key");
    fs::write(&path, "correct horse").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    format!("--key-file={}", path.display())
}

/// The plain text of a partition that was cut out, up to `size`, and the raw bytes beside it.
fn decrypt(part: &Path, size: u64) -> (Vec<u8>, Vec<u8>) {
    let file = File::open(part).unwrap();
    let whole = Bytes::new(file.metadata().unwrap().len());
    let strictness = Strictness::with_memory(Bytes::mib(64));
    let header = Header::load(&file, whole, &strictness).unwrap().unwrap();
    let volume_key = header
        .unlock(&Secret::new(b"correct horse".to_vec()))
        .unwrap();
    let segments = header.segments();
    let cipher = Cipher::new(&volume_key, segments[0].0).unwrap();
    let data = Extent::new(DATA_OFFSET, whole.saturating_sub(DATA_OFFSET));
    let reader = Decrypting::new(Window::new(&file, data), cipher);
    let mut plain = vec![0; usize::try_from(size).unwrap()];
    reader.read_exact_at(&mut plain, 0).unwrap();
    let mut raw = plain.clone();
    FileExt::read_exact_at(&file, &mut raw, DATA_OFFSET.get()).unwrap();
    (plain, raw)
}

struct Built {
    plain: Vec<u8>,
    encrypted: PathBuf,
    partition: Value,
}

/// Builds a partition plain, and encrypted around as much.
fn build(scratch: &Scratch, keys: &str, more: &str, size: u64) -> Built {
    let tree = scratch.path("tree");
    if !tree.exists() {
        scratch.tree();
    }
    let source = format!("--copy-source={}", tree.display());
    let make = |name: &str, size: u64, more: &str| {
        let text =
            format!("Type=linux-generic\n{keys}SizeMinBytes={size}\nSizeMaxBytes={size}\n{more}");
        let definitions = scratch.definitions(&[("10-x.conf", &text)]);
        let image = scratch.path(name);
        let _ = fs::remove_file(&image);
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
            .args([&key(scratch), "--offline=yes"])
            .arg(&image);
        let partition = partitions(&mut unprivileged(&command)).remove(0);
        let part = scratch.path(&format!("{name}.part"));
        cut(&image, &partition, &part);
        (partition, part)
    };
    let (_, plain) = make("plain", size, "");
    let more = format!("Encrypt=key-file\nEncryptKDF=minimal\n{more}");
    let (partition, encrypted) = make("encrypted", size + RESERVE, &more);
    Built {
        plain: fs::read(plain).unwrap(),
        encrypted,
        partition,
    }
}

/// Formats, and the program that checks them.
const FORMATS: [(&str, u64, &[&str]); 7] = [
    ("ext4", 48, &["e2fsck", "-fn"]),
    ("vfat", 64, &["fsck.vfat", "-n"]),
    ("swap", 2, &[]),
    ("squashfs", 16, &["unsquashfs", "-lls"]),
    ("erofs", 32, &["fsck.erofs"]),
    ("btrfs", 260, &["btrfs", "check"]),
    ("xfs", 320, &["xfs_repair", "-n"]),
];

#[test]
fn what_is_inside_is_what_would_be_there_without() {
    let scratch = Scratch::new();
    for (format, mib, check) in FORMATS {
        let content = if format == "swap" {
            ""
        } else {
            "CopyFiles=/\n"
        };
        let keys = format!("Format={format}\n{content}");
        if mib <= 64 {
            let built = build(&scratch, &keys, "EncryptFreeSpace=yes\n", mib * MIB);
            let tail = mib * MIB + 16 * MIB;
            let (all, _) = decrypt(&built.encrypted, tail);
            let (inner, rest) = all.split_at(built.plain.len());
            assert!(inner == built.plain, "{format}");
            assert!(rest.iter().all(|byte| *byte == 0), "{format}: behind it");
        }
        let built = build(&scratch, &keys, "", mib * MIB);
        let (inner, raw) = decrypt(&built.encrypted, mib * MIB);
        let mut holes = 0;
        for (at, sector) in built.plain.chunks(4096).enumerate() {
            let range = at * 4096..(at + 1) * 4096;
            if raw[range.clone()].iter().all(|byte| *byte == 0) {
                holes += 1;
                assert!(sector.iter().all(|byte| *byte == 0), "{format} at {at}");
            } else {
                assert!(inner[range] == *sector, "{format} at {at}");
            }
        }
        println!(
            "{format}: {holes} of {} sectors are holes",
            raw.len() / 4096
        );
        assert_eq!(holes > 0, !["btrfs", "xfs"].contains(&format), "{format}");
        // Noise where nothing is does not disturb.
        if let Some((program, arguments)) = check.split_first() {
            let path = scratch.path("inner");
            fs::write(&path, &inner).unwrap();
            run(Command::new(program).args(arguments).arg(&path));
        }
    }
}

#[test]
fn nothing_plain_is_on_the_disk() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let secret = b"find me if you can, here I am";
    fs::write(scratch.path("tree/etc/secret"), secret.repeat(1000)).unwrap();
    for format in ["ext4", "squashfs", "vfat"] {
        let minimize = if format == "squashfs" {
            "best"
        } else {
            "guess"
        };
        let text = format!(
            "Type=root\nFormat={format}\nCopyFiles=/\nEncrypt=key-file\nEncryptKDF=minimal\nMinimize={minimize}\nCompression=\n"
        );
        let definitions = scratch.definitions(&[("10-x.conf", &text)]);
        let image = scratch.path(format);
        run(repart()
            .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
            .arg(key(&scratch))
            .arg(&image));
        let bytes = fs::read(&image).unwrap();
        let shown = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!shown, "{format}");
    }
}

#[test]
fn copied_blocks_are_whole_with_their_holes() {
    let scratch = Scratch::new();
    let blocks = scratch.path("blocks");
    let file = File::create(&blocks).unwrap();
    file.set_len(6 * MIB + 512).unwrap();
    file.write_all_at(&vec![7; 5000], 3 * MIB + 100).unwrap();
    file.write_all_at(b"end", 6 * MIB + 509).unwrap();
    fs::set_permissions(&blocks, fs::Permissions::from_mode(0o644)).unwrap();
    let keys = format!("CopyBlocks={}\n", blocks.display());
    let built = build(&scratch, &keys, "", 10 * MIB);
    let (plain, _) = decrypt(&built.encrypted, 6 * MIB + 512);
    assert!(plain == fs::read(&blocks).unwrap());

    let built = build(&scratch, "CopyBlocks=/dev/zero\n", "", 10 * MIB);
    let (plain, _) = decrypt(&built.encrypted, 10 * MIB);
    assert!(plain.iter().all(|byte| *byte == 0));
}

#[test]
fn cryptsetup_opens_what_was_made() {
    let scratch = Scratch::new();
    for (more, wanted) in [
        (
            "VolumeLabel=mine\nDiscard=no\n",
            &["Label:         \tmine", "Flags:       \t(no flags)"][..],
        ),
        (
            "FileSystemSectorSize=512\n",
            &[
                "sector: 512",
                "allow-discards",
                "Label:         \tluks-linux-generic",
            ],
        ),
        (
            "EncryptKDF=pbkdf2\n",
            &["pbkdf2", "sector: 4096", "offset: 16777216"],
        ),
        ("EncryptKDF=argon2id\n", &["argon2id", "aes-xts-plain64"]),
    ] {
        let built = build(&scratch, "Format=swap\n", more, MIB);
        let dump = run(Command::new("cryptsetup")
            .arg("luksDump")
            .arg(&built.encrypted));
        for words in wanted {
            assert!(dump.contains(words), "{words}: {dump}");
        }
        let open = |key: &Path| {
            let mut command = Command::new("cryptsetup");
            command
                .args(["open", "--test-passphrase", "--key-file"])
                .args([key, &built.encrypted]);
            command
        };
        run(&mut open(&scratch.path("key")));
        let wrong = scratch.path("wrong");
        fs::write(&wrong, "incorrect horse").unwrap();
        fails(&mut open(&wrong), 2);
        assert_eq!(built.partition["raw_size"], MIB + RESERVE);
    }
}

/// A key slot by file and one by TPM; the token has all that opening it takes.
#[test]
fn a_tpm_opens_what_it_sealed() {
    let scratch = Scratch::new();
    let tpm = Swtpm::start();
    let definitions = scratch.definitions(&[
        ("10.conf", "Type=home\nFormat=swap\nEncrypt=key-file+tpm2\nEncryptKDF=minimal\nTPM2PCRs=7\nTPM2PCRs=16:sha256\nSizeMinBytes=33M\n"),
        ("20.conf", "Type=srv\nFormat=swap\nEncrypt=tpm2\nSizeMinBytes=33M\n"),
    ]);
    let image = scratch.path("image");
    let device = format!("--tpm2-device={}", tpm.device());
    let mut command = repart();
    command
        .args(["--empty=create", "--size=auto", SEED, &definitions, &device])
        .arg(key(&scratch))
        .arg(&image);
    let built = partitions(&mut unprivileged(&command));
    for (partition, slots, pcrs) in [(&built[0], 2, &[7, 16][..]), (&built[1], 1, &[])] {
        let part = scratch.path("part");
        cut(&image, partition, &part);
        let file = File::open(&part).unwrap();
        let size = Bytes::new(file.metadata().unwrap().len());
        let strictness = Strictness::with_memory(Bytes::mib(64));
        let header = Header::load(&file, size, &strictness).unwrap().unwrap();
        let metadata = header.metadata().unwrap();
        assert_eq!(metadata.keyslots.len(), slots);
        let dump = run(Command::new("cryptsetup")
            .args(["luksDump", "--dump-json-metadata"])
            .arg(&part));
        let json: Value = serde_json::from_str(&dump).unwrap();
        let token = &json["tokens"]["0"];
        let last = (slots - 1).to_string();
        assert_eq!(token["keyslots"], serde_json::json!([last]));
        assert_eq!(token["tpm2-pcrs"], serde_json::json!(pcrs));
        let token = Token::from_json(token).unwrap().unwrap();
        let unsealing = Unsealing {
            device: tpm.device().parse().unwrap(),
            pin: None,
            signatures: None,
            pcrlock: None,
        };
        let secret = tpm2::unseal(&token, &unsealing, Entropy::new([7; 32])).unwrap();
        header.unlock_slot(&secret, last.parse().ok()).unwrap();
    }
    drop(tpm);
    fs::remove_file(&image).unwrap();
    let said = fails(&mut command, 1);
    assert!(said.contains("cannot seal the key with a TPM"), "{said}");
    assert!(!image.exists());
}

#[test]
fn a_key_of_the_seed_makes_the_same_data_each_time() {
    let scratch = Scratch::new();
    let keys = "Format=ext4\nCopyFiles=/\n";
    let data = |more: &str| {
        let built = build(&scratch, keys, more, 40 * MIB);
        fs::read(built.encrypted).unwrap().split_off(16 << 20)
    };
    let seeded = data("EncryptVolumeKey=seed\n");
    assert!(seeded == data("EncryptVolumeKey=seed\n"));
    let random = data("");
    assert!(random != seeded && random != data(""));

    let text = "Type=home\nEncrypt=key-file\nEncryptVolumeKey=seed\n";
    let definitions = scratch.definitions(&[("10-x.conf", text)]);
    let image = scratch.path("unseeded");
    for seed in [&["--seed=random"][..], &[]] {
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", &definitions])
            .args(seed)
            .arg(&image);
        let said = fails(&mut command, 1);
        assert!(
            said.contains("10-x.conf:4:1: EncryptVolumeKey=seed"),
            "{said}"
        );
        assert!(!image.exists());
    }
}

#[test]
fn a_recovery_key_opens_too_and_replaces_no_file() {
    let scratch = Scratch::new();
    let path = scratch.path("recovery");
    let keys = format!(
        "Type=home\nFormat=swap\nEncrypt=key-file\nEncryptKDF=minimal\nSizeMinBytes=33M\nEncryptRecoveryKey={}\n",
        path.display()
    );
    let definitions = scratch.definitions(&[("10.conf", &keys)]);
    let image = scratch.path("image");
    let build = || {
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", SEED, &definitions])
            .args([&key(&scratch), image.to_str().unwrap()]);
        command
    };
    let built = partitions(&mut unprivileged(&build()));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!((text.len(), text.matches('-').count()), (71, 7));
    let part = scratch.path("part");
    cut(&image, &built[0], &part);
    for name in ["key", "recovery"] {
        run(Command::new("cryptsetup")
            .args(["open", "--test-passphrase", "--key-file"])
            .args([&scratch.path(name), &part]));
    }
    let dump = run(Command::new("cryptsetup").arg("luksDump").arg(&part));
    assert!(dump.contains("systemd-recovery"), "{dump}");

    fs::remove_file(&image).unwrap();
    let said = fails(&mut build(), 1);
    assert!(said.contains("is there already"), "{said}");
    assert!(!image.exists());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    // Where nothing comes of the image, nothing comes of the key.
    fs::remove_file(&path).unwrap();
    let small = keys.replace("33M", "1M\nSizeMaxBytes=1M");
    scratch.definitions(&[("10.conf", &keys), ("20.conf", &small)]);
    let said = fails(&mut build(), 1);
    assert!(
        said.contains("is named for another partition, too"),
        "{said}"
    );
    let copy = keys.replace("Format=swap", "CopyBlocks=/proc/self/mem");
    fs::remove_file(scratch.path("repart.d/20.conf")).unwrap();
    scratch.definitions(&[("10.conf", &copy)]);
    fails(&mut build(), 1);
    assert!(!image.exists() && !path.exists());
    let left = fs::read_dir(scratch.path("")).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(".#")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn verity_covers_the_ciphertext() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let definitions = scratch.definitions(&[
        ("10.conf", "Type=root\nFormat=squashfs\nCopyFiles=/\nVerity=data\nVerityMatchKey=r\nEncrypt=key-file\nEncryptKDF=minimal\nMinimize=best\n"),
        ("20.conf", "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nSizeMinBytes=1M\n"),
    ]);
    let image = scratch.path("image");
    let mut command = repart();
    command
        .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
        .arg(key(&scratch))
        .arg(&image);
    let built = partitions(&mut unprivileged(&command));
    let [data, hash] = ["data", "hash"].map(|name| scratch.path(name));
    cut(&image, &built[0], &data);
    cut(&image, &built[1], &hash);
    let root_hash = built[0]["roothash"].as_str().unwrap();
    run(Command::new("veritysetup")
        .arg("verify")
        .args([&data, &hash])
        .arg(root_hash));
    let (plain, _) = decrypt(&data, 4);
    assert_eq!(plain, b"hsqs");
}

#[test]
fn the_crypttab_has_the_hash_of_the_key_and_is_never_overwritten() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let definitions = scratch.definitions(&[(
        "10-x.conf",
        "Type=home\nFormat=ext4\nCopyFiles=/\nEncrypt=key-file\nEncryptKDF=minimal\nEncryptedVolume=foo:/key:opt:fixate-volume-key\nMountPoint=/home\n",
    )]);
    let image = scratch.path("image");
    let build = |options: &[&str]| {
        let mut command = repart();
        command
            .args([
                SEED,
                &definitions,
                &source,
                "--generate-crypttab=/etc/crypttab",
            ])
            .args(["--generate-fstab=/etc/fstab", &key(&scratch)])
            .args(options)
            .arg(&image);
        command
    };
    let built = partitions(&mut build(&["--empty=create", "--size=auto"]));
    let path = scratch.path("tree/etc/crypttab");
    let written = fs::read_to_string(&path).unwrap();
    let start = "# Automatically generated by systemd-repart\n\nfoo UUID=c4973bdc-476d-4ade-b862-95199633be86 /key opt";
    let hash = written.strip_prefix(start).unwrap();
    let hash = hash.strip_prefix(",fixate-volume-key=").unwrap();
    assert_eq!(hash.trim_end().len(), 64);
    let fstab = fs::read_to_string(scratch.path("tree/etc/fstab")).unwrap();
    assert!(fstab.contains("UUID=447403ed-a127-496a-bc75-07e0d718d2a3 /home ext4"));

    // The image has the file as it could be known then.
    let part = scratch.path("part");
    cut(&image, &built[0], &part);
    let (inner, _) = decrypt(&part, built[0]["raw_size"].as_u64().unwrap() - RESERVE);
    fs::write(scratch.path("inner"), inner).unwrap();
    let inside = run(Command::new("debugfs")
        .args(["-R", "cat /etc/crypttab"])
        .arg(scratch.path("inner")));
    assert_eq!(inside, format!("{start}\n"));

    let before = fs::read(&image).unwrap();
    let said = fails(&mut build(&["--dry-run=no", "--append-fstab=replace"]), 1);
    assert!(
        said.contains("an existing crypttab is never changed"),
        "{said}"
    );
    assert!(fs::read(&image).unwrap() == before);
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
}
