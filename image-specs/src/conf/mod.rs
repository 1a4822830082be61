//! Configuration files as systemd reads them: sections, keys, values, and where each of them stands.
//!
//! [`parse`] splits a file into [`Entry`]s; the other functions parse values. What a section or key
//! means is the caller's. Invariant: every span lies inside the text that was parsed. Pure.

mod hint;
mod path;
mod text;
mod value;
mod words;

pub use hint::closest;
pub use path::{PathError, absolute_path, is_file_name};
pub use text::{Entry, Fatal, Located, Location, Parsed, Span, Strange, parse};
pub use value::{ValueError, boolean, int32, size, tristate, unsigned};
pub use words::{WordError, Words, fields, words};
