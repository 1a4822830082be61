//! `integritysetup format`: without the kernel where that is possible, else by it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blockdev::dm::{DeviceMapper, DmName};
use blockdev::file::{Access, FileDevice};
use blockdev::io::DeviceWindow;
use blockdev::{BlockDevice, signatures};
use image_specs::integrity::Superblock;
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::integrity::offline::Before;
use luks::integrity::table::{IntegrityTable, Mode, Switch, Tuning};
use luks::integrity::{Algorithm, Format, OfflineError, TaggerError, activate};
use uuid::Uuid;

use super::keys::Keys;
use super::progress::Wiping;
use super::{IntegrityArgs, Node, activation, kernel};
use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;

/// The place of a superblock.
const SUPERBLOCK: [u8; 4096] = [0; 4096];
/// Sectors of the device that makes the kernel write a superblock.
const SMALLEST: u64 = 8;

pub(super) fn run(args: &IntegrityArgs, path: &Path, ui: &Ui) -> Result<Exit, Failure> {
    let keys = Keys::read(args, ui)?;
    let tag_size = args.tag_size.or_else(|| keys.hash.algorithm.tag_size());
    let tag_size = tag_size.ok_or_else(|| {
        let why = OfflineError::TagSize(keys.hash.algorithm.clone());
        Failure::from(why).with_hint("say it with --tag-size")
    })?;
    note_what_is_for_open(args, ui);
    compare_tag_size(&keys.hash.algorithm, tag_size, ui);
    confirm(args, path, ui)?;
    let by_kernel = args.data_device.is_some()
        || args.integrity_inline
        || keys.journal_mac.is_some()
        || keys.journal_crypt.is_some()
        || !is_known(&keys)?;
    match by_kernel {
        true => by_the_kernel(args, path, &keys, tag_size, ui)?,
        false => here(args, path, &keys, tag_size, ui)?,
    }
    Ok(Exit::Ok)
}

/// Whether tags can be calculated in this process.
fn is_known(keys: &Keys) -> Result<bool, Failure> {
    match luks::integrity::Tagger::new(&keys.hash.algorithm, keys.hash.key.as_ref(), None) {
        Ok(_) => Ok(true),
        Err(TaggerError::Unknown(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn compare_tag_size(algorithm: &Algorithm, tag_size: u16, ui: &Ui) {
    let whole = algorithm.tag_size().filter(|whole| *whole != tag_size);
    if let Some(whole) = whole {
        ui.note(&format!(
            "warning: tags have {tag_size} bytes, {algorithm} gives {whole}"
        ));
    }
}

fn note_what_is_for_open(args: &IntegrityArgs, ui: &Ui) {
    let given = [
        (args.integrity_no_journal, "--integrity-no-journal"),
        (args.integrity_bitmap_mode, "--integrity-bitmap-mode"),
        (args.integrity_recovery_mode, "--integrity-recovery-mode"),
        (args.journal_watermark.is_some(), "--journal-watermark"),
        (args.journal_commit_time.is_some(), "--journal-commit-time"),
        (args.buffer_sectors.is_some(), "--buffer-sectors"),
    ];
    for (_, option) in given.iter().filter(|(given, _)| *given) {
        ui.note(&format!(
            "note: {option} is not stored on the device; give it to open"
        ));
    }
}

/// Warns of what is there, and asks, if there is somebody to ask.
fn confirm(args: &IntegrityArgs, path: &Path, ui: &Ui) -> Result<(), Failure> {
    if !args.disable_blkid && !args.batch_mode {
        let device = opened(path, Access::ReadOnly)?;
        let within = Extent::new(Bytes::ZERO, device.size());
        for found in signatures::probe(&device, within)? {
            ui.note(&format!(
                "warning: {} holds a signature of {:?}, which goes",
                path.display(),
                found.kind
            ));
        }
    }
    if args.batch_mode || !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut out = io::stderr().lock();
    write!(
        out,
        "This will overwrite data on {} irrevocably.\n\nAre you sure? (Type 'yes' in capital letters): ",
        path.display()
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "YES" => Ok(()),
        _ => Err(Failure::message("nothing was changed, as that was not YES")),
    }
}

fn opened(path: &Path, access: Access) -> Result<FileDevice, Failure> {
    // Which code it is: the file is opened by its own first.
    drop(super::device::open(path, access == Access::ReadWrite)?);
    FileDevice::open(path, access, None).map_err(|error| {
        let exit = match &error.why {
            blockdev::file::OpenFailure::InUse(_) | blockdev::file::OpenFailure::Lock(_) => {
                Exit::InUse
            }
            _ => Exit::NoDevice,
        };
        Failure::from(error).with_exit(exit)
    })
}

/// In this process, data and tags in one pass.
fn here(
    args: &IntegrityArgs,
    path: &Path,
    keys: &Keys,
    tag_size: u16,
    ui: &Ui,
) -> Result<(), Failure> {
    let format = Format {
        tag_size: Some(tag_size),
        sector: args.sector_size.unwrap_or(SectorSize::S512),
        journal_size: args.journal_size,
        interleave: args.interleave_sectors,
        legacy_padding: args.integrity_legacy_padding,
        legacy_hmac: args.integrity_legacy_hmac,
        ..Format::new(keys.hash.algorithm.clone(), keys.hash.key.clone())
    };
    let mut device = opened(path, Access::ReadWrite)?;
    let whole = Extent::new(Bytes::ZERO, device.size());
    let formatted = format.fit(whole.size, surroundings::random()?)?;
    if !args.disable_blkid {
        signatures::wipe(&mut device, whole, &|_| true)?;
    }
    let size = formatted.data_size();
    say_formatted(args, &keys.hash.algorithm, tag_size, ui)?;
    match args.no_wipe {
        true => {
            let mut target = DeviceWindow::new(&mut device, whole);
            formatted.write_empty(&mut target)?;
        }
        false => {
            let mut wiping = Wiping::start(args, ui, path, size.get());
            let none: &[u8] = &[];
            let mut target = DeviceWindow::new(&mut device, whole);
            formatted.write(
                (&none, Bytes::ZERO),
                &mut target,
                Before::Anything,
                &mut |done| {
                    wiping.done(done);
                    true
                },
            )?;
            device.flush()?;
            wiping.finish()?;
        }
    }
    device.flush()?;
    Ok(())
}

fn say_formatted(
    args: &IntegrityArgs,
    algorithm: &Algorithm,
    tag_size: u16,
    ui: &Ui,
) -> Result<(), Failure> {
    if args.batch_mode {
        return Ok(());
    }
    ui.print(&format!(
        "Formatted with tag size {tag_size}, internal integrity {algorithm}.\n"
    ))
}

/// A device without a superblock gets one from the kernel when it is made.
fn by_the_kernel(
    args: &IntegrityArgs,
    path: &Path,
    keys: &Keys,
    tag_size: u16,
    ui: &Ui,
) -> Result<(), Failure> {
    let sector = args.sector_size.unwrap_or(SectorSize::S512);
    let mut device = opened(path, Access::ReadWrite)?;
    if !args.disable_blkid {
        let whole = Extent::new(Bytes::ZERO, device.size());
        signatures::wipe(&mut device, whole, &|_| true)?;
    }
    device.flush()?;
    drop(device);
    let node = Node::open(path, sector)?;
    let data = args.data_device.as_ref();
    let data = data.map(|path| Node::open(path, sector)).transpose()?;
    node.file().write_all_at(&SUPERBLOCK, 0)?;
    node.file().sync_all()?;
    let mapper = DeviceMapper::open().map_err(kernel)?;
    let name = temporary()?;
    let mut table = first_table(args, keys, tag_size, &node, data.as_ref());
    activate::open(&mapper, &name, &table).map_err(activation)?;
    mapper.remove(&name).map_err(kernel)?;
    say_formatted(args, &keys.hash.algorithm, tag_size, ui)?;
    if args.no_wipe {
        return Ok(());
    }
    let superblock = Superblock::parse(&super::device::start(node.file())?)?;
    let superblock =
        superblock.ok_or_else(|| Failure::message("the kernel wrote no superblock"))?;
    table.sectors = superblock.provided_sectors;
    activate::open(&mapper, &name, &table).map_err(activation)?;
    let wiped = wipe(args, &name, (0, table.sectors), ui);
    let removed = mapper.remove(&name).map_err(kernel);
    wiped.and(removed)
}

fn first_table(
    args: &IntegrityArgs,
    keys: &Keys,
    tag_size: u16,
    node: &Node,
    data: Option<&Node>,
) -> IntegrityTable {
    let sector = args.sector_size.map(|sector| sector.get());
    let sector = sector.and_then(|sector| u32::try_from(sector).ok());
    let switches = [
        (!args.integrity_legacy_padding, Switch::FixPadding),
        (!args.integrity_legacy_hmac, Switch::FixHmac),
    ];
    let set = switches.iter().filter(|(wanted, _)| *wanted);
    IntegrityTable {
        device: data.unwrap_or(node).number(),
        metadata: data.map(|_| node.number()),
        sectors: SMALLEST,
        tag_size,
        mode: match args.integrity_inline {
            true => Mode::Inline,
            false => Mode::Journal,
        },
        hash: keys.hash.clone(),
        journal_mac: keys.journal_mac.clone(),
        journal_crypt: keys.journal_crypt.clone(),
        tuning: Tuning {
            journal_sectors: args.journal_size.map(|bytes| bytes / 512),
            interleave_sectors: args.interleave_sectors,
            block_size: sector.filter(|sector| *sector != 512),
            ..Tuning::default()
        },
        switches: set.map(|(_, switch)| *switch).collect(),
    }
}

/// A name that nobody else has.
fn temporary() -> Result<DmName, Failure> {
    let uuid = Uuid::from_bytes(surroundings::random()?);
    Ok(DmName::new(&format!("temporary-ddi-{uuid}"))?)
}

/// Writes zeros, and with them tags, to these sectors of a device that runs.
pub(super) fn wipe(
    args: &IntegrityArgs,
    name: &DmName,
    (from, to): (u64, u64),
    ui: &Ui,
) -> Result<(), Failure> {
    const PIECE: u64 = 1 << 20;
    let path: PathBuf = name.path();
    let mapper = DeviceMapper::open().map_err(kernel)?;
    let info = mapper.info(name).map_err(kernel)?;
    let node = info.map_or(path.clone(), |info| info.node());
    let file = super::device::open(&node, true)?;
    let zeros = vec![0; usize::try_from(PIECE).unwrap_or(0)];
    let (mut at, end) = (from.saturating_mul(512), to.saturating_mul(512));
    let size = end.saturating_sub(at);
    let mut wiping = Wiping::start(args, ui, &path, size);
    while at < end {
        let length = PIECE.min(end - at);
        let piece = zeros.get(..usize::try_from(length).unwrap_or(0));
        file.write_all_at(piece.unwrap_or_default(), at)?;
        at += length;
        wiping.done(size - (end - at));
    }
    file.sync_all()?;
    wiping.finish()
}
