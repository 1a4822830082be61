//! An emulated machine with Debian's cloud kernel.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::outcome::{Marks, Outcome};
use super::secure_boot::Keys;
use super::{Guest, Machine, disk, process, root, script, tpm};

/// Modules that are there; the first ones are loaded, the others by the kernel when it needs them.
pub(super) const MODULES: &str = "virtio_pci virtio_blk loop dm-mod dm-verity dm-crypt dm-integrity dm-flakey \
    dm-log-writes dm-snapshot vfat nls_ascii nls_cp437 nls_utf8 squashfs erofs overlay isofs \
    btrfs xfs efivarfs cbc xts essiv sha256_generic sha512_generic algif_skcipher";

/// The kernel's command line.
const OPTIONS: &str = "console=ttyS0 quiet panic=-1 oops=panic";

/// Where a guest with Secure Boot finds the key and the certificate that its kernel trusts.
const TRUSTED: [&str; 2] = ["/etc/ddi-test/trusted.key", "/etc/ddi-test/trusted.pem"];

/// The key whose signatures the kernel of a guest with Secure Boot accepts, and its certificate.
pub(super) fn trusted() -> (PathBuf, PathBuf) {
    if Guest::Qemu.is_here() {
        TRUSTED.map(PathBuf::from).into()
    } else {
        Kernel::find().keys().trusted()
    }
}

/// Runs `command` in a new guest.
pub(super) fn run(machine: &Machine, command: &[&OsStr]) -> Outcome {
    let folder = tempfile::Builder::new()
        .prefix("ddi-qemu-")
        .tempdir()
        .expect("a folder for the guest");
    let folder = folder.path();
    let word = folder.file_name().and_then(OsStr::to_str).unwrap_or("");
    let marks = Marks::new(word);
    let kernel = Kernel::find();
    disk::make(&folder.join("disk"), &["-O", "verity"]);
    let initrd = initrd(machine, &kernel, command, &marks);
    fs::write(folder.join("initrd"), initrd).expect("write the initrd");
    let firmware = machine
        .secure_boot
        .then(|| kernel.keys().boot(folder, OPTIONS));
    let expired = boot(machine, &kernel, firmware, folder).then_some(machine.limit);
    let console = fs::read(folder.join("console")).expect("read the console");
    Outcome::read(&console, &marks, expired)
}

/// The unpacked kernel package.
pub(super) struct Kernel {
    pub(super) folder: PathBuf,
    pub(super) version: String,
}

impl Kernel {
    /// The one that `scripts/guest-kernel` fetches; it does so now if need be.
    pub(super) fn find() -> Self {
        static FETCHING: Mutex<()> = Mutex::new(());
        let _one = FETCHING.lock();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = source.join("scripts/guest-kernel");
        let output = Command::new(&script)
            .output()
            .unwrap_or_else(|error| panic!("start {}: {error}", script.display()));
        assert!(output.status.success(), "{}: {output:?}", script.display());
        let folder = String::from_utf8(output.stdout).expect("a path");
        let folder = PathBuf::from(folder.trim());
        let version = fs::read_dir(folder.join("lib/modules"))
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .and_then(|entry| entry.file_name().into_string().ok())
            .unwrap_or_else(|| panic!("{} holds no kernel", folder.display()));
        Self { folder, version }
    }

    fn keys(&self) -> Keys {
        Keys::new(self.folder.join("secure-boot"), &self.image())
    }

    pub(super) fn image(&self) -> PathBuf {
        self.folder.join(format!("boot/vmlinuz-{}", self.version))
    }
}

/// The guest's root folder.
fn initrd(machine: &Machine, kernel: &Kernel, command: &[&OsStr], marks: &Marks) -> Vec<u8> {
    let mut files = root::new();
    let names: Vec<&str> = MODULES.split_whitespace().collect();
    root::modules(&mut files, &kernel.folder, &kernel.version, &names);
    let executable = std::env::current_exe().expect("the path of this executable");
    for what in machine.files.iter().chain([&executable]) {
        root::add(&mut files, what);
    }
    if machine.secure_boot {
        let (key, certificate) = kernel.keys().trusted();
        for (place, file) in TRUSTED.iter().zip([key, certificate]) {
            files.file(place, 0o600, fs::read(file).expect("read the trusted key"));
        }
    }
    let here = std::env::current_dir().expect("the current folder");
    files.folder(here.to_str().expect("a folder in UTF-8"));
    let script = script::command("qemu", command, machine.limit, marks);
    files.file("/command", 0o644, script.into_bytes());
    files.file("/init", 0o755, include_bytes!("qemu.sh").to_vec());
    files.into_bytes()
}

/// Boots and waits until it is over; returns whether the guest had to be killed.
fn boot(machine: &Machine, kernel: &Kernel, firmware: Option<Vec<String>>, folder: &Path) -> bool {
    let console = File::create(folder.join("console")).expect("make the console's file");
    let errors = console.try_clone().expect("share the console's file");
    let disk = folder.join("disk");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi"])
        .args(["-cpu", "max", "-smp", "2", "-m", "2048", "-net", "none"])
        .args(["-display", "none", "-serial", "stdio", "-monitor", "none"])
        .args(["-nodefaults", "-no-reboot"])
        .arg("-drive")
        .arg(format!(
            "if=virtio,format=raw,cache=unsafe,discard=unmap,file={}",
            disk.display()
        ))
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors);
    let tpm = machine.tpm.then(|| tpm::start(folder));
    if let Some((_, arguments)) = &tpm {
        qemu.args(arguments);
    }
    if let Some(arguments) = firmware {
        qemu.args(arguments);
    } else {
        qemu.args(["-append", OPTIONS, "-kernel"])
            .arg(kernel.image())
            .arg("-initrd")
            .arg(folder.join("initrd"));
    }
    process::run(&mut qemu, machine.limit).expect("start QEMU (package qemu-system-x86)")
}
