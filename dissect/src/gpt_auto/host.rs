//! What the partitions of the disk with the root file system become.

use image_specs::partition::Designator;

use super::pins::Pins;
use super::units::{Folder, MountUnit, UNITS, escape, options};
use super::{Disk, Names, Place, Planner};
use crate::assign::Partition;

/// How long a boot partition stays mounted unused, in seconds.
const IDLE: u32 = 120;

/// What is mounted on its own directory.
const PLACES: [(Designator, &str, &str, &str); 4] = [
    (Designator::Home, "home", "/home", "Home Partition"),
    (Designator::Srv, "srv", "/srv", "Server Data Partition"),
    (Designator::Var, "var", "/var", "Variable Data Partition"),
    (
        Designator::Tmp,
        "var-tmp",
        "/var/tmp",
        "Temporary Data Partition",
    ),
];

/// A disk with the partitions on it that may be used.
struct Usable<'a> {
    disk: &'a Disk,
    pins: &'a Pins,
}

impl Usable<'_> {
    fn get(&self, designator: Designator) -> Option<&Partition> {
        let partition = self.disk.dissected.partitions.get(&designator)?;
        self.pins.check(partition).is_ok().then_some(partition)
    }

    fn node(&self, partition: &Partition) -> String {
        self.disk.names.partition(partition.number.unwrap_or(0))
    }
}

impl Planner<'_> {
    /// Units for all partitions.
    pub(super) fn partitions(&mut self, disk: &Disk, pins: &Pins) {
        let all = disk.dissected.partitions.values();
        self.plan.refused = all.filter_map(|found| pins.check(found).err()).collect();
        let usable = Usable { disk, pins };
        self.swap(&usable);
        self.boot(&usable);
        for (designator, id, place, description) in PLACES {
            if let Some(partition) = usable.get(designator) {
                let mount = MountUnit {
                    description,
                    ..MountUnit::new(id, usable.node(partition), place, None, description)
                };
                self.partition(partition, mount);
            }
        }
        if let Some(root) = usable.get(Designator::Root) {
            self.root_flags(root);
        }
        if !self.plan.files.iter().any(|_| true) {
            return;
        }
        if let Names::Loop { file, .. } = &disk.names {
            self.attach(&file.display().to_string());
        }
    }

    fn swap(&mut self, usable: &Usable<'_>) {
        let Some(partition) = usable.get(Designator::Swap) else {
            return;
        };
        if self.settings.no_swap {
            return;
        }
        if self.facts.fstab.swap {
            return self.note("fstab has swap; the swap partition is not used");
        }
        let mut what = usable.node(partition);
        if partition.file_system.as_deref() == Some("crypto_LUKS") {
            what = self.unlock("swap", &what, true, false);
        }
        let name = escape(&what);
        let text = format!(
            "[Unit]\nDescription=Swap Partition\nDocumentation=man:systemd-gpt-auto-generator(8)\nAfter=blockdev@{name}.target\n\n[Swap]\nWhat={what}\n"
        );
        let unit = format!("{name}.swap");
        self.plan.files.file(Folder::Late, &*unit, &text);
        self.plan.files.pull_in("swap.target", "wants", &unit);
    }

    /// The boot loader's partitions, if they are those that the boot loader was started from.
    fn boot(&mut self, usable: &Usable<'_>) {
        let (esp, extended) = (
            usable.get(Designator::Esp),
            usable.get(Designator::Xbootldr),
        );
        if esp.is_none() && extended.is_none() {
            return;
        }
        if self.facts.fstab.boot {
            return self.note("fstab has mounts below /boot or /efi; nothing is added to them");
        }
        if self.facts.efi {
            let Some(loader) = self.facts.loader_partition else {
                return self.note(
                    "the boot loader did not tell its partition; ESP and XBOOTLDR are not mounted",
                );
            };
            let is_it =
                |found: Option<&Partition>| found.is_some_and(|found| found.uuid == Some(loader));
            if !is_it(esp) && !is_it(extended) {
                return self.note("the boot loader was started from another disk; ESP and XBOOTLDR are not mounted");
            }
        }
        let extended = extended.filter(|_| !self.is_busy("/boot"));
        if let Some(partition) = extended {
            let node = usable.node(partition);
            self.automount(partition, node, "/boot", "Boot Loader Partition");
        }
        let Some(esp) = esp else { return };
        let on_boot = extended.is_none() && !self.is_busy("/boot");
        let place = if on_boot { "/boot" } else { "/efi" };
        let node = usable.node(esp);
        if self.is_busy(place) || self.in_fstab(esp, &node) {
            return;
        }
        self.automount(esp, node, place, "EFI System Partition Automount");
    }

    fn automount(&mut self, partition: &Partition, what: String, place: &str, description: &str) {
        let kind = partition.file_system.as_deref();
        let options = options(partition.designator, kind, partition.writable);
        let mount = MountUnit {
            options,
            ..MountUnit::new("boot", what, place, kind, description)
        };
        if !self.mount(mount) {
            return;
        }
        let text = format!(
            "[Unit]\nDescription={description}\nDocumentation=man:systemd-gpt-auto-generator(8)\n[Automount]\nWhere={place}\nTimeoutIdleSec={IDLE}\n"
        );
        let unit = format!("{}.automount", escape(place));
        self.plan.files.file(Folder::Late, &*unit, &text);
        self.plan.files.pull_in("local-fs.target", "wants", &unit);
    }

    fn partition(&mut self, partition: &Partition, mount: MountUnit<'_>) {
        if self.is_busy(mount.place) {
            return;
        }
        let kind = partition.file_system.as_deref();
        self.mount(MountUnit {
            kind,
            writable: partition.writable,
            grow: partition.grow,
            measure: partition.designator == Designator::Var,
            validate: true,
            options: options(partition.designator, kind, partition.writable),
            target: Some("local-fs.target"),
            ..mount
        });
    }

    /// What the partition's flags say of the root file system, which is mounted already.
    fn root_flags(&mut self, root: &Partition) {
        if root.grow {
            let unit = "systemd-growfs-root.service";
            self.plan.files.hook("-.mount", "local-fs.target", unit);
        }
        if self.settings.root_writable.is_some() || !root.writable {
            return;
        }
        let unit = "systemd-remount-fs.service";
        let path = format!("local-fs.target.wants/{unit}");
        let files = &mut self.plan.files;
        files.link(Folder::Late, path, format!("{UNITS}/{unit}"));
        let text = "[Service]\nEnvironment=SYSTEMD_REMOUNT_ROOT_RW=1\n";
        files.file(Folder::Late, format!("{unit}.d/50-remount-rw.conf"), text);
    }

    /// Has the image attached to a loop device, by the name of which its partitions are known.
    fn attach(&mut self, file: &str) {
        let unit = format!("systemd-loop@{}.service", escape(file));
        let path = format!("local-fs-pre.target.wants/{unit}");
        let target = format!("{UNITS}/systemd-loop@.service");
        self.plan.files.link(Folder::Late, path, target);
    }

    fn is_busy(&mut self, place: &str) -> bool {
        match self.facts.places.get(place) {
            None | Some(Place::Free) => false,
            Some(Place::Populated) => {
                self.note(format!("{place} has files in it; nothing is mounted there"));
                true
            }
            Some(Place::NoDirectory) => {
                self.note(format!("{place} is no directory; nothing is mounted there"));
                true
            }
        }
    }

    fn in_fstab(&self, partition: &Partition, node: &str) -> bool {
        let uuid = partition.uuid.map(|uuid| uuid.to_string());
        let by_uuid = |source: &str| {
            let given = source
                .strip_prefix("PARTUUID=")
                .or_else(|| source.strip_prefix("/dev/disk/by-partuuid/"));
            given.is_some_and(|given| Some(given.to_ascii_lowercase()) == uuid)
        };
        let mut sources = self.facts.fstab.sources.iter();
        sources.any(|source| source == node || by_uuid(source))
    }
}
