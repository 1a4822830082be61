//! Picking the best of several versions in a `.v/` directory (UAPI.10 on file names; systemd.v(7)).
//!
//! A name is `NAME_VERSION[_ARCH][+LEFT[-DONE]]SUFFIX`. Callers list the directory, keep the inode
//! types that they want, and hand the names over.
//!
//! Invariant: the choice depends on the set of names only, not on their order. Pure.

use std::cmp::Ordering;

use crate::arch::Architecture;
use crate::version::{self, Version};

/// Which names to look for, and where: what a path to something versioned means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The directory to list.
    pub directory: String,
    /// What stands before the version's `_`; empty means anything.
    pub basename: String,
    /// What every name ends in; may be empty.
    pub suffix: String,
}

/// What a choice must be.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The architecture to run on. It, its secondary one, and entries that name none are taken.
    pub native: Architecture,
    /// Take only entries that name this architecture.
    pub architecture: Option<Architecture>,
    /// Take only entries whose version is spelled so.
    pub version: Option<Version>,
}

/// How often a boot may be tried and was (UAPI.1, boot counting).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tries {
    /// Attempts that remain.
    pub left: u32,
    /// Attempts that were made.
    pub done: u32,
}

/// A name taken apart.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The whole file name.
    pub name: &'a str,
    /// Its version.
    pub version: Version,
    /// The architecture that it names.
    pub architecture: Option<Architecture>,
    /// Its counters; `None` means that it may be tried for ever.
    pub tries: Option<Tries>,
}

impl Search {
    /// What `path` asks for; `None` where it names one thing as it is.
    ///
    /// Asking is `…/NAME.SUFFIX.v/` with a `suffix` that the caller knows (`.raw`, may be empty),
    /// `…/NAME.v/`, or `…/ANY.v/NAME___SUFFIX`, where the path says the suffix itself.
    pub fn from_path(path: &str, suffix: &str) -> Option<Self> {
        let trimmed = path.trim_end_matches('/');
        let (parent, last) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if let Some(name) = last.strip_suffix(".v").filter(|name| !name.is_empty()) {
            return Some(Self {
                directory: trimmed.to_owned(),
                basename: name.strip_suffix(suffix).unwrap_or(name).to_owned(),
                suffix: suffix.to_owned(),
            });
        }
        let (basename, suffix) = last.rsplit_once("___")?;
        parent.trim_end_matches('/').ends_with(".v").then(|| Self {
            directory: parent.to_owned(),
            basename: basename.to_owned(),
            suffix: suffix.to_owned(),
        })
    }

    /// Takes a file name apart; `None` where it is not one of those looked for.
    pub fn parse<'a>(&self, name: &'a str) -> Option<Entry<'a>> {
        let stem = name.strip_suffix(&*self.suffix)?;
        let stem = match &*self.basename {
            "" => stem,
            basename => stem.strip_prefix(basename)?.strip_prefix('_')?,
        };
        let (stem, tries) = match stem.rsplit_once('+') {
            Some((stem, counters)) => (stem, parse_tries(counters)?),
            None => (stem, None),
        };
        // A last word that is no architecture is cut off all the same, as systemd does.
        let (stem, architecture) = match stem.rsplit_once('_') {
            Some((stem, word)) => (stem, Architecture::from_name(word)),
            None => (stem, None),
        };
        Some(Entry {
            name,
            version: Version::new(stem).ok()?,
            architecture,
            tries,
        })
    }

    /// The best of `names` that passes `filter`.
    pub fn pick<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        filter: &Filter,
    ) -> Option<Entry<'a>> {
        names
            .into_iter()
            .filter_map(|name| self.parse(name))
            .filter(|entry| filter.takes(entry))
            .max_by(|a, b| a.compare(b, filter.native))
    }

    /// The name to try first where version and architecture are asked for: it needs no listing.
    pub fn direct_name(&self, filter: &Filter) -> Option<String> {
        let version = filter.version.as_ref()?;
        if self.basename.is_empty() {
            return None;
        }
        let arch = match filter.architecture {
            Some(arch) => format!("_{arch}"),
            None => String::new(),
        };
        Some(format!("{}_{version}{arch}{}", self.basename, self.suffix))
    }
}

/// `LEFT` or `LEFT-DONE`; `None` where it is neither, `Some(None)` for the largest number, which
/// systemd reads as "no limit".
fn parse_tries(text: &str) -> Option<Option<Tries>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (left, done) = match text.split_once('-') {
        Some((left, done)) => (number(left)?, number(done)?),
        None => (number(text)?, 0),
    };
    Some((left != u32::MAX).then_some(Tries { left, done }))
}

impl Filter {
    /// Anything that runs on `native`.
    pub const fn native(native: Architecture) -> Self {
        Self {
            native,
            architecture: None,
            version: None,
        }
    }

    fn takes(&self, entry: &Entry<'_>) -> bool {
        let same_version = |wanted: &Version| wanted.as_str() == entry.version.as_str();
        let right_arch = match (self.architecture, entry.architecture) {
            (Some(wanted), found) => found == Some(wanted),
            (None, Some(found)) => rank(Some(found), self.native) > 0,
            (None, None) => true,
        };
        right_arch && self.version.as_ref().is_none_or(same_version)
    }
}

/// How well an architecture suits: 3 native, 2 secondary, 1 none named, 0 foreign.
fn rank(arch: Option<Architecture>, native: Architecture) -> u8 {
    match arch {
        Some(arch) if arch == native => 3,
        Some(arch) if Some(arch) == native.secondary() => 2,
        Some(_) => 0,
        None => 1,
    }
}

impl Entry<'_> {
    /// Orders two entries, the better one greater, as seen from the architecture `native`.
    pub fn compare(&self, other: &Self, native: Architecture) -> Ordering {
        let usable = |entry: &Self| entry.tries.is_none_or(|tries| tries.left > 0);
        let left = |entry: &Self| entry.tries.map_or(u32::MAX, |tries| tries.left);
        let done = |entry: &Self| entry.tries.map_or(u32::MAX, |tries| tries.done);
        usable(self)
            .cmp(&usable(other))
            .then_with(|| version::compare(self.version.as_str(), other.version.as_str()))
            .then_with(|| rank(self.architecture, native).cmp(&rank(other.architecture, native)))
            .then_with(|| left(self).cmp(&left(other)))
            .then_with(|| done(other).cmp(&done(self)))
            .then_with(|| self.name.cmp(other.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Architecture = Architecture::X86_64;

    fn search() -> Search {
        Search::from_path("/x/o.raw.v/", ".raw").unwrap()
    }

    fn pick<'a>(names: &[&'a str], filter: &Filter) -> Option<&'a str> {
        let forth = search().pick(names.iter().copied(), filter);
        let back = search().pick(names.iter().rev().copied(), filter);
        assert_eq!(forth.as_ref().map(|e| e.name), back.map(|e| e.name));
        forth.map(|entry| entry.name)
    }

    #[test]
    fn paths_say_what_to_search() {
        for (path, suffix, directory, basename, found) in [
            ("/x/o.raw.v", ".raw", "/x/o.raw.v", "o", ".raw"),
            ("/x/o.raw.v//", ".raw", "/x/o.raw.v", "o", ".raw"),
            ("o.v", ".raw", "o.v", "o", ".raw"),
            ("/x/o.raw.v", "", "/x/o.raw.v", "o.raw", ""),
            ("/x/o.v/n___.img", ".raw", "/x/o.v", "n", ".img"),
            ("/x/o.v/n___x___.img", "", "/x/o.v", "n___x", ".img"),
            ("o.v/n____raw", "", "o.v", "n_", "raw"),
            ("/x/o.v/___.raw", "", "/x/o.v", "", ".raw"),
        ] {
            let wanted = Search {
                directory: directory.into(),
                basename: basename.into(),
                suffix: found.into(),
            };
            assert_eq!(Search::from_path(path, suffix), Some(wanted), "{path}");
        }
        for plain in [
            "",
            "/",
            "/x/o.raw",
            "/x/o.v/n_1.raw",
            "/x/o/n___.raw",
            "/x/.v",
            "v",
        ] {
            assert_eq!(Search::from_path(plain, ".raw"), None, "{plain}");
        }
    }

    #[test]
    fn names_come_apart_as_systemd_vpick_has_it() {
        use Architecture::{X86, X86_64};
        let tries = |left, done| Some(Tries { left, done });
        for (name, version, arch, counters) in [
            ("o_1.raw", "1", None, None),
            ("o_x.raw", "x", None, None),
            ("o_1~rc1.raw", "1~rc1", None, None),
            ("o_1^p.raw", "1^p", None, None),
            ("o_..raw", ".", None, None),
            ("o_1_.raw", "1", None, None),
            ("o_1_foo.raw", "1", None, None),
            ("o_1_2.raw", "1", None, None),
            ("o_1_amd64.raw", "1", None, None),
            ("o_1_x86.raw", "1", Some(X86), None),
            ("o_1+3.raw", "1", None, tries(3, 0)),
            ("o_1+3-2.raw", "1", None, tries(3, 2)),
            ("o_1+00.raw", "1", None, tries(0, 0)),
            ("o_1+4294967294.raw", "1", None, tries(u32::MAX - 1, 0)),
            ("o_1+4294967295.raw", "1", None, None),
            ("o_1+3-4294967295.raw", "1", None, tries(3, u32::MAX)),
            ("o_1_x86-64+3-1.raw", "1", Some(X86_64), tries(3, 1)),
        ] {
            let entry = search().parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(entry.version.as_str(), version, "{name}");
            assert_eq!(
                (entry.architecture, entry.tries),
                (arch, counters),
                "{name}"
            );
        }
        for stranger in [
            "o.raw",
            "o_.raw",
            "o__.raw",
            "o_+3.raw",
            "o_1,2.raw",
            "o_1+.raw",
            "o_1+x.raw",
            "o_1+1-.raw",
            "o_1+1-x.raw",
            "o_1+-1.raw",
            "o_1+3+4.raw",
            "o_1+4294967296.raw",
            "o_1+3-4294967296.raw",
            "o_1__x86-64.raw",
            "o_1_2_x86-64.raw",
            "o_1 2.raw",
            "oo_1.raw",
            "o_1_x86-64_foo.raw",
            "o_ä.raw",
            "o_1.img",
            "o__x86-64.raw",
        ] {
            assert!(search().parse(stranger).is_none(), "{stranger}");
        }
    }

    #[test]
    fn the_best_is_what_systemd_vpick_prints() {
        let any = Filter::native(NATIVE);
        for (names, best) in [
            (&["o_1.raw", "o_2.raw", "o_10.raw"][..], "o_10.raw"),
            (&["o_1+3.raw", "o_1+3-0.raw"], "o_1+3.raw"),
            (&["o_1+3-0.raw", "o_1+3.raw", "o_1.raw"], "o_1.raw"),
            (&["o_1.raw", "o_01.raw"], "o_1.raw"),
            (&["o_1.raw", "o_1_foo.raw"], "o_1_foo.raw"),
            (&["o_1_9.raw", "o_1_10.raw"], "o_1_9.raw"),
            (&["o_1_x86.raw", "o_1.raw"], "o_1_x86.raw"),
            (&["o_1.raw", "o_1_x86-64.raw"], "o_1_x86-64.raw"),
            (&["o_2+0.raw", "o_1+0.raw", "o_1+0-1.raw"], "o_2+0.raw"),
            (&["o_3+0.raw", "o_1.raw"], "o_1.raw"),
            (&["o_1+1-2.raw", "o_1+1.raw"], "o_1+1.raw"),
            (&["o_1+0.raw", "o_1_x86-64+0-3.raw"], "o_1_x86-64+0-3.raw"),
            (&["o_2_x86+5.raw", "o_2_x86-64+1.raw"], "o_2_x86-64+1.raw"),
            (
                &["o_2_x86-64+1.raw", "o_2_x86-64+2.raw"],
                "o_2_x86-64+2.raw",
            ),
            (&["o_3_arm64.raw", "o_1.raw"], "o_1.raw"),
            (&["oo_9.raw", "o_1.raw", "readme"], "o_1.raw"),
        ] {
            assert_eq!(pick(names, &any), Some(best), "{names:?}");
        }
        assert_eq!(pick(&["o_1_arm64.raw", "readme"], &any), None);
    }

    #[test]
    fn filters_narrow_the_choice() {
        let arch = |architecture| Filter {
            architecture: Some(architecture),
            ..Filter::native(NATIVE)
        };
        let version = |text: &str| Filter {
            version: Some(text.parse().unwrap()),
            ..Filter::native(NATIVE)
        };
        for (names, filter, best) in [
            (&["o_2.raw"][..], arch(NATIVE), None),
            (
                &["o_2.raw", "o_1_x86-64.raw"],
                arch(NATIVE),
                Some("o_1_x86-64.raw"),
            ),
            (&["o_2_x86.raw"], arch(NATIVE), None),
            (
                &["o_1_arm64.raw"],
                arch(Architecture::Arm64),
                Some("o_1_arm64.raw"),
            ),
            (&["o_1.raw", "o_01.raw"], version("01"), Some("o_01.raw")),
            (&["o_1.raw"], version("01"), None),
            (
                &["o_2_arm64.raw", "o_2_x86-64+1.raw"],
                version("2"),
                Some("o_2_x86-64+1.raw"),
            ),
        ] {
            assert_eq!(pick(names, &filter), best, "{names:?} {filter:?}");
        }
        let both = Filter {
            version: Some("3".parse().unwrap()),
            ..arch(Architecture::Arm64)
        };
        assert_eq!(search().direct_name(&both).unwrap(), "o_3_arm64.raw");
        assert_eq!(search().direct_name(&version("3")).unwrap(), "o_3.raw");
        assert_eq!(search().direct_name(&arch(NATIVE)), None);
    }
}
