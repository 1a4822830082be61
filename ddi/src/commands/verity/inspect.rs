//! `verify`, `repair` and `dump`: all without the kernel.

use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use veritysetup::fec::{self, Area, Layout, Outcome, Place, Sources};
use veritysetup::io::WriteAt;
use veritysetup::verify::VerifyError;
use veritysetup::{Params, RootHash};

use super::options::VerityArgs;
use super::parity;
use super::report::Header;
use super::sources::Source;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// What is looked at.
struct Image {
    params: Params,
    root: RootHash,
    data: Source,
    hash: Source,
    parity: Option<(Source, Layout)>,
    offset: u64,
}

pub(super) fn verify(
    args: &VerityArgs,
    paths: (&OsStr, &OsStr),
    root: Option<&OsString>,
    ui: &Ui,
) -> Result<Exit, Failure> {
    let image = Image::open(args, paths, root, false)?;
    let error = match veritysetup::verify::verify(
        &image.params,
        &image.data.file,
        &image.hash.file,
        &image.root,
        threads(),
    ) {
        Ok(()) => return Ok(Exit::Ok),
        Err(error) => error,
    };
    let exit = match &error {
        VerifyError::DataBlock { .. } | VerifyError::TreeBlock { .. } => Exit::Refused,
        _ => Exit::Failure,
    };
    let is_damage = exit == Exit::Refused || matches!(error, VerifyError::RootHash { .. });
    let failure = Failure::from(error).with_exit(exit);
    if image.parity.is_none() || !is_damage {
        return Err(failure);
    }
    ui.note(&format!("{failure}"));
    let outcome = image.repair(&mut |_, _| Ok(()))?;
    lost(&outcome, "Errors cannot be repaired with FEC device")?;
    let bytes = outcome.bytes;
    ui.note(&format!("Found {bytes} repairable errors with FEC device."));
    Ok(Exit::Ok)
}

pub(super) fn repair(
    args: &VerityArgs,
    paths: (&OsStr, &OsStr),
    root: Option<&OsString>,
    ui: &Ui,
) -> Result<Exit, Failure> {
    let image = Image::open(args, paths, root, true)?.with_footer(args, Path::new(paths.1))?;
    let (mut data, mut hash) = (image.data.file.try_clone()?, image.hash.file.try_clone()?);
    let outcome = image.repair(&mut |place, bytes| match place {
        Place::Data(offset) => data.write_all_at(bytes, offset),
        Place::Hash(offset) => hash.write_all_at(bytes, offset),
        Place::Nowhere => Ok(()),
    })?;
    for file in [&data, &hash] {
        file.sync_all()?;
    }
    lost(&outcome, "Not all could be repaired")?;
    let Outcome {
        repaired, bytes, ..
    } = outcome;
    let parity = image.renew_parity()?;
    ui.print(&match (repaired, parity) {
        (0, Some(0)) => "Nothing is damaged.\n".to_owned(),
        (0, None) => "Data and hash tree are not damaged.\n".to_owned(),
        (_, parity) => format!(
            "Repaired {bytes} bytes in {repaired} blocks of data and hash tree, {}.\n",
            match parity {
                Some(bytes) => format!("and {bytes} bytes of parity"),
                None => "and left parity as it is".to_owned(),
            }
        ),
    })?;
    Ok(Exit::Ok)
}

pub(super) fn dump(args: &VerityArgs, path: &OsStr, ui: &Ui) -> Result<Exit, Failure> {
    let path = Path::new(path);
    let hash = Source::open(path, false)?;
    let params = args.params(None, &hash, path)?;
    let parity = args.fec_device.as_ref();
    let parity = parity.map(|path| Source::open(path, false)).transpose()?;
    let layout = parity
        .as_ref()
        .map(|parity| args.layout(&params, &hash, parity));
    let layout = layout.transpose()?;
    let found = args.found_parity(&params, &hash, path);
    let found = found.unwrap_or_else(|failure| {
        // What the superblock says is true all the same.
        ui.note(&format!("warning: {failure}"));
        None
    });
    let header = Header {
        path,
        params: &params,
        root: None,
        parity: layout.as_ref().or(found.as_ref().map(Area::layout)),
        parity_with_tree: found.is_some() || parity.is_some_and(|parity| parity.is_same(&hash)),
        parity_offset: found
            .as_ref()
            .map_or(args.fec_offset, |area| area.offset().get()),
    };
    ui.print(&header.text()?)?;
    Ok(Exit::Ok)
}

/// Fails where something stays damaged.
fn lost(outcome: &Outcome, what: &str) -> Result<(), Failure> {
    let place = match outcome.first_lost {
        None => return Ok(()),
        Some(Place::Data(offset)) => format!("byte {offset} of the data"),
        Some(Place::Hash(offset)) => format!("byte {offset} of the hash device"),
        Some(Place::Nowhere) => "an unknown place".to_owned(),
    };
    let (lost, repaired) = (outcome.lost, outcome.repaired);
    let text =
        format!("{what}: {lost} blocks are lost, the first at {place}; {repaired} can be saved");
    let text = Failure::message(text).with_exit(Exit::Refused);
    Err(text.with_hint("a wrong root hash looks the same as a lost tree"))
}

impl Image {
    fn open(
        args: &VerityArgs,
        paths: (&OsStr, &OsStr),
        root: Option<&OsString>,
        write: bool,
    ) -> Result<Self, Failure> {
        let (data_path, hash_path) = (Path::new(paths.0), Path::new(paths.1));
        let data = Source::open(data_path, write)?;
        let hash = Source::open(hash_path, write)?;
        let params = args.params(Some(&data), &hash, hash_path)?;
        let root = args.root(&params, root)?;
        let parity = match &args.fec_device {
            None => None,
            Some(path) => {
                let parity = Source::open(path, write)?;
                let layout = args.stored_layout(&params, &hash, (&parity, path))?;
                Some((parity, layout))
            }
        };
        tracing::debug!(?params, %root, "checking");
        Ok(Self {
            params,
            root,
            data,
            hash,
            parity,
            offset: args.fec_offset,
        })
    }

    /// With the parity behind the tree, where no other is named. `verify` does without: its answer must
    /// not depend on who made the image.
    fn with_footer(mut self, args: &VerityArgs, path: &Path) -> Result<Self, Failure> {
        if self.parity.is_none() {
            let found = args.found_parity(&self.params, &self.hash, path)?;
            let area = found.ok_or_else(|| parity::missing(path))?;
            self.parity = Some((Source::open(path, true)?, area.layout().clone()));
            self.offset = area.offset().get();
        }
        Ok(self)
    }

    fn repair(
        &self,
        write: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>,
    ) -> Result<Outcome, Failure> {
        let Some((parity, layout)) = &self.parity else {
            return Err(Failure::message("there is no parity to repair by"));
        };
        let sources = Sources {
            params: &self.params,
            root: &self.root,
            layout,
            data: &self.data.file,
            hash: &self.hash.file,
            parity: &parity.from(self.offset),
        };
        Ok(fec::repair(&sources, threads(), write)?)
    }

    /// Puts parity right once data and tree are; says how many bytes changed. Where it also protects
    /// bytes that the tree does not cover, nobody knows which of the two is wrong, so it is left.
    fn renew_parity(&self) -> Result<Option<u64>, Failure> {
        let Some((parity, layout)) = &self.parity else {
            return Ok(None);
        };
        if *layout != Layout::of_tree(&self.params, layout.roots())? {
            return Ok(None);
        }
        let mut renewed = Renewed {
            stored: parity,
            offset: self.offset,
            changed: 0,
        };
        let sources: (&dyn veritysetup::io::ReadAt, &dyn veritysetup::io::ReadAt) =
            (&self.data.file, &self.hash.file);
        fec::encode(layout, sources, &mut renewed, threads())?;
        parity.file.sync_all()?;
        Ok(Some(renewed.changed))
    }
}

/// Writes only what is not there yet.
struct Renewed<'a> {
    stored: &'a Source,
    offset: u64,
    changed: u64,
}

impl WriteAt for Renewed<'_> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = self.offset + offset;
        let mut old = vec![0; bytes.len()];
        veritysetup::io::ReadAt::read_exact_at(&self.stored.file, &mut old, at)?;
        let other = old
            .iter()
            .zip(bytes)
            .filter(|(old, new)| old != new)
            .count();
        self.changed += u64::try_from(other).unwrap_or(u64::MAX);
        match other {
            0 => Ok(()),
            _ => std::os::unix::fs::FileExt::write_all_at(&self.stored.file, bytes, at),
        }
    }
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
