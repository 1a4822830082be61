//! The values of single keys. Pure.

use image_specs::conf::{self, Words, absolute_path, fields};
use image_specs::units::Bytes;

use veritysetup::fec::Roots;
use veritysetup::{HashAlgorithm, HashType, Salt};

use super::read::Settings;
use super::{CopyFiles, Key, MakeSymlink, Populate, Problem, Reason, Subvolume};

/// Collects what is ignored or changed in one assignment.
pub(super) struct Notes<'a> {
    key: Key,
    value: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(key: Key, value: &'a str, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            key,
            value,
            problems,
        }
    }

    /// Notes that (a part of) the value is ignored.
    pub(super) fn ignore(&mut self, reason: Reason) {
        self.problems.push(Problem::Ignored {
            key: self.key,
            value: self.value.to_owned(),
            reason,
        });
    }

    /// The problem that stops the run.
    pub(super) fn refused(&self, reason: Reason) -> Problem {
        Problem::Refused {
            key: self.key,
            value: self.value.to_owned(),
            reason,
        }
    }

    /// Parses a size and rounds it to 4096 bytes, with a note; `None` where none so large can be
    /// said, which systemd-repart takes for unset.
    pub(super) fn rounded(
        &mut self,
        value: &str,
        round: impl Fn(u64, u64) -> Option<u64>,
    ) -> Result<Option<Bytes>, Reason> {
        const UNIT: u64 = 4096;
        let from = conf::size(value)?;
        let rounded = round(from, UNIT);
        let to = rounded.unwrap_or(u64::MAX);
        if from != to {
            let key = self.key;
            self.problems.push(Problem::Rounded { key, from, to });
        }
        Ok(rounded.map(Bytes::new))
    }

    /// The value, or `None` with a note.
    fn accept<T>(&mut self, result: Result<T, Reason>) -> Option<T> {
        result.map_err(|reason| self.ignore(reason)).ok()
    }
}

/// A text; empty means unset.
pub(super) fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// A partition or volume label; empty is a label, too.
pub(super) fn label(value: &str, settings: &Settings) -> Result<String, Reason> {
    const LONGEST: usize = 36; // bytes, not UTF-16 code units
    let label = settings.values.expand(value)?;
    if label.len() > LONGEST {
        return Err(Reason::LabelTooLong);
    }
    Ok(label)
}

/// An absolute path with specifiers.
pub(super) fn path(value: &str, settings: &Settings) -> Result<String, Reason> {
    Ok(absolute_path(&settings.values.expand(value)?, false)?)
}

/// A verity block size.
pub(super) fn block(value: &str) -> Result<u32, Reason> {
    let size = conf::size(value)?;
    if !size.is_power_of_two() || !(512..=4096).contains(&size) {
        return Err(Reason::PowerOfTwo(512, 4096));
    }
    u32::try_from(size).map_err(|_| Reason::PowerOfTwo(512, 4096))
}

/// The hash of a tree, as far as the UUIDs of its partitions can be made of it; empty means unset.
pub(super) fn hash_algorithm(value: &str) -> Result<Option<HashAlgorithm>, Reason> {
    const LEAST: usize = 32;
    if value.is_empty() {
        return Ok(None);
    }
    let algorithm: HashAlgorithm = value.parse().map_err(|_| Reason::HashAlgorithm)?;
    match algorithm.digest_size() < LEAST {
        true => Err(Reason::HashAlgorithm),
        false => Ok(Some(algorithm)),
    }
}

/// The salt of a tree: hex digits, or a dash for none; empty means unset.
pub(super) fn salt(value: &str) -> Result<Option<Salt>, Reason> {
    let salt = text(value).map(|value| value.parse());
    salt.transpose().map_err(|_| Reason::Salt)
}

/// How a tree is put together; empty means unset.
pub(super) fn hash_type(value: &str) -> Result<Option<HashType>, Reason> {
    match value {
        "" => Ok(None),
        "0" => Ok(Some(HashType::ChromeOs)),
        "1" => Ok(Some(HashType::Normal)),
        _ => Err(Reason::Choice("0 (as Chrome OS had it) and 1")),
    }
}

/// Parity bytes in a code word, or none.
pub(super) fn roots(value: &str) -> Result<Option<Roots>, Reason> {
    match value {
        "" => Ok(None),
        text => match conf::unsigned(text, u64::MAX)? {
            0 => Ok(None),
            count => Ok(Some(Roots::new(count).map_err(|_| Reason::Roots)?)),
        },
    }
}

/// A file system's sector size; the disk's is the least that counts.
pub(super) fn sector(value: &str) -> Result<Option<u64>, Reason> {
    if value.is_empty() {
        return Ok(None);
    }
    let size = conf::size(value)?;
    if !size.is_power_of_two() {
        return Err(Reason::PowerOfTwo(1, 1 << 63));
    }
    Ok(Some(size))
}

/// The name in `Format=`, or what the environment puts in its place.
pub(super) fn overridden_format(value: &str, settings: &Settings, notes: &mut Notes<'_>) -> String {
    const VARIABLE: &str = "SYSTEMD_REPART_OVERRIDE_FSTYPE";
    let Some(other) = settings.environment.get(VARIABLE) else {
        return value.to_owned();
    };
    if other != value {
        notes.problems.push(Problem::Overridden {
            from: value.to_owned(),
            to: other.clone(),
            variable: VARIABLE.to_owned(),
        });
    }
    other.clone()
}

/// `CopyFiles=`: what cannot be split stops the run; a bad path leaves the line out.
pub(super) fn copy_files(
    value: &str,
    settings: &Settings,
    notes: &mut Notes<'_>,
) -> Result<Option<CopyFiles>, Reason> {
    let mut fields = fields(value, Words::ESCAPED_FIELDS)?.into_iter();
    let source = fields.next().unwrap_or_default();
    let target = fields.next().unwrap_or_else(|| source.clone());
    let options = fields.next().unwrap_or_default();
    if fields.next().is_some() {
        return Err(Reason::Fields("SOURCE:TARGET:OPTIONS"));
    }
    let Some(source) = notes.accept(path(&source, settings)) else {
        return Ok(None);
    };
    let Some(target) = notes.accept(path(&target, settings)) else {
        return Ok(None);
    };
    let mut fsverity = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "fsverity=copy" => fsverity = true,
            "fsverity=off" => fsverity = false,
            other => notes.ignore(Reason::Option(other.to_owned())),
        }
    }
    Ok(Some(CopyFiles {
        source,
        target,
        fsverity,
    }))
}

/// `ExcludeFiles=`, `ExcludeFilesTarget=`: empty forgets all; a bad path ends the line.
pub(super) fn excludes(
    value: &str,
    list: &mut Vec<String>,
    settings: &Settings,
    notes: &mut Notes<'_>,
) -> Result<(), Reason> {
    if value.is_empty() {
        list.clear();
    }
    for word in split(value, notes) {
        let expanded = settings.values.expand(&word)?;
        list.push(absolute_path(&expanded, true)?);
    }
    Ok(())
}

/// `MakeDirectories=`: bad paths are left out, known ones not repeated.
pub(super) fn directories(
    value: &str,
    populate: &mut Populate,
    settings: &Settings,
    notes: &mut Notes<'_>,
) -> Result<(), Reason> {
    for word in split(value, notes) {
        let Some(path) = notes.accept(path(&word, settings)) else {
            continue;
        };
        if !populate.directories.contains(&path) {
            populate.directories.push(path);
        }
    }
    Ok(())
}

/// `MakeSymlinks=`: fields behind the target are lost, as with systemd-repart.
pub(super) fn symlinks(
    value: &str,
    populate: &mut Populate,
    settings: &Settings,
    notes: &mut Notes<'_>,
) -> Result<(), Reason> {
    for word in split(value, notes) {
        let symlink = symlink(&word, settings);
        populate.symlinks.extend(notes.accept(symlink));
    }
    Ok(())
}

fn symlink(word: &str, settings: &Settings) -> Result<MakeSymlink, Reason> {
    let mut fields = fields(word, Words::QUOTED_FIELDS)?.into_iter();
    let (Some(link), Some(target)) = (fields.next(), fields.next()) else {
        return Err(Reason::Fields("LINKPATH:TARGET"));
    };
    Ok(MakeSymlink {
        path: path(&link, settings)?,
        target: settings.values.expand(&target)?,
    })
}

/// `Subvolumes=`: flags that are not all known are left out, the subvolume stays.
pub(super) fn subvolumes(
    value: &str,
    populate: &mut Populate,
    settings: &Settings,
    notes: &mut Notes<'_>,
) -> Result<(), Reason> {
    for word in split(value, notes) {
        let Some(mut fields) =
            notes.accept(fields(&word, Words::QUOTED_FIELDS).map_err(Reason::from))
        else {
            continue;
        };
        let flags = (fields.len() > 1).then(|| fields.swap_remove(1));
        let name = fields.swap_remove(0);
        let Some(path) = notes.accept(path(&name, settings)) else {
            continue;
        };
        let (read_only, nodatacow) = match flags.as_deref().map(subvolume_flags) {
            None => (false, false),
            Some(flags) => notes.accept(flags).unwrap_or_default(),
        };
        populate.set_subvolume(Subvolume {
            path,
            read_only,
            nodatacow,
        });
    }
    Ok(())
}

/// Read-only, and no copy-on-write.
fn subvolume_flags(flags: &str) -> Result<(bool, bool), Reason> {
    let (mut read_only, mut nodatacow) = (false, false);
    for flag in flags.split(',') {
        match flag {
            "ro" => read_only = true,
            "nodatacow" => nodatacow = true,
            other => return Err(Reason::Option(other.to_owned())),
        }
    }
    Ok((read_only, nodatacow))
}

/// The words of a list, up to where it can no longer be split.
fn split(value: &str, notes: &mut Notes<'_>) -> Vec<String> {
    let mut words = Vec::new();
    if let Err(error) = Words::LIST.split_into(value, &mut words) {
        notes.ignore(error.into());
    }
    words
}

/// Checks a list of PCRs and gives it back as written.
pub(super) fn pcrs(value: &str) -> Result<String, Reason> {
    let mut pieces = value.split(['+', ',']);
    if pieces.all(|piece| piece.is_empty() || is_pcr(piece)) {
        return Ok(value.to_owned());
    }
    Err(Reason::Pcrs)
}

/// `PCR[:bank[=digest]]`.
fn is_pcr(piece: &str) -> bool {
    const NAMES: [&str; 17] = [
        "platform-code",
        "platform-config",
        "external-code",
        "external-config",
        "boot-loader-code",
        "boot-loader-config",
        "host-platform",
        "secure-boot-policy",
        "kernel-initrd",
        "ima",
        "kernel-boot",
        "kernel-config",
        "sysexts",
        "shim-policy",
        "system-identity",
        "debug",
        "application-support",
    ];
    let (index, bank) = piece.split_once(':').unwrap_or((piece, "sha256"));
    let (bank, digest) = bank.split_once('=').unwrap_or((bank, ""));
    let digits = match bank {
        "sha1" => 40,
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    let digest = digest.strip_prefix("0x").unwrap_or(digest);
    let is_digest = digest.is_empty()
        || digest.len() == digits && digest.chars().all(|c| c.is_ascii_hexdigit());
    is_digest && (NAMES.contains(&index) || conf::unsigned(index, 23).is_ok())
}
