//! `status`: what the kernel says of a device.

use std::ffi::OsStr;
use std::fs;

use blockdev::dm::{DeviceMapper, DmFailure};
use blockdev::sysfs::{Number, Sysfs};
use veritysetup::activate::{DeviceNumber, Shown};

use super::device::dm_name;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

pub(super) fn run(name: &OsStr, ui: &Ui) -> Result<Exit, Failure> {
    // The path of a device names it, too.
    let text = name.to_string_lossy();
    let short = text.strip_prefix("/dev/mapper/").unwrap_or(&text);
    let name = dm_name(OsStr::new(short))?;
    let mapper = DeviceMapper::open().map_err(|error| match error.why {
        DmFailure::Denied(_) => Failure::from(error).with_exit(Exit::Refused),
        _ => Failure::from(error).with_exit(Exit::NoDevice),
    })?;
    let info = mapper.info(&name)?.filter(|info| info.active);
    let table = match &info {
        Some(_) => Shown::parse(&mapper.table(&name)?),
        None => None,
    };
    let (Some(info), Some(shown)) = (info, table) else {
        ui.print(&format!("/dev/mapper/{name} is inactive.\n"))?;
        return Ok(Exit::NoDevice);
    };
    let state = mapper.status(&name)?;
    let corrupted = state
        .iter()
        .any(|target| target.parameters.starts_with('C'));
    let used = match info.open_count {
        0 => "active",
        _ => "active and is in use",
    };
    let mut text = format!("/dev/mapper/{name} is {used}.\n");
    for (label, value) in lines(&shown, corrupted, info.read_only) {
        text += &format!("  {label:<13}{value}\n");
    }
    ui.print(&text)?;
    Ok(Exit::Ok)
}

fn lines(shown: &Shown, corrupted: bool, read_only: bool) -> Vec<(&'static str, String)> {
    let state = if corrupted { "corrupted" } else { "verified" };
    let signed = if shown.signed {
        " (with signature)"
    } else {
        ""
    };
    let mut lines = vec![
        ("type:", "VERITY".to_owned()),
        ("status:", format!("{state}{signed}")),
        ("hash type:", shown.hash_type.to_string()),
        ("data block:", format!("{} [bytes]", shown.data_block)),
        ("hash block:", format!("{} [bytes]", shown.hash_block)),
        ("hash name:", shown.algorithm.clone()),
        ("salt:", shown.salt.clone()),
    ];
    device(&mut lines, ("data device:", "data loop:"), shown.data);
    let size = shown.data_blocks.saturating_mul(shown.data_block);
    lines.push(("size:", position(size)));
    let mode = if read_only { "readonly" } else { "read/write" };
    lines.push(("mode:", mode.to_owned()));
    device(&mut lines, ("hash device:", "hash loop:"), shown.hash);
    let start = shown.hash_start.saturating_mul(shown.hash_block);
    lines.push(("hash offset:", position(start)));
    if let Some(correction) = &shown.correction {
        device(&mut lines, ("FEC device:", "FEC loop:"), correction.device);
        let start = correction.start.saturating_mul(shown.hash_block);
        lines.push(("FEC offset:", position(start)));
        lines.push(("FEC roots:", correction.roots.to_string()));
    }
    lines.push(("root hash:", shown.root.clone()));
    if !shown.flags.is_empty() {
        lines.push(("flags:", shown.flags.join(" ")));
    }
    lines
}

fn position(bytes: u64) -> String {
    format!("{} [512-byte units] ({bytes} [bytes])", bytes / 512)
}

/// The node of a device, and the file behind it if it is a loop device.
fn device(
    lines: &mut Vec<(&'static str, String)>,
    (label, loop_label): (&'static str, &'static str),
    number: DeviceNumber,
) {
    let DeviceNumber { major, minor } = number;
    let block = Sysfs::default().block(Number { major, minor });
    let node = block.and_then(|block| block.node());
    lines.push((
        label,
        match node {
            Ok(node) => node.display().to_string(),
            Err(_) => number.to_string(),
        },
    ));
    let backing = format!("/sys/dev/block/{number}/loop/backing_file");
    if let Ok(path) = fs::read_to_string(backing) {
        lines.push((loop_label, path.trim_end_matches('\n').to_owned()));
    }
}
