//! Varlink messages: JSON objects, each ended by a NUL byte (<https://varlink.org/Method-Call>).
//!
//! Both ends are hostile until proved otherwise: what comes is bounded in size by [`Frames`] and in
//! depth by the JSON parser, an unknown or repeated field of the envelope is refused, and what is
//! written never has a NUL byte inside. Pure.

mod fault;
mod frames;
mod message;
mod parameters;

pub use fault::Fault;
pub use frames::{Frames, TooLong};
pub use message::{Call, MessageError, Mode, failed, replied};
pub use parameters::Parameters;

/// Named values: the parameters of a call, a reply or an error.
pub use serde_json::Map;
/// One value of them.
pub use serde_json::Value;
