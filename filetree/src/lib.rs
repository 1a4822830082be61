//! What is inside a file system, as a value.
//!
//! A [`Tree`] describes every file with owner, mode, times, extended attributes, links, holes and the
//! source of its bytes. It is collected once, from folders, an archive or an image, and every
//! [`Writer`] consumes it, so that order, owners and times are decided in one place.
#![forbid(unsafe_code)]

pub mod collect;
pub mod content;
pub mod diff;
pub mod extract;
pub mod merge;
pub mod mtree;
pub mod reader;
pub mod shift;
pub mod stage;
pub mod tar;
pub mod tree;
pub mod writer;

pub use collect::{CollectError, Collected, Notice, Owner, Rules, collect};
pub use content::{Content, ContentError, OpenContent, ReadAt};
pub use reader::{Limits, ReadError, Reader};
pub use tree::{DeviceNumber, Inode, InodeId, Kind, Metadata, Name, Timestamp, Tree};
pub use writer::{WriteAt, WriteError, Writer};
