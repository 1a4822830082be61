//! From definitions to an image: load, survey, plan, stage, apply.
//!
//! `[Definition] + Survey → Plan → Applied`. The plan is pure and can be printed, compared and
//! checked; applying it decides nothing.
#![forbid(unsafe_code)]

pub mod build;
pub mod crypttab;
pub mod definition;
pub mod fstab;
pub mod integrity;
pub mod load;
pub mod makefs;
pub mod plan;
pub mod populate;
pub mod ranges;
pub mod report;
pub mod request;
pub mod survey;
pub mod window;
