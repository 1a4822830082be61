//! Headers that we make, as cryptsetup reads them, and headers that it makes, as we do.

#[path = "common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use common::{CHEAP, Cryptsetup, format, secret};
use image_specs::luks_header::{LuksError, Refusal};
use image_specs::units::Bytes;
use luks::{Header, HeaderError, Kdf, Notice, Strictness, VolumeKey};
use serde_json::{Value, json};

const SIZE: Bytes = Bytes::mib(20);
const OLD: &[&str] = &["--type=luks1", "--pbkdf-force-iterations=1000"];

fn load(file: &File) -> Result<Option<Header>, HeaderError> {
    Header::load(file, SIZE, &Strictness::with_memory(Bytes::mib(1024)))
}

#[test]
fn cryptsetup_opens_what_we_format() {
    let mut header = Header::format(&format(SIZE)).unwrap();
    assert_eq!(header.size(), luks::DATA_OFFSET);
    let slot = header.add_passphrase(&secret("first"), Kdf::Minimal);
    let empty = header.add_passphrase(&secret(""), Kdf::Minimal);
    assert_eq!((slot.unwrap(), empty.unwrap()), (0, 1));
    let token = json!({"type": "systemd-recovery", "keyslots": ["0"]});
    assert_eq!(header.add_token(&token).unwrap(), 0);

    let image = common::image(&header, SIZE);
    let tool = Cryptsetup::on(image.path());
    assert!(tool.opens("first"));
    assert!(!tool.opens("second"));
    let dump = tool.dump();
    for line in [
        "Label:         \tdata",
        "UUID:          \t11111111-2222-3333-4444-555555555555",
        "Flags:       \tallow-discards",
        "offset: 16777216 [bytes]",
        "cipher: aes-xts-plain64",
        "sector: 4096 [bytes]",
        "0: systemd-recovery",
        "PBKDF:      pbkdf2",
    ] {
        assert!(dump.contains(line), "{line:?} is not in {dump}");
    }

    assert_eq!(header.retire_empty_slot().unwrap(), Some(1));
    assert_eq!(header.retire_empty_slot().unwrap(), None);
    let last = header.kill_slot(0).unwrap_err();
    assert!(matches!(last, HeaderError::LastKeyslot(0)), "{last}");
    let none = header.kill_slot(7).unwrap_err();
    assert!(matches!(none, HeaderError::NoSuchKeyslot(7)), "{none}");
    let image = common::image(&header, SIZE);
    let tool = Cryptsetup::on(image.path());
    assert!(tool.opens("first") && !tool.opens(""));
}

#[test]
fn authenticated_headers_need_no_kernel() {
    let mut wanted = format(SIZE);
    wanted.volume_key = VolumeKey::generate(96).unwrap();
    let error = Header::format_authenticated(&wanted).unwrap_err();
    assert!(matches!(error, HeaderError::Discards), "{error}");
    wanted.allow_discards = false;
    let mut header = Header::format_authenticated(&wanted).unwrap();
    let slot = header.add_passphrase(&secret("first"), Kdf::Minimal);
    assert_eq!(slot.unwrap(), 0);
    let image = common::image(&header, SIZE);
    let tool = Cryptsetup::on(image.path());
    assert!(tool.opens("first") && !tool.opens("second"));
    assert!(tool.dump().contains("integrity: hmac(sha256)"));
    assert_eq!(tool.volume_key("first"), wanted.volume_key.expose());
    let loaded = load(image.as_file()).unwrap().unwrap();
    let key = loaded.unlock(&secret("first")).unwrap();
    assert_eq!(key, wanted.volume_key);
}

#[test]
fn we_open_what_cryptsetup_formats() {
    let argon = &[
        "--pbkdf=argon2id",
        "--pbkdf-force-iterations=4",
        "--pbkdf-memory=64",
    ][..];
    for (options, version) in [(CHEAP, 2), (argon, 2), (OLD, 1)] {
        let tool = Cryptsetup::formatted(SIZE, "secret", options);
        let header = load(&tool.file()).unwrap().unwrap();
        assert_eq!(header.version(), version);
        assert!(header.notices().is_empty(), "{:?}", header.notices());
        let key = header.unlock(&secret("secret")).unwrap();
        assert_eq!(key.len(), 64);
        assert!(header.verify(&key).unwrap());
        assert!(!header.verify(&VolumeKey::generate(64).unwrap()).unwrap());
        for wrong in ["wrong", ""] {
            let error = header.unlock(&secret(wrong)).unwrap_err();
            assert!(matches!(error, HeaderError::WrongKey), "{error}");
        }
        assert_eq!(tool.volume_key("secret"), key.expose());
    }
}

#[test]
fn reading_changes_nothing_and_one_good_copy_is_enough() {
    let tool = Cryptsetup::formatted(SIZE, "secret", CHEAP);
    for (offset, which) in [
        (0, "first"),
        (4096, "first"),
        (0x4000, "second"),
        (0x5000, "second"),
    ] {
        let file = tool.copy();
        file.as_file().write_all_at(b"garbage", offset).unwrap();
        let damaged = fs::read(file.path()).unwrap();
        let header = load(file.as_file()).unwrap().unwrap();
        let [Notice::CopyDamaged { which: found, .. }] = header.notices() else {
            panic!("{:?}", header.notices());
        };
        assert_eq!(*found, which);
        assert_eq!(header.unlock(&secret("secret")).unwrap().len(), 64);
        assert!(
            fs::read(file.path()).unwrap() == damaged,
            "reading repaired it"
        );

        // Repairing is writing what is sound.
        let sound = header.bytes().unwrap();
        file.as_file().write_all_at(&sound, 0).unwrap();
        let repaired = load(file.as_file()).unwrap().unwrap();
        assert!(repaired.notices().is_empty());
        assert!(Cryptsetup::on(file.path()).opens("secret"));
    }
    let file = tool.copy();
    for offset in [4096, 0x5000] {
        file.as_file().write_all_at(b"garbage", offset).unwrap();
    }
    let error = load(file.as_file()).unwrap_err();
    assert!(matches!(error, HeaderError::BothDamaged { .. }), "{error}");
}

#[test]
fn the_newer_copy_holds() {
    let tool = Cryptsetup::formatted(SIZE, "secret", CHEAP);
    let old = fs::read(tool.path()).unwrap();
    tool.run(&["config", "--label=newer"]);
    let file = tool.copy();
    file.as_file().write_all_at(&old[..0x4000], 0).unwrap();
    let header = load(file.as_file()).unwrap().unwrap();
    assert_eq!(header.label(), "newer");
    assert_eq!(header.notices(), [Notice::CopyOld("first")]);
}

#[test]
fn what_is_no_luks_or_of_no_wanted_version() {
    let file = common::zeros(SIZE);
    assert!(load(file.as_file()).unwrap().is_none());
    let newer = b"LUKS\xba\xbe\0\x03";
    file.as_file().write_all_at(newer, 0).unwrap();
    let error = load(file.as_file()).unwrap_err();
    let known = matches!(error, HeaderError::Binary(LuksError::Version(3)));
    assert!(known, "{error}");
    let tool = Cryptsetup::formatted(SIZE, "x", OLD);
    let mut strictness = Strictness::with_memory(Bytes::mib(64));
    strictness.version1 = false;
    let error = Header::load(&tool.file(), SIZE, &strictness).unwrap_err();
    assert!(matches!(error, HeaderError::Version1), "{error}");
}

#[test]
fn memory_for_a_kdf_is_limited() {
    let argon = &[
        "--pbkdf=argon2id",
        "--pbkdf-force-iterations=4",
        "--pbkdf-memory=65536",
    ];
    let tool = Cryptsetup::formatted(SIZE, "secret", argon);
    let strictness = Strictness::with_memory(Bytes::mib(63));
    let error = Header::load(&tool.file(), SIZE, &strictness).unwrap_err();
    let memory = matches!(
        error,
        HeaderError::Refused(Refusal::KdfMemory { slot: 0, .. })
    );
    assert!(memory, "{error}");
}

/// A change to the JSON of a sound header, and what is said about it.
type Forgery = (fn(&mut Value), &'static str);

const FORGERIES: &[Forgery] = &[
    (
        |json| json["segments"]["0"]["encryption"] = "cipher_null-ecb".into(),
        "null cipher",
    ),
    (
        |json| json["segments"]["0"]["encryption"] = "".into(),
        "null cipher",
    ),
    (
        |json| json["segments"]["0"]["type"] = "linear".into(),
        "segment 0 of the LUKS header is not encrypted",
    ),
    (
        |json| json["segments"]["0"]["type"] = "hw-opal".into(),
        "\"hw-opal\", which is not known",
    ),
    (
        |json| json["segments"]["0"]["offset"] = "4096".into(),
        "data begins at byte 4096",
    ),
    (
        |json| json["segments"]["0"]["offset"] = "16777217".into(),
        "does not begin at a sector",
    ),
    (
        |json| json["segments"]["0"]["offset"] = "-1".into(),
        "has no offset",
    ),
    (
        |json| json["segments"]["0"]["offset"] = 5.into(),
        "JSON area is damaged",
    ),
    (
        |json| json["segments"]["0"]["size"] = "1000".into(),
        "does not end at a sector",
    ),
    (
        |json| json["segments"]["0"]["size"] = "18446744073709547520".into(),
        "has no end",
    ),
    (
        |json| json["segments"]["0"]["size"] = "1073741824".into(),
        "the partition has 20971520",
    ),
    (
        |json| json["segments"]["0"]["sector_size"] = 513.into(),
        "impossible size",
    ),
    (
        |json| json["segments"]["00"] = json["segments"]["0"].clone(),
        "segment \"00\" in the LUKS header has no number",
    ),
    (
        |json| json["segments"]["1"] = json["segments"]["0"].clone(),
        "segment 1 in the LUKS header has no digest",
    ),
    (
        |json| json["segments"] = json!({}),
        "names a segment that is not there",
    ),
    (
        |json| json["keyslots"]["0"]["area"]["encryption"] = "cipher_null-ecb".into(),
        "key slot 0 of the LUKS header asks for the null cipher",
    ),
    (
        |json| json["keyslots"]["0"]["area"]["offset"] = "0".into(),
        "lies outside of the header",
    ),
    (
        |json| json["keyslots"]["0"]["area"]["offset"] = "16773120".into(),
        "lies outside of the header",
    ),
    (
        |json| json["keyslots"]["0"]["area"]["offset"] = "32769".into(),
        "does not begin where one can",
    ),
    (
        |json| json["keyslots"]["0"]["area"]["size"] = "4096".into(),
        "has no room for its key",
    ),
    (
        |json| json["keyslots"]["0"]["key_size"] = 0.into(),
        "has no room for its key",
    ),
    (
        |json| json["keyslots"]["0"]["key_size"] = 4_000_000_000_u32.into(),
        "has no room for its key",
    ),
    (
        |json| json["keyslots"]["0"]["af"]["stripes"] = 4001.into(),
        "splits its key",
    ),
    (
        |json| json["keyslots"]["0"]["type"] = "luks3".into(),
        "of a kind that is not known",
    ),
    (
        |json| json["keyslots"]["0"]["type"] = "reencrypt".into(),
        "encryption is being changed",
    ),
    (
        |json| json["keyslots"]["0"]["priority"] = 3.into(),
        "a priority that does not exist",
    ),
    (
        |json| json["keyslots"]["1"] = json["keyslots"]["0"].clone(),
        "lies where another one lies",
    ),
    (
        |json| json["keyslots"]["32"] = json["keyslots"]["0"].clone(),
        "key slot 32 in the LUKS header is one too many",
    ),
    (
        |json| json["keyslots"]["0"]["kdf"]["iterations"] = u32::MAX.into(),
        "would take hours",
    ),
    (
        |json| json["keyslots"]["0"]["kdf"]["iterations"] = 0.into(),
        "costs nothing",
    ),
    (
        |json| json["keyslots"]["0"]["kdf"]["type"] = "scrypt".into(),
        "JSON area is damaged",
    ),
    (
        |json| json["keyslots"]["0"]["kdf"] = argon(4, 1 << 30, 4),
        "1048576 MiB of memory to open",
    ),
    (
        |json| json["keyslots"]["0"]["kdf"] = argon(1 << 30, 1 << 20, 4),
        "would take hours",
    ),
    (
        |json| json["keyslots"]["0"]["kdf"] = argon(4, 64, 100_000),
        "more threads",
    ),
    (
        |json| json["digests"]["0"]["keyslots"] = json!(["5"]),
        "names a key slot that is not there",
    ),
    (
        |json| json["digests"]["0"]["iterations"] = u32::MAX.into(),
        "digest 0 of the LUKS header would take hours",
    ),
    (
        |json| json["digests"]["0"]["type"] = "sha".into(),
        "digest 0 in the LUKS header is of a kind",
    ),
    (
        |json| json["digests"]["8"] = json["digests"]["0"].clone(),
        "digest 8 in the LUKS header is one too many",
    ),
    (
        |json| json["tokens"]["0"] = json!({"type": "x", "keyslots": ["3"]}),
        "token 0 in the LUKS header names",
    ),
    (
        |json| json["tokens"]["0"] = json!({"keyslots": []}),
        "token 0 in the LUKS header has no type",
    ),
    (
        |json| json["config"]["keyslots_size"] = "1099511627776".into(),
        "more room for key slots",
    ),
    (
        |json| json["config"]["requirements"] = json!({"mandatory": ["online-reencrypt-v2"]}),
        "being changed",
    ),
    (
        |json| json["config"]["requirements"] = json!({"mandatory": ["quantum"]}),
        "requires \"quantum\"",
    ),
    (
        |json| json["segments"]["0"]["flags"] = json!(["in-reencryption"]),
        "being changed",
    ),
];

fn argon(time: u32, memory: u32, cpus: u32) -> Value {
    json!({"type": "argon2id", "time": time, "memory": memory, "cpus": cpus, "salt": "AAAA"})
}

#[test]
fn forged_headers_are_refused_with_a_reason() {
    let good = Cryptsetup::formatted(SIZE, "secret", CHEAP);
    for (index, (forge, wanted)) in FORGERIES.iter().enumerate() {
        let file = good.copy();
        Cryptsetup::on(file.path()).forge(forge);
        let error = load(file.as_file()).err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            message.contains(wanted),
            "{index}: {message:?}, not {wanted:?}"
        );
    }
}

#[test]
fn what_cannot_be_formatted_is_said() {
    let good = format(SIZE);
    let mut small = good.clone();
    small.size = Bytes::mib(16);
    let mut label = good.clone();
    label.label = "x".repeat(48);
    let mut key = good.clone();
    key.volume_key = VolumeKey::generate(63).unwrap();
    for (wanted, message) in [
        (small, "more than 16 MiB"),
        (label, "cannot be a label"),
        (key, "a key of 63 bytes does not fit"),
    ] {
        let error = Header::format(&wanted).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let mut header = Header::format(&good).unwrap();
    let error = header.unlock(&secret("x")).unwrap_err();
    assert!(matches!(error, HeaderError::NoKeyslot), "{error}");
    let dangling = json!({"type": "x", "keyslots": ["0"]});
    for token in [json!({}), dangling, json!({"keyslots": []})] {
        let error = header.add_token(&token).unwrap_err();
        assert!(matches!(error, HeaderError::Token), "{token}: {error}");
    }
}
