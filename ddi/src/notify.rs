//! What is told to the service manager: `NOTIFY_SOCKET` names a datagram socket that takes lines of
//! `NAME=VALUE` (sd_notify(3)).
//!
//! Nothing depends on whether anybody listens, so nothing that goes wrong here is an error.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use repart::build::phase::Doing;

/// How long a service manager that is busy is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the service manager, where there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// To the service manager that started this process.
    pub(crate) fn from_environment() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    /// To a socket in the file system, or to the abstract one of `@NAME`.
    fn to(socket: Option<&OsStr>) -> Self {
        let address = match socket.map(OsStr::as_bytes) {
            Some([b'@', name @ ..]) => SocketAddr::from_abstract_name(name).ok(),
            Some([b'/', ..]) => socket.and_then(|path| SocketAddr::from_pathname(path).ok()),
            _ => None,
        };
        Self(address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_write_timeout(Some(PATIENCE)).ok()?;
            Some((socket, address))
        }))
    }

    /// The service is there.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// What a run is doing.
    pub(crate) fn tell(&self, doing: &Doing) {
        let Some(phase) = doing.phase else { return };
        let mut text = format!("STATUS={}", line(&doing.text));
        text += &format!("\nX_SYSTEMD_PHASE={}", phase.name().replace('_', "-"));
        if let Some(percent) = doing.percent {
            text += &format!("\nX_SYSTEMD_PHASE_PROGRESS={percent}");
        }
        self.send(&text);
    }

    /// How the process will end.
    pub(crate) fn ended(&self, code: u8) {
        self.send(&format!("EXIT_STATUS={code}"));
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

/// The name of a file must not become a line of its own.
fn line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use repart::build::phase::Phase;

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn the_service_manager_hears_in_files_and_abstract() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("ddi-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        for (socket, value) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.clone().into_os_string(),
            ),
            (
                UnixDatagram::bind_addr(&address).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            let notifier = Notifier::to(Some(&value));
            notifier.ready("waiting");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=waiting");
            let file = Some(Path::new("/x"));
            let doing = Doing::new(Phase::CopyingPartition)
                .of(file)
                .saying("copying a\nb");
            notifier.tell(&doing);
            let text = "STATUS=copying a?b\nX_SYSTEMD_PHASE=copying-partition";
            assert_eq!(heard(&socket), text);
            notifier.tell(&Doing::more("flushing"));
            notifier.tell(&doing.done());
            assert_eq!(
                heard(&socket),
                format!("{text}\nX_SYSTEMD_PHASE_PROGRESS=100")
            );
            notifier.ended(77);
            assert_eq!(heard(&socket), "EXIT_STATUS=77");
        }
    }

    #[test]
    fn nobody_need_listen() {
        let gone = OsStr::new("/nonexistent/notify");
        for value in [
            None,
            Some(OsStr::new("")),
            Some(OsStr::new("vsock:2:1")),
            Some(gone),
        ] {
            Notifier::to(value).ready("waiting");
        }
        assert!(Notifier::to(Some(OsStr::new("relative"))).0.is_none());
    }
}
