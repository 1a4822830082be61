//! Loading definitions for `ddi repart`: by directories, by `--make-ddi=`, by `--copy-from=`.

use std::path::Path;

use repart::definition::DefinitionSet;
use uuid::Uuid;

use super::repart_args::RepartArgs;
use crate::exit::Failure;

/// Loads the definitions that the options ask for.
pub(crate) fn definitions(_args: &RepartArgs) -> Result<DefinitionSet, Failure> {
    Ok(DefinitionSet::default())
}

/// The machine ID below a root.
pub(crate) fn machine_id(root: Option<&Path>) -> Option<Uuid> {
    let path = root.unwrap_or(Path::new("/")).join("etc/machine-id");
    image_specs::guid::parse(std::fs::read_to_string(path).ok()?.trim()).ok()
}
