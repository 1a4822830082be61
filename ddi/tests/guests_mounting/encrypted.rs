//! Encrypted partitions through the kernel: what is opened on what, who may unlock it, and that nothing
//! stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blockdev::dm::{DeviceMapper, DmInfo, DmName, Target};
use image_specs::units::Bytes;
use luks::key::RecoveryKey;
use luks::{Header, Secret, Strictness};
use testimages::guest::{Guest, SCRATCH};
use testimages::swtpm::Swtpm;

use super::common::{fails, run};
use super::{Room, SIGNED, dissect, is_free, mount, no_mapped_devices, soon, text, umount};

/// Root, unencrypted, and home, encrypted.
pub(crate) const HOME: [&str; 2] = [
    "Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=48M\nSizeMaxBytes=48M\n",
    "Type=home\nFormat=ext4\nCopyFiles=/usr:/someone\nEncrypt=key-file\nEncryptKDF=minimal\n\
     Discard=no\nSizeMinBytes=96M\nSizeMaxBytes=96M\nGrowFileSystem=yes\n",
];

/// A key file, as the option that names it.
pub(crate) fn key_file(room: &Room, name: &str, key: &[u8]) -> String {
    let path = room.path(name);
    fs::write(&path, key).unwrap();
    run(Command::new("chmod").arg("600").arg(&path));
    format!("--key-file={}", path.display())
}

/// The device-mapper devices that there are, with their tables.
fn mapped() -> Vec<(DmInfo, Target)> {
    let mapper = DeviceMapper::open().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap() {
        let name = entry.unwrap().path().join("dm/name");
        if let Ok(name) = fs::read_to_string(name) {
            let name = DmName::new(name.trim()).unwrap();
            let info = mapper.info(&name).unwrap().unwrap();
            found.push((info, mapper.table(&name).unwrap().remove(0)));
        }
    }
    found.sort_by_key(|(info, _)| info.minor);
    found
}

fn nothing_left(room: &Room, image: &Path) {
    assert!(room.mounts().is_empty());
    assert!(no_mapped_devices() && is_free(image), "{:?}", mapped());
}

#[test]
fn encrypted_partitions_are_mounted_and_leave_nothing() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let room = Room::new(Path::new(SCRATCH));
    let key = key_file(&room, "key", b"\0right\n");
    let wrong = key_file(&room, "wrong", b"wrong");
    let image = room.image("home", &HOME, std::slice::from_ref(&key));
    let place = room.place();
    run(&mut mount(&[&key], &image, &place));
    assert_eq!(room.shown(), ["/ ext4 rw,nodev", "/home ext4 rw,nodev"]);
    let devices = mapped();
    let [(info, table)] = &devices[..] else {
        panic!("{devices:?}");
    };
    assert!(info.name.starts_with("loop0p2") && info.name.ends_with("-decrypted"));
    assert!(info.uuid.starts_with("CRYPT-LUKS2-"), "{info:?}");
    assert!(info.deferred_remove && !info.read_only, "{info:?}");
    assert!(table.parameters.contains(":logon:"), "no key in the table");
    assert!(!table.parameters.contains("allow_discards"));
    assert_eq!(
        fs::read(place.join("home/someone/bin/tool")).unwrap(),
        fs::read(room.tree().join("usr/bin/tool")).unwrap()
    );
    // It has grown over all that there is behind the header.
    let size = rustix::fs::statvfs(place.join("home")).unwrap();
    assert!(size.f_blocks * size.f_frsize > 70 << 20);
    fs::write(place.join("home/new"), "new").unwrap();
    run(&mut umount(&place));
    nothing_left(&room, &image);

    for (options, discards, read_only) in [
        (&["-r"][..], false, true),
        (&["--discard=crypt"], true, false),
        (&["--discard=all"], false, false),
    ] {
        let options = [&[key.as_str()], options].concat();
        run(&mut mount(&options, &image, &place));
        assert_eq!(fs::read_to_string(place.join("home/new")).unwrap(), "new");
        let devices = mapped();
        let (info, table) = &devices[0];
        assert_eq!(table.parameters.contains("allow_discards"), discards);
        assert_eq!(info.read_only, read_only, "{options:?}");
        // Plain unmounting is enough, too.
        run(Command::new("umount").arg("-R").arg(&place));
        nothing_left(&room, &image);
    }
    for (options, said) in [
        (
            &[][..],
            "partition home is encrypted, and there is no key for it",
        ),
        (&[wrong.as_str()], "the key file opens no key slot"),
        (
            &[
                &key,
                "--image-policy=root=unprotected:home=encrypted-with-passphrase",
            ],
            "permits to unlock it with a passphrase, not with a key file",
        ),
        (
            &[&key, "--image-policy=root=unprotected:home=encrypted+xfs"],
            "wants partition home to hold xfs, but in its encryption is ext4",
        ),
    ] {
        let found = fails(mount(options, &image, &place).env_remove("PASSWORD"), 1);
        assert!(found.contains(said), "{options:?}: {found}");
        nothing_left(&room, &image);
    }
    run(dissect(&[&key, "--with"])
        .arg(&image)
        .args(["cat", "home/new"]));
    nothing_left(&room, &image);
    run(dissect(&["--copy-to", &key])
        .arg(&image)
        .args(["/etc/hostname", "/home/name"]));
    let copied = run(dissect(&["--copy-from", &key])
        .arg(&image)
        .arg("/home/name"));
    assert_eq!(copied, fs::read_to_string("/etc/hostname").unwrap());
    for _ in 0..20 {
        run(&mut mount(&[&key], &image, &place));
        run(&mut umount(&place));
    }
    nothing_left(&room, &image);
}

#[test]
fn open_volumes_are_shared_and_lie_on_verity() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(240)));
    let room = Room::new(Path::new(SCRATCH));
    let key = key_file(&room, "key", b"right");
    let set = [
        "Type=root\nFormat=squashfs\nCopyFiles=/\nEncrypt=key-file\nEncryptKDF=minimal\n\
         Verity=data\nVerityMatchKey=r\nMinimize=best\n",
        "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nSizeMinBytes=2M\nSizeMaxBytes=2M\n",
    ];
    let image = room.image("verity", &set, std::slice::from_ref(&key));
    let (place, second) = (room.place(), room.path("second"));
    fs::create_dir(&second).unwrap();
    run(&mut mount(&[&key], &image, &place));
    run(&mut mount(&[&key], &image, &second));
    let names = |devices: &[(DmInfo, Target)]| -> Vec<(String, bool)> {
        let name = |(info, _): &(DmInfo, Target)| (info.name.clone(), info.read_only);
        devices.iter().map(name).collect()
    };
    let found = names(&mapped());
    let [(verity, true), (crypt, true)] = &found[..] else {
        panic!("one device of each kind for both: {found:?}");
    };
    assert!(verity.ends_with("-verity"));
    assert_eq!(*crypt, format!("{verity}-decrypted"));
    run(&mut umount(&place));
    assert!(second.join("usr/bin/tool").exists());
    run(&mut umount(&second));
    nothing_left(&room, &image);

    // On one block device, a volume that is open already serves.
    let image = room.image("home", &HOME, std::slice::from_ref(&key));
    let node = PathBuf::from(run(dissect(&["--attach"]).arg(&image)).trim());
    run(&mut mount(&[&key, "-r"], &node, &place));
    run(&mut mount(&[&key, "-r"], &node, &second));
    assert_eq!(mapped().len(), 1);
    // Not for writing, if it was opened for reading.
    let said = fails(&mut mount(&[&key], &node, &room.path("room-for-more")), 1);
    assert!(said.contains("pass --mkdir"), "{said}");
    run(Command::new("umount").arg("-R").arg(&second));
    run(&mut umount(&place));
    nothing_left(&room, &image);

    // What others have left open and unused goes with the loop device.
    let node = run(dissect(&["--attach"]).arg(&image));
    let part = format!("{}p2", node.trim());
    run(Command::new("cryptsetup")
        .args(["open", "--key-file"])
        .arg(room.path("key"))
        .args([part.as_str(), "loop0p2-decrypted"]));
    assert_eq!(mapped().len(), 1);
    run(dissect(&["--detach"]).arg(&image));
    nothing_left(&room, &image);
}

/// A volume that cryptsetup has made, as a partition of root.
fn by_cryptsetup(room: &Room, name: &str, options: &[&str]) -> PathBuf {
    let volume = room.path(&format!("{name}.luks"));
    let file = fs::File::create(&volume).unwrap();
    file.set_len(48 << 20).unwrap();
    let cryptsetup = |words: &[&str]| {
        let mut command = Command::new("cryptsetup");
        command.args(words).arg("--key-file").arg(room.path("key"));
        command
    };
    let cheap = [
        "--pbkdf=pbkdf2",
        "--pbkdf-force-iterations=1000",
        "--batch-mode",
    ];
    run(cryptsetup(&["luksFormat", "--type=luks2"])
        .args(cheap)
        .args(options)
        .arg(&volume));
    run(cryptsetup(&["open"]).arg(&volume).arg("made"));
    run(Command::new("mkfs.ext4")
        .args(["-q", "-d"])
        .arg(room.tree())
        .arg("/dev/mapper/made"));
    run(Command::new("cryptsetup").args(["close", "made"]));
    let passphrase = room.path("passphrase");
    fs::write(&passphrase, "right").unwrap();
    run(cryptsetup(&["luksAddKey"])
        .args(cheap)
        .arg(&volume)
        .arg(&passphrase));
    let recovery = room.path("recovery");
    if !recovery.exists() {
        let key = RecoveryKey::generate().unwrap();
        fs::write(&recovery, key.secret().expose()).unwrap();
    }
    run(cryptsetup(&["luksAddKey"])
        .args(cheap)
        .arg(&volume)
        .arg(&recovery));
    room.image(
        name,
        &[&format!("Type=root\nCopyBlocks={}\n", volume.display())],
        &[],
    )
}

const POLICIES: [&str; 9] = [
    "*",
    "root=encrypted",
    "root=encryptedwithintegrity",
    "root=encrypted-with-passphrase",
    "root=encrypted-with-key-file",
    "root=encrypted-with-tpm2",
    "root=encryptedwithintegrity+encrypted-with-passphrase",
    "root=encryptedwithintegrity+encrypted-with-key-file",
    "root=unprotected",
];

/// What a run does: it mounts, or is refused with words that have one of these in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Mounted.
    Mounted,
    /// "not with": the means is forbidden.
    Means,
    /// "wants partition root to be": the encryption is not of the kind.
    Kind,
    /// "opens no key slot".
    Key,
    /// "there is no key for it".
    NoKey,
}

use Outcome::{Key, Kind, Means, Mounted, NoKey};

/// How a partition is to be unlocked: an option, or a passphrase in the environment.
type With<'a> = (&'a str, Option<String>, Option<String>);

fn outcome(room: &Room, image: &Path, policy: &str, (_, option, password): &With<'_>) -> Outcome {
    let policy = format!("--image-policy={policy}");
    let mut command = mount(&[&policy], image, &room.place());
    command.env_remove("PASSWORD").args(option);
    if let Some(password) = password {
        command.env("PASSWORD", password);
    }
    let output = command.output().unwrap();
    let said = text(&output);
    if output.status.success() {
        let source = room.mounts()[0].source.clone();
        assert!(
            source.to_string_lossy().starts_with("/dev/dm-"),
            "{source:?}"
        );
        assert!(room.place().join("usr/bin/tool").exists());
        run(&mut umount(&room.place()));
        return Mounted;
    }
    let words = [
        (Means, "not with"),
        (Kind, "wants partition root to be"),
        (Key, "opens no key slot"),
        (NoKey, "there is no key for it"),
    ];
    let found = words.into_iter().find(|(_, word)| said.contains(word));
    found.unwrap_or_else(|| panic!("{policy}: {said}")).0
}

#[test]
fn policies_and_means_to_unlock() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(480)));
    let room = Room::new(Path::new(SCRATCH));
    let key = key_file(&room, "key", b"\0key\n");
    let wrong = key_file(&room, "wrong", b"wrong");
    let plain = by_cryptsetup(&room, "encrypted", &[]);
    let authenticated = by_cryptsetup(&room, "authenticated", &["--integrity=hmac-sha256"]);
    let recovery = fs::read_to_string(room.path("recovery")).unwrap();
    let means: [With<'_>; 6] = [
        ("nothing", None, None),
        ("passphrase", None, Some("right".to_owned())),
        ("wrong passphrase", None, Some("wrong".to_owned())),
        ("recovery key", None, Some(recovery.to_uppercase())),
        ("key file", Some(key), None),
        ("wrong key file", Some(wrong), None),
    ];
    let expected = |encrypted: bool| {
        // Of the kinds of encryption, what each policy takes.
        let both = |cell: Outcome| [cell, cell];
        let row = |with: Outcome, passphrase: Outcome, file: Outcome| {
            let cells = [
                both(with),
                [with, Kind],
                [Kind, with],
                // A means alone stands for encryption without integrity.
                [passphrase, Kind],
                [file, Kind],
                [if with == NoKey { NoKey } else { Means }, Kind],
                [Kind, passphrase],
                [Kind, file],
                both(Kind),
            ];
            cells.map(|[plain, authenticated]| if encrypted { plain } else { authenticated })
        };
        [
            row(NoKey, NoKey, NoKey),
            row(Mounted, Mounted, Means),
            row(Key, Key, Means),
            row(Mounted, Mounted, Means),
            row(Mounted, Means, Mounted),
            row(Key, Means, Key),
        ]
    };
    for (image, encrypted) in [(&plain, true), (&authenticated, false)] {
        let name = image.file_stem().unwrap().display();
        println!("{name}: {POLICIES:?}");
        for (with, expected) in means.iter().zip(expected(encrypted)) {
            let found = POLICIES.map(|policy| {
                let found = outcome(&room, image, policy, with);
                nothing_left(&room, image);
                found
            });
            println!("{:18} {found:?}", with.0);
            assert_eq!(found, expected, "{name}, {}", with.0);
        }
    }
}

#[test]
fn damage_is_named_and_nothing_stays_attached() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(240)));
    let room = Room::new(Path::new(SCRATCH));
    let key = key_file(&room, "key", b"right");
    let good = room.image("home", &HOME, std::slice::from_ref(&key));
    let bytes = fs::read(&good).unwrap();
    let start = bytes
        .windows(6)
        .position(|part| part == b"LUKS\xba\xbe")
        .unwrap();
    let second = start + 0x4000;
    let volume = &bytes[start..start + (32 << 20)];
    let limits = Strictness::with_memory(Bytes::mib(64));
    let header = Header::load(&volume.to_vec(), Bytes::mib(96), &limits)
        .unwrap()
        .unwrap();
    header.unlock(&Secret::new(b"right".to_vec())).unwrap();
    let image = room.path("damaged.raw");
    for (places, said) in [
        (&[(start + 4100, 0xff)][..], None),
        (&[(second + 4100, 0xff)], None),
        (
            &[(start + 4100, 0xff), (second + 4100, 0xff)],
            Some("damaged"),
        ),
        (&[(start + 7, 1)], Some("LUKS version 3 is not known")),
        (&[(start + 0x8000 + 99, 1)], Some("opens no key slot")),
    ] {
        let mut damaged = bytes.clone();
        for (place, change) in places {
            damaged[*place] ^= change;
        }
        fs::write(&image, &damaged).unwrap();
        let mut command = mount(&[&key], &image, &room.place());
        match said {
            None => {
                run(&mut command);
                run(&mut umount(&room.place()));
                let header = |bytes: &[u8]| bytes[start..start + 0x8000].to_vec();
                let now = fs::read(&image).unwrap();
                assert!(header(&now) == header(&damaged), "nothing is mended");
            }
            Some(said) => {
                let found = fails(&mut command, 1);
                assert!(found.contains(said), "{found}");
            }
        }
        nothing_left(&room, &image);
    }
    assert!(soon(|| is_free(&good)));
}

/// The values that a log says a PCR was extended with, one on the other.
fn replayed(log: &str) -> String {
    let mut value = vec![0; 32];
    for record in log.split('\u{1e}').skip(1) {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        let digests = record["digests"].as_array().unwrap().iter();
        let digest = digests
            .filter(|digest| digest["hashAlg"] == "sha256")
            .map(|digest| digest["digest"].as_str().unwrap())
            .next();
        let digits = digest.unwrap().as_bytes().chunks(2);
        let bytes = digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap());
        value.extend(bytes);
        value = openssl_sha256(&value);
    }
    value.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn openssl_sha256(bytes: &[u8]) -> Vec<u8> {
    let path = Path::new(SCRATCH).join("bytes");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-binary"])
        .arg(&path)
        .output()
        .unwrap();
    output.stdout
}

#[test]
fn a_tpm_unlocks_and_is_told_of_it() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(240)));
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
    let tpm = Swtpm::start();
    let room = Room::new(Path::new(SCRATCH));
    let device = format!("--tpm2-device={}", tpm.device());
    let home = "Type=home\nFormat=ext4\nCopyFiles=/usr:/someone\nEncrypt=tpm2\nTPM2PCRs=7\n\
                EncryptKDF=minimal\nSizeMinBytes=64M\nSizeMaxBytes=64M\n";
    let options = [device.clone(), "--tpm2-public-key=".to_owned()];
    let image = room.image("tpm", &[SIGNED[0], SIGNED[1], home], &options);
    let place = room.place();
    for (policy, expected) in [
        ("*", Ok(())),
        ("home=encrypted:=open", Ok(())),
        ("home=encrypted-with-tpm2:=open", Ok(())),
        (
            "home=encrypted-with-passphrase:=open",
            Err("not with the TPM2 chip"),
        ),
        (
            "home=encrypted-with-key-file:=open",
            Err("not with the TPM2 chip"),
        ),
        (
            "home=encryptedwithintegrity:=open",
            Err("wants partition home to be"),
        ),
        ("home=unprotected:=open", Err("wants partition home to be")),
    ] {
        let policy = format!("--image-policy={policy}");
        let output = mount(&[&device, &policy], &image, &place).output().unwrap();
        let said = text(&output);
        println!(
            "tpm2 {policy:60} {}",
            if output.status.success() {
                "mounted"
            } else {
                "refused"
            }
        );
        match expected {
            Ok(()) => {
                assert!(output.status.success(), "{said}");
                assert!(place.join("home/someone/bin/tool").exists());
                run(&mut umount(&place));
            }
            Err(words) => assert!(!output.status.success() && said.contains(words), "{said}"),
        }
        nothing_left(&room, &image);
    }
    let pcr = |pcr: u8| {
        let output = tpm.tool(&format!("tpm2_pcrread sha256:{pcr}"));
        let text = String::from_utf8(output.stdout).unwrap();
        text.rsplit_once("0x").unwrap().1.trim().to_owned()
    };
    assert_eq!(pcr(16), "0".repeat(64));
    run(&mut mount(
        &[&device, "--tpm2-measure-pcr=16"],
        &image,
        &place,
    ));
    run(&mut umount(&place));
    let log = fs::read_to_string("/run/log/systemd/tpm2-measure.log").unwrap();
    assert!(log.contains("\"string\":\"verity:root:"), "{log}");
    assert!(log.contains("\"string\":\"cryptsetup:home:"), "{log}");
    assert_eq!(pcr(16), replayed(&log));
    // What changes the PCRs that the key is bound to locks it; the root hash was open by then.
    let before = pcr(16);
    tpm.tool(&format!("tpm2_pcrextend 7:sha256={}", "11".repeat(32)));
    let words = [device.as_str(), "--tpm2-measure-pcr=16", "-r"];
    let said = fails(mount(&words, &image, &place).env_remove("PASSWORD"), 1);
    assert!(
        said.contains("the PCR 7 (bank sha256) has another value"),
        "{said}"
    );
    assert_ne!(pcr(16), before, "the root hash was measured: it was opened");
    nothing_left(&room, &image);
    let plain = room.image(
        "none",
        &["Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\n"],
        &[],
    );
    let said = fails(&mut mount(&["--tpm2-measure-pcr=yes"], &plain, &place), 1);
    assert!(said.contains("this has none"), "{said}");
}
