//! Parity that no option names: behind the tree, where its footer tells of it (docs/fec-footer.md).

use std::path::Path;

use veritysetup::Params;
use veritysetup::fec::Area;

use super::options::VerityArgs;
use super::sources::Source;
use crate::exit::Failure;
use image_specs::units::Bytes;

impl VerityArgs {
    /// What the footer of the hash device tells of; `None` without one, and where an option names the
    /// parity.
    pub(super) fn found_parity(
        &self,
        params: &Params,
        hash: &Source,
        path: &Path,
    ) -> Result<Option<Area>, Failure> {
        if self.fec_device.is_some() {
            return Ok(None);
        }
        Area::find(params, &hash.file, Bytes::new(hash.size)).map_err(|error| {
            let chain = Failure::from(error).chain().join(": ");
            Failure::message(format!("{}: {chain}", path.display())).with_hint(
                "where the parity is known, name it with --fec-device=, --fec-offset= and --fec-roots=",
            )
        })
    }
}

/// Where there is none.
pub(super) fn missing(path: &Path) -> Failure {
    Failure::message(format!(
        "repair needs parity, and {} has no footer that tells of any",
        path.display()
    ))
    .with_hint("name it with --fec-device=")
}
