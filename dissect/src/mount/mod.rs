//! Mounting a dissected image: first decided ([`plan()`], pure), then put together as one tree that
//! is mounted nowhere ([`apply()`]), then put in its place in one step ([`Tree::attach_at`]).
//!
//! Until that step nothing can be seen of it, and a failure or a kill leaves nothing. Paths in the
//! image are resolved with the image as the root, whatever links are in it.

mod apply;
mod copy;
mod plan;
#[cfg(test)]
mod tests;

pub use apply::{ApplyError, Tools, apply};
pub use blockdev::mount::Tree;
pub use copy::{CopyError, Ownership, copy_in, write_file};
pub use plan::{Discard, MountOptions, Place, Plan, PlanError, PlannedMount, When, plan};
