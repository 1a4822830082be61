//! Which release file belongs to an image, by their names. Pure.

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
