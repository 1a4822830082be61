//! Options of `ddi repart` that speak of the partition table itself.

use clap::{Args, ValueEnum};
use image_specs::conf::size;
use repart::definition::LabelKind;

/// The partition table.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Partition table")]
pub(crate) struct TableArgs {
    /// Kind of a new partition table [default: gpt]
    #[arg(long, value_name = "KIND", value_enum)]
    label: Option<LabelArg>,
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

impl TableArgs {
    /// What kind a new table is to be.
    pub(crate) fn label(&self) -> LabelKind {
        match self.label {
            None | Some(LabelArg::Gpt) => LabelKind::Gpt,
            Some(LabelArg::Mbr) => LabelKind::Mbr,
        }
    }
}
