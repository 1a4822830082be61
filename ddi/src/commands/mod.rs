//! One file a verb; its doc comment is its help.

pub(crate) mod dissect;
pub(crate) mod documents;
pub(crate) mod repart;
pub(crate) mod repart_args;
mod repart_load;
mod repart_refusals;
mod repart_sign;
mod repart_view;
