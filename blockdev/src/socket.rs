//! Sockets in the file system, called from a name that tells the other end what for.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::sys::socket as sys;

/// Connects to the stream socket at `path`, from the abstract name `from` where there is one: the
/// other end sees it as the peer's address.
pub fn connect(path: &Path, from: Option<&str>) -> io::Result<UnixStream> {
    sys::connect(path.as_os_str().as_bytes(), from.map(str::as_bytes))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
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
}
