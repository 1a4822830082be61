//! `--mount`, `--umount`.

use std::fs;
use std::path::Path;

use dissect::activate::detach;

use super::{Ready, need_root, open_source};
use crate::commands::dissect::DissectArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Mounts the image; the devices below it go away when it is unmounted.
pub(crate) fn run(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    directory: &Path,
    make: bool,
) -> Result<Exit, Failure> {
    need_root("mounting")?;
    let source = open_source(args, image)?;
    if make || args.mounting.mkdir {
        fs::create_dir_all(directory).map_err(|error| at("make", directory, &error))?;
    }
    let metadata = fs::metadata(directory).map_err(|error| at("mount on", directory, &error))?;
    if !metadata.is_dir() {
        let text = format!(
            "cannot mount on {}: it is no directory",
            directory.display()
        );
        return Err(Failure::message(text));
    }
    let Ready { activated, tree } = source.mount(args, ui, image)?;
    tree.attach_at(directory)?;
    // From now on the mount is their user.
    drop(activated);
    Ok(Exit::Ok)
}

/// Unmounts an image, and ends its devices.
pub(crate) fn run_umount(
    args: &DissectArgs,
    directory: &Path,
    remove: bool,
) -> Result<Exit, Failure> {
    need_root("unmounting")?;
    detach::unmount(directory)?;
    if remove || args.mounting.rmdir {
        fs::remove_dir(directory).map_err(|error| at("remove", directory, &error))?;
    }
    Ok(Exit::Ok)
}

fn at(action: &str, directory: &Path, error: &std::io::Error) -> Failure {
    let text = format!("cannot {action} {}: {error}", directory.display());
    let failure = Failure::message(text);
    match error.kind() {
        std::io::ErrorKind::NotFound => failure.with_hint("pass --mkdir to have it made"),
        _ => failure,
    }
}
