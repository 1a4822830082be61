//! The sockets that a service was started with.
//!
//! systemd passes descriptors from 3 on (`LISTEN_PID=`, `LISTEN_FDS=`, `LISTEN_FDNAMES=`), listening or
//! connected; `varlinkctl` does the same for programs that it runs. `SYSTEMD_VARLINK_LISTEN=` names a
//! socket to listen on, or `-` for standard input and output. What the variables mean is decided by
//! [`invocation`], which is pure.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

use blockdev::socket;

/// The first descriptor that a service manager passes.
const FIRST: i32 = 3;

/// More are never passed for one service.
const MOST: i32 = 64;

/// How clients come.
#[derive(Debug)]
pub(crate) enum Entry {
    /// One, over standard input and output.
    Standard,
    /// One, which is connected already.
    Connection(UnixStream),
    /// As many as come by these.
    Listeners(Vec<UnixListener>),
}

/// What the process was started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// To serve by the descriptors of these numbers.
    Passed(Vec<i32>),
    /// To serve at this address.
    At(Address),
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Standard input and output.
    Standard,
    /// A name that is in no file system.
    Abstract(Vec<u8>),
    /// A socket in the file system.
    Path(PathBuf),
}

/// Why a service cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    #[error(
        "{name} is {value:?}, which says nothing about sockets; it is set by the service manager"
    )]
    Variable { name: &'static str, value: OsString },
    #[error("{0:?} is no address to listen at; write \"-\", an absolute path, or @NAME")]
    Address(OsString),
    #[error("cannot use descriptor {number}, which was passed to this process as a socket")]
    Passed { number: i32, source: io::Error },
    #[error("cannot listen at {address}")]
    Listen { address: String, source: io::Error },
    #[error(
        "of several sockets that were passed, one is a connection; pass one, or only such as listen"
    )]
    Mixed,
}

/// Whether the process was started as a Varlink service, and how; `variable` is its environment.
pub(crate) fn invocation(
    variable: &dyn Fn(&str) -> Option<OsString>,
    process: u32,
) -> Result<Option<Invocation>, ActivationError> {
    if let Some(address) = variable("SYSTEMD_VARLINK_LISTEN") {
        return Ok(Some(Invocation::At(Address::parse(&address)?)));
    }
    let for_us = variable("LISTEN_PID")
        .is_some_and(|value| value.to_str().and_then(|text| text.parse().ok()) == Some(process));
    let (Some(names), Some(count)) = (variable("LISTEN_FDNAMES"), variable("LISTEN_FDS")) else {
        return Ok(None);
    };
    if !for_us {
        return Ok(None);
    }
    let wrong = |name, value: &OsString| ActivationError::Variable {
        name,
        value: value.clone(),
    };
    let number = count.to_str().and_then(|text| text.parse().ok());
    let number: i32 = number
        .filter(|number| (0..=MOST).contains(number))
        .ok_or_else(|| wrong("LISTEN_FDS", &count))?;
    let text = names.as_bytes().split(|byte| *byte == b':');
    let names_of: Vec<&[u8]> = text.collect();
    if i32::try_from(names_of.len()).ok() != Some(number.max(1)) {
        return Err(wrong("LISTEN_FDNAMES", &names));
    }
    let ours = (FIRST..FIRST + number).zip(names_of);
    let ours: Vec<i32> = ours
        .filter(|(_, name)| *name == b"varlink")
        .map(|(number, _)| number)
        .collect();
    Ok((!ours.is_empty()).then_some(Invocation::Passed(ours)))
}

impl Address {
    /// `-`, `@NAME` or an absolute path.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, ActivationError> {
        match text.as_bytes() {
            b"-" => Ok(Self::Standard),
            [b'@', name @ ..] if !name.is_empty() => Ok(Self::Abstract(name.to_vec())),
            [b'/', ..] => Ok(Self::Path(text.into())),
            _ => Err(ActivationError::Address(text.to_owned())),
        }
    }
}

impl Invocation {
    /// Takes the sockets, or makes one.
    pub(crate) fn enter(self) -> Result<Entry, ActivationError> {
        let numbers = match self {
            Self::At(Address::Standard) => return Ok(Entry::Standard),
            Self::At(address) => return Ok(Entry::Listeners(vec![address.listen()?])),
            Self::Passed(numbers) => numbers,
        };
        let mut sockets = Vec::new();
        for number in numbers {
            let failed = |source| ActivationError::Passed { number, source };
            let socket = socket::passed(number).map_err(failed)?;
            let listens = socket::is_listening(socket.as_fd()).map_err(failed)?;
            sockets.push((socket, listens));
        }
        sort(sockets)
    }
}

/// One connection, or sockets that listen.
fn sort(mut sockets: Vec<(OwnedFd, bool)>) -> Result<Entry, ActivationError> {
    if let [(_, false)] = sockets.as_slice()
        && let Some((socket, _)) = sockets.pop()
    {
        return Ok(Entry::Connection(UnixStream::from(socket)));
    }
    if sockets.iter().any(|(_, listens)| !listens) {
        return Err(ActivationError::Mixed);
    }
    let listeners = sockets.into_iter();
    Ok(Entry::Listeners(
        listeners
            .map(|(socket, _)| UnixListener::from(socket))
            .collect(),
    ))
}

impl Address {
    fn listen(&self) -> Result<UnixListener, ActivationError> {
        let (made, address) = match self {
            Self::Standard => return Err(ActivationError::Address("-".into())),
            Self::Abstract(name) => (
                SocketAddr::from_abstract_name(name)
                    .and_then(|address| UnixListener::bind_addr(&address)),
                format!("@{}", String::from_utf8_lossy(name)),
            ),
            Self::Path(path) => {
                // A socket that nobody listens at is what an earlier run has left.
                let left = UnixStream::connect(path);
                if left.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    drop(std::fs::remove_file(path));
                }
                (UnixListener::bind(path), path.display().to_string())
            }
        };
        made.map_err(|source| ActivationError::Listen { address, source })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Invocation>, String> {
        let all: BTreeMap<_, _> = variables.iter().copied().collect();
        invocation(&|name| all.get(name).map(OsString::from), 7).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_say_what_a_process_is_for() {
        let passed = |numbers: &[i32]| Ok(Some(Invocation::Passed(numbers.to_vec())));
        let listen = |pid, fds, names| {
            of(&[
                ("LISTEN_PID", pid),
                ("LISTEN_FDS", fds),
                ("LISTEN_FDNAMES", names),
            ])
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "1")]), Ok(None));
        assert_eq!(listen("7", "1", "varlink"), passed(&[3]));
        assert_eq!(listen("7", "3", "varlink:x:varlink"), passed(&[3, 5]));
        // Those of the process that started this one.
        assert_eq!(listen("8", "1", "varlink"), Ok(None));
        assert_eq!(listen("7", "1", "connection"), Ok(None));
        assert_eq!(listen("7", "0", ""), Ok(None));
        for (fds, names) in [("1", "a:b"), ("x", "varlink"), ("-1", "x"), ("1000", "x")] {
            assert!(listen("7", fds, names).is_err(), "{fds} {names}");
        }
        let at = |text| of(&[("SYSTEMD_VARLINK_LISTEN", text)]);
        let path = Address::Path("/run/x".into());
        assert_eq!(at("-"), Ok(Some(Invocation::At(Address::Standard))));
        assert_eq!(at("/run/x"), Ok(Some(Invocation::At(path))));
        let name = Address::Abstract(b"x".to_vec());
        assert_eq!(at("@x"), Ok(Some(Invocation::At(name))));
        for wrong in ["", "x", "@", "1:5"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_socket_is_made_where_none_or_a_dead_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..2 {
            let address = Address::Path(path.clone());
            let Ok(Entry::Listeners(all)) = Invocation::At(address.clone()).enter() else {
                panic!("no listener");
            };
            assert_eq!(all.len(), 1);
            // One that is alive is left alone.
            assert!(Invocation::At(address).enter().is_err());
            UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn passed_sockets_are_one_connection_or_listeners() {
        let pair = || UnixStream::pair().unwrap().0.into();
        assert!(matches!(
            sort(vec![(pair(), false)]),
            Ok(Entry::Connection(_))
        ));
        assert!(matches!(
            sort(vec![(pair(), false), (pair(), true)]),
            Err(ActivationError::Mixed)
        ));
        assert!(Invocation::Passed(vec![1_000_000]).enter().is_err());
    }
}
