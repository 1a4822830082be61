//! What only an initrd does.

use image_specs::partition::Designator;

use super::Planner;
use super::units::{Folder, MountUnit, escape, options};

impl Planner<'_> {
    /// The boot waits for the root device.
    pub(super) fn root_device(&mut self, what: &str) {
        let device = format!("{}.device", escape(what));
        let text = format!("[Unit]\nRequires={device}\nAfter={device}\n");
        let path = "initrd-root-device.target.d/50-root-device.conf";
        self.plan.files.file(Folder::Late, path, &text);
    }

    /// What is mounted on `/sysusr/usr` is shown in the root file system as well.
    pub(super) fn bind_usr(&mut self) {
        let what = "/sysusr/usr".to_owned();
        let mount = MountUnit {
            options: "bind".to_owned(),
            validate: true,
            ..MountUnit::new(
                "usr-bind",
                what,
                "/sysroot/usr",
                None,
                "/usr/ Partition (Final)",
            )
        };
        self.mount(mount.before("initrd-fs.target"));
    }

    /// The ESP, for whoever asks for it before the root file system is there.
    pub(super) fn early_esp(&mut self) {
        if !self.facts.efi {
            return;
        }
        let what = "/dev/disk/by-designator/esp".to_owned();
        let target = "initrd-switch-root.target";
        self.mount(MountUnit {
            options: options(Designator::Esp, Some("vfat"), true),
            more: format!("Conflicts={target}\nBefore={target}\n"),
            ..MountUnit::new(
                "esp",
                what,
                "/sysefi/",
                Some("vfat"),
                "EFI System Partition (Early)",
            )
        });
    }
}
