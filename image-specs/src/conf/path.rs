//! Paths in values: absolute, normalised, short enough for the kernel.

/// A path that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path is not absolute")]
    Relative,
    /// It has a `..` component.
    #[error("the path contains \"..\"")]
    Parent,
    /// 4096 bytes or more, or a component of more than 255.
    #[error("the path, or a part of it, is too long")]
    TooLong,
}

const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// Checks an absolute path and removes double slashes, `.` components, `..` right behind the root,
/// and the slash at the end (which `keep_slash` leaves).
pub fn absolute_path(text: &str, keep_slash: bool) -> Result<String, PathError> {
    if !text.starts_with('/') {
        return Err(PathError::Relative);
    }
    let mut path = String::new();
    for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." && path.is_empty() {
            continue;
        }
        if part == ".." {
            return Err(PathError::Parent);
        }
        if part.len() > LONGEST_NAME {
            return Err(PathError::TooLong);
        }
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() || keep_slash && text.ends_with('/') {
        path.push('/');
    }
    if path.len() > LONGEST_PATH {
        return Err(PathError::TooLong);
    }
    Ok(path)
}

/// Whether a name can be that of a file in a directory.
pub fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= LONGEST_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_simplified() {
        for (text, keep, path) in [
            ("/", false, "/"),
            ("//", true, "/"),
            ("/a//b/./c/", false, "/a/b/c"),
            ("/a//b/", true, "/a/b/"),
            ("/.", false, "/"),
            ("/...", false, "/..."),
            ("/../b", false, "/b"),
        ] {
            assert_eq!(absolute_path(text, keep).as_deref(), Ok(path), "{text}");
        }
        let name = format!("/{}", "n".repeat(256));
        let long = "/n".repeat(2048);
        for (text, error) in [
            ("", PathError::Relative),
            ("a/b", PathError::Relative),
            ("/a/../b", PathError::Parent),
            ("/a/..", PathError::Parent),
            (name.as_str(), PathError::TooLong),
            (long.as_str(), PathError::TooLong),
        ] {
            assert_eq!(absolute_path(text, false), Err(error), "{text}");
        }
    }

    #[test]
    fn file_names_are_single_components() {
        for (name, good) in [("ext4", true), ("", false), ("..", false), ("a/b", false)] {
            assert_eq!(is_file_name(name), good, "{name}");
        }
    }
}
