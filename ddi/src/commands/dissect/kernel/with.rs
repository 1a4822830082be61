//! `--with`: a command with the image mounted.
//!
//! It is mounted in a mount namespace of the command's own, which ends with it: nothing is left to
//! unmount, however the command or ddi ends.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use blockdev::mount;

use super::{Ready, need_root, open_source};
use crate::commands::dissect::DissectArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Where the image is mounted: in every namespace another one.
const PLACE: &str = "/run/ddi/with";

/// Runs `command` (the shell, where it is empty) in the image's root directory.
pub(crate) fn run(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    command: &[OsString],
) -> Result<Exit, Failure> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = command.split_first().unwrap_or((&shell, &[]));
    let inside = |place: &Path, device: &Path| -> Result<Exit, Failure> {
        let status = Command::new(program)
            .args(arguments)
            .current_dir(place)
            .env("SYSTEMD_DISSECT_ROOT", place)
            .env("SYSTEMD_DISSECT_DEVICE", device)
            .status();
        let status = status.map_err(|error| {
            Failure::message(format!("cannot run {}: {error}", program.display()))
        })?;
        Ok(exit(status))
    };
    in_image(args, ui, image, inside)
}

/// Does something with the image mounted at a place of its own, which it gets with the image's device.
pub(crate) fn in_image(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    work: impl FnOnce(&Path, &Path) -> Result<Exit, Failure> + Send,
) -> Result<Exit, Failure> {
    need_root("mounting")?;
    let source = open_source(args, image)?;
    let place = Path::new(PLACE);
    fs::create_dir_all(place)
        .map_err(|error| Failure::message(format!("cannot make {PLACE}: {error}")))?;
    let Ready { activated, tree } = source.mount(args, ui, image)?;
    let device = activated.disk().to_owned();
    let inside = || -> Result<Exit, Failure> {
        tree.attach_at(place)?;
        drop(tree);
        let exit = work(place, &device);
        // Processes that were left behind keep it; then it ends with them.
        let unmounted = mount::unmount_all(place);
        if exit.as_ref().is_ok_and(|exit| *exit == Exit::Ok) {
            unmounted?;
        }
        exit
    };
    let exit = mount::in_own_namespace(inside)??;
    activated.close()?;
    Ok(exit)
}

/// The command's own exit status; 128 and the signal where one has ended it, as shells have it.
fn exit(status: ExitStatus) -> Exit {
    let code = status
        .code()
        .or_else(|| status.signal().and_then(|signal| signal.checked_add(128)));
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Exit::Ok,
        Some(code) => Exit::Command(code),
        None => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_pass_through() {
        for (raw, code) in [(0, 0), (1 << 8, 1), (7 << 8, 7), (9, 137), (15, 143)] {
            assert_eq!(exit(ExitStatus::from_raw(raw)).code(), code);
        }
    }
}
