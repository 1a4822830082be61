//! An image that is named by the `.v/` directory of its versions.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dissect::vpick;
use image_specs::vpick::Filter;

use super::action::Action;
use crate::exit::Failure;
use crate::surroundings;

/// Puts the best version in the place of every `.v/` directory that names an image.
pub(super) fn versions(mut action: Action) -> Result<Action, Failure> {
    for path in action.images() {
        if !is_versioned(path) {
            continue;
        }
        let filter = Filter {
            native: surroundings::architecture()?,
            architecture: None,
            version: None,
        };
        let picked = vpick::resolve(path, vpick::IMAGE, &filter)?;
        let picked = picked.ok_or_else(|| {
            Failure::message(format!(
                "there is no version of an image in {}",
                path.display()
            ))
            .with_hint(
                "in NAME.raw.v/ they are called NAME_VERSION.raw, in NAME.v/ they are directories",
            )
        })?;
        *path = picked.path;
    }
    Ok(action)
}

/// Whether the last part of the path, or the one before, ends in `.v`.
fn is_versioned(path: &Path) -> bool {
    let versioned = |path: &Path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.len() > 2 && name.ends_with(b".v")
    };
    versioned(path) || path.parent().is_some_and(versioned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_versions_are_looked_into() {
        for (path, expected) in [
            ("a.raw", false),
            ("a.raw.v", true),
            ("a.raw.v/", true),
            ("x.v/a___.raw", true),
            (".v", false),
            ("x.v/a/b.raw", false),
        ] {
            assert_eq!(is_versioned(Path::new(path)), expected, "{path}");
        }
    }
}
