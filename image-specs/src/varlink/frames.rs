//! From a stream of bytes to messages, with a limit to what waits. Pure.

/// Bytes that have come, cut into messages.
#[derive(Clone, Debug)]
pub struct Frames {
    pending: Vec<u8>,
    /// How much of `pending` is known to have no NUL.
    scanned: usize,
    limit: usize,
}

/// A message is longer than the limit; nothing after it can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {limit} bytes")]
pub struct TooLong {
    /// The limit in bytes, without the NUL.
    pub limit: usize,
}

impl Frames {
    /// Takes messages of at most `limit` bytes, without their NUL.
    pub fn new(limit: usize) -> Self {
        Self {
            pending: Vec::new(),
            scanned: 0,
            limit,
        }
    }

    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message without its NUL; `None` until the rest of it has come.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let limit = self.limit;
        let fresh = self.pending.get(self.scanned..).unwrap_or_default();
        let Some(at) = fresh.iter().position(|byte| *byte == 0) else {
            self.scanned = self.pending.len();
            return match self.scanned > limit {
                true => Err(TooLong { limit }),
                false => Ok(None),
            };
        };
        let end = self.scanned + at;
        if end > limit {
            return Err(TooLong { limit });
        }
        let rest = self.pending.split_off(end + 1);
        let mut message = std::mem::replace(&mut self.pending, rest);
        message.truncate(end);
        self.scanned = 0;
        Ok(Some(message))
    }

    /// Whether a message has begun that is not whole.
    pub fn is_inside(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_long_is_refused_whole_or_not() {
        for (text, limit, wanted) in [
            (&b"abc\0"[..], 3, Ok(Some(b"abc".to_vec()))),
            (b"abcd\0", 3, Err(TooLong { limit: 3 })),
            (b"abcd", 3, Err(TooLong { limit: 3 })),
            (b"abc", 3, Ok(None)),
            (b"\0", 3, Ok(Some(Vec::new()))),
        ] {
            let mut frames = Frames::new(limit);
            frames.push(text);
            assert_eq!(frames.next_message(), wanted, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(1_u8.., 0..40), 0..8),
            piece in 1_usize..30,
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                bytes.extend_from_slice(message);
                bytes.push(0);
            }
            let mut frames = Frames::new(40);
            let mut out = Vec::new();
            for piece in bytes.chunks(piece) {
                frames.push(piece);
                while let Some(message) = frames.next_message().unwrap() {
                    out.push(message);
                }
            }
            prop_assert_eq!(out, messages);
            prop_assert!(!frames.is_inside());
        }
    }
}
