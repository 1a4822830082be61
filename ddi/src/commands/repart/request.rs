//! What the machine asks of a run on its own disk: the kernel's command line, and the EFI variable
//! that requests a factory reset, which is cleared once that is done.
//!
//! A run that is given an image, a device, or what a disk must be is none on the machine's own disk:
//! what is built must not depend on how the builder was booted. Who finds the machine's disk for it says
//! so by `--own-disk`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

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
    /// The EFI variable, where it asks for a factory reset.
    by_variable: Option<PathBuf>,
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
        let variable = PathBuf::from(VARIABLE);
        let counts = decided.is_none() && !switches.off && is_requested(&variable)?;
        Ok(Self {
            by_variable: counts.then_some(variable),
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
        let by_variable = self.by_variable.as_ref().map(|_| ResetMode::Recreate);
        let reset = self.switches.factory_reset.or(by_variable);
        args.reset.factory_reset = args.reset.factory_reset.or(reset);
        args
    }

    /// Clears the request in the EFI variable, after what it asked for was written.
    pub(super) fn done(&self) -> Result<(), Failure> {
        self.by_variable.as_deref().map_or(Ok(()), clear)
    }
}

/// Whether the run is to change the machine's own disk. One that `--disk=` chooses may be any, unless
/// `--own-disk` says that it is not.
fn is_on_own_disk(args: &RepartArgs) -> bool {
    let configuration = &args.configuration;
    let elsewhere = args.device.is_some()
        || !args.choice.disk.is_empty()
        || configuration.root.is_some()
        || configuration.image.is_some();
    let asks = args.reset.can_factory_reset
        || args.check.check
        || configuration.list_devices
        || args.encryption.tpm2.lists();
    (args.choice.own_disk || !elsewhere) && !asks
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
    use clap::FromArgMatches as _;

    use super::super::run;
    use super::*;
    use crate::exit::Exit;
    use crate::notify::Notifier;
    use crate::ui::{Mode, Ui};

    fn parsed(words: &[&str]) -> RepartArgs {
        let command = <RepartArgs as clap::Args>::augment_args(clap::Command::new("repart"));
        let words = ["repart"].iter().chain(words);
        let matches = command.try_get_matches_from(words).unwrap();
        RepartArgs::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn what_is_asked_of_the_machine_is_not_done_to_another_disk() {
        for (words, own) in [
            (&[][..], true),
            (&["--dry-run=no", "--empty=allow"], true),
            (&["/dev/x"], false),
            (&["--disk=bus=usb"], false),
            (&["--root=/x"], false),
            (&["--image=/x"], false),
            (&["--can-factory-reset"], false),
            (&["--own-disk", "--root=/", "/dev/x"], true),
            (&["--own-disk", "--disk=boot"], true),
            (&["--own-disk", "--can-factory-reset"], false),
        ] {
            assert_eq!(is_on_own_disk(&parsed(words)), own, "{words:?}");
        }
    }

    #[test]
    fn only_new_images_are_written_without_being_asked_for() {
        for (words, dry) in [
            (&[][..], true),
            (&["--empty=create"], false),
            (&["--make-ddi=sysext"], false),
            (&["-S", "-n"], true),
            (&["--restore=/x"], true),
            (&["--restore=/x", "--empty=create"], true),
            (&["--restore=/x", "-S"], true),
            (&["--restore=/x", "--dry-run=no"], false),
            (&["--convert-sector-size=4096", "-S"], true),
            (&["--convert-sector-size=4096", "--dry-run=no"], false),
        ] {
            assert_eq!(parsed(words).is_dry_run(), dry, "{words:?}");
        }
    }

    /// The request must not outlive what it asked for: the next boot would delete what is new.
    #[test]
    fn a_reset_that_is_done_is_asked_for_no_more_though_the_run_fails() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let option = |name: &str, path: &str| format!("--{name}={path}");
        let write = |keys: &str| fs::write(at("10-root.conf"), format!("[Partition]\n{keys}\n"));
        let (image, tab) = (at("disk.raw"), at("tab"));
        File::create(&image).unwrap().set_len(48 << 20).unwrap();
        let definitions = option("definitions", folder.path().to_str().unwrap());
        let ui = Ui::new(Mode::Text);
        let notifier = Notifier::from_environment();
        let ask = |more: &[&str]| {
            fs::write(at("variable"), b"").unwrap();
            let request = Request {
                by_variable: Some(at("variable").into()),
                ..Request::default()
            };
            let words = [&image, &definitions, "--pretty=no"];
            let words: Vec<&str> = words.into_iter().chain(more.iter().copied()).collect();
            let result = run(&request.apply(&parsed(&words)), &ui, &notifier, &request);
            (
                result.map_err(|failure| failure.to_string()),
                Path::new(&at("variable")).exists(),
            )
        };
        let root = "Type=root\nFactoryReset=yes\nSizeMinBytes=4M\nMountPoint=/\nFormat=ext4";
        write(root).unwrap();
        let blank = ["--empty=allow", "--dry-run=no"];
        assert_eq!(ask(&blank), (Ok(Exit::Ok), false));
        assert_eq!(ask(&["--dry-run=yes"]), (Ok(Exit::Ok), true));
        // Nothing of this fits, so nothing is reset.
        write(&root.replace("4M", "4G")).unwrap();
        let (refused, asks_still) = ask(&["--dry-run=no"]);
        assert!(refused.is_err() && asks_still);
        write(root).unwrap();
        fs::create_dir(&tab).unwrap();
        let tab = option("generate-fstab", &format!("{tab}/missing/fstab"));
        let (failed, asks_still) = ask(&["--dry-run=no", &tab]);
        assert!(failed.unwrap_err().contains("fstab"));
        assert!(!asks_still);
    }

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
