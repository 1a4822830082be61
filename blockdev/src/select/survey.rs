//! Reads what is known of each disk from `/sys`, `/dev` and its partition table. Only reads; what is
//! not there is not known.

use std::fs;
use std::path::{Path, PathBuf};

use image_specs::mbr::Mbr;
use image_specs::units::Bytes;

use super::{Bus, Candidate, Identity};
use crate::device::BlockDevice;
use crate::sysfs::{Block, Sysfs, SysfsError};
use crate::table::{self, Label};

/// Where links to nodes of disks lie below `/dev`.
const LINKS: [&str; 5] = [
    "disk/by-id",
    "disk/by-path",
    "disk/by-diskseq",
    "disk/by-loop-ref",
    "mapper",
];

/// A disk's serial number in what SCSI calls vital product data: behind a header of four bytes.
const SCSI_SERIAL: &str = "device/vpd_pg80";
const SCSI_SERIAL_START: usize = 4;

/// All disks, by name. `dev` is `/dev` but in tests; `look` tells what the partition table of a node
/// says, where that is wanted. Disks that the kernel hides (paths of NVMe multipath) are left out.
pub fn survey(
    sysfs: &Sysfs,
    dev: &Path,
    look: &mut dyn FnMut(&Path) -> Identity,
) -> Result<Vec<Candidate>, SysfsError> {
    let links = links(dev);
    let mut disks = Vec::new();
    for block in sysfs.disks()? {
        // What was unplugged in between is no candidate.
        let (Ok(node), Ok(size)) = (block.node(), block.size()) else {
            continue;
        };
        if block.flag("hidden") {
            continue;
        }
        let own = |(name, _): &&(String, PathBuf)| node.file_name() == Some(name.as_ref());
        let links = links.iter().filter(own).map(|(_, link)| link.clone());
        let bus = Bus::of(block.directory());
        disks.push(Candidate {
            links: links.collect(),
            identity: match size.is_zero() {
                true => Identity::default(),
                false => look(&node),
            },
            node,
            size,
            bus,
            removable: block.flag("removable"),
            read_only: block.is_read_only(),
            model: model(&block),
            serials: serials(&block),
            ids: first_of(
                &block,
                &["wwid", "device/wwid", "device/cid", "dm/uuid", "md/uuid"],
            ),
        });
    }
    Ok(disks)
}

/// What the partition table on a device says; nothing where there is none, or it cannot be read.
pub fn identity(device: &dyn BlockDevice) -> Identity {
    match table::read(device) {
        Ok(Label::Gpt(found)) => Identity {
            table: Some(found.table.disk_guid.to_string()),
            partitions: (found.table.slots().values())
                .map(|entry| entry.uuid.to_string())
                .collect(),
        },
        Ok(Label::Foreign(_)) => Identity {
            table: disk_number(device),
            partitions: Vec::new(),
        },
        Ok(Label::None) | Err(_) => Identity::default(),
    }
}

/// The number of a DOS disk, as the kernel and udev write it.
fn disk_number(device: &dyn BlockDevice) -> Option<String> {
    let mut sector = [0; 512];
    device.read_exact_at(&mut sector, Bytes::ZERO).ok()?;
    Mbr::parse(&sector).map(|record| format!("{:08x}", record.disk_id))
}

fn model(block: &Block) -> Option<String> {
    let parts = ["device/vendor", "device/model"].map(|name| text(block, name));
    match parts {
        // PCI numbers, as virtio disks have; and what says only how it is attached.
        [Some(vendor), model] if vendor.starts_with("0x") || vendor == "ATA" => model,
        [Some(vendor), Some(model)] => Some(format!("{vendor} {model}")),
        [vendor, model] => model.or(vendor).or_else(|| text(block, "device/name")),
    }
}

fn serials(block: &Block) -> Vec<String> {
    let mut serials = first_of(block, &["serial", "device/serial"]);
    let page = fs::read(block.directory().join(SCSI_SERIAL)).unwrap_or_default();
    let page = page.get(SCSI_SERIAL_START..).unwrap_or_default();
    serials.extend(std::str::from_utf8(page).ok().and_then(clean));
    serials.extend(usb_serial(block.directory()));
    serials.dedup();
    serials
}

/// The serial number of the USB device that the disk is part of.
fn usb_serial(directory: &Path) -> Option<String> {
    let mut above = directory.ancestors();
    let device = above.find(|at| at.join("idVendor").exists())?;
    clean(&fs::read_to_string(device.join("serial")).ok()?)
}

fn first_of(block: &Block, names: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = names.iter().filter_map(|name| text(block, name)).collect();
    found.dedup();
    found
}

fn text(block: &Block, name: &str) -> Option<String> {
    clean(&block.attribute(name)?)
}

/// Without the blanks and zeros that fields of a fixed width are filled with.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The links below `dev`, each with the name of the node that it leads to.
fn links(dev: &Path) -> Vec<(String, PathBuf)> {
    let folders = LINKS.iter().map(|folder| dev.join(folder));
    let entries = folders.chain([dev.to_owned()]).flat_map(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    });
    let mut links: Vec<(String, PathBuf)> = entries
        .filter_map(|link| {
            let target = fs::read_link(&link).ok()?;
            Some((target.file_name()?.to_str()?.to_owned(), link))
        })
        .collect();
    links.sort();
    links
}
