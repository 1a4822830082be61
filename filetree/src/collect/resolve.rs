//! Following a path inside a root, as the kernel's `RESOLVE_IN_ROOT` does: `..` and absolute
//! symlinks stop at the root. One walk for the host's files and for the tree being built. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// As many symlinks as the kernel follows in one path.
const LINKS: usize = 40;

/// What a path's next name leads to.
pub(super) enum Step<T> {
    Missing,
    Directory(T),
    Other(T),
    Link(OsString),
}

/// Why a path leads nowhere.
pub(super) enum Lost<E> {
    Loop,
    NotDirectory,
    Failed(E),
}

/// Where a path leads.
pub(super) struct Resolved<T> {
    /// Absolute within the root, free of symlinks.
    pub(super) path: PathBuf,
    /// The names that do not exist, from the first missing one on; then `at` is the last directory
    /// that does.
    pub(super) missing: Vec<OsString>,
    pub(super) at: T,
}

/// Follows `path` from `root`, every symlink included.
pub(super) fn resolve<T: Clone, E>(
    root: T,
    path: &Path,
    mut step: impl FnMut(&T, &Path, &OsStr) -> Result<Step<T>, E>,
) -> Result<Resolved<T>, Lost<E>> {
    let mut links = 0;
    let mut todo = names(path.as_os_str());
    let mut above = vec![root];
    let mut done = PathBuf::from("/");
    let mut missing = Vec::new();
    let mut ended = false;
    while let Some(name) = todo.pop() {
        if ended {
            return Err(Lost::NotDirectory);
        }
        if name == ".." {
            if missing.pop().is_none() && above.len() > 1 {
                above.pop();
                done.pop();
            }
            continue;
        }
        if !missing.is_empty() {
            missing.push(name);
            continue;
        }
        let at = above.last().ok_or(Lost::Loop)?;
        match step(at, &done, &name).map_err(Lost::Failed)? {
            Step::Missing => missing.push(name),
            Step::Link(target) => {
                links += 1;
                if links > LINKS {
                    return Err(Lost::Loop);
                }
                if target.as_bytes().first() == Some(&b'/') {
                    above.truncate(1);
                    done = PathBuf::from("/");
                }
                todo.extend(names(&target));
            }
            found @ (Step::Directory(_) | Step::Other(_)) => {
                ended = matches!(found, Step::Other(_));
                let (Step::Directory(next) | Step::Other(next)) = found else {
                    continue;
                };
                above.push(next);
                done.push(name);
            }
        }
    }
    let at = above.pop().ok_or(Lost::Loop)?;
    Ok(Resolved {
        path: done,
        missing,
        at,
    })
}

/// A path's names, last first, without `.` and empty ones.
fn names(path: &OsStr) -> Vec<OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .rev()
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}
