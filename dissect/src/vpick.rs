//! A path to something versioned, and the newest version that it stands for (systemd.v(7)): every
//! argument that names an image may name a `.v/` directory instead.
//!
//! Only reads: the directory is listed, and of each name that fits, what kind of inode it leads to.
//! The choice itself is [`image_specs::vpick`]'s, which is pure.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use image_specs::arch::Architecture;
use image_specs::version::Version;
use image_specs::vpick::{Entry, Filter, Search, Tries};
use rustix::io::Errno;

/// What a name leads to, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inode {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// A named pipe.
    Fifo,
    /// A block device.
    Block,
    /// A character device.
    Character,
    /// A symbolic link. Links are followed, so nothing is ever found to be one.
    Link,
}

/// One form that is looked for: names with this ending that lead to these kinds of inode.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// The kinds; any, where there are none.
    pub kinds: &'a [Inode],
    /// What names end in, as `.raw`; may be empty. A path of the form `NAME___SUFFIX` overrides it.
    pub suffix: &'a str,
}

/// The forms that a disk image has: a file or block device named `.raw`, or a directory.
pub const IMAGE: &[Form<'_>] = &[
    Form {
        kinds: &[Inode::Regular, Inode::Block],
        suffix: ".raw",
    },
    Form {
        kinds: &[Inode::Directory],
        suffix: "",
    },
];

/// What a path stands for.
#[derive(Clone, Debug)]
pub struct Picked {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: Inode,
    /// Its version; `None` where the path named one thing as it is.
    pub version: Option<Version>,
    /// The architecture that its name says.
    pub architecture: Option<Architecture>,
    /// The counters that its name says.
    pub tries: Option<Tries>,
}

/// A path does not lead to where it says.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct PickError {
    /// What was tried.
    pub action: &'static str,
    /// With which file or directory.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// What `path` stands for: the best version in its `.v/` directory, or itself if it names none.
///
/// `None` where nothing there has one of the `forms` and passes the `filter`. A path that is not
/// versioned passes every filter and needs only to be of the right kind.
pub fn resolve(
    path: &Path,
    forms: &[Form<'_>],
    filter: &Filter,
) -> Result<Option<Picked>, PickError> {
    let places = forms
        .iter()
        .map(|form| (Place::of(path, form.suffix), form));
    let places: Vec<_> = places
        .filter_map(|(place, form)| Some((place?, form)))
        .collect();
    match places.is_empty() {
        true => plain(path, forms),
        false => best(places, filter),
    }
}

/// The best version in `directory`, whatever its own name, of what is called `basename`.
///
/// An empty `basename` means anything.
pub fn resolve_in(
    directory: &Path,
    basename: &str,
    form: &Form<'_>,
    filter: &Filter,
) -> Result<Option<Picked>, PickError> {
    let place = Place {
        directory: directory.to_owned(),
        search: Search {
            directory: String::new(),
            basename: basename.to_owned(),
            suffix: form.suffix.to_owned(),
        },
        only_directories: false,
    };
    best(vec![(place, form)], filter)
}

impl Inode {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Regular,
        Self::Directory,
        Self::Socket,
        Self::Fifo,
        Self::Block,
        Self::Character,
        Self::Link,
    ];

    /// The short name that systemd's tools have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "reg",
            Self::Directory => "dir",
            Self::Socket => "sock",
            Self::Fifo => "fifo",
            Self::Block => "blk",
            Self::Character => "chr",
            Self::Link => "lnk",
        }
    }

    /// The kind of that short name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn of(kind: FileType) -> Self {
        match kind {
            kind if kind.is_dir() => Self::Directory,
            kind if kind.is_symlink() => Self::Link,
            kind if kind.is_block_device() => Self::Block,
            kind if kind.is_char_device() => Self::Character,
            kind if kind.is_fifo() => Self::Fifo,
            kind if kind.is_socket() => Self::Socket,
            _ => Self::Regular,
        }
    }
}

impl Form<'_> {
    fn takes(&self, kind: Inode) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// Where to look, and for which names.
#[derive(Clone, Debug)]
struct Place {
    directory: PathBuf,
    search: Search,
    /// The path ends in a slash after its pattern.
    only_directories: bool,
}

impl Place {
    /// What a path asks for. The rules look at its last two parts only; the last must be text.
    fn of(path: &Path, suffix: &str) -> Option<Self> {
        let mut parts = path.components();
        let Component::Normal(last) = parts.next_back()? else {
            return None;
        };
        let parent = parts.as_path();
        let folder = match parts.next_back() {
            Some(Component::Normal(folder)) => folder.to_string_lossy(),
            _ => "".into(),
        };
        let search = Search::from_path(&format!("{folder}/{}", last.to_str()?), suffix)?;
        let pattern = search.directory == folder;
        let slash = path.as_os_str().as_bytes().ends_with(b"/");
        Some(Self {
            directory: match pattern {
                true => parent.components().collect(),
                false => path.to_owned(),
            },
            search,
            only_directories: pattern && slash,
        })
    }

    fn takes(&self, form: &Form<'_>, kind: Inode) -> bool {
        form.takes(kind) && (!self.only_directories || kind == Inode::Directory)
    }
}

/// The best over several forms of one directory.
fn best(places: Vec<(Place, &Form<'_>)>, filter: &Filter) -> Result<Option<Picked>, PickError> {
    let mut best: Option<Picked> = None;
    for (place, form) in places {
        let found = best_of(&place, form, filter)?;
        if let Some(found) = found.filter(|new| is_better(new, best.as_ref(), filter.native)) {
            best = Some(found);
        }
    }
    Ok(best)
}

fn best_of(place: &Place, form: &Form<'_>, filter: &Filter) -> Result<Option<Picked>, PickError> {
    let names = survey(place, form)?;
    let picked = |(name, kind): (&str, Inode), entry: Entry<'_>| Picked {
        path: place.directory.join(name),
        kind,
        version: Some(entry.version),
        architecture: entry.architecture,
        tries: entry.tries,
    };
    let entry = place
        .search
        .pick(names.iter().map(|(name, _)| &**name), filter);
    Ok(entry.and_then(|entry| {
        let (name, kind) = names.iter().find(|(name, _)| name == entry.name)?;
        Some(picked((name, *kind), entry))
    }))
}

/// The names that are looked for and lead to the right kind.
///
/// A link that leads nowhere is left out: one broken version must not hide the others.
fn survey(place: &Place, form: &Form<'_>) -> Result<Vec<(String, Inode)>, PickError> {
    let failed = |source| PickError {
        action: "list",
        path: place.directory.clone(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&place.directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if place.search.parse(&name).is_none() {
            continue;
        }
        let kind = kind(&entry).map_err(|source| PickError {
            action: "examine",
            path: entry.path(),
            source,
        })?;
        found.extend(
            kind.filter(|kind| place.takes(form, *kind))
                .map(|kind| (name, kind)),
        );
    }
    Ok(found)
}

/// What a directory entry leads to; `None` for nowhere.
fn kind(entry: &fs::DirEntry) -> io::Result<Option<Inode>> {
    let kind = entry.file_type()?;
    if !kind.is_symlink() {
        return Ok(Some(Inode::of(kind)));
    }
    match fs::metadata(entry.path()) {
        Ok(metadata) => Ok(Some(Inode::of(metadata.file_type()))),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

fn is_better(new: &Picked, old: Option<&Picked>, native: Architecture) -> bool {
    old.and_then(|old| Some(new.entry()?.compare(&old.entry()?, native)))
        .is_none_or(|order| order == Ordering::Greater)
}

impl Picked {
    fn entry(&self) -> Option<Entry<'_>> {
        Some(Entry {
            name: self.path.file_name().and_then(OsStr::to_str)?,
            version: self.version.clone()?,
            architecture: self.architecture,
            tries: self.tries,
        })
    }
}

/// A path that names one thing, as it is.
fn plain(path: &Path, forms: &[Form<'_>]) -> Result<Option<Picked>, PickError> {
    let metadata = fs::metadata(path).map_err(|source| PickError {
        action: "open",
        path: path.to_owned(),
        source,
    })?;
    let kind = Inode::of(metadata.file_type());
    Ok(forms.iter().any(|form| form.takes(kind)).then(|| Picked {
        path: path.to_owned(),
        kind,
        version: None,
        architecture: None,
        tries: None,
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ANY: Form<'_> = Form {
        kinds: &[],
        suffix: ".raw",
    };

    fn filter() -> Filter {
        Filter::native(Architecture::X86_64)
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match file.ends_with('/') {
                true => fs::create_dir(path).unwrap(),
                false => fs::write(path, "").unwrap(),
            }
        }
        root
    }

    /// What `path` below `root` is resolved to, relative to `root`.
    fn image(root: &Path, path: &str) -> Option<String> {
        let picked = resolve(&root.join(path), IMAGE, &filter()).unwrap()?;
        let inner = picked.path.strip_prefix(root).unwrap();
        Some(inner.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_image_may_be_a_file_or_a_directory() {
        let root = tree(&[
            "i.v/i_1.raw",
            "i.v/i_2/",
            "i.v/i_3",
            "i.v/i_0.raw/",
            "p",
            "d/",
        ]);
        for (path, found) in [
            ("i.v", Some("i.v/i_2")),
            ("i.v/i___.raw", Some("i.v/i_1.raw")),
            ("i.v/i___", Some("i.v/i_3")),
            ("p", Some("p")),
            ("d", Some("d")),
            ("i.v/i_1.raw", Some("i.v/i_1.raw")),
            ("i.v/x___", None),
        ] {
            assert_eq!(image(root.path(), path).as_deref(), found, "{path}");
        }
    }

    #[test]
    fn broken_links_and_strange_names_hide_nothing() {
        let root = tree(&["o.raw.v/o_1.raw"]);
        let folder = root.path().join("o.raw.v");
        symlink("gone", folder.join("o_2.raw")).unwrap();
        symlink("o_3.raw", folder.join("o_3.raw")).unwrap();
        fs::write(folder.join(OsStr::from_bytes(b"o_9\xff.raw")), "").unwrap();
        assert_eq!(
            image(root.path(), "o.raw.v").as_deref(),
            Some("o.raw.v/o_1.raw")
        );
    }

    #[test]
    fn parts_before_the_last_two_need_not_be_text() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(OsStr::from_bytes(b"\xff/o.raw.v"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("o_1.raw"), "").unwrap();
        let picked = resolve(&folder, &[ANY], &filter()).unwrap().unwrap();
        assert_eq!(picked.path, folder.join("o_1.raw"));
        assert_eq!(picked.version.unwrap().as_str(), "1");
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        for (path, text) in [
            ("/gone/o.raw.v", "cannot list /gone/o.raw.v"),
            ("/gone/o.v/o___.raw", "cannot list /gone/o.v"),
            ("/gone/o.raw", "cannot open /gone/o.raw"),
        ] {
            let error = resolve(Path::new(path), &[ANY], &filter()).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn kinds_have_the_names_of_systemd() {
        for kind in Inode::ALL {
            assert_eq!(Inode::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Inode::from_name("file"), None);
    }
}
