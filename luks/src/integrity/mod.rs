//! Stand-alone dm-integrity: each sector with a tag that tells whether it is what was written.
//!
//! [`offline`] formats a device or file without the kernel, in the pass that writes its data;
//! [`table`] and [`activate`] hand devices to the kernel. Which algorithms there are says [`Algorithm`].

pub mod activate;
mod algorithm;
pub mod offline;
pub mod table;
mod tagger;

pub use algorithm::{Algorithm, AlgorithmError};
pub use offline::{Format, Formatted, OfflineError};
pub use tagger::{Tagger, TaggerError};
