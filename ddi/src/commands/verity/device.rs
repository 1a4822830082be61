//! `open` and `close`: devices of the kernel.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use blockdev::dm::{DeviceMapper, DmError, DmFailure, DmName};
use blockdev::loopdev::{LoopDevice, LoopOptions};
use image_specs::units::{Bytes, SectorSize};
use rustix::fs::OFlags;
use veritysetup::Params;
use veritysetup::activate::{
    self, ActivateError, DeviceNumber, ErrorCorrection, Lifetime, Request, Strictness, VerityTable,
};
use veritysetup::signature::Signature;

use super::options::VerityArgs;
use super::sources::{Source, cannot};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

pub(super) fn open(
    args: &VerityArgs,
    (data_path, hash_path): (&OsStr, &OsStr),
    name: &OsStr,
    (root, ui): (Option<&OsString>, &Ui),
) -> Result<Exit, Failure> {
    let (data_path, hash_path) = (Path::new(data_path), Path::new(hash_path));
    let name = dm_name(name)?;
    let hash = Source::open(hash_path, false)?;
    let data = Source::open(data_path, false)?;
    let params = args.params(Some(&data), &hash, hash_path)?;
    let root = args.root(&params, root)?;
    let mapper = DeviceMapper::open()?;
    if mapper.info(&name)?.is_some() {
        return Err(in_use(ActivateError::Exists(name).into()));
    }
    if !args.shared && data.is_device {
        alone(data_path)?;
    }
    let found = args.found_parity(&params, &hash, hash_path);
    let found = found.unwrap_or_else(|failure| {
        // Nobody asked for it, and the tree alone says what is right.
        ui.note(&format!("warning: {failure}"));
        None
    });
    let below = Below::new(args, &params, (&data, data_path), (&hash, hash_path))?;
    let signature = args.root_hash_signature.as_deref().map(signature);
    let signature = signature.transpose()?;
    let mut request = Request {
        table: VerityTable {
            params: &params,
            root: &root,
            data: below.data.1,
            hash: below.hash.1,
            strictness: strictness(args),
            correction: match &found {
                Some(area) => Some(ErrorCorrection::of_area(area, below.hash.1)),
                None => below.parity.as_ref().map(|(_, correction)| *correction),
            },
        },
        signature: signature.as_ref(),
        lifetime: Lifetime::UntilRemoved,
    };
    let mut opened = activate::open(&mapper, &name, &request);
    if found.is_some() && opened.as_ref().is_err_and(ActivateError::is_refused_table) {
        request.table.correction = None;
        opened = activate::open(&mapper, &name, &request);
        if opened.is_ok() {
            ui.note("note: the kernel does not take the parity behind the tree; opened without");
        }
    }
    let active = opened.map_err(|error| match error {
        ActivateError::Exists(_) => in_use(error.into()),
        other => other.into(),
    })?;
    mapper.link(&name, active.info())?;
    // The device of the kernel holds those below from here on.
    drop(below);
    Ok(Exit::Ok)
}

pub(super) fn close(args: &VerityArgs, name: &OsStr) -> Result<Exit, Failure> {
    let name = dm_name(name)?;
    let mapper = DeviceMapper::open()?;
    let Some(info) = mapper.info(&name)? else {
        return Err(inactive(&name));
    };
    if !info.uuid.starts_with("CRYPT-VERITY-") {
        let text = format!("{name} is no verity device");
        return Err(Failure::message(text).with_exit(Exit::NoDevice));
    }
    if args.cancel_deferred {
        if info.deferred_remove {
            mapper.remain(&name)?;
        }
        return Ok(Exit::Ok);
    }
    match activate::close(&mapper, &name, args.deferred) {
        Ok(true) => Ok(Exit::Ok),
        Ok(false) => Err(inactive(&name)),
        Err(error) => Err(busy(error)),
    }
}

pub(super) fn dm_name(name: &OsStr) -> Result<DmName, Failure> {
    Ok(DmName::new(&name.to_string_lossy())?)
}

fn inactive(name: &DmName) -> Failure {
    Failure::message(format!("Device {name} is not active.")).with_exit(Exit::NoDevice)
}

fn busy(error: DmError) -> Failure {
    match error.why {
        DmFailure::Busy => {
            in_use(error.into()).with_hint("--deferred closes it with its last user")
        }
        _ => error.into(),
    }
}

fn in_use(failure: Failure) -> Failure {
    failure.with_exit(Exit::InUse)
}

fn strictness(args: &VerityArgs) -> Strictness {
    Strictness {
        on_corruption: args.on_corruption(),
        errors_too: args.error_as_corruption,
        ignore_zero_blocks: args.ignore_zero_blocks,
        check_at_most_once: args.check_at_most_once,
        tasklets: args.use_tasklets,
    }
}

fn signature(path: &Path) -> Result<Signature, Failure> {
    let der = fs::read(path).map_err(|error| cannot("read the signature", path, error))?;
    let signature = Signature::from_der(der);
    signature.map_err(|error| Failure::message(format!("{}: {error}", path.display())))
}

/// Fails where others use a block device.
fn alone(path: &Path) -> Result<(), Failure> {
    let flag = i32::try_from(OFlags::EXCL.bits()).unwrap_or(0);
    match OpenOptions::new().read(true).custom_flags(flag).open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(cannot("use", path, error).with_hint("--shared lets others use it, too")),
    }
}

/// The devices that a verity device is made of.
struct Below {
    data: Device,
    hash: Device,
    parity: Option<(Device, ErrorCorrection)>,
}

impl Below {
    fn new(
        args: &VerityArgs,
        params: &Params,
        (data, data_path): (&Source, &Path),
        (hash, hash_path): (&Source, &Path),
    ) -> Result<Self, Failure> {
        let hash_device = Device::new(hash, hash_path)?;
        let data_device = match data.is_same(hash) {
            true => Device(None, hash_device.1),
            false => Device::new(data, data_path)?,
        };
        let mut parity_device = None;
        if let Some(path) = &args.fec_device {
            let parity = Source::open(path, false)?;
            let layout = args.stored_layout(params, hash, (&parity, path))?;
            let device = match (parity.is_same(hash), parity.is_same(data)) {
                (true, _) => Device(None, hash_device.1),
                (_, true) => Device(None, data_device.1),
                _ => Device::new(&parity, path)?,
            };
            let correction = ErrorCorrection {
                device: device.1,
                offset: Bytes::new(args.fec_offset),
                roots: args.fec_roots.get(),
                hash_end: layout.hash_end(),
            };
            parity_device = Some((device, correction));
        }
        Ok(Self {
            data: data_device,
            hash: hash_device,
            parity: parity_device,
        })
    }
}

/// A block device, with the loop device that it is where it stands for a file.
#[derive(Debug)]
struct Device(
    #[expect(dead_code, reason = "held until the kernel holds it")] Option<LoopDevice>,
    DeviceNumber,
);

impl Device {
    fn new(source: &Source, path: &Path) -> Result<Self, Failure> {
        if source.is_device {
            return Ok(Self(None, number(&source.file)?));
        }
        let mut options = LoopOptions::new(SectorSize::S512);
        options.scan_partitions = false;
        options.read_only = true;
        options.direct_io = false;
        let attached = LoopDevice::attach(&source.file, &options);
        let attached = attached.map_err(|error| {
            let failure = Failure::from(error);
            Failure::message(format!(
                "{}: {}",
                path.display(),
                failure.chain().join(": ")
            ))
        })?;
        attached.unlock()?;
        let number = number(attached.file())?;
        Ok(Self(Some(attached), number))
    }
}

fn number(device: &File) -> Result<DeviceNumber, Failure> {
    let number = device.metadata()?.rdev();
    Ok(DeviceNumber {
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
    })
}
