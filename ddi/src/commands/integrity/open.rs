//! `integritysetup open`, `close`, `resize`.

use std::path::Path;

use blockdev::dm::{DeviceMapper, DmName};
use blockdev::sysfs::{Number, Sysfs};
use image_specs::integrity::{Flags, Layout, Superblock};
use image_specs::units::SectorSize;
use luks::integrity::activate;
use luks::integrity::table::{IntegrityTable, Mode, Shown, Switch};
use zeroize::Zeroize as _;

use super::keys::Keys;
use super::{IntegrityArgs, Node, activation, format, kernel};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

pub(super) fn run(
    args: &IntegrityArgs,
    path: &Path,
    name: &DmName,
    ui: &Ui,
) -> Result<Exit, Failure> {
    let superblock = super::show::superblock(path)?;
    let keys = Keys::read(args, ui)?;
    let keyed = keys.hash.algorithm.is_keyed();
    if args.allow_discards && keyed && !args.allow_discards_keyed {
        ui.note(
            "warning: with discards, who can write to the device can make sectors zero although they have no \
             key; --allow-discards-keyed says that this is wanted",
        );
    }
    if superblock.flags.has(Flags::JOURNAL_MAC) && keys.journal_mac.is_none() {
        return Err(Failure::message(format!(
            "the journal of {} is authenticated",
            path.display()
        ))
        .with_hint("give --journal-integrity and its key"));
    }
    let mapper = DeviceMapper::open().map_err(kernel)?;
    let sector = SectorSize::new(superblock.sector_size().into()).unwrap_or(SectorSize::S512);
    let node = Node::open(path, sector)?;
    let data = args.data_device.as_ref();
    let data = data.map(|path| Node::open(path, sector)).transpose()?;
    let table = table(args, &superblock, keys, &node, data.as_ref());
    let info = activate::open(&mapper, name, &table).map_err(activation)?;
    mapper.link(name, &info)?;
    Ok(Exit::Ok)
}

fn table(
    args: &IntegrityArgs,
    superblock: &Superblock,
    keys: Keys,
    node: &Node,
    data: Option<&Node>,
) -> IntegrityTable {
    let mut table = IntegrityTable::of(superblock, node.number(), keys.hash);
    if let Some(data) = data {
        table.device = data.number();
        table.metadata = Some(node.number());
    }
    table.journal_mac = keys.journal_mac;
    table.journal_crypt = keys.journal_crypt;
    let modes = [
        (args.integrity_no_journal, Mode::Direct),
        (args.integrity_bitmap_mode, Mode::Bitmap),
        (args.integrity_recovery_mode, Mode::Recovery),
    ];
    if let Some((_, mode)) = modes.iter().find(|(asked, _)| *asked) {
        table.mode = *mode;
    }
    table.tuning.buffer_sectors = args.buffer_sectors;
    table.tuning.journal_watermark = args.journal_watermark;
    table.tuning.journal_commit_time = args.journal_commit_time;
    table.tuning.sectors_per_bit = args.bitmap_sectors_per_bit;
    table.tuning.bitmap_flush_time = args.bitmap_flush_time;
    let anew = args.integrity_recalculate || args.integrity_recalculate_reset;
    for (asked, switch) in [
        (anew, Switch::Recalculate),
        (args.integrity_recalculate_reset, Switch::ResetRecalculate),
        (args.integrity_legacy_recalculate, Switch::LegacyRecalculate),
        (
            args.allow_discards || args.allow_discards_keyed,
            Switch::AllowDiscards,
        ),
    ] {
        if asked && !table.switches.contains(&switch) {
            table.switches.push(switch);
        }
    }
    table
}

pub(super) fn close(args: &IntegrityArgs, name: &DmName) -> Result<Exit, Failure> {
    let mapper = DeviceMapper::open().map_err(kernel)?;
    found(&mapper, name)?;
    match (args.deferred, args.cancel_deferred) {
        (true, _) => mapper.remove_later(name),
        (_, true) => mapper.remain(name),
        _ => mapper.remove(name),
    }
    .map_err(kernel)?;
    Ok(Exit::Ok)
}

/// The device of this name, which must be one.
fn found(mapper: &DeviceMapper, name: &DmName) -> Result<(Shown, u64), Failure> {
    let found = activate::find(mapper, name).map_err(activation)?;
    let (_, shown, sectors) = found.ok_or_else(|| inactive(name))?;
    Ok((shown, sectors))
}

fn inactive(name: &DmName) -> Failure {
    Failure::message(format!("device {name} is not active")).with_exit(Exit::NoDevice)
}

pub(super) fn resize(args: &IntegrityArgs, name: &DmName, ui: &Ui) -> Result<Exit, Failure> {
    let mapper = DeviceMapper::open().map_err(kernel)?;
    let (shown, before) = found(&mapper, name)?;
    let sectors = match (args.size, args.device_size) {
        (Some(sectors), _) => sectors,
        (None, Some(bytes)) => bytes / 512,
        (None, None) => room(&shown)?,
    };
    if sectors != before {
        // Keys and all: the table that is in force, with another size.
        let mut table = mapper.table(name).map_err(kernel)?;
        for target in &mut table {
            target.sectors = sectors;
        }
        let changed = mapper.replace(name, &table, false);
        table
            .iter_mut()
            .for_each(|target| target.parameters.zeroize());
        changed.map_err(|error| {
            let exit = super::code(&error.why);
            Failure::from(error)
                .with_exit(exit)
                .with_hint(format!("{name} has {before} sectors of 512 bytes now"))
        })?;
    }
    if args.wipe && sectors > before {
        format::wipe(args, name, (before, sectors), ui)?;
    }
    Ok(Exit::Ok)
}

/// As many sectors as the device below has room for.
fn room(shown: &Shown) -> Result<u64, Failure> {
    let sysfs = Sysfs::default();
    let block = |text: &str| {
        let number = text.split_once(':').and_then(|(major, minor)| {
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(Number { major, minor })
        });
        let number = number.ok_or_else(|| Failure::message("the table names no device"))?;
        Ok::<_, Failure>(sysfs.block(number)?)
    };
    let size = block(&shown.device)?.size()?;
    let Some(metadata) = &shown.metadata else {
        let file = super::device::open(&block(&shown.device)?.node()?, false)?;
        let superblock = Superblock::parse(&super::device::start(&file)?)?;
        let superblock = superblock.ok_or_else(|| Failure::message("there is no superblock"))?;
        return Ok(Layout::room(&superblock, size)?);
    };
    let _ = block(metadata)?;
    Ok(size.get() / 512)
}
