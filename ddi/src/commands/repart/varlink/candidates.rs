//! `ListCandidateDevices`: the disks of `--list-devices`, one answer each.

use std::path::Path;

use blockdev::backing;
use blockdev::candidates::Candidate;
use blockdev::sysfs::Sysfs;
use image_specs::varlink::{Fault, Map, Value};

use super::super::device;
use super::{NAME, faults};
use crate::exit::Failure;
use crate::varlink::connection::Answers;
use crate::varlink::service::{Answer, Request};

/// Tells of all of them.
pub(super) fn list(request: Request, answers: &mut Answers<'_>) -> Answer {
    let mut given = request.parameters;
    let ignore_root = given.boolean("ignoreRoot")?.unwrap_or(false);
    // A drive without a medium is never among them.
    given.boolean("ignoreEmpty")?;
    let subscribe = given.boolean("subscribe")?.unwrap_or(false);
    given.finish()?;
    if subscribe {
        return Err(Fault::invalid_parameter("subscribe"));
    }
    let all = found(ignore_root).map_err(|failure| faults::of(&failure))?;
    let Some((last, others)) = all.split_last() else {
        return Err(Fault::new(&format!("{NAME}.NoCandidateDevices")));
    };
    others.iter().for_each(|one| answers.part(object(one)));
    Ok(object(last))
}

fn found(ignore_root: bool) -> Result<Vec<Candidate>, Failure> {
    let mut all = device::candidates()?;
    if ignore_root {
        let disk = backing::disk_of_system(Path::new("/"), &Sysfs::default())?;
        let root = disk.map(|disk| disk.node()).transpose()?;
        all.retain(|one| Some(&one.node) != root.as_ref());
    }
    Ok(all)
}

/// What is known of a disk, and nothing of what is not.
fn object(candidate: &Candidate) -> Map<String, Value> {
    let Value::Object(mut all) = device::object(candidate) else {
        return Map::new();
    };
    all.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    all
}

#[cfg(test)]
mod tests {
    use image_specs::units::Bytes;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_not_told() {
        let disk = Candidate {
            node: "/dev/x".into(),
            links: Vec::new(),
            sequence: Some(3),
            size: Bytes::mib(1),
            vendor: None,
            model: Some("M".to_owned()),
            subsystem: None,
        };
        let told = json!({"node": "/dev/x", "diskseq": 3, "sizeBytes": 1 << 20, "model": "M"});
        assert_eq!(Value::from(object(&disk)), told);
    }
}
