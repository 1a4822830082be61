//! Options of `ddi repart` that contradict each other, or that this version cannot serve yet. What
//! cannot be served is refused here, never ignored.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use image_specs::units::{Grain, SectorSize};
use repart::definition::{CopyMode, LabelKind};
use repart::plan::{EmptyMode, ResetMode, SizeMode};

use super::args::{DdiKind, RepartArgs};
use crate::exit::Failure;

/// Refuses what cannot be served.
pub(crate) fn check(args: &RepartArgs) -> Result<(), Failure> {
    devices(args)?;
    folders(args)?;
    sizes(args)?;
    combinations(args)
}

fn devices(args: &RepartArgs) -> Result<(), Failure> {
    if args.configuration.image_policy.is_some() && args.configuration.image.is_none() {
        return Err(Failure::message("--image-policy= is for --image="));
    }
    match &args.device {
        Some(device) if is_block_device(device) && args.size() != SizeMode::Keep => {
            let text = format!(
                "--size= is for image files; {} is a block device, which has the size that it has",
                device.display()
            );
            Err(Failure::message(text))
        }
        _ => Ok(()),
    }
}

fn is_block_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// A mistyped folder must not end as an empty image.
fn folders(args: &RepartArgs) -> Result<(), Failure> {
    let given = [
        ("--copy-source=", &args.copying.copy_source),
        ("--root=", &args.configuration.root),
    ];
    for (option, path) in given {
        let Some(path) = path else { continue };
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let text = format!("{option}{} is not a directory", path.display());
                return Err(Failure::message(text));
            }
            Err(error) => {
                let text = format!("cannot open {option}{}: {error}", path.display());
                return Err(Failure::message(text));
            }
        }
    }
    Ok(())
}

fn sizes(args: &RepartArgs) -> Result<(), Failure> {
    if args
        .operation
        .sector_size
        .is_some_and(|size| SectorSize::new(size).is_none())
    {
        return Err(Failure::message(
            "--sector-size= must be 512, 1024, 2048 or 4096",
        ));
    }
    if args
        .operation
        .grain_size
        .is_some_and(|size| Grain::new(size).is_none())
    {
        return Err(Failure::message(
            "--grain-size= must be a power of two of at least 512",
        ));
    }
    Ok(())
}

fn combinations(args: &RepartArgs) -> Result<(), Failure> {
    let refuse = |text: &str| Err(Failure::message(text));
    let fresh = matches!(
        args.empty(),
        EmptyMode::Force | EmptyMode::Require | EmptyMode::Create
    );
    let reset = args.reset.can_factory_reset
        || matches!(
            args.reset.factory_reset,
            Some(ResetMode::Recreate | ResetMode::Leave)
        );
    if reset && fresh {
        return refuse(
            "a factory reset needs an existing partition table; leave out --empty= or use --empty=allow",
        );
    }
    let names_device = args
        .device
        .as_deref()
        .is_some_and(|device| !super::is_none(device));
    if args.empty() == EmptyMode::Create && args.size() == SizeMode::Keep && names_device {
        return refuse(
            "--empty=create needs the size of the new image; pass --size=auto or --size=BYTES",
        );
    }
    let cuts = args.table.copy() == CopyMode::Cut;
    if cuts && (args.empty() != EmptyMode::Create || args.table.label() == LabelKind::Mbr) {
        return refuse("--table-copy=cut is for new images with a GPT; use it with --empty=create");
    }
    if args.operation.split == Some(true) && !names_device {
        return refuse("--split= needs an image to split");
    }
    if args.auxiliary.append_fstab.is_some() && args.auxiliary.generate_fstab.is_none() {
        return refuse("--append-fstab= needs --generate-fstab=");
    }
    if args.ddi_kind().is_some() {
        if args.copying.copy_source.is_none() {
            return refuse("--make-ddi= needs the tree to make it of; pass --copy-source=");
        }
        if !args.configuration.definitions.is_empty() {
            return refuse("--make-ddi= brings its own definitions; leave out --definitions=");
        }
    }
    Ok(())
}

impl RepartArgs {
    /// `--make-ddi=` or one of its short forms.
    pub(crate) fn ddi_kind(&self) -> Option<DdiKind> {
        let copying = &self.copying;
        [
            (copying.portable, DdiKind::Portable),
            (copying.confext, DdiKind::Confext),
            (copying.sysext, DdiKind::Sysext),
        ]
        .into_iter()
        .find_map(|(given, kind)| given.then_some(kind))
        .or(copying.make_ddi)
    }
}
