//! What the process finds around it: environment, clock, randomness, paths. Read here and nowhere
//! else; libraries get values.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blockdev::tool::SearchPath;
use image_specs::arch::Architecture;
use image_specs::conf::boolean;
use image_specs::units::Bytes;
use repart::build::job::Environment;
use rustix::fs::statfs;

use crate::exit::Failure;

const MKFS_OPTIONS: &str = "SYSTEMD_REPART_MKFS_OPTIONS_";

/// The numbers of tmpfs and ramfs (statfs(2)); the root file system of an initramfs is one of both.
const IN_MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];

/// The values that reach into images.
pub(crate) fn environment() -> Result<Environment, Failure> {
    Ok(Environment {
        epoch: epoch()?,
        now: now(),
        search: search_path(),
        scratch: scratch(),
        mkfs_options: mkfs_options()?,
    })
}

/// Where programs are searched for.
pub(crate) fn search_path() -> SearchPath {
    SearchPath::new(std::env::var_os("PATH").as_deref())
}

/// All variables of the environment that are text.
pub(crate) fn variables() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Whether this is an initrd: as `SYSTEMD_IN_INITRD` says, or by its release file.
pub(crate) fn in_initrd() -> bool {
    let asked = std::env::var("SYSTEMD_IN_INITRD");
    let asked = asked.ok().and_then(|word| boolean(&word).ok());
    asked.unwrap_or_else(|| Path::new("/etc/initrd-release").exists())
}

/// How much memory the machine has, which a key may cost and sizes may be shares of.
pub(crate) fn memory() -> Bytes {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    Bytes::new(info.totalram.saturating_mul(unit))
}

/// Where logs go, the best place first: what the unit says (`LogsDirectory=`), else the usual. What is
/// in the memory of an initrd ends with it, but for `/run`, which the system takes over.
pub(crate) fn log_folders() -> Vec<PathBuf> {
    let asked = std::env::var_os("LOGS_DIRECTORY").unwrap_or_default();
    let ends = in_initrd() || is_in_memory(Path::new("/var/log"));
    log_folders_of(&asked, ends)
}

fn log_folders_of(asked: &OsStr, usual_ends: bool) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(asked).collect();
    folders.retain(|folder| folder.is_absolute());
    let usual = ["/var/log/ddi", "/run/log/ddi"].map(PathBuf::from);
    folders.extend(usual.into_iter().skip(usize::from(usual_ends)));
    folders
}

/// Whether the file system that holds the path, or would, is one in memory.
fn is_in_memory(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| statfs(path).ok());
    found.is_some_and(|found| IN_MEMORY.contains(&(i128::from(found.f_type) & 0xffff_ffff)))
}

/// Whether the binary was called by this name.
pub(crate) fn is_called(name: &str) -> bool {
    let called_as = std::env::args_os().next().map(PathBuf::from);
    called_as.is_some_and(|path| path.file_name() == Some(name.as_ref()))
}

/// The architecture of this machine.
pub(crate) fn architecture() -> Result<Architecture, Failure> {
    let machine = rustix::system::uname()
        .machine()
        .to_string_lossy()
        .into_owned();
    Architecture::from_uname(&machine).ok_or_else(|| {
        Failure::message(format!(
            "this machine calls itself {machine:?}, which is no known architecture"
        ))
        .with_hint("name the image's architecture with --architecture=")
    })
}

/// The folder with the credentials of this service, if it is one.
pub(crate) fn credentials() -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    folder.filter(|folder| folder.is_absolute())
}

/// 16 random bytes.
pub(crate) fn random() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::message(format!("cannot get random bytes: {error}")))?;
    Ok(bytes)
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn epoch() -> Result<Option<i64>, Failure> {
    let text = std::env::var_os("SOURCE_DATE_EPOCH");
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text
        .to_str()
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|seconds| *seconds >= 0);
    seconds.map(Some).ok_or_else(|| {
        Failure::message(format!("SOURCE_DATE_EPOCH is {text:?}, which is no time"))
            .with_hint("set it to seconds since 1970, or unset it")
    })
}

/// Where scratch files go: as systemd, `$TMPDIR` and its like, else /var/tmp.
fn scratch() -> PathBuf {
    ["TMPDIR", "TEMP", "TMP"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .find(|path| path.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

fn mkfs_options() -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut all = BTreeMap::new();
    for (name, value) in variables() {
        let Some(format) = name.strip_prefix(MKFS_OPTIONS) else {
            continue;
        };
        let words = shell_words::split(&value).map_err(|error| {
            Failure::message(format!("{name} is {value:?}: {error}"))
                .with_hint("quote it as for a shell")
        })?;
        all.insert(format.to_ascii_lowercase(), words);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_in_an_initrd_outlives_it() {
        let folders = |asked: &str, ends| {
            let folders = log_folders_of(OsStr::new(asked), ends);
            let folders = folders.iter().map(|one| one.display().to_string());
            folders.collect::<Vec<_>>()
        };
        for (asked, ends, expected) in [
            ("", false, &["/var/log/ddi", "/run/log/ddi"][..]),
            ("", true, &["/run/log/ddi"]),
            ("/a:b:/c", true, &["/a", "/c", "/run/log/ddi"]),
        ] {
            assert_eq!(folders(asked, ends), expected, "{asked} {ends}");
        }
        assert!(!is_in_memory(Path::new("/proc/self/none-such")));
        let shared = Path::new("/dev/shm");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        if mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")) {
            assert!(is_in_memory(&shared.join("none/such")));
        }
    }
}
