//! Where ddi differs on purpose: the rows of docs/divergences.md that speak of dissecting.

use testimages::dissections::Case;

use crate::answer::Answer;

/// Whether a difference is one of those.
pub(crate) fn is_known(case: &Case, ours: &Answer, theirs: &Answer) -> bool {
    let _ = (case, ours, theirs);
    false
}
