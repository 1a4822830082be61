//! What is mounted where, in which order and with which options. Pure.
//!
//! As systemd 262 does it: root or an empty one, usr, home, srv, var, tmp, then the partitions of the
//! boot loader where there is room for them. Nothing gets devices.

use std::collections::BTreeMap;
use std::fmt;

use blockdev::mount::Attributes;
use image_specs::partition::Designator;
use image_specs::units::Bytes;

use crate::assign::{Dissected, Partition};
use crate::options::FileSystems;
use crate::probe::is_read_only;

/// How an image is mounted.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub struct MountOptions {
    /// Whether nothing may be written.
    pub read_only: bool,
    /// When blocks that become free are given back.
    pub discard: Discard,
    /// Whether the image is on a loop device.
    pub on_loop: bool,
    /// Whether writable file systems are checked first.
    pub check: bool,
    /// Whether file systems that are marked for it grow.
    pub grow: bool,
    /// Whether a usr partition will do without a root partition.
    pub usr_without_root: bool,
    /// The user and group that root in the image is to be; the other IDs follow.
    pub owner_base: Option<u32>,
    /// More options for a partition, comma-separated; they come last.
    pub extra: BTreeMap<Designator, String>,
    /// Which file systems may be mounted at all.
    pub file_systems: FileSystems,
    /// Whether encrypted partitions may still be locked, for a first look. They are planned as what
    /// they are.
    pub locked: bool,
}

/// When blocks that become free are given back to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// Never.
    Disabled,
    /// On loop devices, whose file gets holes.
    #[default]
    Loop,
    /// Always.
    All,
    /// Always, and through encryption, which shows what is free.
    Crypt,
}

/// What is to be mounted, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first is the root of all.
    pub mounts: Vec<PlannedMount>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMount {
    /// Which partition; `None` for an empty file system in memory.
    pub designator: Option<Designator>,
    /// Where; the first that fits. None fits: it is left out.
    pub places: Vec<Place>,
    /// The file system's type.
    pub kind: String,
    /// Options of the file system.
    pub options: Vec<String>,
    /// Attributes of the mount.
    pub attributes: Attributes,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Whether it is checked first.
    pub check: bool,
    /// To how many bytes it grows once it is mounted.
    pub grow: Option<Bytes>,
    /// Whether owners are mapped by the mount.
    pub map_owners: bool,
}

/// A place in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Below the image's root, without a slash in front; empty for the root itself.
    pub path: &'static str,
    /// When it may be taken.
    pub when: When,
}

/// When a place may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always; it is made where it is missing.
    Always,
    /// If it is empty; it is made where it is missing.
    MissingOrEmpty,
    /// If it is there and empty.
    Empty,
}

/// An image cannot be mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is nothing that could be the root.
    #[error("the image has no root partition{}", usr(*.0))]
    NoRoot(bool),
    /// A partition is encrypted, and nobody has unlocked it.
    #[error("partition {0} is encrypted and has not been unlocked")]
    Encrypted(Designator),
    /// Nobody knows what a partition holds.
    #[error("partition {0} holds no file system that is known, so it cannot be mounted")]
    Unknown(Designator),
    /// A partition holds what must not be mounted.
    #[error(
        "partition {designator} holds {kind}, which is not among the allowed file systems{}",
        integrity(kind)
    )]
    NotAllowed {
        /// Which.
        designator: Designator,
        /// What it holds.
        kind: String,
    },
}

/// What to do about a partition that is no file system yet.
fn integrity(kind: &str) -> &'static str {
    match kind {
        "DM_integrity" => "; open it with integritysetup, and mount what that gives",
        _ => "",
    }
}

/// The partitions that are mounted, in order, and where.
const ORDER: [(Designator, &str); 6] = [
    (Designator::Root, ""),
    (Designator::Usr, "usr"),
    (Designator::Home, "home"),
    (Designator::Srv, "srv"),
    (Designator::Var, "var"),
    (Designator::Tmp, "var/tmp"),
];

/// File systems that can give blocks back.
const DISCARD: [&str; 5] = ["btrfs", "ext4", "f2fs", "vfat", "xfs"];

impl MountOptions {
    /// What systemd-dissect does by itself, for an image on a loop device.
    pub fn new() -> Self {
        Self {
            read_only: false,
            discard: Discard::default(),
            on_loop: true,
            check: true,
            grow: true,
            usr_without_root: true,
            owner_base: None,
            extra: BTreeMap::new(),
            file_systems: FileSystems::default(),
            locked: false,
        }
    }
}

impl Default for MountOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Decides what is mounted.
pub fn plan(dissected: &Dissected, options: &MountOptions) -> Result<Plan, PlanError> {
    let partitions = &dissected.partitions;
    let has = |designator| partitions.contains_key(&designator);
    let mut mounts = Vec::new();
    if !has(Designator::Root) {
        let usr = has(Designator::Usr);
        if !usr || !options.usr_without_root {
            return Err(PlanError::NoRoot(usr));
        }
        mounts.push(empty_root(options));
    }
    for (designator, path) in ORDER {
        if let Some(partition) = partitions.get(&designator) {
            let place = Place {
                path,
                when: When::Always,
            };
            mounts.push(one(partition, vec![place], options)?);
        }
    }
    let boot = |when| Place { path: "boot", when };
    if let Some(partition) = partitions.get(&Designator::Xbootldr) {
        let places = vec![boot(When::MissingOrEmpty)];
        mounts.push(one(partition, places, options)?);
    }
    if let Some(partition) = partitions.get(&Designator::Esp) {
        let efi = Place {
            path: "efi",
            when: When::MissingOrEmpty,
        };
        mounts.push(one(partition, vec![boot(When::Empty), efi], options)?);
    }
    Ok(Plan { mounts })
}

fn empty_root(options: &MountOptions) -> PlannedMount {
    let owner = options.owner_base.filter(|base| *base != 0);
    let owner = owner.map(|base| [format!("uid={base}"), format!("gid={base}")]);
    let mode = ["mode=0755".to_owned()];
    PlannedMount {
        designator: None,
        places: vec![Place {
            path: "",
            when: When::Always,
        }],
        kind: "tmpfs".to_owned(),
        options: mode
            .into_iter()
            .chain(owner.into_iter().flatten())
            .collect(),
        attributes: Attributes::MOUNT_ATTR_NODEV,
        // Directories are still to be made in it.
        read_only: false,
        check: false,
        grow: None,
        map_owners: false,
    }
}

fn one(
    partition: &Partition,
    places: Vec<Place>,
    options: &MountOptions,
) -> Result<PlannedMount, PlanError> {
    let designator = partition.designator;
    let (kind, size) = match (&partition.inside, partition.encryption) {
        (Some(inside), _) => (inside.file_system.clone(), inside.size),
        (None, Some(_)) if !options.locked => return Err(PlanError::Encrypted(designator)),
        (None, _) => (partition.file_system.clone(), partition.extent.size),
    };
    let kind = kind.ok_or(PlanError::Unknown(designator))?;
    let locked = partition.encryption.is_some() && partition.inside.is_none();
    if !locked && !options.file_systems.may_mount(&kind) {
        return Err(PlanError::NotAllowed { designator, kind });
    }
    let mut mount = PlannedMount {
        designator: Some(designator),
        places,
        options: Vec::new(),
        attributes: attributes(designator),
        read_only: options.read_only || !partition.writable || is_read_only(&kind),
        check: false,
        grow: None,
        map_owners: options.owner_base.is_some_and(|base| base != 0) && kind != "vfat",
        kind,
    };
    mount.take_extra(options.extra.get(&designator));
    mount.put_own_options_first(designator, options);
    let writable = !mount.read_only;
    mount.check = writable && options.check;
    mount.grow = (writable && options.grow && partition.grow).then_some(size);
    Ok(mount)
}

fn attributes(designator: Designator) -> Attributes {
    let more = match designator {
        Designator::Tmp => Attributes::MOUNT_ATTR_NOSUID,
        Designator::Esp | Designator::Xbootldr => {
            Attributes::MOUNT_ATTR_NOSUID
                | Attributes::MOUNT_ATTR_NOEXEC
                | Attributes::MOUNT_ATTR_NOSYMFOLLOW
        }
        _ => Attributes::empty(),
    };
    Attributes::MOUNT_ATTR_NODEV | more
}

impl PlannedMount {
    /// Takes what a user writes into an options column: words for the mount, the rest for the file
    /// system.
    fn take_extra(&mut self, extra: Option<&String>) {
        let words = extra.iter().flat_map(|text| text.split(','));
        for word in words.filter(|word| !word.is_empty()) {
            match attribute(word) {
                Some((attribute, true)) => self.attributes |= attribute,
                Some((attribute, false)) => self.attributes -= attribute,
                None => match word {
                    "ro" => self.read_only = true,
                    "rw" | "defaults" | "_netdev" | "nofail" | "auto" | "noauto" => {}
                    word if word.starts_with("x-") => {}
                    word => self.options.push(word.to_owned()),
                },
            }
        }
    }

    /// The options that follow from what it is; those of the user stay last.
    fn put_own_options_first(&mut self, designator: Designator, options: &MountOptions) {
        let kind = self.kind.as_str();
        let mut own = Vec::new();
        if self.read_only {
            // Nothing is written, so no journal is replayed either.
            match kind {
                "ext3" | "ext4" | "xfs" => own.push("norecovery".to_owned()),
                "btrfs" => own.push("rescue=nologreplay".to_owned()),
                _ => {}
            }
        }
        let boot = matches!(designator, Designator::Esp | Designator::Xbootldr);
        if boot && kind == "vfat" {
            own.extend(["fmask=0177", "dmask=0077"].map(str::to_owned));
        }
        if kind == "vfat"
            && let Some(base) = options.owner_base.filter(|base| *base != 0)
        {
            own.extend([format!("uid={base}"), format!("gid={base}")]);
        }
        if !self.read_only && options.gives_back() && DISCARD.contains(&kind) {
            own.push("discard".to_owned());
        }
        own.append(&mut self.options);
        self.options = own;
    }
}

impl MountOptions {
    const fn gives_back(&self) -> bool {
        match self.discard {
            Discard::Disabled => false,
            Discard::Loop => self.on_loop,
            Discard::All | Discard::Crypt => true,
        }
    }
}

/// A word for the mount, and whether it sets or clears the attribute.
fn attribute(word: &str) -> Option<(Attributes, bool)> {
    Some(match word {
        "nosuid" => (Attributes::MOUNT_ATTR_NOSUID, true),
        "suid" => (Attributes::MOUNT_ATTR_NOSUID, false),
        "nodev" => (Attributes::MOUNT_ATTR_NODEV, true),
        "noexec" => (Attributes::MOUNT_ATTR_NOEXEC, true),
        "exec" => (Attributes::MOUNT_ATTR_NOEXEC, false),
        "nosymfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, false),
        "noatime" => (Attributes::MOUNT_ATTR_NOATIME, true),
        "nodiratime" => (Attributes::MOUNT_ATTR_NODIRATIME, true),
        "strictatime" => (Attributes::MOUNT_ATTR_STRICTATIME, true),
        "relatime" | "atime" | "diratime" => (Attributes::empty(), true),
        _ => return None,
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mounts
            .iter()
            .try_for_each(|mount| writeln!(f, "{mount}"))
    }
}

impl fmt::Display for PlannedMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places.iter().map(Place::to_string);
        let designator = self.designator.map_or("-", Designator::name);
        write!(f, "{designator} {} on ", self.kind)?;
        f.write_str(&places.collect::<Vec<_>>().join(" or "))?;
        let mode = if self.read_only { "ro" } else { "rw" };
        let mut words = vec![mode.to_owned()];
        let set = ATTRIBUTE_NAMES.iter();
        let set = set.filter(|(attribute, _)| self.attributes.contains(*attribute));
        words.extend(set.map(|(_, name)| (*name).to_owned()));
        words.extend(self.options.iter().cloned());
        write!(f, " ({})", words.join(","))?;
        for (does, word) in [
            (self.check, "check"),
            (self.grow.is_some(), "grow"),
            (self.map_owners, "map owners"),
        ] {
            if does {
                write!(f, ", {word}")?;
            }
        }
        Ok(())
    }
}

const ATTRIBUTE_NAMES: [(Attributes, &str); 6] = [
    (Attributes::MOUNT_ATTR_NOSUID, "nosuid"),
    (Attributes::MOUNT_ATTR_NODEV, "nodev"),
    (Attributes::MOUNT_ATTR_NOEXEC, "noexec"),
    (Attributes::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
    (Attributes::MOUNT_ATTR_NOATIME, "noatime"),
    (Attributes::MOUNT_ATTR_NODIRATIME, "nodiratime"),
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path)?;
        match self.when {
            When::Always => Ok(()),
            When::MissingOrEmpty => f.write_str(" if missing or empty"),
            When::Empty => f.write_str(" if there and empty"),
        }
    }
}

fn usr(there: bool) -> &'static str {
    match there {
        true => ", and usr alone was not allowed",
        false => " and no usr partition",
    }
}
