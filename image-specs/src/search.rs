//! Which configuration files count (UAPI.6): the one of highest priority of each name, unless it is
//! masked, with its drop-ins. Pure: works on listings that the caller has read.

use std::collections::BTreeMap;

/// Where configuration lies, highest priority first; each is followed by the name of a folder.
pub const PREFIXES: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];

/// What stands behind a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file to read.
    File,
    /// An empty file or a link to `/dev/null`, which hides those of lower priority.
    Mask,
}

/// A directory of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing<P> {
    /// The files in it.
    pub files: Vec<Found<P>>,
    /// Folders `NAME.conf.d`, by the name of the file that they belong to, with the files in them.
    pub drop_ins: BTreeMap<String, Vec<Found<P>>>,
}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<P> {
    /// Base name.
    pub name: String,
    /// Whether it is to be read.
    pub kind: Kind,
    /// How the caller finds it again.
    pub place: P,
}

/// A file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<P> {
    /// Base name.
    pub name: String,
    /// The file.
    pub place: P,
    /// Its drop-ins, in the order in which they apply.
    pub drop_ins: Vec<P>,
}

/// Selects the files named `*suffix`, sorted by name; listings stand in priority order, highest first.
///
/// The drop-ins of a file come from every listing; a drop-in folder without a main file says nothing.
pub fn select<P: Clone>(listings: &[Listing<P>], suffix: &str) -> Vec<Selected<P>> {
    let files = listings.iter().flat_map(|listing| &listing.files);
    let selected = winners(files, suffix).into_iter().map(|(name, place)| {
        let folders = listings
            .iter()
            .filter_map(|listing| listing.drop_ins.get(name));
        Selected {
            name: name.to_owned(),
            place: place.clone(),
            drop_ins: winners(folders.flatten(), ".conf")
                .into_values()
                .cloned()
                .collect(),
        }
    });
    selected.collect()
}

/// The first file of each name, by name, without those that are masked.
fn winners<'a, P>(
    files: impl Iterator<Item = &'a Found<P>>,
    suffix: &str,
) -> BTreeMap<&'a str, &'a P> {
    let mut first: BTreeMap<&str, &Found<P>> = BTreeMap::new();
    // A hidden file is none of ours, whatever its suffix.
    let ours = |file: &&Found<P>| file.name.ends_with(suffix) && !file.name.starts_with('.');
    for file in files.filter(ours) {
        first.entry(&file.name).or_insert(file);
    }
    let read = first
        .into_iter()
        .filter(|(_, file)| file.kind == Kind::File);
    read.map(|(name, file)| (name, &file.place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(directory: &str, name: &str) -> Found<String> {
        let (name, kind) = match name.strip_prefix('!') {
            Some(name) => (name, Kind::Mask),
            None => (name, Kind::File),
        };
        Found {
            name: name.to_owned(),
            kind,
            place: format!("{directory}/{name}"),
        }
    }

    fn listing(directory: &str, files: &[&str], drop_ins: &[(&str, &[&str])]) -> Listing<String> {
        let drop_ins = drop_ins.iter().map(|(main, files)| {
            let folder = format!("{directory}/{main}.d");
            let files = files.iter().map(|name| found(&folder, name)).collect();
            ((*main).to_owned(), files)
        });
        Listing {
            files: files.iter().map(|name| found(directory, name)).collect(),
            drop_ins: drop_ins.collect(),
        }
    }

    #[test]
    fn the_highest_of_each_name_counts() {
        let listings = [
            listing(
                "e",
                &["b.conf", "!c.conf", "x.txt", ".h.conf"],
                &[("a.conf", &["2.conf", "!3.conf"])],
            ),
            listing(
                "u",
                &["a.conf", "b.conf", "c.conf"],
                &[
                    ("a.conf", &["1.conf", "2.conf", "3.conf", "4.txt"]),
                    ("z.conf", &["1.conf"]),
                ],
            ),
        ];
        let selected = select(&listings, ".conf");
        let lines: Vec<_> = selected
            .iter()
            .map(|file| format!("{} {:?}", file.place, file.drop_ins))
            .collect();
        assert_eq!(
            lines,
            [
                r#"u/a.conf ["u/a.conf.d/1.conf", "e/a.conf.d/2.conf"]"#,
                "e/b.conf []"
            ]
        );
    }
}
