//! The commands that need the kernel, and so root: attaching and mounting.

mod attach;
mod copy_to;
pub(crate) mod measuring;
mod mount;
pub(crate) mod mount_ddi;
pub(crate) mod options;
mod shift;
mod trust;
mod with;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockdev::loopdev::LoopReference;
use blockdev::tool::Tool;
use blockdev::{BlockDevice, FileDevice};
use dissect::activate::{self, ActivateOptions, Activated, AttachOptions, FoundParity};
use dissect::mount::{self as mounting, MountOptions, Tools, Tree};
use dissect::{Dissected, Image, Options};
use image_specs::units::Bytes;
use rustix::fs::MemfdFlags;

pub(super) use attach::{run as attach, run_detach as detach};
pub(super) use copy_to::run as copy_to;
pub(super) use mount::{run as mount, run_umount as umount};
pub(super) use shift::run as shift;
pub(super) use with::{in_image, run as with};

use options::Discard;

use super::{DissectArgs, environment, keys, open};
use crate::exit::Failure;
use crate::surroundings;
use crate::ui::Ui;

/// An image, open and known.
struct Source {
    options: Options,
    image: Image,
    dissected: Dissected,
    /// What is used instead of the image's file.
    _memory: Option<File>,
}

/// An image that is mounted, but nowhere yet.
struct Ready {
    activated: Activated,
    tree: Tree,
}

/// Refuses to begin what only root can do.
fn need_root(what: &str) -> Result<(), Failure> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(
            Failure::message(format!("{what} needs the kernel, and so root")).with_hint(
                "run it as root; --list, --mtree, --copy-from and --make-archive need no root",
            ),
        ),
    }
}

/// Opens the image, or a copy of it in memory.
fn open_source(args: &DissectArgs, path: &Path) -> Result<Source, Failure> {
    let options = open::options(args, path)?;
    let memory = args.mounting.in_memory.then(|| into_memory(path));
    let memory = memory.transpose()?;
    let used = match &memory {
        Some(copy) => PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())),
        None => path.to_owned(),
    };
    let (image, dissected) = dissect::dissect(&used, &options)?;
    Ok(Source {
        options,
        image,
        dissected,
        _memory: memory,
    })
}

/// Copies an image into a file that has no name and no disk; holes stay holes.
fn into_memory(path: &Path) -> Result<File, Failure> {
    let image = Image::open(path, None)?;
    let size = image.device().size();
    let file = rustix::fs::memfd_create("ddi-image", MemfdFlags::CLOEXEC)?;
    let file = File::from(file);
    let mut copy = FileDevice::from_scratch(file.try_clone()?, Path::new("memory"))?;
    copy.set_size(size)?;
    copy.copy_from(image.file(), 0, Bytes::ZERO, size)?;
    Ok(file)
}

/// Says where parity behind the hash tree is of no use.
fn mention_parity(found: &FoundParity, ui: &Ui) {
    match found {
        FoundParity::Unsupported => ui.note(
            "note: the kernel does not take the parity behind the hash tree, so it repairs nothing",
        ),
        FoundParity::Unusable(error) => {
            let mut causes = vec![error.to_string()];
            let source = std::error::Error::source(error);
            causes.extend(source.map(ToString::to_string));
            let said = causes.join(": ");
            ui.note(&format!(
                "warning: {said}; data are checked, and not repaired"
            ));
        }
        _ => {}
    }
}

impl Source {
    /// Makes its block device.
    fn attach_options(&self, args: &DissectArgs, path: &Path) -> Result<AttachOptions, Failure> {
        let typed = &args.mounting;
        let reference = match (&typed.loop_ref, typed.loop_ref_auto) {
            (Some(name), _) => Some(LoopReference::new(name)?),
            (None, true) => LoopReference::of_file_name(path),
            (None, false) => None,
        };
        Ok(AttachOptions {
            read_only: typed.read_only,
            direct_io: environment::switch("SYSTEMD_LOOP_DIRECT_IO")?,
            reference,
        })
    }

    /// How its partitions become devices.
    fn activate_options(
        &self,
        args: &DissectArgs,
        attach: AttachOptions,
    ) -> Result<ActivateOptions, Failure> {
        let discard = args.mounting.discard.and_then(Discard::mode);
        Ok(ActivateOptions {
            attach,
            policy: self.options.policy.clone(),
            trust: trust::trust(args, &self.options.rules)?,
            sharing: environment::switch("SYSTEMD_VERITY_SHARING")?,
            strictness: args.checking.strictness(),
            parity: args.checking.parity()?,
            file_systems: self.options.file_systems.clone(),
            measuring: match args.checking.tpm2_measure_pcr {
                None => None,
                Some(pcr) => Some(Arc::new(measuring::into(pcr, args.unlocking.device())?)),
            },
            crypt_discards: discard == Some(mounting::Discard::Crypt),
        })
    }

    /// Activates and mounts it, nowhere yet.
    fn mount(&self, args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Ready, Failure> {
        let typed = &args.mounting;
        if args.checking.needs_verity() && self.dissected.verity.is_none() {
            return Err(Failure::message(
                "--on-corruption= and --fec-device= are for images with a hash tree, and this has none",
            ));
        }
        let mut encrypted = self.dissected.partitions.values();
        let encrypted = encrypted.any(|partition| partition.encryption.is_some());
        let measured = args.checking.tpm2_measure_pcr.is_some();
        if measured && !encrypted && self.dissected.verity.is_none() {
            return Err(Failure::message(
                "--tpm2-measure-pcr= is for images with a hash tree or encrypted partitions, and this \
                 has none",
            ));
        }
        let mut options = MountOptions {
            read_only: typed.read_only,
            on_loop: !self.image.is_block_device(),
            check: typed.fsck.unwrap_or(true),
            grow: typed.growfs.unwrap_or(true),
            file_systems: self.options.file_systems.clone(),
            ..MountOptions::new()
        };
        if let Some(discard) = typed.discard.and_then(Discard::mode) {
            options.discard = discard;
        }
        // A first plan, so that nothing is attached for an image that cannot be mounted.
        options.locked = true;
        let wanted = mounting::plan(&self.dissected, &options)?;
        options.locked = false;
        let mut attach = self.attach_options(args, path)?;
        attach.read_only |= wanted.mounts.iter().all(|mount| mount.read_only);
        let activate = self.activate_options(args, attach)?;
        let mut dissected = self.dissected.clone();
        let keys = args.unlocking.all(ui)?;
        let activated = activate::activate(&self.image, &mut dissected, &activate, &keys);
        let activated = activated.map_err(keys::explained)?;
        mention_parity(activated.found_parity(), ui);
        options.read_only |= activated.attached().is_read_only();
        let plan = mounting::plan(&dissected, &options)?;
        let fsck = Tool::Fsck.require(&surroundings::search_path()).ok();
        let tools = Tools {
            fsck: fsck.as_ref(),
            owners: None,
        };
        let node = |designator| activated.node(designator);
        let tree = mounting::apply(&plan, &node, tools)?;
        Ok(Ready { activated, tree })
    }
}
