//! Sockets in the file system, called from a name that tells the other end what for; and sockets
//! that a service is started with.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::sys::socket as sys;

/// Connects to the stream socket at `path`, from the abstract name `from` where there is one: the
/// other end sees it as the peer's address.
pub fn connect(path: &Path, from: Option<&str>) -> io::Result<UnixStream> {
    sys::connect(path.as_os_str().as_bytes(), from.map(str::as_bytes))
}

/// A descriptor that the process was started with under `number` (`LISTEN_FDS=`: from 3 on), as one
/// of its own. Programs that are started from now on get neither.
pub fn passed(number: i32) -> io::Result<OwnedFd> {
    sys::passed(number)
}

/// Whether the socket takes connections, instead of being one.
pub fn is_listening(socket: BorrowedFd<'_>) -> io::Result<bool> {
    sys::is_listening(socket)
}

/// The user that the process at the other end had when it connected.
pub fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    sys::peer_user(stream.as_fd())
}

/// Waits until at least one of the descriptors can be read, has failed, or a signal came; says which.
pub fn wait_readable(descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    sys::readable(descriptors, true)
}

/// Which of the descriptors can be read at once, or have failed.
pub fn now_readable(descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    sys::readable(descriptors, false)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_other_end_sees_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let mut names = Vec::new();
            for _ in 0..2 {
                let (mut stream, address) = listener.accept().unwrap();
                names.push(address.as_abstract_name().map(<[u8]>::to_vec));
                stream.write_all(b"key").unwrap();
            }
            names
        });
        let name = format!("ddi-test-{}/cryptsetup/root", std::process::id());
        for from in [Some(name.as_str()), None] {
            let mut text = String::new();
            let mut stream = connect(&path, from).unwrap();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "key");
        }
        let names = server.join().unwrap();
        assert_eq!(names, [Some(name.into_bytes()), None]);
        assert!(connect(Path::new(&"x".repeat(200)), None).is_err());
        assert!(connect(&folder.path().join("none"), None).is_err());
    }

    #[test]
    fn sockets_tell_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let (mut one, other) = UnixStream::pair().unwrap();
        assert!(is_listening(listener.as_fd()).unwrap());
        assert!(!is_listening(one.as_fd()).unwrap());
        assert!(is_listening(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
        assert_eq!(peer_user(&one).unwrap(), rustix::process::getuid().as_raw());
        let both = [listener.as_fd(), other.as_fd()];
        assert_eq!(now_readable(&both).unwrap(), [false, false]);
        one.write_all(b"x").unwrap();
        assert_eq!(wait_readable(&both).unwrap(), [false, true]);
        let own = passed(other.as_raw_fd()).unwrap();
        assert_ne!(own.as_raw_fd(), other.as_raw_fd());
        let mut byte = [0];
        UnixStream::from(own).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        assert!(passed(-1).is_err());
    }
}
