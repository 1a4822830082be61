//! Which TPM: the kernel's device, or a software TPM on a socket.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A TPM as options name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The only TPM of this machine.
    #[default]
    Auto,
    /// A device node with a resource manager, such as `/dev/tpmrm0`.
    Node(PathBuf),
    /// A software TPM on a TCP port: each command is a connection of its own.
    Tcp(String, u16),
    /// A software TPM on a UNIX socket.
    Unix(PathBuf),
}

/// No TPM is meant by this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum DeviceNameError {
    #[error(
        "{0:?} is no TPM; write auto, an absolute path, device:PATH or swtpm:host=HOST,port=PORT"
    )]
    Unknown(String),
    #[error("the TPM driver {0:?} is not supported, only device and swtpm are")]
    Driver(String),
    #[error("swtpm has no parameter {0:?}; it has host=, port= and path=")]
    Parameter(String),
    #[error("{0:?} is no port number")]
    Port(String),
}

const SWTPM_PORT: u16 = 2321;

impl FromStr for Device {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if Path::new(text).is_absolute() {
            return Ok(Self::Node(text.into()));
        }
        match text.split_once(':') {
            Some(("device", path)) if Path::new(path).is_absolute() => Ok(Self::Node(path.into())),
            Some(("swtpm", parameters)) => swtpm(parameters),
            Some((driver, _)) if driver != "device" => {
                Err(DeviceNameError::Driver(driver.to_owned()))
            }
            _ => Err(DeviceNameError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Node(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) => write!(f, "swtpm:host={host},port={port}"),
            Self::Unix(path) => write!(f, "swtpm:path={}", path.display()),
        }
    }
}

fn swtpm(parameters: &str) -> Result<Device, DeviceNameError> {
    let (mut host, mut port, mut path) = ("localhost", SWTPM_PORT, None);
    for parameter in parameters.split(',').filter(|text| !text.is_empty()) {
        match parameter.split_once('=') {
            Some(("host", value)) => host = value,
            Some(("port", value)) => {
                port = value
                    .parse()
                    .map_err(|_| DeviceNameError::Port(value.to_owned()))?;
            }
            Some(("path", value)) => path = Some(PathBuf::from(value)),
            _ => return Err(DeviceNameError::Parameter(parameter.to_owned())),
        }
    }
    Ok(match path {
        Some(path) => Device::Unix(path),
        None => Device::Tcp(host.to_owned(), port),
    })
}

/// A TPM that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its node.
    pub path: PathBuf,
    /// The bus's name for it.
    pub device: Option<String>,
    /// The kernel's driver.
    pub driver: Option<String>,
}

/// Why no TPM was chosen.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum FindError {
    #[error("this machine has no TPM that the kernel knows")]
    None,
    #[error("this machine has several TPMs ({}); name one", .0.join(", "))]
    Several(Vec<String>),
    #[error("cannot list the TPMs in {0}")]
    List(PathBuf, #[source] io::Error),
}

/// The TPMs that the kernel knows; `class` is `/sys/class/tpmrm`.
pub fn list(class: &Path) -> Result<Vec<Listed>, FindError> {
    let failed = |error| FindError::List(class.to_owned(), error);
    let entries = match fs::read_dir(class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let device = entry.path().join("device");
        listed.push(Listed {
            path: Path::new("/dev").join(entry.file_name()),
            driver: last_part(&device.join("driver")),
            device: last_part(&device),
        });
    }
    listed.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(listed)
}

/// The only TPM that the kernel knows.
pub fn only(class: &Path) -> Result<PathBuf, FindError> {
    let listed = list(class)?;
    match listed.as_slice() {
        [] => Err(FindError::None),
        [one] => Ok(one.path.clone()),
        more => Err(FindError::Several(
            more.iter()
                .map(|one| one.path.display().to_string())
                .collect(),
        )),
    }
}

fn last_part(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_are_read_as_systemd_reads_them() {
        let tcp = |host: &str, port| Device::Tcp(host.to_owned(), port);
        for (text, wanted) in [
            ("auto", Device::Auto),
            ("/dev/tpmrm1", Device::Node("/dev/tpmrm1".into())),
            ("device:/dev/tpm0", Device::Node("/dev/tpm0".into())),
            ("swtpm:", tcp("localhost", 2321)),
            ("swtpm:host=127.0.0.1,port=99", tcp("127.0.0.1", 99)),
            ("swtpm:port=1", tcp("localhost", 1)),
            ("swtpm:path=/run/x", Device::Unix("/run/x".into())),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for text in [
            "",
            "tpmrm0",
            "device",
            "device:tpm0",
            "tabrmd:bus=x",
            "mssim:port=1",
            "swtpm",
            "swtpm:port=x",
            "swtpm:port=70000",
            "swtpm:host",
            "swtpm:hosts=x",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_only_tpm_is_chosen() {
        let scratch = tempfile::tempdir().unwrap();
        let class = scratch.path().join("tpmrm");
        assert!(matches!(only(&class), Err(FindError::None)));
        fs::create_dir_all(class.join("tpmrm0")).unwrap();
        symlink("../../MSFT0101:00", class.join("tpmrm0/device")).unwrap();
        assert_eq!(only(&class).unwrap(), Path::new("/dev/tpmrm0"));
        let listed = list(&class).unwrap();
        assert_eq!(listed[0].device.as_deref(), Some("MSFT0101:00"));
        fs::create_dir(class.join("tpmrm1")).unwrap();
        let message = only(&class).unwrap_err().to_string();
        assert!(message.contains("/dev/tpmrm0, /dev/tpmrm1"), "{message}");
    }
}
