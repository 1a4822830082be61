//! Partitions with dm-integrity of their own: their tags, what is inside, and what is refused. What the
//! kernel makes of them is in `guests_encrypted.rs`.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use image_specs::integrity::{Layout, Superblock};
use image_specs::units::Bytes;
use luks::Secret;
use luks::integrity::{Algorithm, Tagger};
use serde_json::Value;

use common::{SEED, Scratch, cut, ddi, fails, partitions, repart, run};

const MIB: u64 = 1 << 20;

/// What a device offers, once every sector has been held against its tag.
fn checked(part: &Path, algorithm: &str, key: Option<&[u8]>) -> Vec<u8> {
    let bytes = fs::read(part).unwrap();
    let superblock = Superblock::parse(&bytes).unwrap().unwrap();
    let size = Bytes::new(u64::try_from(bytes.len()).unwrap());
    let layout = Layout::of(&superblock, size).unwrap();
    let algorithm: Algorithm = algorithm.parse().unwrap();
    let key = key.map(|key| Secret::new(key.to_vec()));
    let tagger = Tagger::new(&algorithm, key.as_ref(), Some(superblock.salt)).unwrap();
    let block = usize::try_from(superblock.sector_size()).unwrap();
    let mut tag = vec![0; usize::from(superblock.tag_size)];
    let mut content = Vec::new();
    for number in (0..layout.provided_sectors).step_by(block / 512) {
        let (at, tag_at) = layout.find(number);
        let [at, tag_at] = [at * 512, tag_at].map(|at| usize::try_from(at).unwrap());
        let sector = &bytes[at..at + block];
        tagger.tag(number, sector, &mut tag);
        assert!(tag == bytes[tag_at..tag_at + tag.len()], "sector {number}");
        content.extend_from_slice(sector);
    }
    content
}

fn key(scratch: &Scratch, mode: u32) -> String {
    let path = scratch.path("key");
    fs::write(&path, [b'k'; 32]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    format!("IntegrityKeyFile={}\n", path.display())
}

fn build(scratch: &Scratch, name: &str, keys: &str) -> Value {
    let tree = scratch.path("tree");
    if !tree.exists() {
        scratch.tree();
    }
    let source = format!("--copy-source={}", tree.display());
    let text = format!("Type=linux-generic\n{keys}");
    let definitions = scratch.definitions(&[("10-x.conf", &text)]);
    let image = scratch.path("image");
    let _ = fs::remove_file(&image);
    let mut command = repart();
    command.args([SEED, &definitions, &source]).arg(&image);
    let built = partitions(command.args(["--empty=create", "--size=auto"])).remove(0);
    cut(&image, &built, &scratch.path(name));
    built
}

/// Keys of the contents, their size in MiB (or as small as they get), keys of the tags, algorithm.
const CASES: [(&str, u64, &str, &str); 4] = [
    ("Format=squashfs\nCopyFiles=/\n", 0, "", "crc32c"),
    ("Format=ext4\nCopyFiles=/\n", 48, "KEY", "hmac-sha256"),
    (
        "Format=swap\n",
        4,
        "KEYIntegrityAlgorithm=hmac-sha512\n",
        "hmac-sha512",
    ),
    (
        "Format=vfat\nCopyFiles=/usr\nFileSystemSectorSize=512\n",
        40,
        "IntegrityAlgorithm=sha256\n",
        "sha256",
    ),
];

#[test]
fn every_sector_is_there_with_its_tag() {
    let scratch = Scratch::new();
    for (content, mib, tags, algorithm) in CASES {
        let tags = tags.replace("KEY", &key(&scratch, 0o600));
        let size = |size: u64| match mib {
            0 => "Minimize=best\n".to_owned(),
            _ => format!("SizeMinBytes={size}\nSizeMaxBytes={size}\n"),
        };
        let keys = format!("{content}{}Integrity=standalone\n{tags}", size(mib * MIB));
        let built = build(&scratch, "tagged", &keys);
        let keyed = algorithm.starts_with("hmac").then_some(&[b'k'; 32][..]);
        let inner = checked(&scratch.path("tagged"), algorithm, keyed);
        let room = u64::try_from(inner.len()).unwrap();
        build(&scratch, "plain", &format!("{content}{}", size(room)));
        let plain = fs::read(scratch.path("plain")).unwrap();
        assert!(inner[..plain.len()] == plain, "{content}");
        assert!(inner[plain.len()..].iter().all(|byte| *byte == 0));
        match mib {
            // No more than it takes, and as it takes for whole blocks of tags.
            0 => assert!(
                room < u64::try_from(plain.len()).unwrap() + 2 * MIB,
                "{room}"
            ),
            _ => assert_eq!(built["raw_size"], mib * MIB),
        }
        assert!(room < built["raw_size"].as_u64().unwrap());

        // The same in each build, and nothing is left to do.
        let first = fs::read(scratch.path("tagged")).unwrap();
        build(&scratch, "tagged", &keys);
        assert!(fs::read(scratch.path("tagged")).unwrap() == first);
        let source = format!("--copy-source={}", scratch.path("tree").display());
        let definitions = format!("--definitions={}", scratch.path("repart.d").display());
        let again = partitions(
            repart()
                .args(["--dry-run=no", SEED, &definitions, &source])
                .arg(scratch.path("image")),
        );
        assert_eq!(again[0]["activity"], "unchanged");
    }
}

#[test]
fn copied_blocks_get_tags_and_must_fit() {
    let scratch = Scratch::new();
    let blocks = scratch.path("blocks");
    let file = File::create(&blocks).unwrap();
    file.set_len(3 * MIB + 512).unwrap();
    file.write_all_at(&vec![7; 5000], MIB + 100).unwrap();
    file.write_all_at(b"end", 3 * MIB + 509).unwrap();
    let copy = format!("CopyBlocks={}\nIntegrity=standalone\n", blocks.display());
    build(&scratch, "tagged", &format!("{copy}SizeMinBytes=1M\n"));
    let inner = checked(&scratch.path("tagged"), "crc32c", None);
    let plain = fs::read(&blocks).unwrap();
    assert!(inner[..plain.len()] == plain);
    let zeros = "CopyBlocks=/dev/zero\nIntegrity=standalone\nSizeMinBytes=2M\nSizeMaxBytes=2M\n";
    build(&scratch, "tagged", zeros);
    let inner = checked(&scratch.path("tagged"), "crc32c", None);
    assert!(inner.iter().all(|byte| *byte == 0));

    // Without tags it would just fit.
    let text = format!(
        "Type=home\n{copy}SizeMinBytes=1M\nSizeMaxBytes={}\n",
        3 * MIB + 4096
    );
    let definitions = scratch.definitions(&[("10-x.conf", &text)]);
    let image = scratch.path("refused");
    let mut command = repart();
    command.args(["--empty=create", "--size=auto", SEED, &definitions]);
    let said = fails(command.arg(&image), 1);
    assert!(said.contains("more than SizeMaxBytes= allows"), "{said}");
    assert!(!image.exists());
}

#[test]
fn keys_are_checked_before_anything_is_written() {
    let scratch = Scratch::new();
    let (image, path) = (scratch.path("image"), scratch.path("key"));
    let tagged = format!(
        "Type=swap\nIntegrity=standalone\nSizeMinBytes=1M\n{}",
        key(&scratch, 0o644)
    );
    let definitions = scratch.definitions(&[("10-x.conf", &tagged)]);
    let build = || {
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", SEED, &definitions])
            .arg(&image);
        command
    };
    for (bytes, words) in [
        (0, "has 0 bytes; 1 to 4096 are possible"),
        (4097, "has 4097 bytes"),
    ] {
        fs::write(&path, vec![b'k'; bytes]).unwrap();
        let said = fails(&mut build(), 1);
        assert!(
            said.contains(words) && said.contains("10-x.conf:5:1"),
            "{said}"
        );
        assert!(!image.exists());
    }
    fs::write(&path, vec![b'k'; 4096]).unwrap();
    let done = build().output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("can be used by everybody"), "{said}");
    fs::remove_file(&image).unwrap();
    fs::remove_file(&path).unwrap();
    let said = fails(&mut build(), 1);
    assert!(said.contains("cannot read the key"), "{said}");
    assert!(!image.exists());
}

/// Such a partition is shown for what it is, and not taken for a file system.
#[test]
fn dissect_says_what_it_met() {
    let scratch = Scratch::new();
    build(
        &scratch,
        "tagged",
        "Format=squashfs\nCopyFiles=/\nMinimize=best\nIntegrity=standalone\n",
    );
    let image = scratch.path("image");
    let shown = run(ddi().arg("dissect").arg(&image));
    assert!(shown.contains("DM_integrity"), "{shown}");
    let said = fails(ddi().args(["dissect", "--list"]).arg(&image), 1);
    let words = "`integritysetup open` gives the device";
    assert!(
        said.contains("DM_integrity") && said.contains(words),
        "{said}"
    );
}
