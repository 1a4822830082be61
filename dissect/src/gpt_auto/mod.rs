//! Which units mount the partitions of the disk that was booted from
//! (systemd-gpt-auto-generator(8)).
//!
//! [`cmdline`] and [`pins`] parse, [`survey`] reads the running system, [`plan`] decides (purely), and
//! [`units::Files::write`] writes. In an initrd nothing is known of the disk yet, so units wait for links that
//! udev makes; on the host the disk is dissected.

pub mod cmdline;
mod host;
mod initrd;
pub mod pins;
mod setup;
pub mod survey;
pub mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;

use blockdev::partitions;
use image_specs::partition::Designator;
use uuid::Uuid;

use crate::assign::{Dissected, Partition};
use cmdline::{Detect, Settings};
use pins::Pins;
use units::{Files, MountUnit};

/// What is known of the running system.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// This is an initrd.
    pub initrd: bool,
    /// Firmware is UEFI.
    pub efi: bool,
    /// The partition that the boot loader was started from, as it told.
    pub loader_partition: Option<Uuid>,
    /// The kernel was started by systemd-stub, which measured it.
    pub measured: bool,
    /// Directories that may get mounts, and how they are; others do not exist.
    pub places: BTreeMap<&'static str, Place>,
    /// What `/etc/fstab` says.
    pub fstab: Fstab,
    /// File systems that have a checker.
    pub checkers: Vec<String>,
}

/// Whether something can be mounted on a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is empty, or mounted on already.
    Free,
    /// There is something in it.
    Populated,
    /// It is no directory.
    NoDirectory,
}

/// What `/etc/fstab` says of what would be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fstab {
    /// There is swap.
    pub swap: bool,
    /// Something is mounted below `/boot` or `/efi`.
    pub boot: bool,
    /// Everything that is mounted, as it is named.
    pub sources: Vec<String>,
}

/// The disk with the root file system, and the names of its partitions.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What is on it.
    pub dissected: Dissected,
    /// How its partitions are named.
    pub names: Names,
}

/// How the partitions of a disk are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// By the number that the kernel gave to the disk, which is never given twice.
    Sequence(u64),
    /// By the node of the disk, where the kernel gives no such number.
    Node(PathBuf),
    /// By the reference of a loop device. The file is attached to one by a unit.
    Loop {
        /// The image.
        file: PathBuf,
        /// The reference.
        reference: String,
    },
}

/// What is written, and what is to be said.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Plan {
    /// Units and links.
    pub files: Files,
    /// Why some partitions are left out.
    pub notes: Vec<String>,
    /// Partitions that are not those that they must be.
    pub refused: Vec<Refused>,
}

/// A partition has another UUID than it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {designator} partition has the UUID {}, but must have {wanted}; it is not used", show(.found))]
pub struct Refused {
    /// What it is for.
    pub designator: Designator,
    /// Its UUID.
    pub found: Option<Uuid>,
    /// The UUID that it must have.
    pub wanted: Uuid,
}

fn show(uuid: &Option<Uuid>) -> String {
    uuid.map_or_else(|| "none".to_owned(), |uuid| uuid.to_string())
}

/// Decides which units there are. `disk` counts on the host only.
pub fn plan(settings: &Settings, facts: &Facts, disk: Option<&Disk>, pins: &Pins) -> Plan {
    let mut planner = Planner {
        settings,
        facts,
        plan: Plan::default(),
    };
    if settings.enabled(facts.initrd) {
        planner.root();
        planner.usr();
        match facts.initrd {
            true => planner.early_esp(),
            false => {
                if let Some(disk) = disk {
                    planner.partitions(disk, pins);
                }
            }
        }
    }
    planner.plan
}

/// The plan while it is made.
struct Planner<'a> {
    settings: &'a Settings,
    facts: &'a Facts,
    plan: Plan,
}

impl Planner<'_> {
    fn note(&mut self, text: impl Into<String>) {
        self.plan.notes.push(text.into());
    }

    /// The root file system, which in an initrd is a place for it.
    fn root(&mut self) {
        let detect = match self.settings.root {
            Detect::Unset => match (self.facts.efi, self.facts.loader_partition) {
                (false, _) => return,
                (true, None) => {
                    return self
                        .note("the boot loader did not tell its partition; no root is mounted");
                }
                (true, Some(_)) => Detect::Auto { force: false },
            },
            Detect::Off => return,
            detect => detect,
        };
        let (what, volume) = root_devices(detect, self.settings.factory_reset);
        let (place, target) = match self.facts.initrd {
            true => ("/sysroot", "initrd-root-fs.target"),
            false => ("/", "local-fs.target"),
        };
        if self.facts.initrd {
            self.root_device(&what);
            self.unlock_later("root", &volume);
            self.verify_later("root");
        }
        let kind = self.settings.root_kind.as_deref();
        let writable = self.settings.root_writable == Some(true);
        let options = units::options(Designator::Root, kind, writable);
        let mount = MountUnit {
            measure: true,
            validate: self.facts.initrd,
            options: with(options, self.settings.root_options.as_deref()),
            ..MountUnit::new("root", what, place, kind, "Root Partition")
        };
        self.mount(mount.before(target));
    }

    /// The file system of `/usr`, where it is asked for.
    fn usr(&mut self) {
        if !self.settings.usr {
            return;
        }
        let (place, target) = match self.facts.initrd {
            true => ("/sysusr/usr", "initrd-usr-fs.target"),
            false => ("/usr", "local-fs.target"),
        };
        if self.facts.initrd {
            self.unlock_later("usr", "/dev/disk/by-designator/usr-luks");
            self.verify_later("usr");
        }
        let settings = self.settings;
        let kind = settings.usr_kind.as_ref().or(settings.root_kind.as_ref());
        let kind = kind.map(String::as_str);
        let more = settings
            .usr_options
            .as_ref()
            .or(settings.root_options.as_ref());
        let options = units::options(Designator::Usr, kind, false);
        let what = "/dev/disk/by-designator/usr".to_owned();
        let mount = MountUnit {
            options: with(options, more.map(String::as_str)),
            ..MountUnit::new("usr", what, place, kind, "/usr/ Partition")
        };
        self.mount(mount.before(target));
        if self.facts.initrd {
            self.bind_usr();
        }
    }
}

/// Where udev shows the root partition, and its encrypted volume.
fn root_devices(detect: Detect, factory_reset: bool) -> (String, String) {
    let (name, force) = match detect {
        Detect::Dissect { force } => ("/dev/disk/by-designator/root", force),
        Detect::Auto { force } => ("/dev/gpt-auto-root", force),
        Detect::Unset | Detect::Off => ("/dev/gpt-auto-root", false),
    };
    let reset = match force && factory_reset {
        true => "-ignore-factory-reset",
        false => "",
    };
    (format!("{name}{reset}"), format!("{name}-luks{reset}"))
}

fn with(options: String, more: Option<&str>) -> String {
    match more {
        Some(more) => format!("{options},{more}"),
        None => options,
    }
}

impl Names {
    /// The node of a partition.
    pub fn partition(&self, number: u32) -> String {
        match self {
            Self::Sequence(disk) => format!("/dev/disk/by-diskseq/{disk}-part{number}"),
            Self::Node(disk) => partitions::node(disk, number).display().to_string(),
            Self::Loop { reference, .. } => {
                format!("/dev/disk/by-loop-ref/{reference}-part{number}")
            }
        }
    }
}

impl Pins {
    /// Whether a partition is the one that it must be.
    fn check(&self, partition: &Partition) -> Result<(), Refused> {
        match self.wanted(partition.designator) {
            Some(wanted) if partition.uuid != Some(wanted) => Err(Refused {
                designator: partition.designator,
                found: partition.uuid,
                wanted,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
