//! How a disk is attached. Pure: told by its place in `/sys`.

use std::fmt;
use std::path::Path;

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
#[non_exhaustive]
pub enum Bus {
    Nvme,
    Usb,
    Ata,
    Virtio,
    Scsi,
    Mmc,
    Xen,
    Nbd,
    /// An image file.
    Loop,
    /// device-mapper.
    Mapper,
    /// Linux RAID.
    Md,
    /// Memory, compressed or not.
    Ram,
    /// Something else.
    Other,
}

const NAMES: [(Bus, &str); 13] = [
    (Bus::Nvme, "nvme"),
    (Bus::Usb, "usb"),
    (Bus::Ata, "ata"),
    (Bus::Virtio, "virtio"),
    (Bus::Scsi, "scsi"),
    (Bus::Mmc, "mmc"),
    (Bus::Xen, "xen"),
    (Bus::Nbd, "nbd"),
    (Bus::Loop, "loop"),
    (Bus::Mapper, "dm"),
    (Bus::Md, "md"),
    (Bus::Ram, "ram"),
    (Bus::Other, "other"),
];

/// How the directories of controllers begin, the one that says most first: a stick behind USB shows
/// a SCSI host as well.
const CONTROLLERS: [(Bus, &str); 7] = [
    (Bus::Nvme, "nvme"),
    (Bus::Usb, "usb"),
    (Bus::Ata, "ata"),
    (Bus::Virtio, "virtio"),
    (Bus::Mmc, "mmc"),
    (Bus::Xen, "vbd-"),
    (Bus::Scsi, "host"),
];

/// Names of devices that no controller stands behind.
const VIRTUAL: [(Bus, &str); 6] = [
    (Bus::Loop, "loop"),
    (Bus::Mapper, "dm-"),
    (Bus::Md, "md"),
    (Bus::Ram, "ram"),
    (Bus::Ram, "zram"),
    (Bus::Nbd, "nbd"),
];

impl Bus {
    /// Its name in selectors.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(bus, _)| *bus == self);
        found.map_or("other", |(_, name)| name)
    }

    /// The bus of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(bus, _)| *bus)
    }

    /// Whether such a device is made of others, of a file or of memory.
    pub fn is_virtual(self) -> bool {
        matches!(self, Self::Loop | Self::Mapper | Self::Md | Self::Ram)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        NAMES.map(|(_, name)| name).join(", ")
    }

    /// Told from the directory of the disk in `/sys/devices`, which names all controllers above it.
    pub(super) fn of(directory: &Path) -> Self {
        let parts = || directory.iter().filter_map(|part| part.to_str());
        let name = parts().next_back().unwrap_or_default();
        let numbered = |part: &str, start: &str| {
            let rest = part.strip_prefix(start);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let disk = VIRTUAL.iter().find(|(_, start)| numbered(name, start));
        let controller = CONTROLLERS.iter().find(|(bus, start)| {
            let shows = |part: &str| match bus {
                Self::Xen => part.starts_with(start),
                _ => numbered(part, start),
            };
            parts().any(shows)
        });
        disk.or(controller).map_or(Self::Other, |(bus, _)| *bus)
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
