//! UEFI firmware with Secure Boot, and how a certificate of ours becomes one that the kernel trusts.
//!
//! Firmware alone gives the kernel its allowed certificates as the `.platform` keyring, which
//! dm-verity does not ask before Linux 6.12. What it asks is `.secondary_trusted_keys` and, linked
//! from there, `.machine`. The kernel fills that one from the machine owner's keys if Secure Boot is
//! on and shim handed them over in its table. So: firmware with a platform key of ours, shim and
//! systemd-boot and the kernel signed with it, and the trusted certificate in shim's variable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::efi_variables::{ALLOWED, KEY_EXCHANGE_KEY, MACHINE_OWNER, PLATFORM_KEY, enroll};
use super::root::run;

/// Firmware that knows Secure Boot and needs no system management mode (package ovmf).
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its variables before anything is enrolled.
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The loader that hands over the machine owner's keys (package shim-unsigned).
const SHIM: &str = "/usr/lib/shim/shimx64.efi";
/// The loader that it starts (package systemd-boot-efi).
const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// Room in the partition that the firmware boots from, in KiB; the file is sparse.
const ESP_KIB: &str = "1048576";

/// Keys made once, and the programs signed with them.
#[derive(Debug)]
pub(super) struct Keys(PathBuf);

impl Keys {
    /// Those for the kernel in the file `kernel`, kept in `folder`, made now if need be.
    pub(super) fn new(folder: PathBuf, kernel: &Path) -> Self {
        if !folder.exists() {
            let parent = folder.parent().expect("a folder within another");
            let scratch = tempfile::tempdir_in(parent).expect("a folder for keys");
            let keys = Self(scratch.path().to_owned());
            keys.make("platform");
            keys.make("trusted");
            for (program, name) in [(SHIM, "shim"), (LOADER, "loader")] {
                keys.sign(Path::new(program), name);
            }
            keys.sign(kernel, "kernel");
            // Another process may have been faster.
            if fs::rename(scratch.keep(), &folder).is_err() {
                assert!(folder.exists(), "{} cannot be made", folder.display());
            }
        }
        Self(folder)
    }

    /// The key whose signatures the kernel accepts, and its certificate (PEM).
    pub(super) fn trusted(&self) -> (PathBuf, PathBuf) {
        (self.file("trusted.key"), self.file("trusted.pem"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A self-signed certificate and its key; the certificate in both forms.
    fn make(&self, name: &str) {
        let (key, pem) = (
            self.file(&format!("{name}.key")),
            self.file(&format!("{name}.pem")),
        );
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500",
            ])
            .args(["-subj", &format!("/CN=ddi test: {name}"), "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&pem);
        run(&mut openssl);
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-outform", "der", "-in"]).arg(&pem);
        run(openssl.arg("-out").arg(self.file(&format!("{name}.der"))));
    }

    fn sign(&self, program: &Path, name: &str) {
        let mut sbsign = Command::new("sbsign");
        sbsign
            .arg("--key")
            .arg(self.file("platform.key"))
            .arg("--cert")
            .arg(self.file("platform.pem"))
            .arg("--output")
            .arg(self.file(name))
            .arg(program);
        run(&mut sbsign);
    }

    /// Firmware variables with the certificates enrolled, and the partition that boots with
    /// `options`, both in `folder`. Returns QEMU's arguments for them.
    pub(super) fn boot(&self, folder: &Path, options: &str) -> Vec<String> {
        let variables = folder.join("variables");
        let mut image = fs::read(VARIABLES).expect("firmware (package ovmf)");
        let read = |name| fs::read(self.file(name)).expect("read a certificate");
        let (platform, trusted) = (read("platform.der"), read("trusted.der"));
        let certificates = [
            (ALLOWED, platform.as_slice()),
            (KEY_EXCHANGE_KEY, platform.as_slice()),
            (PLATFORM_KEY, platform.as_slice()),
            (MACHINE_OWNER, trusted.as_slice()),
        ];
        enroll(&mut image, &certificates).expect("enroll certificates");
        fs::write(&variables, image).expect("write the firmware's variables");
        let partition = self.partition(folder, options);
        let flash = "if=pflash,format=raw";
        [
            format!("-drive\n{flash},unit=0,readonly=on,file={FIRMWARE}"),
            format!("-drive\n{flash},unit=1,file={}", variables.display()),
            format!(
                "-drive\nif=none,id=esp,format=raw,file={}",
                partition.display()
            ),
            // Not virtio, so that the guest sees one such disk.
            "-device\nide-hd,drive=esp,bootindex=0".to_owned(),
        ]
        .iter()
        .flat_map(|option| option.split('\n').map(str::to_owned))
        .collect()
    }

    /// A disk that is one file system, with the loaders, the kernel and the folder's initrd.
    fn partition(&self, folder: &Path, options: &str) -> PathBuf {
        let image = folder.join("esp");
        let mut mkfs = Command::new("mkfs.vfat");
        mkfs.env("PATH", super::script::SYSTEM_PATH)
            .args(["-F", "32"]);
        run(mkfs.arg("-C").arg(&image).arg(ESP_KIB));
        let entry = format!("linux /kernel\ninitrd /initrd\noptions {options}\n");
        let (settings, menu) = (folder.join("loader.conf"), folder.join("entry.conf"));
        fs::write(&settings, "timeout 0\n").expect("write the loader's settings");
        fs::write(&menu, entry).expect("write the loader's entry");
        let mut folders = Command::new("mmd");
        folders.arg("-i").arg(&image);
        run(folders.args(["::EFI", "::EFI/BOOT", "::loader", "::loader/entries"]));
        let files = [
            (self.file("shim"), "EFI/BOOT/BOOTX64.EFI"),
            (self.file("loader"), "EFI/BOOT/grubx64.efi"),
            (self.file("kernel"), "kernel"),
            (folder.join("initrd"), "initrd"),
            (settings, "loader/loader.conf"),
            (menu, "loader/entries/guest.conf"),
        ];
        for (source, place) in files {
            let mut copy = Command::new("mcopy");
            run(copy
                .arg("-i")
                .arg(&image)
                .arg(source)
                .arg(format!("::{place}")));
        }
        image
    }
}
