//! Which policy takes which protection: the matrix, in a kernel without signatures and in one that
//! accepts those of one key.

use std::path::{Path, PathBuf};

use testimages::guest::{self, Guest, SCRATCH};

use super::{Room, SIGNED, is_free, mount, no_mapped_devices, signing, text, umount};

/// What a run must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Mounted through verity.
    Verity,
    /// Mounted without.
    Plain,
    /// Refused.
    Refused,
}

use Outcome::{Plain, Refused, Verity};

const POLICIES: [&str; 6] = [
    "*",
    "root=signed",
    "root=verity",
    "root=verity+signed",
    "root=unprotected",
    "root=encrypted",
];

/// Runs all policies on an image, prints the row, and compares it.
fn row(room: &Room, name: &str, image: &Path, options: &[&str], expected: [Outcome; 6]) {
    let mut found = Vec::new();
    for policy in POLICIES {
        let policy = format!("--image-policy={policy}");
        let mut words = vec![policy.as_str()];
        words.extend(options);
        let output = mount(&words, image, &room.place()).output().unwrap();
        found.push(match output.status.success() {
            false => {
                assert_eq!(output.status.code(), Some(1), "{}", text(&output));
                assert!(room.mounts().is_empty(), "{name} {policy}");
                Refused
            }
            true => {
                let source = room.mounts()[0].source.clone();
                let unmounted = umount(&room.place()).output().unwrap();
                assert!(unmounted.status.success(), "{}", text(&unmounted));
                match source.starts_with("/dev/dm-0") {
                    true => Verity,
                    false => Plain,
                }
            }
        });
        assert!(no_mapped_devices() && is_free(image), "{name} {policy}");
    }
    println!("{name:28} {found:?}");
    assert_eq!(found, expected, "{name}: {POLICIES:?}");
}

/// Only the root partition's policy is looked at, not what it derives for the others.
fn certificate(path: &Path) -> String {
    format!("--certificate={}", path.display())
}

#[test]
fn policies_without_a_kernel_that_knows_signatures() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let (us, others) = (room.signer("us"), room.signer("others"));
    let signed = room.image("signed", &SIGNED, &signing(&us));
    let unsigned = room.image("unsigned", &SIGNED[..2], &[]);
    let plain = room.image(
        "plain",
        &["Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\n"],
        &[],
    );
    let (ours, theirs) = (certificate(&us.1), certificate(&others.1));
    println!("{:28} {POLICIES:?}", "");
    row(
        &room,
        "signed, no certificate",
        &signed,
        &[],
        [Verity, Refused, Verity, Verity, Plain, Refused],
    );
    row(
        &room,
        "signed, its certificate",
        &signed,
        &[&ours],
        [Verity, Verity, Verity, Verity, Plain, Refused],
    );
    row(
        &room,
        "signed, another certificate",
        &signed,
        &[&theirs],
        [Verity, Refused, Verity, Verity, Plain, Refused],
    );
    row(
        &room,
        "not signed",
        &unsigned,
        &[&ours],
        [Verity, Refused, Verity, Refused, Plain, Refused],
    );
    row(
        &room,
        "no verity",
        &plain,
        &[],
        [Plain, Refused, Refused, Refused, Plain, Refused],
    );
}

#[test]
fn policies_with_a_kernel_that_trusts_one_key() {
    let programs = [PathBuf::from(env!("CARGO_BIN_EXE_ddi"))];
    testimages::in_guest!(
        Guest::Qemu
            .with(&programs)
            .with(&[
                "openssl",
                "/usr/lib/ssl/openssl.cnf",
                "mkfifo",
                "setfattr",
                "find",
                "touch"
            ])
            .secure_boot()
    );
    let room = Room::new(Path::new(SCRATCH));
    let trusted = guest::trusted();
    let stranger = room.signer("stranger");
    let known = room.image("known", &SIGNED, &signing(&trusted));
    let unknown = room.image("unknown", &SIGNED, &signing(&stranger));
    let theirs = certificate(&stranger.1);
    println!("{:28} {POLICIES:?}", "");
    row(
        &room,
        "signed by the kernel's key",
        &known,
        &[],
        [Verity, Verity, Verity, Verity, Plain, Refused],
    );
    row(
        &room,
        "signed by a stranger",
        &unknown,
        &[],
        [Verity, Refused, Verity, Verity, Plain, Refused],
    );
    row(
        &room,
        "a stranger, whom we know",
        &unknown,
        &[&theirs],
        [Verity, Verity, Verity, Verity, Plain, Refused],
    );
}
