//! Building: what is read before a plan is made, and what carries it out.

pub mod hash_tree;
pub mod sources;
pub mod steps;
pub mod table;
