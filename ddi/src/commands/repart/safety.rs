//! What keeps people from losing data: what may be overwritten, and where the old table is kept.

use std::path::{Path, PathBuf};

use clap::Args;
use repart::build::backup::Keep;
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
    /// Keep the old partition table in this new file, or nowhere ("no") [default: for disks, a file in
    /// $LOGS_DIRECTORY, /var/log/ddi or /run/log/ddi]
    #[arg(long, value_name = "PATH|no")]
    pub(crate) backup_table: Option<PathBuf>,
    /// Put back the partition table that was kept in this file; shows what would change
    #[arg(long, value_name = "PATH")]
    pub(crate) restore: Option<PathBuf>,
}

impl Safety {
    /// Where the old table is kept.
    pub(crate) fn keep(&self, block_device: bool) -> Keep {
        match &self.backup_table {
            Some(path) if path == Path::new("no") => Keep::No,
            Some(path) => Keep::At(path.clone()),
            None if block_device => Keep::In(surroundings::log_folders()),
            None => Keep::No,
        }
    }

    /// Which refusals hold.
    pub(crate) fn caution(&self) -> Caution {
        let permitted = self.overwrite.iter();
        Caution {
            permitted: permitted.fold(Permitted::default(), Permitted::and),
            force_forgets: surroundings::is_called(FORGETFUL),
        }
    }
}
