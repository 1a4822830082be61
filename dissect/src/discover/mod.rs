//! Images in the directories that are made for them: machines, portable services, extensions
//! (the search of `systemd-dissect --discover`).
//!
//! [`survey`] lists a directory and says of each name what it leads to; [`decide`] is pure: which of
//! them are images, what they are called, and which hide others. The first directory of a class
//! that has a name counts, whatever is there, so an empty directory masks an image.

mod survey;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use survey::{SurveyError, survey};

/// What images are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// systemd-nspawn and systemd-vmspawn.
    Machine,
    /// portablectl.
    Portable,
    /// systemd-sysext.
    Sysext,
    /// systemd-confext.
    Confext,
}

/// Where images are looked for.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// The directories of the system.
    System {
        /// Whether this is an initrd, where firmware hands extensions over.
        initrd: bool,
    },
    /// Those of a user.
    User {
        /// `$XDG_RUNTIME_DIR`.
        runtime: Option<&'a str>,
        /// `$HOME`.
        home: Option<&'a str>,
    },
}

/// What an image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A directory.
    Directory,
    /// A btrfs subvolume.
    Subvolume,
    /// A file with a disk image.
    Raw,
    /// A block device.
    Block,
    /// A directory of layers.
    Mstack,
}

/// What a name leads to, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A btrfs subvolume.
    Subvolume,
    /// A regular file.
    File,
    /// A block device.
    Block,
}

/// A name in a directory, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// What it leads to, if that is one of these kinds.
    pub target: Target,
    /// For a `.v/` directory: the version in it that counts.
    pub picked: Option<Target>,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path, without symlinks.
    pub path: PathBuf,
    /// What is there.
    pub kind: Kind,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// When it changed last, in microseconds since 1970; `None` before.
    pub changed: Option<u64>,
    /// Bytes that it takes on disk, for a file.
    pub usage: Option<u64>,
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredImage {
    /// What it is called.
    pub name: String,
    /// What it is made of.
    pub form: Form,
    /// What it is for.
    pub class: Class,
    /// Whether it is not to be written to.
    pub read_only: bool,
    /// Where it is.
    pub path: PathBuf,
    /// When it changed last, in microseconds since 1970.
    pub changed: Option<u64>,
    /// Bytes that it takes on disk, for a file.
    pub usage: Option<u64>,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Machine, Self::Portable, Self::Sysext, Self::Confext];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Portable => "portable",
            Self::Sysext => "sysext",
            Self::Confext => "confext",
        }
    }

    /// What may stand before `.raw`, and is no part of the name.
    const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Machine | Self::Portable => None,
            Self::Sysext => Some(".sysext"),
            Self::Confext => Some(".confext"),
        }
    }

    /// The directories, the first to count first.
    pub fn directories(self, scope: Scope<'_>) -> Vec<PathBuf> {
        match scope {
            Scope::System { initrd } => {
                let own = self.system().iter();
                let rest = self.firmware().iter().filter(|_| initrd);
                own.chain(rest).map(PathBuf::from).collect()
            }
            Scope::User { runtime, home } => self.user(runtime, home),
        }
    }

    const fn system(self) -> &'static [&'static str] {
        match self {
            Self::Machine => &[
                "/etc/machines",
                "/run/machines",
                "/var/lib/machines",
                "/var/lib/container",
                "/usr/local/lib/machines",
                "/usr/lib/machines",
            ],
            Self::Portable => &[
                "/etc/portables",
                "/run/portables",
                "/var/lib/portables",
                "/usr/local/lib/portables",
                "/usr/lib/portables",
            ],
            Self::Sysext => &["/etc/extensions", "/run/extensions", "/var/lib/extensions"],
            Self::Confext => &[
                "/run/confexts",
                "/var/lib/confexts",
                "/usr/local/lib/confexts",
                "/usr/lib/confexts",
            ],
        }
    }

    /// Where the boot loader's stub puts extensions for the initrd.
    const fn firmware(self) -> &'static [&'static str] {
        match self {
            Self::Machine | Self::Portable => &[],
            Self::Sysext => &["/.extra/sysext", "/.extra/global_sysext"],
            Self::Confext => &["/.extra/confext", "/.extra/global_confext"],
        }
    }

    fn user(self, runtime: Option<&str>, home: Option<&str>) -> Vec<PathBuf> {
        let name = match self {
            Self::Machine => "machines",
            Self::Portable => "portables",
            Self::Sysext | Self::Confext => return Vec::new(),
        };
        let of_home = |below: &str| home.map(|home| PathBuf::from(home).join(below));
        let bases = [
            runtime.map(PathBuf::from),
            of_home(".local/state"),
            of_home(".local/lib"),
        ];
        bases
            .into_iter()
            .flatten()
            .map(|base| base.join(name))
            .collect()
    }
}

impl Form {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Subvolume => "subvolume",
            Self::Raw => "raw",
            Self::Block => "block",
            Self::Mstack => "mstack",
        }
    }
}

/// The images of a class in directories as they were listed, the first to count first; by name.
pub fn decide(class: Class, listings: &[Vec<Listed>]) -> Vec<DiscoveredImage> {
    let mut images: BTreeMap<String, DiscoveredImage> = BTreeMap::new();
    for listed in listings.iter().flatten() {
        if let Some(image) = image(class, listed) {
            images.entry(image.name.clone()).or_insert(image);
        }
    }
    images.into_values().collect()
}

fn image(class: Class, listed: &Listed) -> Option<DiscoveredImage> {
    if listed.name.starts_with(".sysupdate.") {
        return None;
    }
    let versioned = matches!(listed.target.kind, Kind::Directory | Kind::Subvolume)
        .then(|| listed.name.strip_suffix(".v"))
        .flatten();
    let (name, target) = match versioned {
        Some(name) => (name, listed.picked.as_ref()?),
        None => (listed.name.as_str(), &listed.target),
    };
    let (name, form) = match (target.kind, name.strip_suffix(".mstack")) {
        (Kind::File, _) => (name.strip_suffix(".raw")?, Form::Raw),
        (Kind::Block, _) => (name.strip_suffix(".raw").unwrap_or(name), Form::Block),
        (Kind::Directory | Kind::Subvolume, Some(name)) => (name, Form::Mstack),
        (Kind::Directory, None) => (name, Form::Directory),
        (Kind::Subvolume, None) => (name, Form::Subvolume),
    };
    let name = match class.suffix() {
        Some(suffix) if form != Form::Block => name.strip_suffix(suffix).unwrap_or(name),
        _ => name,
    };
    if name.is_empty() {
        return None;
    }
    Some(DiscoveredImage {
        name: name.to_owned(),
        form,
        class,
        // What is hidden or belongs to the vendor is not changed by anybody's tools.
        read_only: target.read_only || name.starts_with('.') || target.path.starts_with("/usr"),
        path: target.path.clone(),
        changed: target.changed,
        usage: target.usage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, kind: Kind) -> Target {
        Target {
            path: format!("/d/{name}").into(),
            kind,
            read_only: false,
            changed: None,
            usage: None,
        }
    }

    fn listed(name: &str, kind: Kind) -> Listed {
        Listed {
            name: name.to_owned(),
            target: target(name, kind),
            picked: None,
        }
    }

    /// The names are those that systemd-dissect gives.
    #[test]
    fn names_lose_what_only_says_what_they_are() {
        let picked = |name, to, kind| Listed {
            picked: Some(target(to, kind)),
            ..listed(name, Kind::Directory)
        };
        let (file, directory) = (Kind::File, Kind::Directory);
        for (class, entry, expected) in [
            (
                Class::Machine,
                listed("a.raw", file),
                Some(("a", Form::Raw)),
            ),
            (
                Class::Machine,
                listed("b.sysext.raw", file),
                Some(("b.sysext", Form::Raw)),
            ),
            (Class::Machine, listed("noraw", file), None),
            (Class::Machine, listed("c.img", file), None),
            (
                Class::Machine,
                listed("d", directory),
                Some(("d", Form::Directory)),
            ),
            (
                Class::Machine,
                listed("s", Kind::Subvolume),
                Some(("s", Form::Subvolume)),
            ),
            (Class::Machine, listed(".sysupdate.x.raw", file), None),
            (Class::Machine, listed("x.v", directory), None),
            (Class::Machine, listed("x.v", file), None),
            (
                Class::Machine,
                picked("y.raw.v", "y_2.raw", file),
                Some(("y", Form::Raw)),
            ),
            (
                Class::Machine,
                picked("z.v", "z_2", directory),
                Some(("z", Form::Directory)),
            ),
            (
                Class::Sysext,
                listed("foo.sysext", directory),
                Some(("foo", Form::Directory)),
            ),
            (
                Class::Sysext,
                listed("foo.sysext.raw", file),
                Some(("foo", Form::Raw)),
            ),
            (
                Class::Sysext,
                listed("foo.confext.raw", file),
                Some(("foo.confext", Form::Raw)),
            ),
            (
                Class::Confext,
                listed("foo.confext.raw", file),
                Some(("foo", Form::Raw)),
            ),
            (
                Class::Sysext,
                listed("m.mstack", directory),
                Some(("m", Form::Mstack)),
            ),
            (
                Class::Portable,
                listed("nvme", Kind::Block),
                Some(("nvme", Form::Block)),
            ),
            (Class::Portable, listed(".raw", file), None),
        ] {
            let images = decide(class, &[vec![entry.clone()]]);
            let found = images
                .first()
                .map(|image| (image.name.as_str(), image.form));
            assert_eq!(found, expected, "{class:?} {}", entry.name);
        }
    }

    #[test]
    fn the_first_directory_hides_the_others() {
        let first = vec![listed("b", Kind::Directory), listed("c.raw", Kind::File)];
        let second = vec![listed("b.raw", Kind::File), listed("a.raw", Kind::File)];
        let images = decide(Class::Sysext, &[first, second]);
        let found: Vec<_> = images
            .iter()
            .map(|image| (image.name.as_str(), image.form))
            .collect();
        let expected = [("a", Form::Raw), ("b", Form::Directory), ("c", Form::Raw)];
        assert_eq!(found, expected);
    }

    #[test]
    fn only_some_classes_are_searched_for_users() {
        let scope = Scope::User {
            runtime: Some("/run/user/1"),
            home: None,
        };
        assert_eq!(
            Class::Machine.directories(scope),
            [PathBuf::from("/run/user/1/machines")]
        );
        assert!(Class::Sysext.directories(scope).is_empty());
        let initrd = |initrd| Class::Confext.directories(Scope::System { initrd }).len();
        assert_eq!(initrd(true), initrd(false) + 2);
    }
}
