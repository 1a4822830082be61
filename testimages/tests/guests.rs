//! The guests and their harness: what runs there runs in a real kernel, and how it ended comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testimages::guest::{self, End, Guest, Machine};

const EIO: i32 = 5;

/// What `program` printed; it has to succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("start {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Root hash of a new hash tree, and its data and hash file.
fn verity(folder: &Path, data: &Path) -> (String, PathBuf) {
    let hash = folder.join("hash");
    let words = run("veritysetup", &["format", text(data), text(&hash)]);
    let root = words
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"));
    (root.unwrap().trim().to_owned(), hash)
}

#[test]
fn verity_opens_with_the_right_root_hash_alone() {
    testimages::in_guest!(Uml);
    let folder = Path::new(guest::SCRATCH);
    let (tree, image) = (folder.join("tree"), folder.join("image"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "as it was").unwrap();
    run(
        "mksquashfs",
        &[text(&tree), text(&image), "-quiet", "-no-progress"],
    );
    let (root, hash) = verity(folder, &image);

    let arguments = ["open", text(&image), "good", text(&hash), &root];
    run("veritysetup", &arguments);
    let mounted = folder.join("mounted");
    fs::create_dir(&mounted).unwrap();
    run("mount", &["-o", "ro", "/dev/mapper/good", text(&mounted)]);
    assert_eq!(
        fs::read_to_string(mounted.join("file")).unwrap(),
        "as it was"
    );
    run("umount", &[text(&mounted)]);
    run("veritysetup", &["close", "good"]);

    let wrong = root.chars().rev().collect::<String>();
    let arguments = ["open", text(&image), "bad", text(&hash), &wrong];
    // It opens all the same, as nobody has read a block yet.
    run("veritysetup", &arguments);
    let read = fs::read("/dev/mapper/bad").unwrap_err();
    assert_eq!(read.raw_os_error(), Some(EIO), "{read}");
}

/// What the guest is for; a package that loses one of them is noticed here.
#[test]
fn uml_has_its_file_systems_and_targets() {
    testimages::in_guest!(Uml);
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    for name in "ext4 vfat squashfs erofs overlay btrfs xfs iso9660".split(' ') {
        assert!(
            known.lines().any(|line| line.ends_with(name)),
            "{name}: {known}"
        );
    }
    let targets = run("dmsetup", &["targets"]);
    for name in "linear verity crypt integrity flakey log-writes snapshot".split(' ') {
        assert!(
            targets.lines().any(|line| line.starts_with(name)),
            "{name}: {targets}"
        );
    }
    let file = Path::new(guest::SCRATCH).join("file");
    run("fallocate", &["-l", "1M", text(&file)]);
    run("setfattr", &["-n", "user.name", "-v", "value", text(&file)]);
    let device = run("losetup", &["--find", "--show", text(&file)]);
    assert_eq!(
        run("blockdev", &["--getsize64", device.trim()]).trim(),
        "1048576"
    );
}

#[test]
fn a_body_that_fails_in_the_guest_fails_here() {
    if Guest::Uml.is_here() {
        panic!("failed on purpose");
    }
    let name = "a_body_that_fails_in_the_guest_fails_here";
    let outcome = Machine::from(Guest::Uml).run_test(name);
    assert_eq!(outcome.end, End::Exited(101), "{}", outcome.console);
    assert!(
        outcome.output.contains("failed on purpose"),
        "{}",
        outcome.output
    );
    let judged = std::panic::catch_unwind(|| outcome.assert_test_passed());
    let words = judged.unwrap_err().downcast::<String>().unwrap();
    assert!(words.contains("failed on purpose"), "{words}");
}

#[test]
fn output_status_and_environment_come_through() {
    let script = "pwd; echo \"it's $DDI_GUEST\"; echo on stderr >&2; printf unended; exit 7";
    let outcome = Guest::Uml.run(&["sh", "-c", script]);
    assert_eq!(outcome.end, End::Exited(7), "{}", outcome.console);
    let folder = std::env::current_dir().unwrap();
    let expected = format!("{}\nit's uml\non stderr\nunended", folder.display());
    assert_eq!(outcome.output, expected);
}

#[test]
fn a_guest_that_hangs_is_killed() {
    let limit = Duration::from_secs(10);
    let outcome = Guest::Uml
        .limit(limit)
        .run(&["sh", "-c", "echo before; sleep 1000"]);
    assert_eq!(outcome.end, End::TimedOut(limit), "{}", outcome.console);
    // A slow machine may not have come that far.
    assert!(
        "before\n".starts_with(&outcome.output),
        "{}",
        outcome.output
    );
}

#[test]
fn a_kernel_that_panics_says_so() {
    let outcome = Guest::Uml.run(&["sh", "-c", "echo before; echo c >/proc/sysrq-trigger"]);
    let End::Panicked(words) = &outcome.end else {
        panic!("{:?}\n{}", outcome.end, outcome.console);
    };
    assert!(words.starts_with("Kernel panic"), "{words}");
}

/// What the emulated guest is for, all in one boot.
#[test]
fn qemu_corrects_errors_and_has_a_tpm() {
    testimages::in_guest!(Guest::Qemu.with(&["veritysetup"]).tpm());
    let version = fs::read_to_string("/sys/class/tpm/tpm0/tpm_version_major");
    assert_eq!(version.unwrap().trim(), "2");
    let folder = Path::new(guest::SCRATCH);
    let (image, hash, fec) = (
        folder.join("image"),
        folder.join("hash"),
        folder.join("fec"),
    );
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    fs::write(&image, &data).unwrap();
    let option = format!("--fec-device={}", fec.display());
    let words = run(
        "veritysetup",
        &["format", text(&image), text(&hash), &option],
    );
    let root = words
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"));
    let mut damaged = data.clone();
    damaged[4096 * 5..4096 * 6].fill(0);
    fs::write(&image, &damaged).unwrap();
    let root = root.unwrap().trim();
    for (name, option, whole) in [
        ("with", Some(option.as_str()), true),
        ("without", None, false),
    ] {
        let mut arguments = vec!["open", text(&image), name, text(&hash), root];
        arguments.extend(option);
        run("veritysetup", &arguments);
        let read = fs::read(Path::new("/dev/mapper").join(name));
        assert_eq!(read.is_ok_and(|read| read == data), whole, "{name}");
        run("veritysetup", &["close", name]);
    }
}

/// A self-signed certificate that nobody trusts, and its key.
fn stranger(folder: &Path) -> (PathBuf, PathBuf) {
    let (key, pem) = (folder.join("stranger.key"), folder.join("stranger.pem"));
    let request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=stranger -keyout";
    let mut arguments: Vec<&str> = request.split(' ').collect();
    arguments.extend([text(&key), "-out", text(&pem)]);
    run("openssl", &arguments);
    (key, pem)
}

#[test]
fn qemu_knows_whose_root_hashes_to_trust() {
    let config = "/usr/lib/ssl/openssl.cnf";
    testimages::in_guest!(
        Guest::Qemu
            .with(&["veritysetup", "openssl", config])
            .secure_boot()
    );
    let folder = Path::new(guest::SCRATCH);
    let image = folder.join("image");
    fs::write(&image, vec![7; 1 << 20]).unwrap();
    let (root, hash) = verity(folder, &image);
    let text_file = folder.join("root");
    fs::write(&text_file, &root).unwrap();
    let cases = [
        ("trusted", guest::trusted()),
        ("stranger", stranger(folder)),
    ];
    for (name, (key, certificate)) in cases {
        let signature = folder.join(name);
        let sign = "cms -sign -nocerts -noattr -binary -outform der -in";
        let mut arguments: Vec<&str> = sign.split(' ').collect();
        arguments.extend([text(&text_file), "-out", text(&signature)]);
        arguments.extend(["-inkey", text(&key), "-signer", text(&certificate)]);
        run("openssl", &arguments);
        let option = format!("--root-hash-signature={}", signature.display());
        let opened = Command::new("veritysetup")
            .args(["open", text(&image), name, text(&hash), &root, &option])
            .output()
            .unwrap();
        assert_eq!(
            opened.status.success(),
            name == "trusted",
            "{name}: {opened:?}"
        );
    }
}
