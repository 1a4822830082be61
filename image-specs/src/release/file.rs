//! Which release file belongs to an image, by their names. Pure.

use super::Release;
use crate::arch::Architecture;

/// The image name by which a file is known: without suffixes of images and compression.
pub fn image_name(file_name: &str) -> &str {
    const SUFFIXES: [&str; 10] = [
        ".xz",
        ".gz",
        ".bz2",
        ".zst",
        ".sysext.raw",
        ".confext.raw",
        ".raw",
        ".qcow2",
        ".img",
        ".bin",
    ];
    let mut name = file_name;
    while let Some(shorter) = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        name = shorter;
    }
    name
}

/// Why a release file and the name of its image's file do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameMismatch {
    /// There is no `IMAGE_ID=`.
    #[error("the image's release file does not say IMAGE_ID=, so {0:?} cannot be checked")]
    NoId(String),
    /// It is another one.
    #[error("the file is called {file:?}, but the image says IMAGE_ID={release:?}")]
    Id {
        /// By the file's name.
        file: String,
        /// By the release file.
        release: String,
    },
    /// The name has a version, the release file none.
    #[error("the file is called version {0:?}, but the image does not say IMAGE_VERSION=")]
    NoVersion(String),
    /// It is another one.
    #[error("the file is called version {file:?}, but the image says IMAGE_VERSION={release:?}")]
    Version {
        /// By the file's name.
        file: String,
        /// By the release file.
        release: String,
    },
}

/// Whether a file `ID[_VERSION][_ARCHITECTURE][+COUNTERS].raw` holds the image that its name says. A
/// name without a version goes with any.
pub fn check_name(file_name: &str, release: &Release) -> Result<(), NameMismatch> {
    let name = image_name(file_name);
    let name = name.rsplit_once('+').map_or(name, |(name, _)| name);
    let (id, version) = name.split_once('_').unwrap_or((name, ""));
    let version = match version.rsplit_once('_') {
        Some((version, word)) if Architecture::from_name(word).is_some() => version,
        None if Architecture::from_name(version).is_some() => "",
        _ => version,
    };
    match release.field("IMAGE_ID") {
        None => return Err(NameMismatch::NoId(id.to_owned())),
        Some(found) if found != id => {
            return Err(NameMismatch::Id {
                file: id.to_owned(),
                release: found.to_owned(),
            });
        }
        Some(_) => {}
    }
    match release.field("IMAGE_VERSION") {
        _ if version.is_empty() => Ok(()),
        None => Err(NameMismatch::NoVersion(version.to_owned())),
        Some(found) if found == version => Ok(()),
        Some(found) => Err(NameMismatch::Version {
            file: version.to_owned(),
            release: found.to_owned(),
        }),
    }
}

/// A file `extension-release.SUFFIX` that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What stands behind `extension-release.`.
    pub suffix: &'a str,
    /// What its xattr `user.extension-release.strict` says; missing or unreadable is true.
    pub strict: bool,
}

/// More than one release file could be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("extension-release.{0} and extension-release.{1} both fit; an image may have one")]
pub struct Ambiguous(pub String, pub String);

/// The release file of the image `name`: the one of exactly this name, else the only one that is
/// for its base name or says that any name will do. `relaxed` takes any only one.
pub fn select<'a>(
    name: &str,
    found: impl IntoIterator<Item = Found<'a>>,
    relaxed: bool,
) -> Result<Option<Found<'a>>, Ambiguous> {
    let base = base_name(name);
    let mut chosen: Option<Found<'a>> = None;
    let mut rival = None;
    for file in found {
        if file.suffix == name {
            return Ok(Some(file));
        }
        if relaxed || !file.strict || file.suffix == base {
            match chosen {
                None => chosen = Some(file),
                Some(_) => rival = rival.or(Some(file)),
            }
        }
    }
    match (chosen, rival) {
        (Some(one), Some(other)) => Err(Ambiguous(one.suffix.into(), other.suffix.into())),
        (chosen, _) => Ok(chosen),
    }
}

/// An image's name without suffix, version and counters.
fn base_name(name: &str) -> &str {
    let name = [".sysext.raw", ".confext.raw", ".raw"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    name.split(['_', '+']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_against_release_files() {
        for (file, text, message) in [
            ("os.raw", "IMAGE_ID=os\nIMAGE_VERSION=3", ""),
            ("os_3.raw", "IMAGE_ID=os\nIMAGE_VERSION=3", ""),
            ("os_3_x86-64+2-1.raw", "IMAGE_ID=os\nIMAGE_VERSION=3", ""),
            ("os_x86-64.raw", "IMAGE_ID=os", ""),
            ("os_3.raw", "ID=debian", "does not say IMAGE_ID="),
            ("os_3.raw", "IMAGE_ID=box", "says IMAGE_ID=\"box\""),
            ("os_3.raw", "IMAGE_ID=os", "does not say IMAGE_VERSION="),
            (
                "os_3.raw",
                "IMAGE_ID=os\nIMAGE_VERSION=4",
                "says IMAGE_VERSION=\"4\"",
            ),
        ] {
            let release = Release::parse(text.as_bytes()).unwrap();
            let found = check_name(file, &release);
            let found = found.map_or_else(|error| error.to_string(), |()| String::new());
            assert!(found.contains(message), "{file} {text}: {found}");
            assert_eq!(
                found.is_empty(),
                message.is_empty(),
                "{file} {text}: {found}"
            );
        }
    }

    #[test]
    fn release_files_are_found_by_name() {
        for (file, name) in [
            ("foo.raw", "foo"),
            ("foo.sysext.raw.xz", "foo"),
            ("foo_1.2.img.zst", "foo_1.2"),
            ("foo", "foo"),
        ] {
            assert_eq!(image_name(file), name);
        }
        let file = |suffix, strict| Found { suffix, strict };
        for (found, relaxed, answer) in [
            (
                vec![file("a_1", true), file("a", true), file("b", false)],
                false,
                Some("a_1"),
            ),
            (vec![file("a", true), file("b", true)], false, Some("a")),
            (vec![file("b", false), file("c", true)], false, Some("b")),
            (vec![file("b", true)], false, None),
            (vec![file("b", true)], true, Some("b")),
            (vec![], true, None),
        ] {
            let chosen = select("a_1", found, relaxed).unwrap();
            assert_eq!(chosen.map(|file| file.suffix), answer);
        }
        let two = [file("b", false), file("a", true)];
        assert_eq!(
            select("a+3", two, false),
            Err(Ambiguous("b".into(), "a".into()))
        );
    }
}
