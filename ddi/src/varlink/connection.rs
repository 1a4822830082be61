//! One connection: messages in, answers out, one call after the other.
//!
//! Bytes that are no call end the connection, as nothing behind them can be trusted. A client that
//! no longer reads is told nothing more, but what it has asked for is carried out to the end: a disk
//! that is half repartitioned serves nobody.

use std::io::{self, ErrorKind, Read, Write};

use image_specs::varlink::{Call, Frames, Map, MessageError, Mode, TooLong, Value};
use image_specs::varlink::{failed, replied};

use super::service::{Peer, Service};

/// No message of a client is longer, in bytes.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("cannot read from the client")]
    Read(#[source] io::Error),
    #[error("cannot answer the client")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Long(#[from] TooLong),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the client left in the middle of a message")]
    Cut,
}

/// Answers calls until the client has closed its end.
pub(crate) fn converse(
    service: &Service,
    peer: Peer,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), ConnectionError> {
    let mut frames = Frames::new(MAX_MESSAGE);
    let mut buffer = [0; 8192];
    loop {
        while let Some(message) = frames.next_message()? {
            let call = Call::parse(&message)?;
            let mut answers = Answers::new(output);
            answers.answer(service, call, peer);
            answers.finish()?;
        }
        match input.read(&mut buffer) {
            Ok(0) if frames.is_inside() => return Err(ConnectionError::Cut),
            Ok(0) => return Ok(()),
            Ok(count) => frames.push(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ConnectionError::Read(error)),
        }
    }
}

/// Where the answers to one call go.
pub(crate) struct Answers<'a> {
    output: &'a mut dyn Write,
    mode: Mode,
    /// The client no longer reads.
    lost: Option<io::Error>,
}

impl<'a> Answers<'a> {
    /// Answers to a call that is not known yet.
    pub(crate) fn new(output: &'a mut dyn Write) -> Self {
        Self {
            output,
            mode: Mode::Once,
            lost: None,
        }
    }

    /// Has the service carry the call out, and sends what comes of it.
    pub(crate) fn answer(&mut self, service: &Service, call: Call, peer: Peer) {
        self.mode = call.mode;
        let message = match service.answer(call, peer, self) {
            Ok(parameters) => replied(parameters, false),
            Err(fault) => failed(&fault),
        };
        if self.mode != Mode::Never {
            self.send(&message);
        }
    }

    /// One of several answers; sent to those only who asked for several.
    pub(crate) fn part(&mut self, parameters: Map<String, Value>) {
        if self.mode == Mode::More {
            self.send(&replied(parameters, true));
        }
    }

    fn send(&mut self, message: &[u8]) {
        if self.lost.is_some() {
            return;
        }
        let sent = self.output.write_all(message);
        self.lost = sent.and_then(|()| self.output.flush()).err();
    }

    fn finish(self) -> Result<(), ConnectionError> {
        self.lost
            .map_or(Ok(()), |error| Err(ConnectionError::Write(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::tests::service;
    use super::*;

    const SAY: &[u8] = b"{\"method\":\"org.example.Echo.Say\"}\0";
    const SAID: &str = "{\"parameters\":{\"word\":\"\"}}\0";

    fn talk(input: &[u8]) -> (Result<(), ConnectionError>, String) {
        let mut output = Vec::new();
        let result = converse(&service(), Peer::Starter, &mut &input[..], &mut output);
        (result, String::from_utf8(output).unwrap())
    }

    #[test]
    fn calls_are_answered_in_order_until_one_is_none() {
        let (result, text) = talk(&[SAY, SAY].concat());
        assert!(result.is_ok());
        assert_eq!(text, SAID.repeat(2));
        let (result, text) = talk(&[SAY, b"[]\0", SAY].concat());
        assert!(matches!(result, Err(ConnectionError::Message(_))));
        assert_eq!(text, SAID);
        let (result, text) = talk(&[SAY, b"{"].concat());
        assert!(matches!(result, Err(ConnectionError::Cut)));
        assert_eq!(text, SAID);
        let (result, text) = talk(&[SAY, &vec![b' '; MAX_MESSAGE + 9000]].concat());
        assert!(matches!(result, Err(ConnectionError::Long(_))));
        assert_eq!(text, SAID);
    }

    /// A client that has stopped reading.
    struct Deaf;

    impl Write for Deaf {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_client_that_does_not_read_is_let_go() {
        let result = converse(&service(), Peer::Starter, &mut &SAY[..], &mut Deaf);
        assert!(matches!(result, Err(ConnectionError::Write(_))));
    }
}
