//! Connections: each in a thread of its own, with limits to how many one user has, and for how long
//! they may say nothing.
//!
//! The server ends with its last connection: the service manager starts it again for the next one.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use blockdev::socket;

use super::activation::Entry;
use super::connection::{ConnectionError, converse};
use super::service::{Peer, Service};

/// What a client may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For how long it may be silent.
    pub(crate) silence: Duration,
    /// For how long it may leave an answer unread.
    pub(crate) deafness: Duration,
    /// How many connections one user has at once.
    pub(crate) per_user: usize,
    /// How many connections there are at once, beside those of root.
    pub(crate) in_all: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(300),
            deafness: Duration::from_secs(30),
            per_user: 16,
            in_all: 64,
        }
    }
}

/// Serves whoever comes by `entry`, until nobody is connected any more.
pub(crate) fn serve(service: &Service, entry: Entry, limits: Limits) -> io::Result<()> {
    match entry {
        Entry::Standard => {
            let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
            told(converse(service, Peer::Starter, &mut input, &mut output));
            Ok(())
        }
        Entry::Connection(stream) => {
            let user = socket::peer_user(&stream)?;
            speak(service, &stream, Peer::User(user), limits)
        }
        Entry::Listeners(listeners) => {
            let doors = Doors::new(service, &listeners, limits)?;
            thread::scope(|scope| doors.open(scope))
        }
    }
}

/// Speaks on a socket, which is closed afterwards, whoever else holds it.
fn speak(service: &Service, stream: &UnixStream, peer: Peer, limits: Limits) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(limits.silence))?;
    stream.set_write_timeout(Some(limits.deafness))?;
    told(converse(service, peer, &mut &*stream, &mut &*stream));
    // It is closed already where the client was first.
    drop(stream.shutdown(std::net::Shutdown::Both));
    Ok(())
}

fn told(result: Result<(), ConnectionError>) {
    if let Err(error) = result {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(%error, cause, "a connection was closed");
    }
}

/// The sockets that connections come by, and who is inside.
struct Doors<'a> {
    service: &'a Service,
    listeners: &'a [UnixListener],
    limits: Limits,
    seats: Mutex<BTreeMap<u32, usize>>,
    /// A byte comes out of the first for each connection that ends.
    bell: (UnixStream, UnixStream),
}

impl<'a> Doors<'a> {
    fn new(
        service: &'a Service,
        listeners: &'a [UnixListener],
        limits: Limits,
    ) -> io::Result<Self> {
        let bell = UnixStream::pair()?;
        bell.0.set_nonblocking(true)?;
        bell.1.set_nonblocking(true)?;
        for listener in listeners {
            // A client that has left again must not hold up the others.
            listener.set_nonblocking(true)?;
        }
        Ok(Self {
            service,
            listeners,
            limits,
            seats: Mutex::default(),
            bell,
        })
    }

    fn open<'s>(&'s self, scope: &'s thread::Scope<'s, '_>) -> io::Result<()> {
        let mut descriptors = vec![self.bell.0.as_fd()];
        descriptors.extend(self.listeners.iter().map(UnixListener::as_fd));
        let mut served = false;
        loop {
            let ready = socket::wait_readable(&descriptors)?;
            self.hush();
            let waiting = self.listeners.iter().zip(ready.into_iter().skip(1));
            for (listener, _) in waiting.filter(|(_, ready)| *ready) {
                served |= self.admit(listener, scope)?;
            }
            let now = socket::now_readable(&descriptors)?;
            if served && self.is_empty() && !now.contains(&true) {
                return Ok(());
            }
        }
    }

    /// Takes one connection, if it is still there and there is a seat for it.
    fn admit<'s>(
        &'s self,
        listener: &UnixListener,
        scope: &'s thread::Scope<'s, '_>,
    ) -> io::Result<bool> {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if is_passing(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let user = socket::peer_user(&stream)?;
        if !self.seat(user) {
            tracing::debug!(user, "a connection too many was refused");
            return Ok(true);
        }
        let seat = Seat { doors: self, user };
        let work = move || {
            let seat = seat;
            let peer = Peer::User(seat.user);
            let doors = seat.doors;
            if let Err(error) = speak(doors.service, &stream, peer, doors.limits) {
                tracing::debug!(%error, "a connection could not be served");
            }
        };
        match thread::Builder::new().spawn_scoped(scope, work) {
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "there is no thread for a connection"),
        }
        Ok(true)
    }

    fn seat(&self, user: u32) -> bool {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let others: usize = seats
            .iter()
            .filter(|(user, _)| **user != 0)
            .map(|(_, count)| count)
            .sum();
        let own = seats.entry(user).or_default();
        let free = *own < self.limits.per_user && (user == 0 || others < self.limits.in_all);
        *own += usize::from(free);
        free
    }

    fn is_empty(&self) -> bool {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.values().all(|count| *count == 0)
    }

    /// Forgets who has left so far.
    fn hush(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.bell.0).read(&mut bytes), Ok(count) if count > 0) {}
    }
}

/// Whether a failed accept says nothing of the next one.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}

/// A connection that counts, until it is dropped.
struct Seat<'a> {
    doors: &'a Doors<'a>,
    user: u32,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let seats = self.doors.seats.lock();
        let mut seats = seats.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = seats.get_mut(&self.user) {
            *count = count.saturating_sub(1);
        }
        drop(seats);
        // Where so many bytes wait that there is no room, the server wakes anyway.
        drop((&self.doors.bell.1).write_all(b"."));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::service::tests::service;
    use super::*;

    const SAY: &[u8] = b"{\"method\":\"org.example.Echo.Say\"}\0";
    const SAID: &[u8] = b"{\"parameters\":{\"word\":\"\"}}\0";

    /// Runs `clients` against a server that must end with the last of them.
    fn with_server(limits: Limits, clients: impl FnOnce(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server =
            thread::spawn(move || serve(&service(), Entry::Listeners(vec![listener]), limits));
        clients(&path);
        server.join().unwrap().unwrap();
    }

    fn ask(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
        stream.write_all(SAY)?;
        let mut answer = vec![0; SAID.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn clients_are_served_side_by_side() {
        with_server(Limits::default(), |path| {
            let mut all: Vec<_> = (0..8).map(|_| UnixStream::connect(path).unwrap()).collect();
            // Half a message of one holds up none of the others.
            all[0].write_all(b"{").unwrap();
            for stream in &mut all[1..] {
                assert_eq!(ask(stream).unwrap(), SAID);
            }
        });
    }

    #[test]
    fn nobody_has_more_than_a_share() {
        let limits = Limits {
            per_user: 2,
            ..Limits::default()
        };
        with_server(limits, |path| {
            let mut first = UnixStream::connect(path).unwrap();
            let mut second = UnixStream::connect(path).unwrap();
            assert_eq!(ask(&mut first).unwrap(), SAID);
            assert_eq!(ask(&mut second).unwrap(), SAID);
            let mut third = UnixStream::connect(path).unwrap();
            assert!(ask(&mut third).is_err());
            assert_eq!(ask(&mut first).unwrap(), SAID);
        });
    }

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn the_silent_are_let_go() {
        let limits = Limits {
            silence: SHORT,
            ..Limits::default()
        };
        with_server(limits, |path| {
            let mut silent = UnixStream::connect(path).unwrap();
            let mut rest = Vec::new();
            silent.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
        });
    }

    #[test]
    fn the_deaf_are_let_go() {
        let limits = Limits {
            deafness: SHORT,
            ..Limits::default()
        };
        with_server(limits, |path| {
            let mut deaf = UnixStream::connect(path).unwrap();
            // Far more answers than the socket holds, and none is read.
            let asked = (0..200_000).try_for_each(|_| deaf.write_all(SAY));
            assert!(asked.is_err());
        });
    }
}
