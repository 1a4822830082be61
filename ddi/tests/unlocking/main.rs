//! Reading encrypted images without root: which keys open them, and what is said where none does.

#[path = "../common/mod.rs"]
mod common;
mod volume;

use std::fs;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use luks::key::RecoveryKey;
use serde_json::Value;
use testimages::swtpm::Swtpm;

use common::{SEED, Scratch, ddi, fails, repart, run, unprivileged};
use volume::{Volume, encrypt};

/// An image with an encrypted root, and a key file for it.
struct Room {
    scratch: Scratch,
    image: PathBuf,
}

impl Room {
    /// Root in `volume`, opened by `right` and by the bytes of the key file.
    fn new(volume: &Volume) -> Self {
        let scratch = Scratch::new();
        scratch.tree();
        let plain = scratch.path("plain");
        run(Command::new("mksquashfs")
            .arg(scratch.path("tree"))
            .arg(&plain)
            .args(["-quiet", "-no-progress"]));
        fs::write(scratch.path("key"), b"\0\xffkey\n").unwrap();
        fs::write(scratch.path("wrong"), b"wrong").unwrap();
        let encrypted = scratch.path("encrypted");
        encrypt(&plain, &encrypted, volume);
        let image = scratch.path("image.raw");
        let keys = format!("Type=root\nCopyBlocks={}\n", encrypted.display());
        run(repart()
            .args(["--empty=create", "--size=auto", "--dry-run=no", SEED])
            .arg(scratch.definitions(&[("10.conf", &keys)]))
            .arg(&image));
        Self { scratch, image }
    }

    fn dissect(&self, words: &[&str]) -> Command {
        let mut command = ddi();
        // In a session of its own there is no terminal to ask at.
        command.arg("dissect").args(words);
        command
            .env_remove("PASSWORD")
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null());
        let mut alone = Command::new("setsid");
        let inner = unprivileged(&command);
        alone
            .arg("--wait")
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => alone.env(name, value),
                None => alone.env_remove(name),
            };
        }
        alone
    }

    fn list(&self, options: &[&str]) -> Command {
        let mut command = self.dissect(&["--list"]);
        command.args(options).arg(&self.image);
        command
    }

    fn option(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.scratch.path(file).display())
    }
}

fn volume() -> Volume {
    Volume {
        passphrases: vec![b"right".to_vec(), b"\0\xffkey\n".to_vec()],
        ..Volume::new()
    }
}

#[test]
fn an_ordinary_user_reads_with_any_key() {
    for sector in [512, 4096] {
        let room = Room::new(&Volume { sector, ..volume() });
        let key_file = room.option("key-file", "key");
        let credentials = room.scratch.path("credentials");
        fs::create_dir(&credentials).unwrap();
        fs::write(credentials.join("dissect.passphrase"), "right").unwrap();
        let by_variable = run(room.list(&[]).env("PASSWORD", "right"));
        assert!(by_variable.contains("\nusr/bin/tool\n"), "{by_variable}");
        assert_eq!(run(&mut room.list(&[&key_file])), by_variable);
        let by_credential = run(room.list(&[]).env("CREDENTIALS_DIRECTORY", &credentials));
        assert_eq!(by_credential, by_variable);
        // The second is tried where the first does not fit.
        let wrong = room.option("key-file", "wrong");
        assert_eq!(
            run(room.list(&[&wrong]).env("PASSWORD", "right")),
            by_variable
        );

        let image = room.image.to_str().unwrap();
        let mut cat = room.dissect(&["--cat", &key_file, image, "/usr/lib/deep/er/large"]);
        let large = cat.output().unwrap().stdout;
        assert!(large == fs::read(room.scratch.path("tree/usr/lib/deep/er/large")).unwrap());
        let target = room.scratch.path("out");
        let copied = room
            .dissect(&[
                &key_file,
                "--copy-from",
                image,
                "/usr",
                target.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
        assert_eq!(fs::read(target.join("bin/tool")).unwrap().len(), 7000);
        let mtree = run(&mut room.dissect(&[&key_file, "--mtree", image]));
        assert!(mtree.contains("sha256sum="), "{mtree}");
        let archive = run(&mut room.dissect(&[&key_file, "--mtree-hash=no", "--mtree", image]));
        assert!(archive.contains("./usr/bin/tool type=file"), "{archive}");
    }
}

#[test]
fn what_does_not_unlock_is_said_and_why() {
    let room = Room::new(&volume());
    let (right, wrong) = (
        room.option("key-file", "key"),
        room.option("key-file", "wrong"),
    );
    let (right, wrong) = (right.as_str(), wrong.as_str());
    let with_hint = "partition root is encrypted, and there is no key for it";
    for (options, password, said) in [
        (&[][..], None, with_hint),
        (
            &[],
            Some("wrong"),
            "partition root cannot be unlocked: the passphrase in PASSWORD opens no key slot",
        ),
        (
            &[wrong],
            Some(""),
            "the key file opens no key slot; the passphrase in PASSWORD opens no key slot",
        ),
        (
            &[
                "--image-policy=root=encrypted+encrypted-with-passphrase",
                right,
            ],
            None,
            "permits to unlock it with a passphrase, not with a key file",
        ),
        (
            &["--image-policy=root=encrypted-with-key-file", wrong],
            Some("right"),
            "the key file opens no key slot; the image policy forbids a passphrase",
        ),
        (
            &["--image-policy=root=encrypted-with-tpm2"],
            Some("right"),
            "permits to unlock it with the TPM2 chip, not with a passphrase",
        ),
        (
            &["--image-policy=root=unprotected"],
            Some("right"),
            "wants partition root to be unprotected, but it is encrypted",
        ),
        (
            &["--image-policy=root=encryptedwithintegrity"],
            Some("right"),
            "wants partition root to be encryptedwithintegrity, but it is encrypted",
        ),
        (
            &["--image-policy=root=encrypted+ext4"],
            Some("right"),
            "wants partition root to hold ext4, but in its encryption is squashfs",
        ),
        (
            &["--key-file=/no/such"],
            Some("right"),
            "cannot read the key from /no/such",
        ),
    ] {
        let mut command = room.list(options);
        if let Some(password) = password {
            command.env("PASSWORD", password);
        }
        let found = fails(&mut command, 1);
        assert!(found.contains(said), "{options:?}: {found}");
        assert!(!found.contains("right"), "{found}");
    }
    for policy in [
        "root=encrypted",
        "root=encrypted+squashfs",
        "root=encrypted-with-passphrase",
    ] {
        let policy = format!("--image-policy={policy}");
        run(room.list(&[&policy]).env("PASSWORD", "right"));
    }
}

#[test]
fn what_the_image_says_is_shown_where_a_key_is_given() {
    let room = Room::new(&volume());
    let json = |with: bool| {
        let mut command = room.dissect(&["--json=short"]);
        command.arg(&room.image);
        if with {
            command.env("PASSWORD", "right");
        }
        let found: Value = serde_json::from_str(&run(&mut command)).unwrap();
        found
    };
    let (locked, unlocked) = (json(false), json(true));
    assert_eq!(locked["osRelease"], Value::Null);
    assert_eq!(unlocked["osRelease"][0], "ID=test");
    assert_eq!(locked["mounts"], unlocked["mounts"]);
    assert_eq!(locked["mounts"][0]["fstype"], "crypto_LUKS");
    let text = run(room.dissect(&[]).env("PASSWORD", "right").arg(&room.image));
    assert!(text.contains("OS Release: ID=test"), "{text}");
}

#[test]
fn passphrases_are_asked_for_at_the_terminal() {
    let room = Room::new(&volume());
    let ask = |typed: &str| {
        let mut ddi = ddi();
        ddi.args(["dissect", "--list"]).arg(&room.image);
        let line = format!(
            "{} dissect --list {}",
            ddi.get_program().display(),
            room.image.display()
        );
        // Each line is typed when there is a question.
        let feed = format!(
            "{{ {typed} sleep 0.3; }} | script --quiet --return --command '{line}' /dev/null"
        );
        let output = Command::new("sh")
            .args(["-c", &feed])
            .env_remove("PASSWORD")
            .output()
            .unwrap();
        let both = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&both).into_owned(),
        )
    };
    let line = |text: &str| format!("sleep 0.7; printf '{text}\\n';");
    let (code, text) = ask(&line("right"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Passphrase of partition root: "), "{text}");
    assert!(
        text.contains("usr/bin/tool") && !text.contains("right"),
        "{text}"
    );
    let (code, text) = ask(&[line("one"), line("two"), line("right")].concat());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("That does not fit.").count(), 2, "{text}");
    let (code, text) = ask(&[line("one"), line("two"), line("three")].concat());
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("the passphrase that was typed opens no key slot"),
        "{text}"
    );
    let (code, text) = ask("sleep 0.7; printf 'rig\\003';");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("stays locked: no passphrase was given"),
        "{text}"
    );
}

#[test]
fn headers_that_are_damaged_or_ask_too_much_are_refused() {
    let room = Room::new(&volume());
    let image = fs::read(&room.image).unwrap();
    let start = image
        .windows(6)
        .position(|bytes| bytes == b"LUKS\xba\xbe")
        .unwrap();
    let damaged = |places: &[usize]| {
        let mut bytes = image.clone();
        for place in places {
            bytes[start + place] ^= 0xff;
        }
        let path = room.scratch.path("damaged.raw");
        fs::write(&path, bytes).unwrap();
        path
    };
    let list = |path: &Path| {
        let mut command = room.dissect(&["--list"]);
        command.arg(path).env("PASSWORD", "right");
        command
    };
    // One copy is enough, whichever it is, and nothing is mended.
    for places in [&[4200][..], &[0x4000 + 4200]] {
        let path = damaged(places);
        let before = fs::read(&path).unwrap();
        run(&mut list(&path));
        assert!(before == fs::read(&path).unwrap());
    }
    let said = fails(&mut list(&damaged(&[4200, 0x4000 + 4200])), 1);
    assert!(said.contains("damaged"), "{said}");
    // The key slots' area.
    let said = fails(
        &mut list(&damaged(&[0x8000 + 100, 0x8000 + 258_048 + 100])),
        1,
    );
    assert!(said.contains("opens no key slot"), "{said}");
}

#[test]
fn authenticated_partitions_are_read_and_changes_are_noticed() {
    for sector in [512, 4096] {
        let room = Room::new(&Volume {
            sector,
            authenticated: true,
            ..volume()
        });
        let list = run(room.list(&[]).env("PASSWORD", "right"));
        assert!(list.contains("\nusr/bin/tool\n"), "{list}");

        // All that follows the partition's LUKS header and integrity superblock.
        let mut bytes = fs::read(&room.image).unwrap();
        let data = (17 << 20) + 8192;
        bytes[data..].iter_mut().for_each(|byte| *byte ^= 1);
        fs::write(&room.image, bytes).unwrap();
        let image = room.image.to_str().unwrap();
        let mut mtree = room.dissect(&["--mtree", image]);
        let said = fails(mtree.env("PASSWORD", "right"), 1);
        assert!(said.contains("is not authentic"), "{said}");
    }
}

#[test]
fn encryption_in_encryption_is_refused() {
    let room = Room::new(&volume());
    let twice = room.scratch.path("twice");
    encrypt(&room.scratch.path("encrypted"), &twice, &volume());
    let said = fails(
        room.dissect(&["--list"])
            .arg(&twice)
            .env("PASSWORD", "right"),
        1,
    );
    assert!(said.contains("partition root is encrypted twice"), "{said}");
}

#[test]
fn a_socket_may_give_the_key() {
    let room = Room::new(&volume());
    let path = room.scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, address) = listener.accept().unwrap();
        stream.write_all(b"right").unwrap();
        let name = address.as_abstract_name().unwrap_or_default().to_vec();
        String::from_utf8(name).unwrap()
    });
    let key_file = room.option("key-file", "socket");
    let listed = run(&mut room.list(&[&key_file]));
    assert!(listed.contains("usr/bin/tool"));
    let name = asked.join().unwrap();
    assert!(name.ends_with("/cryptsetup/dissect"), "{name}");
}

#[test]
fn key_files_that_everybody_reads_are_remarked_upon() {
    let room = Room::new(&volume());
    let key_file = room.option("key-file", "key");
    let warned = |mode| {
        let path = room.scratch.path("key");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = ddi();
        command
            .args(["dissect", "--list", &key_file])
            .arg(&room.image);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("may read the key file")
    };
    assert!(warned(0o644) && !warned(0o640));
}

#[test]
fn recovery_keys_are_passphrases_however_they_are_written() {
    let recovery = RecoveryKey::generate().unwrap();
    let text = String::from_utf8(recovery.secret().expose().to_vec()).unwrap();
    let room = Room::new(&Volume {
        recovery: Some(recovery),
        ..volume()
    });
    for written in [text.clone(), text.to_uppercase(), text.replace('-', "")] {
        run(room.list(&[]).env("PASSWORD", &written));
        let policy = "--image-policy=root=encrypted-with-passphrase";
        run(room.list(&[policy]).env("PASSWORD", &written));
    }
    let said = fails(room.list(&[]).env("PASSWORD", &text[1..]), 1);
    assert!(said.contains("opens no key slot"), "{said}");
}

#[test]
fn a_tpm_unlocks_as_its_policy_and_ours_permit() {
    let tpm = Swtpm::start();
    let volume = |pin| Volume {
        tpm2: Some((tpm.device(), "7+16", pin)),
        ..volume()
    };
    let (room, with_pin) = (Room::new(&volume(None)), Room::new(&volume(Some("1234"))));
    let device = format!("--tpm2-device={}", tpm.device());
    assert!(run(&mut room.list(&[&device])).contains("usr/bin/tool"));
    let only = "--image-policy=root=encrypted-with-tpm2";
    run(&mut room.list(&[&device, only]));
    let said = fails(room.list(&[only]).env("PASSWORD", "right"), 1);
    assert!(
        said.contains("not with a passphrase; the TPM2 chip could unlock it"),
        "{said}"
    );
    let not = "--image-policy=root=encrypted-with-passphrase";
    let said = fails(&mut room.list(&[&device, not]), 1);
    assert!(said.contains("not with the TPM2 chip"), "{said}");

    run(with_pin.list(&[&device]).env("PIN", "1234"));
    let said = fails(&mut with_pin.list(&[&device]), 1);
    assert!(
        said.contains("sealed with a PIN, and none was given"),
        "{said}"
    );
    let said = fails(with_pin.list(&[&device]).env("PIN", "4321"), 1);
    assert!(
        said.contains("the PIN is wrong") && !said.contains("4321"),
        "{said}"
    );

    tpm.tool(&format!("tpm2_pcrextend 16:sha256={}", "11".repeat(32)));
    let said = fails(&mut room.list(&[&device]), 1);
    assert!(
        said.contains("the TPM2 chip (token 0): some of the PCRs 7+16 (bank sha256)"),
        "{said}"
    );
    // Another key is tried then.
    run(room
        .list(&[&device, &room.option("key-file", "key")])
        .env_remove("PASSWORD"));
    let other = Swtpm::start();
    let device = format!("--tpm2-device={}", other.device());
    let said = fails(&mut room.list(&[&device]), 1);
    assert!(said.contains("the TPM has no key at 0x81000001"), "{said}");
}

#[test]
fn devices_need_plug_ins_and_say_so() {
    let room = Room::new(&Volume {
        token: Some(
            serde_json::json!({"type": "systemd-pkcs11", "keyslots": ["0"], "pkcs11-uri": "pkcs11:token=none", "pkcs11-key": "AAAA"}),
        ),
        ..volume()
    });
    let said = fails(&mut room.list(&[]), 1);
    assert!(
        said.contains("no key for it; a PKCS#11 token could unlock it"),
        "{said}"
    );
    let said = fails(&mut room.list(&["--fido2-device=auto"]), 1);
    assert!(
        said.contains("its header has no token for a FIDO2 token"),
        "{said}"
    );
    let plugin = "libcryptsetup-token-systemd-pkcs11.so";
    let folder = format!("/usr/lib/{}-linux-gnu/cryptsetup", std::env::consts::ARCH);
    let why = match Path::new(&folder).join(plugin).exists() {
        true => "a PKCS#11 token (token 0): ",
        false => "the plug-in for tokens of type \"systemd-pkcs11\" is not installed",
    };
    let said = fails(&mut room.list(&["--pkcs11-uri=auto"]), 1);
    assert!(said.contains(why), "{said}");
    let policy = "--image-policy=root=encrypted-with-fido2";
    let said = fails(&mut room.list(&["--pkcs11-uri=auto", policy]), 1);
    assert!(
        said.contains("with a FIDO2 token, not with a PKCS#11 token"),
        "{said}"
    );
    // What is tried in vain does not stand in the way of the rest.
    run(room
        .list(&["--pkcs11-uri=auto", &room.option("key-file", "key")])
        .env_remove("PASSWORD"));
}
