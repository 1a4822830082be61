//! Where ddi differs on purpose: the rows of docs/divergences.md that speak of showing images.

use serde_json::Value;
use testimages::dissections::Case;

use crate::answer::Answer;

/// Whether a difference is one of those.
pub(crate) fn is_known(case: &Case, ours: &Answer, theirs: &Answer) -> bool {
    shown_all_the_same(ours, theirs)
        || header_of_encrypted(ours, theirs)
        || no_reader(ours, theirs)
        || (case.image == "verity-sig-zero.raw" && !ours.is_success())
}

/// What cannot be mounted is shown without what its files say.
fn shown_all_the_same(ours: &Answer, theirs: &Answer) -> bool {
    let reasons = [
        "No root partition discovered.",
        "Failed to acquire image metadata: Address family not supported by protocol",
        "Failed to acquire image metadata: Identifier removed",
        "Failed to acquire image metadata: Invalid argument",
    ];
    let failed = reasons.iter().any(|reason| theirs.errors.contains(reason));
    failed && ours.is_success()
}

/// Where root is encrypted, systemd-dissect's JSON has nothing but the partitions.
fn header_of_encrypted(ours: &Answer, theirs: &Answer) -> bool {
    let (Some(ours), Some(theirs)) = (ours.json(), theirs.json()) else {
        return false;
    };
    let members = theirs.as_object().map_or(0, serde_json::Map::len);
    members == 1 && ours.get("mounts") == theirs.get("mounts")
}

/// File systems without a reader of our own, and data whose signature nobody here accepts: everything
/// else must be the same.
fn no_reader(ours: &Answer, theirs: &Answer) -> bool {
    let same = |key: &str| {
        let of = |answer: &Answer| answer.json().and_then(|json| json.get(key).cloned());
        of(ours) == of(theirs)
    };
    let keys = [
        "name",
        "size",
        "sectorSize",
        "architecture",
        "imageUuid",
        "mounts",
    ];
    let reasons = [
        "there is no reader for this format",
        "no signature is accepted",
    ];
    let unread = reasons.iter().any(|reason| ours.errors.contains(reason));
    unread && keys.into_iter().all(same)
}

impl Answer {
    fn json(&self) -> Option<Value> {
        let value = self.value();
        value.is_object().then_some(value)
    }
}
