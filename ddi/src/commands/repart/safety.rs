//! What keeps people from losing data: what may be overwritten.

use clap::Args;
use repart::build::overwrite::{Caution, Permitted};

use crate::surroundings;

/// The tool that forgets what was on a disk when `--empty=force` is given.
const FORGETFUL: &str = "systemd-repart";

/// Options about data that somebody may miss.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Disk safety")]
pub(crate) struct Safety {
    /// What may be overwritten, by the names that a refusal gives: LVM2_member, ext4, dos, …; or all
    #[arg(long, value_name = "KIND,…")]
    pub(crate) overwrite: Vec<Permitted>,
}

impl Safety {
    /// Which refusals hold.
    pub(crate) fn caution(&self) -> Caution {
        let permitted = self.overwrite.iter();
        Caution {
            permitted: permitted.fold(Permitted::default(), Permitted::and),
            force_forgets: surroundings::is_called(FORGETFUL),
        }
    }
}
