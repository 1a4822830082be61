//! The small tools for mounted file systems, in a guest: they need device-mapper, loop devices, and
//! all rights of root.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testimages::guest::SCRATCH;

/// What `program` printed; it has to succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn tool(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ddi"));
    command.arg0(name).args(arguments).output().unwrap()
}

/// What `tool` says; it has to exit with `code`.
fn says(name: &str, arguments: &[&str], code: i32) -> String {
    let output = tool(name, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{name} {arguments:?}: {text}"
    );
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn image(name: &str, mib: u64) -> PathBuf {
    let path = Path::new(SCRATCH).join(name);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap();
    file.set_len(mib << 20).unwrap();
    path
}

fn folder(name: &str) -> PathBuf {
    let path = Path::new(SCRATCH).join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

fn size(place: &Path) -> u64 {
    let words = run("stat", &["-f", "-c", "%b %S", text(place)]);
    let (blocks, size) = words.split_once(' ').unwrap();
    blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap()
}

/// A new file system, mounted, on a device that then grew.
fn grown(format: &str, before: u64, after: u64) -> (String, PathBuf) {
    let (file, place) = (image(format, before), folder(&format!("on-{format}")));
    run(&format!("mkfs.{format}"), &["-q", text(&file)]);
    image(format, after);
    let device = run("losetup", &["--find", "--show", text(&file)]);
    run("mount", &[&device, text(&place)]);
    (device, place)
}

#[test]
fn file_systems_grow_once_and_only_when_asked() {
    testimages::in_guest!(Uml);
    for (format, before, after) in [("ext4", 40, 90), ("btrfs", 260, 350), ("xfs", 320, 400)] {
        let (device, place) = grown(format, before, after);
        let old = size(&place);
        let planned = says("systemd-growfs", &["-n", text(&place)], 0);
        assert!(planned.contains(&format!("to {after}M")), "{planned}");
        assert_eq!(size(&place), old, "{format}: the dry run wrote");
        says("systemd-growfs", &[text(&place)], 0);
        let new = size(&place);
        assert!(
            new > old && new > (after << 20) * 8 / 10,
            "{format}: {old} to {new}"
        );
        says("systemd-growfs", &[text(&place)], 0);
        assert_eq!(size(&place), new, "{format}: not grown once for all");
        run("umount", &[text(&place)]);
        if format.starts_with("ext") {
            run("e2fsck", &["-fn", &device]);
        }
    }
}

#[test]
fn what_cannot_grow_is_said_and_volumes_stay() {
    testimages::in_guest!(Uml);
    // In a volume of dm-crypt the file system grows as far as the volume goes.
    let disk = image("plain", 60);
    let device = run("losetup", &["--find", "--show", text(&disk)]);
    let key = image("key", 1);
    run(
        "cryptsetup",
        &[
            "open",
            "--type",
            "plain",
            "--cipher",
            "aes-xts-plain64",
            "--key-size",
            "256",
            "--key-file",
            text(&key),
            &device,
            "volume",
        ],
    );
    run("mkfs.ext4", &["-q", "/dev/mapper/volume", "30M"]);
    let place = folder("encrypted");
    run("mount", &["/dev/mapper/volume", text(&place)]);
    let words = says("systemd-growfs", &[text(&place)], 0);
    assert!(
        words.contains("dm-crypt volume /dev/dm-0 is left at its size"),
        "{words}"
    );
    assert!(size(&place) > 45 << 20);

    // The device's end is read-only, too.
    run("mount", &["-o", "remount,ro", text(&place)]);
    let words = says("systemd-growfs", &[text(&place)], 1);
    assert!(words.contains("Read-only file system"), "{words}");

    let tree = folder("tree");
    fs::write(tree.join("file"), "x").unwrap();
    let packed = Path::new(SCRATCH).join("packed");
    run(
        "mksquashfs",
        &[text(&tree), text(&packed), "-quiet", "-no-progress"],
    );
    let mounted = folder("squashfs");
    run("mount", &["-o", "loop", text(&packed), text(&mounted)]);
    for (place, words) in [
        (text(&mounted), "cannot grow while it is mounted"),
        ("/proc", "not on one block device"),
        (text(&tree), "is not a mount point"),
    ] {
        let said = says("systemd-growfs", &["-n", place], 1);
        assert!(said.contains(words), "{said}");
    }
}

/// A disk with two partitions.
fn disk() -> String {
    let disk = image("disk", 200);
    let mut sfdisk = Command::new("sfdisk");
    sfdisk.arg("-q").arg(&disk);
    let table =
        "label: gpt\nsize=90M, name=one, type=933AC7E1-2EB4-4F13-B844-0E14E2AEF915\nname=two\n";
    fs::write(folder("tables").join("table"), table).unwrap();
    sfdisk.stdin(File::open(Path::new(SCRATCH).join("tables/table")).unwrap());
    assert!(sfdisk.status().unwrap().success());
    let device = run("losetup", &["--find", "--show", "--partscan", text(&disk)]);
    // A kernel that does not read tables by itself is told.
    drop(Command::new("partx").args(["--add", &device]).output());
    device
}

/// Devices with file systems that have these constraints (names without `user.validatefs.`, values),
/// and what is said of them.
type Held<'a> = &'a [(&'a str, &'a [(&'a str, &'a str)], &'a str)];

/// The answers of systemd-validatefs 262.1 on the same mounts.
#[test]
fn file_systems_are_held_against_what_they_say() {
    testimages::in_guest!(Uml);
    let disk = disk();
    let (one, two) = (format!("{disk}p1"), format!("{disk}p2"));
    let home = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";
    let place = folder("place");
    let at = text(&place);
    let here = [
        ("mount_point", at),
        ("gpt_label", "one"),
        ("gpt_type_uuid", home),
    ];
    held(
        at,
        &[
            (&one, &[], "does not say"),
            (
                &one,
                &[("mount_point", "/elsewhere")],
                "may be mounted on /elsewhere only",
            ),
            (&one, &here, "is where it belongs"),
            (&one, &[("gpt_label", "two")], "p1 is labelled \"one\""),
            (&two, &[("gpt_type_uuid", home)], "p2 has type 0fc63daf"),
            (&two, &[("gpt_type_uuid", "home")], "no UUID"),
        ],
    );
    let tables = folder("tables");
    fs::write(tables.join("single"), format!("0 131072 linear {one} 0\n")).unwrap();
    let both = format!("0 65536 linear /dev/dm-0 0\n65536 65536 linear {two} 0\n");
    fs::write(tables.join("both"), both).unwrap();
    run(
        "dmsetup",
        &["create", "single", text(&tables.join("single"))],
    );
    held(at, &[("/dev/dm-0", &here, "is where it belongs")]);
    run("dmsetup", &["create", "both", text(&tables.join("both"))]);
    held(at, &[("/dev/dm-1", &here, "p2 is labelled \"two\"")]);
    run("dmsetup", &["remove", "both"]);
    run("dmsetup", &["remove", "single"]);
    run("wipefs", &["-aqf", &disk]);
    held(
        at,
        &[(&disk, &[("gpt_label", "one")], "/dev/loop0 is none")],
    );
    let below = says("systemd-validatefs", &["--root=/run", "/run"], 0);
    assert!(below.contains("does not say"), "{below}");
}

fn held(at: &str, cases: Held<'_>) {
    for (device, attributes, words) in cases {
        run("mkfs.ext4", &["-q", "-F", device]);
        run("mount", &[device, at]);
        for (name, value) in *attributes {
            let name = format!("user.validatefs.{name}");
            run("setfattr", &["-n", &name, "-v", value, at]);
        }
        let good = words.contains("belongs") || words.contains("does not say");
        let said = says("systemd-validatefs", &[at], i32::from(!good));
        assert!(said.contains(words), "{device}: {said}");
        run("umount", &[at]);
    }
}

#[test]
fn devices_are_formatted_once() {
    testimages::in_guest!(Uml);
    let place = folder("made");
    for (format, mib) in [
        ("ext4", 60),
        ("btrfs", 130),
        ("xfs", 320),
        ("vfat", 40),
        ("swap", 4),
    ] {
        let file = image(&format!("new-{format}"), mib);
        let device = run("losetup", &["--find", "--show", text(&file)]);
        let made = says("systemd-makefs", &[format, &device], 0);
        let label = device.strip_prefix("/dev/").unwrap();
        assert!(
            made.starts_with(&format!("Made {format} on {device}")),
            "{made}"
        );
        let found = run("blkid", &["-p", "-o", "export", &device]);
        let label = match format {
            "vfat" => label.to_uppercase(),
            _ => label.to_owned(),
        };
        assert!(found.contains(&format!("LABEL={label}\n")), "{found}");
        assert!(found.contains(&format!("TYPE={format}")), "{found}");
        let again = says("systemd-makefs", &["ext4", &device], 0);
        assert!(
            again.contains(&format!("holds {format} and is left alone")),
            "{again}"
        );
        if format == "swap" {
            run("swapon", &[&device]);
            let used = says("systemd-makefs", &["ext4", &device], 1);
            assert!(used.contains("in use: used as swap"), "{used}");
            run("swapoff", &[&device]);
            continue;
        }
        run("mount", &[&device, text(&place)]);
        run("umount", &[text(&place)]);
    }
}
