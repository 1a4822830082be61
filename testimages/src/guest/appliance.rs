//! A machine that boots from an image of its own, as a user's does: firmware, boot loader, kernel and
//! initrd come from the image's EFI system partition.
//!
//! ```no_run
//! use std::time::Duration;
//! use testimages::guest::appliance;
//!
//! let esp = tempfile::tempdir().unwrap();
//! appliance::fill_esp(esp.path(), "root=…", b"#!/bin/sh\necho hello\npoweroff -f\n", &["ddi"]);
//! // An image is built with this folder as its EFI system partition; then:
//! let console = appliance::boot("image.raw".as_ref(), Duration::from_secs(300));
//! assert!(console.contains("hello"));
//! ```

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::qemu::{Kernel, MODULES};
use super::{process, root, slot};

/// Firmware without keys (package ovmf), and its variables.
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The boot loader (package systemd-boot-efi).
const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// Where the console is, and that a kernel which cannot go on ends.
const OPTIONS: &str = "console=ttyS0 quiet panic=-1 oops=panic";

/// Fills the folder `esp` with boot loader, kernel, and an initrd that runs the script `init` as its
/// first process, with a shell, busybox and these programs (by name or path, with their libraries),
/// files or folders. `options` come on the kernel's command line besides those for the console.
pub fn fill_esp<P: AsRef<Path>>(esp: &Path, options: &str, init: &[u8], files: &[P]) {
    let kernel = Kernel::find();
    let mut initrd = root::new();
    let names: Vec<&str> = MODULES.split_whitespace().collect();
    root::modules(&mut initrd, &kernel.folder, &kernel.version, &names);
    for what in files {
        root::add(&mut initrd, what.as_ref());
    }
    initrd.file("/init", 0o755, init.to_vec());
    let entry = format!("linux /kernel\ninitrd /initrd\noptions {OPTIONS} {options}\n");
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", read(LOADER.as_ref())),
        ("kernel", read(&kernel.image())),
        ("initrd", initrd.into_bytes()),
        ("loader/loader.conf", b"timeout 0\n".to_vec()),
        ("loader/entries/image.conf", entry.into_bytes()),
    ];
    for (name, bytes) in files {
        let path = esp.join(name);
        let folder = path.parent().expect("a folder");
        fs::create_dir_all(folder).expect("make a folder of the ESP");
        fs::write(path, bytes).expect("write into the ESP");
    }
}

/// Boots the image `disk`, which the machine may change, until it powers off or starts anew; returns
/// what came on the console.
///
/// # Panics
///
/// After `limit`, with the console's text.
pub fn boot(disk: &Path, limit: Duration) -> String {
    let _turn = slot::wait();
    let folder = tempfile::tempdir().expect("a folder for the machine");
    let (variables, console) = (folder.path().join("vars"), folder.path().join("console"));
    fs::write(&variables, read(VARIABLES.as_ref())).expect("write the firmware's variables");
    let output = File::create(&console).expect("make the console's file");
    let errors = output.try_clone().expect("share the console's file");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi"])
        .args(["-cpu", "max", "-smp", "2", "-m", "2048", "-net", "none"])
        .args(["-display", "none", "-serial", "stdio", "-monitor", "none"])
        .args(["-nodefaults", "-no-reboot"]);
    for (unit, file, rights) in [
        (0, Path::new(FIRMWARE), "readonly=on,"),
        (1, &variables, ""),
    ] {
        let file = file.display();
        qemu.arg("-drive").arg(format!(
            "if=pflash,format=raw,unit={unit},{rights}file={file}"
        ));
    }
    qemu.arg("-drive")
        .arg(format!(
            "if=virtio,format=raw,cache=unsafe,discard=unmap,file={}",
            disk.display()
        ))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let killed = process::run(&mut qemu, limit).expect("start QEMU (package qemu-system-x86)");
    let text = String::from_utf8_lossy(&read(&console)).replace('\r', "");
    assert!(!killed, "the machine was not done after {limit:?}:\n{text}");
    text
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}
