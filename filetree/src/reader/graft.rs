//! Several file systems as one tree, as if they were mounted into each other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Entry, Follow, Place, ReadError, Reader, ResolveError, Visit, resolve};
use crate::tree::{Inode, Metadata, Name};

/// The volume of directories that are in no file system.
const MADE: u16 = u16::MAX;

/// File systems that are grafted into each other. The first is the root, or an empty directory is.
#[derive(Debug)]
pub struct Grafted {
    volumes: Vec<Arc<dyn Reader>>,
    root: Place,
    /// What stands in the place of a directory.
    covers: HashMap<Place, Place>,
    /// Directories that are made because a mount point is not there, by their number.
    made: Vec<Inode>,
    /// Names that are added to directories.
    added: HashMap<Place, BTreeMap<Name, Place>>,
}

impl Grafted {
    /// Begins with the file system of the root, or without one: then with an empty directory, as a
    /// tmpfs is.
    pub fn new(root: Option<Arc<dyn Reader>>) -> Self {
        let mut new = Self {
            volumes: Vec::new(),
            root: Place {
                volume: MADE,
                inode: 0,
            },
            covers: HashMap::new(),
            made: Vec::new(),
            added: HashMap::new(),
        };
        new.root = match root {
            Some(reader) => new.volume(reader),
            None => new.make(),
        };
        new
    }

    /// Puts a file system where `path` leads to, and makes directories that are missing on the way.
    pub fn graft(&mut self, path: &[u8], reader: Arc<dyn Reader>) -> Result<(), ResolveError> {
        let point = self.mount_point(path)?;
        let root = self.volume(reader);
        self.covers.insert(point, root);
        Ok(())
    }

    /// Whether something is at `path`, and if it is a directory, whether that has entries.
    pub fn is_populated(&self, path: &[u8]) -> Result<Option<bool>, ResolveError> {
        let found = match resolve(self, path, Follow::Yes) {
            Ok(found) => found,
            Err(ResolveError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if found.inode.entries().is_none() {
            return Ok(Some(true));
        }
        let mut any = false;
        self.entries(found.place, &mut |_| {
            any = true;
            Ok(())
        })?;
        Ok(Some(any))
    }

    fn volume(&mut self, reader: Arc<dyn Reader>) -> Place {
        let volume = u16::try_from(self.volumes.len()).unwrap_or(MADE);
        let root = reader.root();
        self.volumes.push(reader);
        Place { volume, ..root }
    }

    fn make(&mut self) -> Place {
        let inode = u64::try_from(self.made.len()).unwrap_or(u64::MAX);
        self.made.push(Inode::directory(Metadata {
            mode: 0o755,
            ..Metadata::default()
        }));
        Place {
            volume: MADE,
            inode,
        }
    }

    /// The directory at `path`, made where it is missing.
    fn mount_point(&mut self, path: &[u8]) -> Result<Place, ResolveError> {
        let mut reached: Vec<u8> = Vec::new();
        let mut at = self.root;
        for name in path.split(|byte| *byte == b'/') {
            if name.is_empty() {
                continue;
            }
            reached.push(b'/');
            reached.extend_from_slice(name);
            at = match resolve(self, &reached, Follow::Yes) {
                Ok(found) if found.inode.entries().is_some() => found.place,
                Ok(found) => return Err(ResolveError::NotDirectory(found.path)),
                Err(error @ ResolveError::Missing(_)) => {
                    // A symlink that leads nowhere has the name, but no place for a directory.
                    if self.lookup(at, name)?.is_some() {
                        return Err(error);
                    }
                    let name = Name::new(name).map_err(|_| error)?;
                    let made = self.make();
                    self.added.entry(at).or_default().insert(name, made);
                    made
                }
                Err(error) => return Err(error),
            };
        }
        Ok(at)
    }

    fn inner(&self, place: Place) -> Option<&Arc<dyn Reader>> {
        self.volumes.get(usize::from(place.volume))
    }

    fn covered(&self, place: Place) -> Place {
        self.covers.get(&place).copied().unwrap_or(place)
    }
}

impl Reader for Grafted {
    fn root(&self) -> Place {
        self.covered(self.root)
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        if let Some(reader) = self.inner(place) {
            return reader.inode(Place { volume: 0, ..place });
        }
        let made = usize::try_from(place.inode).ok();
        let made = made.and_then(|index| self.made.get(index)).cloned();
        Ok(made.unwrap_or_else(|| Inode::directory(Metadata::default())))
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let volume = directory.volume;
        if let Some(reader) = self.inner(directory) {
            let inner = Place {
                volume: 0,
                ..directory
            };
            reader.entries(inner, &mut |entry| {
                let place = self.covered(Place {
                    volume,
                    ..entry.place
                });
                visit(Entry { place, ..entry })
            })?;
        }
        for (name, place) in self.added.get(&directory).into_iter().flatten() {
            visit(Entry {
                name: name.clone(),
                place: self.covered(*place),
            })?;
        }
        Ok(())
    }

    fn lookup(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, ReadError> {
        let added = self.added.get(&directory).and_then(|names| names.get(name));
        if let Some(place) = added {
            return Ok(Some(self.covered(*place)));
        }
        let Some(reader) = self.inner(directory) else {
            return Ok(None);
        };
        let inner = Place {
            volume: 0,
            ..directory
        };
        let found = reader.lookup(inner, name)?;
        Ok(found.map(|place| {
            self.covered(Place {
                volume: directory.volume,
                ..place
            })
        }))
    }
}
