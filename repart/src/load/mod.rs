//! Reading what definitions are made from: directories of definition files, and the values of
//! specifiers. Effects only; what the files mean is [`crate::definition`]'s.
//!
//! Below a root directory, no path and no symlink leads out of it (openat2, `RESOLVE_IN_ROOT`).

mod directory;
mod values;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use image_specs::definitions::Ddi;
use image_specs::search::{Found, Listing, PREFIXES, select};

use crate::definition::{CREDENTIAL_PREFIX, DefinitionSet, Source};
use directory::Root;
pub use values::values;

/// Where definitions are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// `repart.d` in the four configuration directories.
    System,
    /// The same, with the credentials `repart.d.NAME` in this folder of the host, which count less
    /// than `/etc` and more than `/run`.
    SystemAnd(&'a Path),
    /// `--definitions=`: these and no others, never below `--root=`.
    Directories(&'a [PathBuf]),
    /// `--make-ddi=`: the installed ones, or those that are built in.
    Ddi(Ddi),
}

/// Something cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} {}: {source}", path.display())]
pub struct LoadError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl LoadError {
    fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self { what, path, source }
    }
}

/// Reads the definition files that count, in the order of their names. A directory that does not
/// exist holds none.
///
/// # Errors
/// Where a directory or a file in it exists but cannot be read.
pub fn sources(place: Place<'_>, root: Option<&Path>) -> Result<Vec<Source>, LoadError> {
    match place {
        Place::System => read_all(&Root::open(root)?, &system()),
        Place::SystemAnd(folder) => {
            let (root, host) = (Root::open(root)?, Root::open(None)?);
            let mut listings = list(&root, &system())?;
            listings.insert(1, credentials(&host, folder)?);
            read_selected(&listings)
        }
        Place::Directories(directories) => {
            let directories = directories.iter().map(|directory| {
                std::path::absolute(directory)
                    .map_err(|error| LoadError::new("directory", directory, error))
            });
            let directories = directories.collect::<Result<Vec<_>, _>>()?;
            read_all(&Root::open(None)?, &directories)
        }
        Place::Ddi(kind) => {
            let folder = kind.directory();
            let directories = PREFIXES.map(|prefix| Path::new(prefix).join(&folder));
            let found = read_all(&Root::open(None)?, &directories)?;
            if found.is_empty() {
                return Ok(built_in(kind));
            }
            Ok(found)
        }
    }
}

/// The built-in definitions, under the names they would have if they were installed.
fn built_in(kind: Ddi) -> Vec<Source> {
    let directory = Path::new("/usr/lib").join(kind.directory());
    let files = kind.files().into_iter().map(|(name, text)| Source {
        path: directory.join(name),
        text: text.as_bytes().to_vec(),
        drop_ins: Vec::new(),
    });
    files.collect()
}

/// The four configuration directories, highest priority first.
fn system() -> [PathBuf; 4] {
    PREFIXES.map(|prefix| Path::new(prefix).join("repart.d"))
}

/// A file, and the root directory that its path begins at.
#[derive(Clone, Debug)]
struct Located<'a> {
    root: &'a Root,
    path: PathBuf,
}

fn list<'a>(
    root: &'a Root,
    directories: &[PathBuf],
) -> Result<Vec<Listing<Located<'a>>>, LoadError> {
    let locate = |found: Found<PathBuf>| Found {
        name: found.name,
        kind: found.kind,
        place: Located {
            root,
            path: found.place,
        },
    };
    let all = |files: Vec<Found<PathBuf>>| files.into_iter().map(locate).collect();
    let listings = directories.iter().map(|directory| {
        let listing = root.list(directory)?;
        let drop_ins = listing.drop_ins.into_iter();
        Ok(Listing {
            files: all(listing.files),
            drop_ins: drop_ins.map(|(name, files)| (name, all(files))).collect(),
        })
    });
    listings.collect()
}

/// The credentials `repart.d.NAME`, as if they were files `NAME.conf`.
fn credentials<'a>(host: &'a Root, folder: &Path) -> Result<Listing<Located<'a>>, LoadError> {
    let listings = list(host, &[folder.to_owned()])?.into_iter();
    let mut files: Vec<_> = listings.flat_map(|listing| listing.files).collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let named = files.into_iter().filter_map(|file| {
        let name = file.name.strip_prefix(CREDENTIAL_PREFIX)?;
        let name = name.strip_suffix(".conf").unwrap_or(name);
        let name = Some(name).filter(|name| !name.is_empty())?;
        Some(Found {
            name: format!("{name}.conf"),
            ..file
        })
    });
    Ok(Listing {
        files: named.collect(),
        drop_ins: BTreeMap::new(),
    })
}

fn read_all(root: &Root, directories: &[PathBuf]) -> Result<Vec<Source>, LoadError> {
    read_selected(&list(root, directories)?)
}

fn read_selected(listings: &[Listing<Located<'_>>]) -> Result<Vec<Source>, LoadError> {
    let read = |file: Located<'_>| Ok((file.root.outside(&file.path), file.root.read(&file.path)?));
    let sources = select(listings, ".conf").into_iter().map(|file| {
        let (path, text) = read(file.place)?;
        let drop_ins = file.drop_ins.into_iter().map(read);
        Ok(Source {
            path,
            text,
            drop_ins: drop_ins.collect::<Result<_, _>>()?,
        })
    });
    sources.collect()
}

/// Reads the files that `KeyFile=` names.
///
/// # Errors
/// Where one of them cannot be read.
pub fn key_files(set: &DefinitionSet) -> Result<BTreeMap<PathBuf, Vec<u8>>, LoadError> {
    let files = set
        .definitions
        .iter()
        .filter_map(|d| d.encryption.key_file.as_ref());
    let read = files.map(|path| {
        let key = std::fs::read(path).map_err(|error| LoadError::new("key file", path, error))?;
        Ok((path.clone(), key))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn lines(sources: &[Source], root: &Path) -> Vec<String> {
        let short = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        let line = |source: &Source| {
            let drop_ins: Vec<_> = source
                .drop_ins
                .iter()
                .map(|(path, _)| short(path))
                .collect();
            let text = String::from_utf8_lossy(&source.text).into_owned();
            format!("{} {text} {}", short(&source.path), drop_ins.join(" "))
        };
        sources.iter().map(line).collect()
    }

    #[test]
    fn the_four_directories_are_read_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&root.join("usr/lib/repart.d/10-a.conf"), "low");
        write(&root.join("etc/repart.d/10-a.conf"), "high");
        write(&root.join("usr/lib/repart.d/20-b.conf"), "b");
        write(&root.join("usr/lib/repart.d/30-c.conf"), "c");
        write(&root.join("usr/lib/repart.d/40-d.conf"), "d");
        write(&root.join("run/repart.d/30-c.conf"), "");
        write(&root.join("usr/local/lib/repart.d/10-a.conf.d/2.conf"), "x");
        write(&root.join("usr/lib/repart.d/10-a.conf.d/1.conf"), "y");
        write(&root.join("usr/lib/repart.d/10-a.conf.d/2.conf"), "z");
        write(&root.join("usr/lib/repart.d/folder.conf/x"), "z");
        symlink("/dev/null", root.join("etc/repart.d/40-d.conf")).unwrap();
        symlink("20-b.conf", root.join("usr/lib/repart.d/50-e.conf")).unwrap();
        symlink(
            "/usr/lib/repart.d/20-b.conf",
            root.join("usr/lib/repart.d/60-f.conf"),
        )
        .unwrap();
        symlink("/nowhere", root.join("usr/lib/repart.d/70-g.conf")).unwrap();
        symlink(
            "../../../../../../../../etc/passwd",
            root.join("usr/lib/repart.d/80-h.conf"),
        )
        .unwrap();
        let found = sources(Place::System, Some(root)).unwrap();
        assert_eq!(
            lines(&found, root),
            [
                "etc/repart.d/10-a.conf high usr/lib/repart.d/10-a.conf.d/1.conf usr/local/lib/repart.d/10-a.conf.d/2.conf",
                "usr/lib/repart.d/20-b.conf b ",
                "usr/lib/repart.d/50-e.conf b ",
                "usr/lib/repart.d/60-f.conf b ",
            ]
        );
    }

    #[test]
    fn credentials_stand_between_etc_and_run() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        write(&root.join("etc/repart.d/10-a.conf"), "etc");
        for name in ["10-a", "20-b", "30-c"] {
            write(&root.join(format!("run/repart.d/{name}.conf")), "run");
        }
        write(&root.join("usr/lib/repart.d/20-b.conf.d/1.conf"), "x");
        let credentials = folder.path().join("credentials");
        write(&credentials.join("repart.d.10-a.conf"), "credential");
        write(&credentials.join("repart.d.20-b.conf"), "credential");
        write(&credentials.join("repart.d.30-c"), "");
        write(&credentials.join("repart.d.40-d"), "credential");
        write(&credentials.join("repart.d."), "nameless");
        write(&credentials.join("repart.seed"), "x");
        write(&credentials.join("other.conf"), "x");
        let found = sources(Place::SystemAnd(&credentials), Some(&root)).unwrap();
        assert_eq!(
            lines(&found, folder.path()),
            [
                "root/etc/repart.d/10-a.conf etc ",
                "credentials/repart.d.20-b.conf credential root/usr/lib/repart.d/20-b.conf.d/1.conf",
                "credentials/repart.d.40-d credential ",
            ]
        );
        let missing = folder.path().join("missing");
        let found = sources(Place::SystemAnd(&missing), Some(&root)).unwrap();
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn definitions_directories_replace_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(&root.join("one/10-a.conf"), "one");
        write(&root.join("two/10-a.conf"), "two");
        write(&root.join("two/10-a.conf.d/1.conf"), "drop-in");
        let directories = [root.join("one"), root.join("two"), root.join("missing")];
        let found = sources(
            Place::Directories(&directories),
            Some(Path::new("/nowhere")),
        )
        .unwrap();
        assert_eq!(
            lines(&found, root),
            ["one/10-a.conf one two/10-a.conf.d/1.conf"]
        );
        let file = [root.join("one/10-a.conf")];
        let error = sources(Place::Directories(&file), None).unwrap_err();
        assert!(
            error.to_string().contains("cannot read directory"),
            "{error}"
        );
    }

    #[test]
    fn built_in_definitions_parse() {
        use crate::definition::{Settings, read};
        let settings = Settings::new(image_specs::arch::Architecture::X86_64);
        for kind in Ddi::ALL {
            let set = read(Vec::new(), &built_in(kind), &settings).unwrap();
            assert_eq!((set.definitions.len(), set.warnings.len()), (3, 0));
            assert_eq!(set.verity_sets.len(), 1);
        }
    }
}
