//! What an image is held against: the caller's choices, policy, filter, and what is known of its
//! verity set from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image_specs::arch::Architecture;
use image_specs::filter::ImageFilter;
use image_specs::magic;
use image_specs::partition::Designator;
use image_specs::policy::ImagePolicy;
use uuid::Uuid;
use veritysetup::RootHash;
use veritysetup::signature::Signature;

/// What an image is held against.
#[derive(Clone, Debug)]
pub struct Options {
    /// The architecture to prefer.
    pub native: Architecture,
    /// Which labels each designator must have.
    pub filter: ImageFilter,
    /// Which partitions may, must or must not be used, and how protected.
    pub policy: ImagePolicy,
    /// What is known of the verity set without looking into the image.
    pub verity: VeritySettings,
    /// What makes an image, and how far it is trusted to say so itself.
    pub rules: Rules,
    /// Which file systems are looked for.
    pub file_systems: FileSystems,
}

/// A verity set as known from outside of the image; all unset where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VeritySettings {
    /// Which set is meant, `Root` or `Usr`; `None` takes the one that there is.
    pub designator: Option<Designator>,
    /// The root hash that the image must have.
    pub root_hash: Option<RootHash>,
    /// The signature of that hash.
    pub signature: Option<Signature>,
    /// The file with the hash tree, for an image that is one file system.
    pub tree: Option<PathBuf>,
}

/// What makes an image. The default is what systemd-dissect takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub struct Rules {
    /// An image without a table, or with one generic Linux partition, has that as its root.
    pub generic_root: bool,
    /// There must be a root partition.
    pub require_root: bool,
    /// Where one must be, a usr partition alone will do.
    pub usr_without_root: bool,
    /// Only GPT counts: no other table and no bare file system.
    pub only_gpt: bool,
    /// There is no partition table (a hash tree in a file of its own tells as much).
    pub no_table: bool,
    /// An image without any known partition is no error.
    pub allow_empty: bool,
    /// Which partitions may be `/var`.
    pub var: VarCheck,
    /// Verity partitions are looked at.
    pub verity: bool,
    /// A signature may be checked here, where the kernel does not accept it.
    pub userspace_verity: bool,
    /// The signature partition may tell the root hash.
    pub embedded_hash: bool,
    /// The UUIDs of data and hash partition may tell the root hash.
    pub guess_hash: bool,
}

/// Which partitions may be `/var`: it belongs to one installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarCheck {
    /// Any.
    Relaxed,
    /// Only that whose UUID follows from this machine ID.
    Machine(Uuid),
}

/// The file systems that are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystems {
    /// Their names, as blkid has them.
    pub allowed: Vec<String>,
    /// What a designator is said to hold; it is not looked at then.
    pub forced: BTreeMap<Designator, String>,
}

/// What is looked for in partitions besides file systems.
const CONTAINERS: [&str; 3] = ["crypto_LUKS", "swap", "DM_integrity"];

impl Options {
    /// Any image, no filter, no root hash.
    pub fn new(native: Architecture) -> Self {
        Self {
            native,
            filter: ImageFilter::default(),
            policy: ImagePolicy::allow(),
            verity: VeritySettings::default(),
            rules: Rules::default(),
            file_systems: FileSystems::default(),
        }
    }
}

impl VeritySettings {
    /// A root hash for `Root` or `Usr`.
    pub fn of(designator: Designator, hash: RootHash) -> Self {
        Self {
            designator: Some(designator),
            root_hash: Some(hash),
            ..Self::default()
        }
    }

    /// Whether they are about this verity set, as far as they say.
    pub fn concern(&self, data: Designator) -> bool {
        self.designator.is_none_or(|designator| designator == data)
    }

    /// What a root hash is for.
    pub fn data(&self) -> Designator {
        self.designator.unwrap_or(Designator::Root)
    }

    /// Whether the root file system is protected by a tree in a file of its own.
    pub fn covers_root(&self) -> bool {
        self.tree.is_some() && self.root_hash.is_some() && self.concern(Designator::Root)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            generic_root: true,
            require_root: false,
            usr_without_root: true,
            only_gpt: false,
            no_table: false,
            allow_empty: true,
            var: VarCheck::Relaxed,
            verity: true,
            userspace_verity: true,
            embedded_hash: true,
            guess_hash: true,
        }
    }
}

impl FileSystems {
    /// Those of a list as `$SYSTEMD_DISSECT_FILE_SYSTEMS` has it: names joined by colons.
    pub fn of(list: &str) -> Self {
        let names = list.split(':').filter(|name| !name.is_empty());
        Self {
            allowed: names.map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// Whether it may be mounted.
    pub fn may_mount(&self, name: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == name)
    }

    /// Whether it is looked for.
    pub(crate) fn looks_for(&self, kind: magic::Kind) -> bool {
        let name = kind.name();
        CONTAINERS.contains(&name) || self.may_mount(name)
    }
}

impl Default for FileSystems {
    fn default() -> Self {
        let names = ["btrfs", "erofs", "ext4", "f2fs", "squashfs", "vfat", "xfs"];
        Self {
            allowed: names.map(str::to_owned).into(),
            forced: BTreeMap::new(),
        }
    }
}
