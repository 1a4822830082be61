//! What the machine asks of a run on its own disk: the kernel's command line, and the EFI variable
//! that requests a factory reset, which is cleared once that is done.
//!
//! A run that is given an image or a device by name is none on the machine's own disk: what is built
//! must not depend on how the builder was booted.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use dissect::gpt_auto::cmdline;
use image_specs::guid;
use repart::load;
use repart::plan::{EmptyMode, ResetMode};
use repart::request::{Switches, System, asks_for_reset};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::args::{EmptyArg, RepartArgs};
use crate::commands::gpt_auto;
use crate::exit::Failure;
use crate::surroundings;
use crate::values::SeedArg;

/// Where a factory reset is requested (systemd-factory-reset(8)).
const VARIABLE: &str =
    "/sys/firmware/efi/efivars/FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67";

/// What the machine asks for.
#[derive(Debug, Default)]
pub(super) struct Request {
    switches: Switches,
    /// Whether the EFI variable asks for a factory reset.
    by_variable: bool,
}

impl Request {
    /// Looks at the machine, if the run is one on its own disk.
    pub(super) fn read(args: &RepartArgs) -> Result<Self, Failure> {
        if !is_on_own_disk(args) || gpt_auto::is_container() {
            return Ok(Self::default());
        }
        let words = cmdline::words(&gpt_auto::command_line()?);
        let switches =
            Switches::parse(words.iter().map(String::as_str), surroundings::in_initrd())?;
        let decided = args.reset.factory_reset.or(switches.factory_reset);
        Ok(Self {
            by_variable: decided.is_none() && !switches.off && is_requested(Path::new(VARIABLE))?,
            switches,
        })
    }

    /// Whether the machine wants nothing to be done.
    pub(super) fn is_off(&self) -> bool {
        self.switches.off
    }

    /// The arguments with what the machine asks for, where they do not say it themselves.
    pub(super) fn apply(&self, args: &RepartArgs) -> RepartArgs {
        let mut args = args.clone();
        let operation = &mut args.operation;
        operation.seed = operation.seed.or(self.switches.seed.map(SeedArg::Fixed));
        let empty = self.switches.empty.map(|empty| match empty {
            EmptyMode::Allow => EmptyArg::Allow,
            EmptyMode::Require => EmptyArg::Require,
            _ => EmptyArg::Refuse,
        });
        operation.empty = operation.empty.or(empty);
        let by_variable = self.by_variable.then_some(ResetMode::Recreate);
        let reset = self.switches.factory_reset.or(by_variable);
        args.reset.factory_reset = args.reset.factory_reset.or(reset);
        args
    }

    /// Clears the request in the EFI variable, after what it asked for was written.
    pub(super) fn done(&self) -> Result<(), Failure> {
        match self.by_variable {
            true => clear(Path::new(VARIABLE)),
            false => Ok(()),
        }
    }
}

/// Whether the run is to change the machine's own disk, or one that is chosen by what it is.
fn is_on_own_disk(args: &RepartArgs) -> bool {
    let configuration = &args.configuration;
    let elsewhere =
        args.device.is_some() || configuration.root.is_some() || configuration.image.is_some();
    let asks = args.reset.can_factory_reset
        || args.check.check
        || configuration.list_devices
        || args.encryption.tpm2.lists();
    !elsewhere && !asks
}

fn is_requested(path: &Path) -> Result<bool, Failure> {
    let variable = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(|error| {
            Failure::message(format!("cannot read {}: {error}", path.display()))
        })?,
    };
    let values = load::values(None, &surroundings::variables())?;
    let boot = values.boot_id.as_deref();
    let system = System {
        id: values.os_id.as_deref(),
        image_id: values.image_id.as_deref(),
        boot: boot.and_then(|boot| guid::parse(boot).ok()),
    };
    Ok(asks_for_reset(&variable, system)?)
}

/// Removes a variable, which efivarfs protects by the immutable flag.
fn clear(path: &Path) -> Result<(), Failure> {
    if let Ok(file) = File::open(path)
        && let Ok(flags) = ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        // Where this fails, removing it fails and says so.
        let _ = ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
    }
    fs::remove_file(path).map_err(|error| {
        let text = format!(
            "the factory reset is done, but its request {} cannot be removed: {error}",
            path.display()
        );
        Failure::message(text).with_hint("remove it by hand, or the next boot resets once more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_and_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("variable");
        assert!(!is_requested(&path).unwrap());
        fs::write(&path, b"\x07\0\0\0{}").unwrap();
        assert!(is_requested(&path).is_err());
        let values = load::values(None, &surroundings::variables()).unwrap();
        let asked = serde_json::json!({
            "osReleaseId": values.os_id,
            "osReleaseImageId": values.image_id,
            "bootId": "11111111222233334444555555555555",
        });
        fs::write(
            &path,
            [b"\x07\0\0\0", asked.to_string().as_bytes()].concat(),
        )
        .unwrap();
        assert!(is_requested(&path).unwrap());
        clear(&path).unwrap();
        assert!(!path.exists());
        let failure = clear(&path).unwrap_err();
        assert!(failure.to_string().contains("is done, but its request"));
    }
}
