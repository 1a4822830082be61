//! Sockets: those that are called from a name (`socket(2)`, `bind(2)`, `connect(2)`), those that a
//! service is started with (`fcntl(2)`, `getsockopt(2)`), and waiting for them (`poll(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A socket's address, and how much of it counts.
struct Address {
    raw: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl Address {
    /// An address of these bytes: a path, or NUL and an abstract name.
    fn new(bytes: &[u8]) -> io::Result<Self> {
        let family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
        let mut raw = libc::sockaddr_un {
            sun_family: family,
            sun_path: [0; 108],
        };
        // The last byte stays NUL.
        if bytes.len() >= raw.sun_path.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (place, byte) in raw.sun_path.iter_mut().zip(bytes) {
            *place = byte.cast_signed();
        }
        let path = bytes.first().is_some_and(|first| *first != 0);
        let length = size_of::<libc::sa_family_t>() + bytes.len() + usize::from(path);
        Ok(Self {
            raw,
            length: libc::socklen_t::try_from(length).unwrap_or_default(),
        })
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.raw).cast()
    }
}

/// Connects to the socket at `path`, from an abstract name where there is one.
pub(crate) fn connect(path: &[u8], from: Option<&[u8]>) -> io::Result<UnixStream> {
    // SAFETY: takes no pointers.
    let number = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    if let Some(name) = from {
        let own = Address::new(&[&[0], name].concat())?;
        // SAFETY: the address is as long as is said, and the kernel only reads it.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), own.pointer(), own.length) };
        done(bound)?;
    }
    let other = Address::new(path)?;
    // SAFETY: as above.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), other.pointer(), other.length) };
    done(connected)?;
    Ok(UnixStream::from(socket))
}

fn done(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor of our own for what was passed to the process under `number`; both are closed when
/// another program is started.
pub(crate) fn passed(number: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers; a number that is no open descriptor is answered with an error.
    let own = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if own < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let own = unsafe { OwnedFd::from_raw_fd(own) };
    // SAFETY: as the first.
    done(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(own)
}

/// An option of a socket, whose value is a plain structure of numbers.
fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes, which `value` has; any bytes are numbers.
    done(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// Whether the socket takes connections, instead of being one.
pub(crate) fn is_listening(socket: BorrowedFd<'_>) -> io::Result<bool> {
    option(socket, libc::SO_ACCEPTCONN, libc::c_int::default()).map(|value| value != 0)
}

/// The user that the process at the other end had when it connected.
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let none = libc::ucred {
        pid: 0,
        uid: libc::uid_t::MAX,
        gid: libc::gid_t::MAX,
    };
    option(socket, libc::SO_PEERCRED, none).map(|peer| peer.uid)
}

/// Waits until one of the descriptors can be read (or has failed), and says which; `wait` is false:
/// only looks.
pub(crate) fn readable(descriptors: &[BorrowedFd<'_>], wait: bool) -> io::Result<Vec<bool>> {
    let asked = |descriptor: &BorrowedFd<'_>| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut all: Vec<libc::pollfd> = descriptors.iter().map(asked).collect();
    let count = libc::nfds_t::try_from(all.len()).unwrap_or_default();
    // SAFETY: the kernel reads and writes as many structures as there are.
    let found = unsafe { libc::poll(all.as_mut_ptr(), count, if wait { -1 } else { 0 }) };
    if found < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(vec![false; descriptors.len()]),
            _ => Err(error),
        };
    }
    Ok(all.iter().map(|one| one.revents != 0).collect())
}
