//! `integritysetup dump` and `status`: the lines of cryptsetup 2.8.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use blockdev::dm::{DeviceMapper, DmInfo, DmName};
use blockdev::sysfs::{Number, Sysfs};
use image_specs::integrity::{Flags, Superblock};
use luks::integrity::activate;
use luks::integrity::table::{Mode, Shown};

use super::{activation, kernel};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// The superblock of a device or file.
pub(crate) fn superblock(path: &Path) -> Result<Superblock, Failure> {
    let file = super::device::open(path, false)?;
    let none = || {
        Failure::message(format!(
            "{} is no integrity device: it has no superblock",
            path.display()
        ))
    };
    let start = super::device::start(&file).map_err(|_| none())?;
    Superblock::parse(&start)?.ok_or_else(none)
}

pub(super) fn dump(path: &Path, ui: &Ui) -> Result<Exit, Failure> {
    let superblock = superblock(path)?;
    let names: Vec<_> = superblock.flags.names().collect();
    let mut text = format!(
        "INTEGRITY header information for {}.\nversion: {}\ntag size: {} [bytes]\nsector size: {} [bytes]\n",
        path.display(),
        superblock.version,
        superblock.tag_size,
        superblock.sector_size(),
    );
    text += &format!("data size: {}\n", sectors(superblock.provided_sectors));
    if superblock.flags.has(Flags::RECALCULATING) {
        text += &format!("recalculate sector: {}\n", superblock.recalculated);
    }
    text += &format!(
        "journal sections: {}\nlog2 interleave sectors: {}\nlog2 blocks per bitmap: {}\nflags: {}\n",
        superblock.journal_sections,
        superblock.log2_interleave.unwrap_or(0),
        superblock.log2_blocks_per_bit,
        names
            .iter()
            .map(|name| format!("{name} "))
            .collect::<String>(),
    );
    ui.print(&text)?;
    Ok(Exit::Ok)
}

fn sectors(count: u64) -> String {
    format!(
        "{count} [512-byte units] ({} [bytes])",
        count.saturating_mul(512)
    )
}

pub(super) fn status(name: &DmName, ui: &Ui) -> Result<Exit, Failure> {
    let mapper = DeviceMapper::open().map_err(kernel)?;
    let Some((info, shown, sectors)) = activate::find(&mapper, name).map_err(activation)? else {
        ui.print(&format!("/dev/mapper/{name} is inactive.\n"))?;
        return Ok(Exit::NoDevice);
    };
    let failures = activate::mismatches(&mapper, name).map_err(kernel)?;
    ui.print(&status_text(&info, &shown, sectors, failures))?;
    Ok(Exit::Ok)
}

fn status_text(info: &DmInfo, shown: &Shown, count: u64, failures: u64) -> String {
    let used = if info.open_count > 0 {
        " and is in use"
    } else {
        ""
    };
    let mut text = format!("/dev/mapper/{} is active{used}.\n", info.name);
    // A String takes every text.
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name} {value}");
    };
    line("type:   ", "INTEGRITY");
    line("tag size:", &format!("{} [bytes]", shown.tag_size));
    line("integrity:", shown.hash.as_deref().unwrap_or("none"));
    let (node, backing) = named(&shown.device);
    let detached = shown.metadata.as_ref().map_or("", |_| " (detached)");
    line("device: ", &format!("{node}{detached}"));
    if let Some(backing) = backing {
        line("loop:   ", &backing);
    }
    if let Some((node, backing)) = shown.metadata.as_deref().map(named) {
        line("metadata device: ", &node);
        if let Some(backing) = backing {
            line("loop:   ", &backing);
        }
    }
    let sector = shown.tuning.block_size.unwrap_or(512);
    line("sector size: ", &format!("{sector} [bytes]"));
    if let Some(interleave) = shown.tuning.interleave_sectors {
        line("interleave sectors:", &interleave.to_string());
    }
    line("size:   ", &sectors(count));
    let write = if info.read_only {
        "readonly"
    } else {
        "read/write"
    };
    let recovery = if shown.mode == Mode::Recovery {
        " recovery"
    } else {
        ""
    };
    line("mode:   ", &format!("{write}{recovery}"));
    line("failures:", &failures.to_string());
    journal(shown, &mut line);
    if shown.allow_discards {
        line("flags:", "discards ");
    }
    text
}

fn journal(shown: &Shown, line: &mut dyn FnMut(&str, &str)) {
    let tuning = &shown.tuning;
    if shown.mode == Mode::Bitmap {
        let number = |value: Option<u32>| value.unwrap_or(0);
        let per_bit = number(tuning.sectors_per_bit);
        line("bitmap 512-byte sectors per bit:", &per_bit.to_string());
        let interval = number(tuning.bitmap_flush_time);
        line("bitmap flush interval:", &format!("{interval} [ms]"));
    }
    match shown.mode {
        Mode::Journal | Mode::Recovery => {
            let size = tuning.journal_sectors.unwrap_or(0).saturating_mul(512);
            line("journal size:", &format!("{size} [bytes]"));
            let watermark = tuning.journal_watermark.unwrap_or(0);
            line("journal watermark:", &format!("{watermark}%"));
            let time = tuning.journal_commit_time.unwrap_or(0);
            line("journal commit time:", &format!("{time} [ms]"));
        }
        Mode::Bitmap | Mode::Direct | Mode::Inline => line("journal:", "not active"),
    }
    if let Some(mac) = &shown.journal_mac {
        line("journal integrity MAC:", mac);
    }
    if let Some(crypt) = &shown.journal_crypt {
        line("journal encryption:", crypt);
    }
}

/// The node of a device, and the file that a loop device is bound to.
fn named(number: &str) -> (String, Option<String>) {
    let parsed = number.split_once(':').and_then(|(major, minor)| {
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        Some(Number { major, minor })
    });
    let block = parsed.and_then(|number| Sysfs::default().block(number).ok());
    let node = block.and_then(|block| block.node().ok());
    let node = node.map_or_else(|| number.to_owned(), |node| node.display().to_string());
    let backing = fs::read_to_string(format!("/sys/dev/block/{number}/loop/backing_file"));
    (node, backing.ok().map(|text| text.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_device_is_told_line_by_line() {
        let info = DmInfo {
            name: "t".to_owned(),
            uuid: String::new(),
            minor: 0,
            open_count: 0,
            active: true,
            read_only: false,
            deferred_remove: false,
        };
        let mut shown = Shown {
            device: "999:1".to_owned(),
            tag_size: 4,
            hash: Some("crc32c".to_owned()),
            ..Shown::default()
        };
        shown.tuning.interleave_sectors = Some(32768);
        shown.tuning.journal_sectors = Some(880);
        shown.tuning.journal_watermark = Some(50);
        shown.tuning.journal_commit_time = Some(10000);
        let expected = "/dev/mapper/t is active.\n  type:    INTEGRITY\n  tag size: 4 [bytes]\n  \
                        integrity: crc32c\n  device:  999:1\n  sector size:  512 [bytes]\n  \
                        interleave sectors: 32768\n  size:    8 [512-byte units] (4096 [bytes])\n  \
                        mode:    read/write\n  failures: 3\n  journal size: 450560 [bytes]\n  \
                        journal watermark: 50%\n  journal commit time: 10000 [ms]\n";
        assert_eq!(status_text(&info, &shown, 8, 3), expected);
    }
}
