//! Device-mapper: devices that the kernel makes of other devices (`linux/dm-ioctl.h`).
//!
//! No library stands between: a device gets name, UUID and table, its node is `/dev/dm-N`. Where udev
//! runs it is told that the device is ours to announce (as libdevmapper does), but there is no
//! semaphore to wait at that a killed process would leave behind.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::sys::dm as sys;

mod control;
mod wire;

use wire::{Header, Request};

/// Where commands go.
const CONTROL: &str = "/dev/mapper/control";
/// There while udev runs.
const UDEV: &str = "/run/udev/control";
/// How long udev may take to make a link.
const UDEV_PATIENCE: Duration = Duration::from_millis(500);
/// How long a device that somebody has just closed may still be held.
const HOLD_PATIENCE: Duration = Duration::from_secs(2);

/// The kernel's device-mapper.
#[derive(Debug)]
pub struct DeviceMapper {
    control: File,
}

/// The name of a device: up to 127 letters, digits and `#+-.:=@_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmName(String);

/// A line of a table: what a range of the device is made of.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// First sector of 512 bytes.
    pub start: u64,
    /// How many of them.
    pub sectors: u64,
    /// Which target, up to 15 bytes.
    pub kind: String,
    /// Its parameters, or its state.
    pub parameters: String,
}

/// A device as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmInfo {
    /// Its name.
    pub name: String,
    /// Its UUID; empty where it has none.
    pub uuid: String,
    /// The minor number: that of `/dev/dm-N`.
    pub minor: u32,
    /// How many users it has.
    pub open_count: u32,
    /// Whether a table is in force.
    pub active: bool,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether it goes away with its last user.
    pub deferred_remove: bool,
}

/// A name that device-mapper or `/dev/mapper` cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a device: one to 127 letters, digits and #+-.:=@_ are possible")]
pub struct BadName(pub String);

/// A command failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {device}")]
pub struct DmError {
    /// What was tried.
    pub action: &'static str,
    /// With which device.
    pub device: String,
    /// Why it failed.
    #[source]
    pub why: DmFailure,
}

/// Why device-mapper failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum DmFailure {
    #[error("this kernel has no device-mapper, or /dev/mapper/control is not there")]
    Unavailable(#[source] io::Error),
    #[error("only root may use device-mapper")]
    Denied(#[source] io::Error),
    #[error("there is a device of this name already")]
    Exists,
    #[error("it is in use")]
    Busy,
    #[error("there is no such device")]
    Missing,
    #[error("the kernel refuses its table")]
    Table(#[source] io::Error),
    #[error("the kernel's answer makes no sense")]
    Answer,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DeviceMapper {
    /// Opens the way to the kernel.
    pub fn open() -> Result<Self, DmError> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL);
        control
            .map(|control| Self { control })
            .map_err(|error| DmError {
                action: "open",
                device: CONTROL.to_owned(),
                why: match error.kind() {
                    io::ErrorKind::PermissionDenied => DmFailure::Denied(error),
                    _ => DmFailure::Unavailable(error),
                },
            })
    }

    /// Makes a device that has no table yet.
    pub fn create(&self, name: &DmName, uuid: &str) -> Result<DmInfo, DmError> {
        let mut request = Request::new(name);
        request.set_uuid(uuid);
        self.info_of(name, "create", wire::CREATE, request)
    }

    /// Gives it a table, which [`Self::resume`] puts into force.
    pub fn load(&self, name: &DmName, table: &[Target], read_only: bool) -> Result<(), DmError> {
        let mut request = Request::new(name);
        request.set_targets(table);
        if read_only {
            request.set_flag(wire::READ_ONLY);
        }
        if table.iter().any(Target::may_hold_keys) {
            request.set_flag(wire::SECURE_DATA);
        }
        let loaded = self.call(name, "give a table to", wire::TABLE_LOAD, request);
        loaded.map(|_| ()).map_err(|error| match error.why {
            DmFailure::Io(source) => DmError {
                why: DmFailure::Table(source),
                ..error
            },
            _ => error,
        })
    }

    /// Puts the loaded table into force.
    pub fn resume(&self, name: &DmName) -> Result<DmInfo, DmError> {
        let mut request = Request::new(name);
        request.announce(udev_runs());
        self.info_of(name, "start", wire::SUSPEND, request)
    }

    /// The device of this name, if there is one.
    pub fn info(&self, name: &DmName) -> Result<Option<DmInfo>, DmError> {
        match self.info_of(name, "look at", wire::STATUS, Request::new(name)) {
            Ok(info) => Ok(Some(info)),
            Err(DmError {
                why: DmFailure::Missing,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The table in force.
    pub fn table(&self, name: &DmName) -> Result<Vec<Target>, DmError> {
        let mut request = Request::new(name);
        request.set_flag(wire::STATUS_TABLE);
        request.set_flag(wire::SECURE_DATA);
        self.targets(name, request)
    }

    /// The state of each target.
    pub fn status(&self, name: &DmName) -> Result<Vec<Target>, DmError> {
        self.targets(name, Request::new(name))
    }

    /// Removes a device that nobody uses. One that was closed this moment is waited for.
    pub fn remove(&self, name: &DmName) -> Result<(), DmError> {
        let end = Instant::now() + HOLD_PATIENCE;
        loop {
            let mut request = Request::new(name);
            request.announce(udev_runs());
            match self.call(name, "remove", wire::REMOVE, request) {
                Err(error) if matches!(error.why, DmFailure::Busy) && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
                Ok(_) => {
                    unlink(name);
                    return Ok(());
                }
            }
        }
    }

    /// Removes a device as soon as nobody uses it: now, or with its last user.
    pub fn remove_later(&self, name: &DmName) -> Result<(), DmError> {
        let mut request = Request::new(name);
        request.set_flag(wire::DEFERRED_REMOVE);
        request.announce(udev_runs());
        self.call(name, "mark for removal", wire::REMOVE, request)
            .map(|_| ())
    }

    /// Makes `/dev/mapper/NAME` lead to the device, where udev does not do it in time.
    pub fn link(&self, name: &DmName, info: &DmInfo) -> io::Result<PathBuf> {
        let link = name.path();
        let node = info.node();
        let end = Instant::now() + UDEV_PATIENCE;
        while udev_runs() && Instant::now() < end {
            if leads_to(&link, &node) {
                return Ok(link);
            }
            thread::sleep(Duration::from_millis(2));
        }
        if !leads_to(&link, &node) {
            let scratch = link.with_file_name(format!(".#{name}-{}", info.minor));
            let _ = fs::remove_file(&scratch);
            std::os::unix::fs::symlink(
                Path::new("..").join(format!("dm-{}", info.minor)),
                &scratch,
            )?;
            fs::rename(&scratch, &link)?;
        }
        Ok(link)
    }

    fn targets(&self, name: &DmName, request: Request) -> Result<Vec<Target>, DmError> {
        let answer = self.call(name, "read the table of", wire::TABLE_STATUS, request)?;
        answer.targets().ok_or_else(|| DmError {
            action: "read the table of",
            device: name.to_string(),
            why: DmFailure::Answer,
        })
    }

    fn info_of(
        &self,
        name: &DmName,
        action: &'static str,
        command: u8,
        request: Request,
    ) -> Result<DmInfo, DmError> {
        let answer = self.call(name, action, command, request)?;
        let info = answer.header().as_ref().and_then(Header::info);
        info.ok_or_else(|| DmError {
            action,
            device: name.to_string(),
            why: DmFailure::Answer,
        })
    }

    /// Carries a command out, with more room for the answer until it fits.
    fn call(
        &self,
        name: &DmName,
        action: &'static str,
        command: u8,
        request: Request,
    ) -> Result<wire::Answer, DmError> {
        let mut room = 16 * 1024;
        loop {
            let mut buffer = request.buffer(room);
            let done = sys::call(&self.control, command, &mut buffer);
            done.map_err(|error| DmError {
                action,
                device: name.to_string(),
                why: failure(error),
            })?;
            let answer = wire::Answer::new(buffer);
            if !answer.is_cut() || room > 4 * 1024 * 1024 {
                return Ok(answer);
            }
            room *= 4;
        }
    }
}

impl Target {
    /// Whether its parameters may have keys in them.
    fn may_hold_keys(&self) -> bool {
        ["crypt", "integrity"].contains(&self.kind.as_str())
    }
}

/// Keys are not shown.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Target");
        shown.field("start", &self.start);
        shown.field("sectors", &self.sectors);
        shown.field("kind", &self.kind);
        match self.may_hold_keys() {
            true => shown.finish_non_exhaustive(),
            false => shown.field("parameters", &self.parameters).finish(),
        }
    }
}

impl DmName {
    /// Takes a name that needs no escapes in `/dev/mapper`.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
        let fits = (1..128).contains(&name.len()) && name.bytes().all(fine);
        let taken = [".", "..", "control"].contains(&name);
        match fits && !taken {
            true => Ok(Self(name.to_owned())),
            false => Err(BadName(name.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `/dev/mapper/NAME`.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.0)
    }
}

impl fmt::Display for DmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DmInfo {
    /// The device's node.
    pub fn node(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.minor))
    }

    /// Opens the device's node, which keeps it from being removed.
    pub fn open_node(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.node())
    }
}

fn failure(error: Errno) -> DmFailure {
    match error {
        Errno::BUSY => DmFailure::Busy,
        Errno::EXIST => DmFailure::Exists,
        Errno::NXIO | Errno::NODEV => DmFailure::Missing,
        Errno::PERM | Errno::ACCESS => DmFailure::Denied(error.into()),
        Errno::NOTTY => DmFailure::Unavailable(error.into()),
        other => DmFailure::Io(other.into()),
    }
}

fn udev_runs() -> bool {
    Path::new(UDEV).exists()
}

fn leads_to(link: &Path, node: &Path) -> bool {
    fs::canonicalize(link).is_ok_and(|path| path == node)
}

/// Removes the link of a device that is gone, where udev has not done so.
fn unlink(name: &DmName) {
    let path = name.path();
    let ours = fs::read_link(&path).is_ok_and(|target| target.starts_with("../"));
    if ours
        && !path.exists()
        && let Err(error) = fs::remove_file(&path)
    {
        tracing::debug!(%error, path = %path.display(), "cannot remove a link");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_escapes() {
        for good in ["root", "00ff-verity", "a.b:c=d@e_f#g+h", &"x".repeat(127)] {
            assert_eq!(DmName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "control",
            "a/b",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(128),
        ] {
            assert_eq!(DmName::new(bad), Err(BadName(bad.to_owned())));
        }
    }

    #[test]
    fn keys_in_tables_are_not_shown() {
        for (kind, shown) in [("crypt", false), ("integrity", false), ("linear", true)] {
            let target = Target {
                start: 0,
                sectors: 8,
                kind: kind.to_owned(),
                parameters: "0011 7:1".to_owned(),
            };
            assert_eq!(format!("{target:?}").contains("0011"), shown, "{kind}");
        }
    }

    #[test]
    fn a_kernel_without_it_is_told_apart() {
        match DeviceMapper::open() {
            Ok(mapper) => {
                let name = DmName::new("ddi-test-nobody").unwrap();
                assert_eq!(mapper.info(&name).unwrap(), None);
            }
            Err(error) => assert!(matches!(
                error.why,
                DmFailure::Unavailable(_) | DmFailure::Denied(_)
            )),
        }
    }
}
