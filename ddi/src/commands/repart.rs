//! `ddi repart`, also reached as `systemd-repart`.

use super::repart_args::RepartArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Runs `ddi repart`.
pub(crate) fn run(_args: &RepartArgs, _ui: &Ui) -> Result<Exit, Failure> {
    Err(Failure::message("repart is not supported yet"))
}
