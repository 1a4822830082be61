//! What is inside an unlocked partition, and whether it may be there.

use std::io;

use image_specs::magic::Kind;
use image_specs::partition::Designator;
use image_specs::policy::ImagePolicy;
use image_specs::units::Bytes;

use crate::assign::Inside;
use crate::options::FileSystems;
use crate::probe::{self, ProbeError};

/// An unlocked partition holds what it must not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsideError {
    /// It cannot be told.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// LUKS in LUKS.
    #[error("partition {0} is encrypted twice; one layer is possible")]
    Nested(Designator),
    /// The policy names file systems, and not this one.
    #[error(
        "the image policy wants partition {designator} to hold {wanted}, but in its encryption is {found}"
    )]
    Policy {
        /// The partition.
        designator: Designator,
        /// The file system of the policy.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
}

/// Looks into an unlocked partition of `size` bytes, and holds what is inside against the policy.
pub(crate) fn look(
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    size: Bytes,
    designator: Designator,
    (policy, file_systems): (&ImagePolicy, &FileSystems),
) -> Result<Inside, InsideError> {
    let place = format!("partition {designator}, decrypted,");
    let found = probe::identify_by(read, size, file_systems, &place)?;
    let kind = found.map(|found| found.kind);
    if kind.is_some_and(|kind| matches!(kind, Kind::Luks1 | Kind::Luks2)) {
        return Err(InsideError::Nested(designator));
    }
    let inside = Inside {
        file_system: kind.map(|kind| kind.name().to_owned()),
        size,
    };
    check(&inside, designator, policy)?;
    Ok(inside)
}

fn check(inside: &Inside, designator: Designator, policy: &ImagePolicy) -> Result<(), InsideError> {
    let Some(wanted) = policy.file_system(designator) else {
        return Ok(());
    };
    match inside.file_system.as_deref() {
        Some(found) if found == wanted => Ok(()),
        found => Err(InsideError::Policy {
            designator,
            wanted,
            found: found.unwrap_or("nothing that is known").to_owned(),
        }),
    }
}
