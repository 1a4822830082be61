//! `format`: hashes data and writes superblock, tree and parity.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use image_specs::guid;
use image_specs::units::{Bytes, Extent};
use veritysetup::fec::{self, Layout};
use veritysetup::io::Window;
use veritysetup::{Levels, Params, RootHash, Salt, tree};

use super::options::VerityArgs;
use super::report::Header;
use super::sources::{Source, cannot};
use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;

/// The largest block that most kernels open.
const PAGE: u64 = 4096;

pub(super) fn run(args: &VerityArgs, paths: (&OsStr, &OsStr), ui: &Ui) -> Result<Exit, Failure> {
    let (data_path, hash_path) = (Path::new(paths.0), Path::new(paths.1));
    let data = Source::open(data_path, false)?;
    let params = params(args, &data)?;
    Levels::new(&params)?;
    let mut made = Made::default();
    let hash = made.open(hash_path)?;
    let parity = match &args.fec_device {
        Some(path) => Some((made.open(path)?, path.as_path())),
        None => None,
    };
    let layout = place(
        args,
        &params,
        (&data, &hash),
        parity.as_ref().map(|(parity, _)| parity),
    )?;
    let job = Job {
        params: &params,
        data: &data,
        hash: (&hash, hash_path),
        parity: parity.as_ref().zip(layout.as_ref()),
        offset: args.fec_offset,
    };
    let root = job.write()?;
    let header = Header {
        path: hash_path,
        params: &params,
        root: Some(&root),
        parity: layout.as_ref(),
        parity_with_tree: parity
            .as_ref()
            .is_some_and(|(parity, _)| parity.is_same(&hash)),
        parity_offset: args.fec_offset,
    };
    if args.no_superblock && args.uuid.is_some() {
        ui.note("warning: the UUID is not stored: there is no superblock");
    }
    if params.data_block.get().max(params.hash_block.get()) > PAGE {
        ui.note(&format!(
            "warning: a kernel with pages of {PAGE} bytes cannot open this: its blocks are larger"
        ));
    }
    ui.print(&header.text()?)?;
    if let Some(path) = &args.root_hash_file {
        write_root(path, &root)?;
    }
    made.keep();
    Ok(Exit::Ok)
}

fn params(args: &VerityArgs, data: &Source) -> Result<Params, Failure> {
    let salt = match &args.salt {
        Some(salt) => salt.clone(),
        None => Salt::new([surroundings::random()?, surroundings::random()?].concat())?,
    };
    let uuid = match (args.no_superblock, args.uuid) {
        (true, _) => None,
        (false, Some(uuid)) => Some(uuid),
        (false, None) => Some(guid::v4(surroundings::random()?)),
    };
    let params = Params {
        data_blocks: args.data_blocks(Some(data))?,
        salt,
        superblock: uuid,
        ..args.bare()
    };
    let wanted = params.data_blocks.checked_mul(params.data_block.get());
    if wanted.is_none_or(|wanted| wanted > data.size) {
        return Err(Failure::message(format!(
            "{} blocks of {} bytes are more than the {} bytes of data",
            params.data_blocks,
            params.data_block.get(),
            data.size
        )));
    }
    Ok(params)
}

/// Sees to it that data, tree and parity do not lie upon each other.
fn place(
    args: &VerityArgs,
    params: &Params,
    (data, hash): (&Source, &Source),
    parity: Option<&Source>,
) -> Result<Option<Layout>, Failure> {
    let data_end = params.data_blocks * params.data_block.get();
    if data.is_same(hash) && args.hash_offset < data_end {
        return Err(overlap("hash area", data_end, "--hash-offset="));
    }
    let Some(parity) = parity else {
        return Ok(None);
    };
    if parity.is_same(data) && args.fec_offset < data_end {
        return Err(overlap("FEC area", data_end, "--fec-offset="));
    }
    args.layout(params, hash, parity).map(Some)
}

fn overlap(what: &str, end: u64, option: &str) -> Failure {
    Failure::message(format!(
        "Data area overlaps with {what}: data end at byte {end}"
    ))
    .with_hint(format!(
        "move it with {option}, or cover less with --data-blocks="
    ))
}

struct Job<'a> {
    params: &'a Params,
    data: &'a Source,
    hash: (&'a Source, &'a Path),
    parity: Option<(&'a (Source, &'a Path), &'a Layout)>,
    offset: u64,
}

impl Job<'_> {
    fn write(&self) -> Result<RootHash, Failure> {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let (hash, path) = self.hash;
        let mut target = duplicate(&hash.file)?;
        let root = tree::build(self.params, &self.data.file, &mut target, threads)
            .map_err(|error| named(path, error))?;
        if let Some(((parity, path), layout)) = self.parity {
            // A tree without any blocks, or a gap before parity, is made of zeros.
            let sources: (&dyn veritysetup::io::ReadAt, &dyn veritysetup::io::ReadAt) =
                (&self.data.file, &target);
            self.fill(hash, layout)?;
            let size = layout.size();
            let window = Extent::new(Bytes::new(self.offset), size);
            let mut place = Window::new(duplicate(&parity.file)?, window);
            fec::encode(layout, sources, &mut place, threads)
                .map_err(|error| named(path, error))?;
            sync(parity, path)?;
        }
        sync(hash, path)?;
        Ok(root)
    }

    /// Makes the protected part of the hash device readable in whole.
    fn fill(&self, hash: &Source, layout: &Layout) -> Result<(), Failure> {
        let end = layout.hash_end().get();
        if !hash.is_device && hash.file.metadata()?.len() < end {
            hash.file.set_len(end)?;
        }
        Ok(())
    }
}

fn duplicate(file: &File) -> Result<File, Failure> {
    Ok(file.try_clone()?)
}

fn named(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let failure = Failure::from(error);
    Failure::message(format!(
        "{}: {}",
        path.display(),
        failure.chain().join(": ")
    ))
}

fn sync(source: &Source, path: &Path) -> Result<(), Failure> {
    let done = source.file.sync_all();
    done.map_err(|error| cannot("write", path, error))
}

fn write_root(path: &Path, root: &RootHash) -> Result<(), Failure> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(root.to_string().as_bytes()));
    written.map_err(|error| cannot("write the root hash to", path, error))
}

/// Files that were made for the tree and parity; they go again if it comes to nothing.
#[derive(Default)]
struct Made(Vec<std::path::PathBuf>);

impl Made {
    fn open(&mut self, path: &Path) -> Result<Source, Failure> {
        let (source, made) = Source::create(path)?;
        if made {
            self.0.push(path.to_owned());
        }
        Ok(source)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // What cannot be removed is no worse than what is left.
            drop(fs::remove_file(path));
        }
    }
}
