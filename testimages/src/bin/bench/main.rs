//! `make bench`: the same work with ddi and with the tool people use today, side by side.
//!
//! Arguments: the ddi binary, the hash-tree example binary (that of AES-XTS lies beside it), a scratch
//! directory, and, if not all, the parts to measure. systemd's tools run in the root that `DDI_PEER_ROOT`
//! names (see `scripts/peer-root`), where the scratch directory must lie. Prints a table and writes
//! `bench.json` to the current directory.

mod build;
mod cipher;
mod grow;
mod measure;
mod mount;
mod read;
mod verity;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use measure::Taken;

type Part = fn(&mut Bench) -> Outcome<()>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: u64 = 1024 * 1024;
const SEED: &str = "--seed=11111111-2222-3333-4444-555555555555";

/// The parts, which can be asked for by name.
const PARTS: [(&str, Part); 6] = [
    ("build", Bench::build),
    ("grow", Bench::grow),
    ("encrypt", Bench::encrypted),
    ("read", Bench::read),
    ("mount", Bench::mount),
    ("verity", Bench::verity),
];

struct Row {
    work: String,
    against: &'static str,
    ours: Taken,
    theirs: Option<Taken>,
    reach: &'static str,
    /// Bytes written over the image's allocated size, where that is asked.
    written: Option<f64>,
}

struct Bench {
    ddi: PathBuf,
    hash_tree: PathBuf,
    peer: PathBuf,
    scratch: PathBuf,
    rows: Vec<Row>,
}

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [ddi, hash_tree, scratch, only @ ..] = arguments.as_slice() else {
        return Err("usage: bench DDI HASH_TREE SCRATCH [PART…]".into());
    };
    let peer = std::env::var_os("DDI_PEER_ROOT")
        .ok_or("DDI_PEER_ROOT is not set; see scripts/peer-root")?;
    fs::create_dir_all(scratch)?;
    let mut bench = Bench {
        ddi: fs::canonicalize(ddi)?,
        hash_tree: fs::canonicalize(hash_tree)?,
        peer: fs::canonicalize(peer)?,
        scratch: fs::canonicalize(scratch)?,
        rows: Vec::new(),
    };
    println!(
        "{:<44} {:<30} {:>9} {:>9} {:>7} {:>9} {:>8}  reach",
        "work", "against", "ours s", "theirs s", "ratio", "peak MiB", "written"
    );
    for (name, part) in PARTS {
        if only.is_empty() || only.iter().any(|wanted| wanted == Path::new(name)) {
            part(&mut bench)?;
        }
    }
    bench.write_json()
}

impl Bench {
    fn definitions(&self, name: &str, files: &[(&str, String)]) -> Outcome<PathBuf> {
        let directory = self.scratch.join(format!("{name}.d"));
        fs::remove_dir_all(&directory).ok();
        fs::create_dir_all(&directory)?;
        for (file, text) in files {
            fs::write(directory.join(file), format!("[Partition]\n{text}"))?;
        }
        Ok(directory)
    }

    fn ddi_repart(&self) -> Command {
        let mut command = Command::new(&self.ddi);
        command.arg("repart");
        command
    }

    /// systemd-repart in the peer's root, or ours.
    fn repart(&self, peer: bool) -> Command {
        if !peer {
            return self.ddi_repart();
        }
        let mut command = Command::new("chroot");
        command.arg(&self.peer).arg("systemd-repart");
        command
    }

    /// The path as the command's own root shows it.
    fn inner(&self, path: &Path, peer: bool) -> String {
        let path = if peer {
            path.strip_prefix(&self.peer)
                .map_or(path.to_owned(), |inner| Path::new("/").join(inner))
        } else {
            path.to_owned()
        };
        path.display().to_string()
    }

    /// Prints a row as soon as it is there: the next may take its time.
    fn add(&mut self, row: Row) {
        let show = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        println!(
            "{:<44} {:<30} {:>9.3} {:>9} {:>7} {:>9.1} {:>8}  {}",
            row.work,
            row.against,
            row.ours.seconds,
            show(row.theirs.map(|taken| taken.seconds), 3),
            show(row.ratio(), 2),
            row.ours.peak_mib,
            show(row.written, 2),
            row.reach
        );
        self.rows.push(row);
    }

    fn write_json(&self) -> Outcome<()> {
        let row = |row: &Row| {
            serde_json::json!({
                "work": row.work,
                "against": row.against,
                "ours_seconds": row.ours.seconds,
                "theirs_seconds": row.theirs.map(|taken| taken.seconds),
                "ratio": row.ratio(),
                "ours_peak_mib": row.ours.peak_mib,
                "theirs_peak_mib": row.theirs.map(|taken| taken.peak_mib),
                "written_per_allocated": row.written,
                "reach": row.reach,
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        fs::write("bench.json", serde_json::to_string_pretty(&rows)? + "\n")?;
        Ok(())
    }
}

impl Row {
    /// How many times faster ours is.
    fn ratio(&self) -> Option<f64> {
        self.theirs.map(|theirs| theirs.seconds / self.ours.seconds)
    }
}
