//! Options of `ddi repart` that speak of the partition table itself.

use clap::{Args, ValueEnum};
use repart::definition::LabelKind;

/// The partition table.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Partition table")]
pub(crate) struct TableArgs {
    /// Kind of a new partition table [default: gpt]
    #[arg(long, value_name = "KIND", value_enum)]
    label: Option<LabelArg>,
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
