//! What is inside an unlocked partition, and whether it may be there.

use filetree::ReadAt;
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

/// Looks into an unlocked partition of `size` bytes.
pub(crate) fn look(
    data: &dyn ReadAt,
    size: u64,
    designator: Designator,
    file_systems: &FileSystems,
) -> Result<Inside, InsideError> {
    let place = format!("partition {designator}, decrypted,");
    let mut read = |offset, buffer: &mut [u8]| data.read_exact_at(buffer, offset);
    let found = probe::identify_by(&mut read, Bytes::new(size), file_systems, &place)?;
    let kind = found.map(|found| found.kind);
    if kind.is_some_and(|kind| matches!(kind, Kind::Luks1 | Kind::Luks2)) {
        return Err(InsideError::Nested(designator));
    }
    Ok(Inside {
        file_system: kind.map(|kind| kind.name().to_owned()),
        size: Bytes::new(size),
    })
}

/// Holds what is inside against the policy.
pub(crate) fn check(
    inside: &Inside,
    designator: Designator,
    policy: &ImagePolicy,
) -> Result<(), InsideError> {
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
