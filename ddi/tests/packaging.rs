//! What `make install` and `make install-initrd` bring: units are held against systemd where it is
//! there, scripts for initrds are run with stand-ins for what calls them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

mod common;

use common::{Scratch, run};

const SCRIPTS: [&str; 3] = [
    "initramfs-tools/hooks/ddi-repart",
    "initramfs-tools/scripts/local-premount/ddi-repart",
    "dracut/95ddi-repart/module-setup.sh",
];

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = packaging().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A program that does nothing.
fn program(path: &Path) {
    write(path, "#!/bin/sh\n");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_there(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// Where a program of this machine lies.
fn real(program: &str) -> String {
    let found = run(Command::new("sh").args(["-c", "command -v \"$0\"", program]));
    found.trim().to_owned()
}

/// What a unit says for a key, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    unit.lines().filter_map(value).collect()
}

#[test]
fn units_are_what_systemd_takes() {
    let scratch = Scratch::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(packaging().join("systemd")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let unit = text(entry.path());
        for command in values(&unit, "ExecStart") {
            assert!(command.starts_with("ddi repart"), "{name}: {command}");
        }
        // The program that is tested, not one that may be installed.
        let unit = unit.replace(
            "ExecStart=ddi",
            &format!("ExecStart={}", env!("CARGO_BIN_EXE_ddi")),
        );
        write(&scratch.path(&name), &unit);
        names.push(scratch.path(&name.replace("@.", "@1.")));
    }
    assert_eq!(names.len(), 3);
    if is_there("systemd-analyze") {
        let mut analyze = Command::new("systemd-analyze");
        let output = analyze
            .args(["verify", "--man=no"])
            .args(&names)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<_> = said
            .lines()
            .filter(|line| line.contains("ddi-repart"))
            // Before version 254 systemd leaves that out.
            .filter(|line| !line.contains("Unknown key 'ImportCredential'"))
            .collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
}

#[test]
fn the_service_runs_where_there_are_definitions() {
    let unit = text("systemd/ddi-repart.service");
    let folders = values(&unit, "ConditionDirectoryNotEmpty");
    for root in ["", "/sysroot"] {
        for folder in ["/etc", "/usr/local/lib", "/usr/lib"] {
            let wanted = format!("|{root}{folder}/repart.d");
            assert!(folders.contains(&wanted), "{wanted}");
        }
    }
    let credentials = values(&unit, "ConditionPathExistsGlob");
    for folder in ["/run/credentials/@", "/etc/credstore", "/usr/lib/credstore"] {
        let wanted = format!("|{folder}*/repart.d.*");
        assert!(credentials.contains(&wanted), "{wanted}");
    }
    assert_eq!(values(&unit, "ImportCredential"), ["repart.*"]);
    assert_eq!(values(&unit, "SuccessExitStatus"), ["76 77"]);
    assert_eq!(values(&unit, "ConditionVirtualization"), ["!container"]);
    // It serves where the socket is passed under the name that the program looks for.
    let socket = text("systemd/ddi-repart-varlink.socket");
    assert_eq!(values(&socket, "FileDescriptorName"), ["varlink"]);
}

#[test]
fn scripts_are_clean() {
    for script in SCRIPTS {
        let path = packaging().join(script);
        for shell in ["dash", "bash", "sh"] {
            if is_there(shell) {
                run(Command::new(shell).arg("-n").arg(&path));
            }
        }
        if is_there("shellcheck") {
            run(Command::new("shellcheck").arg(&path));
        }
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script}");
    }
}

/// A system with definitions below `system`, and the programs that they need in `bin`.
fn system(scratch: &Scratch) -> String {
    let root = scratch.path("system");
    let definitions = "[Partition]\nType=root\nFormat=ext4\n";
    write(&root.join("usr/lib/repart.d/10-root.conf"), definitions);
    let swap = "[Partition]\nType=swap\nFormat = swap\n";
    write(&root.join("etc/repart.d/20-swap.conf"), swap);
    let more = "[Partition]\nFormat=xfs\n";
    write(&root.join("etc/repart.d/20-swap.conf.d/a.conf"), more);
    for name in ["ddi", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "resize2fs"] {
        program(&scratch.path("bin").join(name));
    }
    for name in ["sh", "cat", "cp", "ln", "mkdir", "sed", "sort"] {
        symlink(real(name), scratch.path("bin").join(name)).unwrap();
    }
    root.display().to_string()
}

#[test]
fn the_hook_of_initramfs_tools_takes_what_the_definitions_need() {
    let scratch = Scratch::new();
    let root = system(&scratch);
    let stubs = scratch.path("hook-functions");
    let functions = "copy_exec() { echo \"${1##*/} $2\"; }\n\
        manual_add_modules() { echo \"module $1\"; }\n";
    write(&stubs, functions);
    let hook = text(SCRIPTS[0]);
    let hook = hook.replace(
        "/usr/share/initramfs-tools/hook-functions",
        stubs.to_str().unwrap(),
    );
    let hook = hook.replace(
        "in /etc/repart.d /usr/local/lib/repart.d /usr/lib/repart.d",
        "in $folders",
    );
    let path = scratch.path("hook");
    write(&path, &hook);
    let shell = |folders: &str| {
        let mut shell = Command::new("sh");
        shell.arg(&path).env("folders", folders);
        shell
            .env("DESTDIR", scratch.path("initramfs"))
            .env("PATH", scratch.path("bin"));
        shell
    };
    let folders = ["etc", "usr/local/lib", "usr/lib"];
    let folders = folders.map(|folder| format!("{root}/{folder}/repart.d"));
    let copied = run(&mut shell(&folders.join(" ")));
    let wanted = [
        "ddi /usr/bin/ddi",
        "mkfs.xfs /usr/sbin/mkfs.xfs",
        "mkfs.ext4 /usr/sbin/mkfs.ext4",
        "resize2fs /usr/sbin/resize2fs",
        "module efivarfs",
    ];
    assert_eq!(copied.lines().collect::<Vec<_>>(), wanted);
    let inside = format!("{}{root}", scratch.path("initramfs").display());
    for file in [
        "usr/lib/repart.d/10-root.conf",
        "etc/repart.d/20-swap.conf",
        "etc/repart.d/20-swap.conf.d/a.conf",
    ] {
        assert!(Path::new(&inside).join(file).exists(), "{file}");
    }
    assert_eq!(run(&mut shell("/nonexistent")), "");
    assert_eq!(run(shell(&folders[0]).arg("prereqs")), "\n");
}

#[test]
fn the_script_of_initramfs_tools_finds_the_disk_of_the_root_file_system() {
    let scratch = Scratch::new();
    system(&scratch);
    for name in ["readlink", "tr"] {
        symlink(real(name), scratch.path("bin").join(name)).unwrap();
    }
    let disks = scratch.path("sys/devices/pci/block");
    write(&disks.join("sda/size"), "8\n");
    write(&disks.join("sda/sda2/partition"), "2\n");
    write(&disks.join("dm-0/size"), "8\n");
    fs::create_dir_all(scratch.path("sys/class/block")).unwrap();
    for (name, at) in [("sda2", "sda/sda2"), ("dm-0", "dm-0")] {
        symlink(disks.join(at), scratch.path("sys/class/block").join(name)).unwrap();
    }
    let stubs =
        "resolve_device() { DEV=$1; [ -n \"$DEV\" ]; }\nlog_warning_msg() { echo \"$@\"; }\n";
    write(&scratch.path("functions"), stubs);
    write(&scratch.path("cmdline"), "quiet root=x\n");
    write(&scratch.path("off"), "quiet ddi.repart=0\n");
    let script = text(SCRIPTS[1]);
    let script = script.replace(
        "/scripts/functions",
        scratch.path("functions").to_str().unwrap(),
    );
    let script = script.replace("/proc/cmdline", "$cmdline");
    let script = script.replace("/sys/class", scratch.path("sys/class").to_str().unwrap());
    let firmware = scratch.path("sys/firmware");
    let script = script.replace("/sys/firmware", firmware.to_str().unwrap());
    for name in ["mount", "umount"] {
        program(&scratch.path("bin").join(name));
        let line = format!("#!/bin/sh\necho {name} \"$@\"\n");
        write(&scratch.path("bin").join(name), &line);
    }
    let ddi = scratch.path("bin/ddi");
    let script = script.replace("/usr/bin/ddi", ddi.to_str().unwrap());
    write(&scratch.path("script"), &script);
    let says = |root: &str, cmdline: &str, code: u8| {
        let line = "echo initrd=$SYSTEMD_IN_INITRD \"$@\"";
        write(&ddi, &format!("#!/bin/sh\n{line}\nexit {code}\n"));
        let mut shell = Command::new("sh");
        shell.arg(scratch.path("script")).env("ROOT", root);
        shell
            .env("cmdline", scratch.path(cmdline))
            .env("PATH", scratch.path("bin"));
        run(&mut shell)
    };
    let called = |disk: &str| {
        format!("initrd=1 repart --own-disk --root=/ --dry-run=no --pretty=no {disk}\n")
    };
    assert_eq!(says("/dev/sda2", "cmdline", 0), called("/dev/sda"));
    assert_eq!(says("/dev/sda2", "cmdline", 77), called("/dev/sda"));
    let failed = "ddi repart: the partitions of /dev/sda stay as they were\n";
    assert_eq!(says("/dev/sda2", "cmdline", 1), called("/dev/sda") + failed);
    for root in ["/dev/dm-0", "/dev/nothing", ""] {
        assert_eq!(says(root, "cmdline", 0), "", "{root}");
    }
    assert_eq!(says("/dev/sda2", "off", 0), "");
    // The variables of the firmware are there for as long as they are needed.
    let variables = firmware.join("efi/efivars");
    fs::create_dir_all(&variables).unwrap();
    let said = says("/dev/sda2", "cmdline", 0);
    let place = variables.display();
    let mounted = format!("mount -t efivarfs efivarfs {place}\n");
    assert_eq!(
        said,
        format!("{mounted}{}umount {place}\n", called("/dev/sda"))
    );
    write(&variables.join("one"), "");
    assert_eq!(says("/dev/sda2", "cmdline", 0), called("/dev/sda"));
}

#[test]
fn the_module_of_dracut_takes_what_the_definitions_need() {
    let scratch = Scratch::new();
    let root = system(&scratch);
    let unit = "usr/lib/systemd/system/ddi-repart.service";
    write(
        &Path::new(&root).join(unit),
        &text("systemd/ddi-repart.service"),
    );
    let stubs = "\
        require_binaries() { command -v \"$1\" >/dev/null; }\n\
        inst_multiple() { echo \"programs $*\"; }\n\
        inst_simple() { echo \"file $1\"; }\n\
        instmods() { echo \"modules $hostonly$*\"; }\n\
        derror() { echo \"$*\"; }\n";
    let line = format!("{stubs}. \"$0\"; check && depends && installkernel && install");
    let dracut = |root: &str| {
        let mut bash = Command::new(real("bash"));
        bash.args(["-c", &line]).arg(packaging().join(SCRIPTS[2]));
        bash.env("dracutsysrootdir", root)
            .env("initdir", scratch.path("initrd"));
        bash.env("systemdsystemunitdir", "/usr/lib/systemd/system");
        bash.env("PATH", scratch.path("bin"));
        bash
    };
    let said = run(&mut dracut(&root));
    let wanted = [
        "systemd udev-rules",
        "modules loop dm_mod dm_crypt dm_verity dm_integrity",
        "programs ddi",
        "programs -o mkfs.ext4",
        "programs -o debugfs resize2fs",
        "programs -o mkfs.swap",
        "programs -o mkfs.xfs",
        "programs -o xfs_db",
        "programs -o /etc/mke2fs.conf",
        "file /etc/repart.d/20-swap.conf",
        "file /etc/repart.d/20-swap.conf.d/a.conf",
        "file /usr/lib/repart.d/10-root.conf",
        "file /usr/lib/systemd/system/ddi-repart.service",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    let link = "usr/lib/systemd/system/initrd-root-fs.target.wants/ddi-repart.service";
    let link = fs::read_link(scratch.path("initrd").join(link)).unwrap();
    assert_eq!(link, Path::new("../ddi-repart.service"));
    // Without definitions it waits to be asked for.
    let empty = scratch.path("empty").display().to_string();
    assert_eq!(dracut(&empty).status().unwrap().code(), Some(255));
}
