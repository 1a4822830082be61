//! Building: what is read before a plan is made, and what carries it out.

pub mod apply;
pub mod backup;
pub mod beside;
pub mod contents;
pub mod encrypt;
mod fill;
pub mod growing;
pub mod hash_tree;
pub mod in_use;
pub mod integrity;
pub mod job;
pub mod kernel;
pub mod mbr;
pub mod overwrite;
pub mod phase;
pub mod recovery;
pub mod session;
pub mod sign;
pub mod sources;
pub mod split;
pub mod stage;
mod staging;
pub mod steps;
pub mod table;
mod tabs;
pub mod target;
mod unzeroed;
