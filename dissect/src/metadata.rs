//! What the files of an image say about it: host name, machine ID, the operating system or extension
//! in it (os-release(5), machine-info(5), machine-id(5)).
//!
//! Files that are not there, or are no regular files, say nothing. Symlinks are followed within the
//! image. Only what is asked for is read, and no file beyond what such a file may have.

use filetree::reader::{Follow, ResolveError, Resolved, resolve};
use filetree::tree::Kind;
use filetree::{ReadError, Reader};
use image_specs::release::{self, Class, Found, Release};
use uuid::Uuid;

use crate::assign::Dissected;
use crate::contents::{self, Access, ContentsError};
use crate::open::Image;

/// What an image says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The host name.
    pub hostname: Option<String>,
    /// The machine ID, where the image has been booted or given one.
    pub machine_id: Option<Uuid>,
    /// What `machine-info` says.
    pub machine_info: Release,
    /// What `os-release` says.
    pub os_release: Release,
    /// What `initrd-release` says; `None` where there is none.
    pub initrd_release: Option<Release>,
    /// What the `extension-release` file for this image's name says, of a system extension.
    pub sysext_release: Option<Release>,
    /// The same of a configuration extension.
    pub confext_release: Option<Release>,
    /// Whether there is a program to start as the first process.
    pub init: bool,
}

impl Metadata {
    /// What says which image this is: `os-release`, else the release file of an extension.
    pub fn release(&self) -> &Release {
        let extension = self
            .sysext_release
            .as_ref()
            .or(self.confext_release.as_ref());
        match extension {
            Some(extension) if self.os_release.is_empty() => extension,
            _ => &self.os_release,
        }
    }
}

/// The files of an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} of the image")]
pub struct MetadataError {
    /// The path within the image.
    pub path: String,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The most of a host name file that is read, in bytes.
const MAX_LINE: u64 = 4096;

/// The longest host name that Linux takes.
const MAX_HOSTNAME: usize = 64;

const INIT: [&str; 3] = [
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/sbin/init",
];

/// What the files of an image cannot be read for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// Its file systems cannot be.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// A file in them cannot be.
    #[error(transparent)]
    File(#[from] MetadataError),
}

/// Reads what the files of an image's root and usr say; nothing, where it has neither.
pub fn of(image: &Image, dissected: &Dissected, access: Access<'_>) -> Result<Metadata, LookError> {
    match contents::open_system(image, dissected, access) {
        Ok(tree) => Ok(read(&tree, &dissected.image_name())?),
        Err(ContentsError::NoRoot) => Ok(Metadata::default()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what the files of `tree` say; `name` is the image's, by which its release file is found.
pub fn read(tree: &dyn Reader, name: &str) -> Result<Metadata, MetadataError> {
    let files = Files(tree);
    let mut init = false;
    for path in INIT {
        init = init || files.find(path)?.is_some();
    }
    let initrd = ["/etc/initrd-release", "/usr/lib/initrd-release"];
    let os = ["/etc/os-release", "/usr/lib/os-release"];
    Ok(Metadata {
        hostname: files.text("/etc/hostname")?.as_deref().and_then(hostname),
        machine_id: files
            .text("/etc/machine-id")?
            .as_deref()
            .and_then(machine_id),
        machine_info: files.release(&["/etc/machine-info"])?.unwrap_or_default(),
        os_release: files.release(&os)?.unwrap_or_default(),
        initrd_release: files.release(&initrd)?,
        sysext_release: files.extension(Class::Sysext, name)?,
        confext_release: files.extension(Class::Confext, name)?,
        init,
    })
}

struct Files<'a>(&'a dyn Reader);

impl Files<'_> {
    /// What is at a path; `None` where nothing is, or a symlink leads nowhere.
    fn find(&self, path: &str) -> Result<Option<Resolved>, MetadataError> {
        match resolve(self.0, path.as_bytes(), Follow::Yes) {
            Ok(found) => Ok(Some(found)),
            Err(ResolveError::Read(source)) => Err(failed(path)(source)),
            Err(_) => Ok(None),
        }
    }

    /// The bytes of a regular file of at most `most` bytes; others are as good as missing.
    fn bytes(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, MetadataError> {
        let Some(found) = self.find(path)? else {
            return Ok(None);
        };
        let Kind::File(content) = found.inode.kind else {
            return Ok(None);
        };
        let length = usize::try_from(content.size().min(most)).unwrap_or(0);
        if content.size() > most {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        let open = content.open().map_err(failed(path))?;
        open.read_exact_at(&mut bytes, 0).map_err(failed(path))?;
        Ok(Some(bytes))
    }

    fn text(&self, path: &str) -> Result<Option<String>, MetadataError> {
        let bytes = self.bytes(path, MAX_LINE)?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// The first of several release files that is there.
    fn release(&self, paths: &[&str]) -> Result<Option<Release>, MetadataError> {
        for path in paths {
            let most = u64::try_from(Release::MAX_BYTES).unwrap_or(u64::MAX);
            if let Some(bytes) = self.bytes(path, most)? {
                return Release::parse(&bytes).map(Some).map_err(failed(path));
            }
        }
        Ok(None)
    }

    /// The release file of an extension image, found by the image's name.
    fn extension(&self, class: Class, name: &str) -> Result<Option<Release>, MetadataError> {
        let folder = match class {
            Class::Sysext => "/usr/lib/extension-release.d",
            Class::Confext => "/etc/extension-release.d",
        };
        let path = |suffix: &str| format!("{folder}/extension-release.{suffix}");
        if let Some(release) = self.release(&[&path(name)])? {
            return Ok(Some(release));
        }
        let found = self.candidates(folder)?;
        let found = found.iter().map(|(suffix, strict)| Found {
            suffix,
            strict: *strict,
        });
        // Several that fit are as good as none: nobody could use them.
        match release::select(name, found, false) {
            Ok(Some(file)) => self.release(&[&path(file.suffix)]),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// The release files of a folder: what stands behind the dot, and whether they insist on it.
    fn candidates(&self, folder: &str) -> Result<Vec<(String, bool)>, MetadataError> {
        let Some(found) = self.find(folder)? else {
            return Ok(Vec::new());
        };
        let mut places = Vec::new();
        if found.inode.entries().is_none() {
            return Ok(places);
        }
        let mut named = Vec::new();
        let done = self.0.entries(found.place, &mut |entry| {
            let name = std::str::from_utf8(entry.name.as_bytes()).unwrap_or_default();
            if let Some(suffix) = name.strip_prefix("extension-release.") {
                if named.len() >= MAX_CANDIDATES {
                    return Err(ReadError::Memory(0));
                }
                named.push((suffix.to_owned(), entry.place));
            }
            Ok(())
        });
        done.map_err(failed(folder))?;
        for (suffix, place) in named {
            let inode = self.0.inode(place).map_err(failed(folder))?;
            if matches!(inode.kind, Kind::File(_)) {
                let strict = inode.metadata.xattrs.get(STRICT);
                places.push((suffix, strict.is_none_or(|value| is_strict(value))));
            }
        }
        Ok(places)
    }
}

/// The attribute by which a release file fits images of other names.
const STRICT: &[u8] = b"user.extension-release.strict";

/// The most release files of one folder that are looked at.
const MAX_CANDIDATES: usize = 1024;

fn is_strict(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    image_specs::conf::boolean(text).unwrap_or(true)
}

fn failed<E>(path: &str) -> impl Fn(E) -> MetadataError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = path.to_owned();
    move |source| MetadataError {
        path: path.clone(),
        source: source.into(),
    }
}

/// The first line that is no comment, with only what a host name may have.
fn hostname(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let mut name = String::new();
    for letter in line.chars() {
        let last = name.chars().next_back();
        let fits = match letter {
            '.' => last.is_some_and(|last| last != '.' && last != '-'),
            '-' => last.is_some_and(|last| last != '.'),
            _ => letter.is_ascii_alphanumeric() || letter == '_',
        };
        if fits && name.len() < MAX_HOSTNAME {
            name.push(letter);
        }
    }
    let name = name.trim_end_matches(['-', '.']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// 32 hex digits and at most a newline.
fn machine_id(text: &str) -> Option<Uuid> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    let hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = Uuid::try_parse(digits).ok().filter(|_| hex)?;
    (!id.is_nil()).then_some(id)
}
