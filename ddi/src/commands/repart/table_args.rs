//! Options of `ddi repart` that speak of the partition table itself.

use clap::{Args, ValueEnum};
use image_specs::conf::size;
use repart::definition::{CopyMode, LabelKind};

/// The partition table.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Partition table")]
pub(crate) struct TableArgs {
    /// Kind of a new partition table [default: gpt]
    #[arg(long, value_name = "KIND", value_enum)]
    label: Option<LabelArg>,
    /// What becomes of the second copy of a GPT [default: keep]
    #[arg(long, value_name = "MODE", value_enum)]
    table_copy: Option<CopyArg>,
    /// Only rewrite the table of this image for sectors of 512 or 4096 bytes
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with_all = ["label", "empty",
        "size", "sector_size", "factory_reset", "can_factory_reset", "split", "make_ddi", "check"])]
    pub(crate) convert_sector_size: Option<u64>,
}

/// `--label=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LabelArg {
    /// A GUID partition table
    Gpt,
    /// A master boot record
    Mbr,
}

/// `--table-copy=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CopyArg {
    /// Write it when the table is written
    Keep,
    /// Write it anew at the disk's end, even if nothing else changes
    Restore,
    /// End a new image behind its last partition, without it
    Cut,
}

impl TableArgs {
    /// What becomes of the second copy of a GPT.
    pub(crate) fn copy(&self) -> CopyMode {
        match self.table_copy {
            None | Some(CopyArg::Keep) => CopyMode::Keep,
            Some(CopyArg::Restore) => CopyMode::Restore,
            Some(CopyArg::Cut) => CopyMode::Cut,
        }
    }

    /// What kind a new table is to be.
    pub(crate) fn label(&self) -> LabelKind {
        match self.label {
            None | Some(LabelArg::Gpt) => LabelKind::Gpt,
            Some(LabelArg::Mbr) => LabelKind::Mbr,
        }
    }
}
