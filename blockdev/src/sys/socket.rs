//! Stream sockets in the file system that are called from a name: `socket(2)`, `bind(2)`,
//! `connect(2)`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
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
