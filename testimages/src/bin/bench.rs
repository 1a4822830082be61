//! `make bench`: the same work with ddi and with the tool people use today, side by side.
//!
//! Arguments: the ddi binary, the hash-tree example binary, a scratch directory. systemd's tools run
//! in the root that `DDI_PEER_ROOT` names (see `scripts/peer-root`), where the scratch directory must
//! lie. Prints a table and writes `bench.json` to the current directory.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use testimages::sample;

type Outcome<T> = Result<T, Box<dyn Error>>;

const MIB: u64 = 1024 * 1024;
const SEED: &str = "--seed=11111111-2222-3333-4444-555555555555";
const ROUNDS: usize = 3;

/// What one command took: the best of some rounds.
#[derive(Clone, Copy, Debug)]
struct Taken {
    seconds: f64,
    peak_mib: f64,
    written_mib: f64,
}

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
    let [ddi, hash_tree, scratch] = arguments.as_slice() else {
        return Err("usage: bench DDI HASH_TREE SCRATCH".into());
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
    bench.hash_tree()?;
    bench.images()?;
    bench.dry_run()?;
    bench.many_partitions()?;
    bench.vfat()?;
    bench.write_json()
}

impl Bench {
    fn hash_tree(&mut self) -> Outcome<()> {
        let data = self.scratch.join("data");
        let mut dice = sample::Dice::new(1);
        let chunk: Vec<u8> = (0..8 * MIB / 8)
            .flat_map(|_| dice.roll().to_le_bytes())
            .collect();
        fs::write(&data, chunk.repeat(128))?;
        let (ours, theirs) = (
            self.scratch.join("tree-ours"),
            self.scratch.join("tree-theirs"),
        );
        let salt = "00".repeat(32);
        let row = Row {
            work: "hash tree of 1 GiB".into(),
            against: "veritysetup format",
            ours: measure(|| {
                let mut command = Command::new(&self.hash_tree);
                command.args([&data, &ours]);
                command
            })?,
            theirs: Some(measure(|| {
                let mut command = Command::new("veritysetup");
                command
                    .arg("format")
                    .args([&data, &theirs])
                    .arg(format!("--salt={salt}"));
                command
            })?),
            reach: ">= 4x, < 32 MiB",
            written: None,
        };
        self.add(row);
        fs::remove_file(data)?;
        Ok(())
    }

    fn images(&mut self) -> Outcome<()> {
        let tree = self.scratch.join("tree");
        if !tree.exists() {
            sample::system_tree(&tree, 8000, 200 * MIB)?;
        }
        let (key, certificate) = (
            self.scratch.join("key.pem"),
            self.scratch.join("certificate.pem"),
        );
        check(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-subj",
                    "/CN=bench",
                    "-keyout",
                ])
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        )?;
        for (format, minimize) in [("squashfs", "best"), ("erofs", "best"), ("ext4", "guess")] {
            let definitions = self.definitions(format, &[
                ("10-root.conf", format!("Type=root\nFormat={format}\nCopyFiles=/\nMinimize={minimize}\nVerity=data\nVerityMatchKey=r\n")),
                ("20-verity.conf", "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n".into()),
                ("30-sig.conf", "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n".into()),
            ])?;
            let image = self.scratch.join(format!("{format}.raw"));
            let image = &image;
            let fresh = |peer: bool| {
                let mut command = self.repart(peer);
                fs::remove_file(image).ok();
                command
                    .args(["--empty=create", "--size=auto", "--offline=yes", SEED])
                    .arg(format!("--definitions={}", self.inner(&definitions, peer)))
                    .arg(format!("--copy-source={}", self.inner(&tree, peer)))
                    .arg(format!("--private-key={}", self.inner(&key, peer)))
                    .arg(format!("--certificate={}", self.inner(&certificate, peer)))
                    .arg(self.inner(image, peer));
                command
            };
            let theirs = measure(|| fresh(true))?;
            let ours = measure(|| fresh(false))?;
            let size = f64::from(u32::try_from(allocated(image)? / 1024)?) / 1024.0;
            self.add(Row {
                work: format!("{format} of 200 MB, 8,000 files, signed"),
                against: "systemd-repart --offline=yes",
                ours,
                theirs: Some(theirs),
                reach: ">= 2x, <= 1.2 written",
                written: Some(ours.written_mib / size),
            });
        }
        Ok(())
    }

    fn vfat(&mut self) -> Outcome<()> {
        let folder = self.scratch.join("flat");
        if !folder.exists() {
            sample::flat_folder(&folder, 2000, 200 * MIB)?;
        }
        let definitions = self.definitions(
            "vfat",
            &[(
                "10-esp.conf",
                "Type=esp\nFormat=vfat\nCopyFiles=/\nSizeMinBytes=300M\nSizeMaxBytes=300M\n".into(),
            )],
        )?;
        let (image, plain) = (
            self.scratch.join("vfat.raw"),
            self.scratch.join("vfat.plain"),
        );
        let ours = measure(|| {
            fs::remove_file(&image).ok();
            let mut command = self.ddi_repart();
            command
                .args(["--empty=create", "--size=auto", SEED])
                .arg(format!("--definitions={}", definitions.display()))
                .arg(format!("--copy-source={}", folder.display()))
                .arg(&image);
            command
        })?;
        let theirs = once(|| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!(
                "rm -f '{0}'; truncate -s 300M '{0}' && mkfs.vfat -F 32 '{0}' && mcopy -p -Q -m -i '{0}' '{1}'/* ::/",
                plain.display(), folder.display()
            ));
            command
        })?;
        self.add(Row {
            work: "vfat of 200 MB, 2,000 files in one folder".into(),
            against: "mkfs.vfat + mcopy",
            ours,
            theirs: Some(theirs),
            reach: ">= 20x",
            written: None,
        });
        Ok(())
    }

    fn dry_run(&mut self) -> Outcome<()> {
        let definitions: Vec<(String, String)> = (0..8u32)
            .map(|n| {
                (
                    format!("{n}0-part.conf"),
                    format!(
                        "Type=linux-generic\nLabel=part{n}\nSizeMinBytes={}M\nWeight={}\n",
                        10 + n,
                        100 * (n + 1)
                    ),
                )
            })
            .collect();
        let definitions: Vec<(&str, String)> = definitions
            .iter()
            .map(|(name, text)| (name.as_str(), text.clone()))
            .collect();
        let definitions = self.definitions("dry", &definitions)?;
        let image = self.scratch.join("dry.raw");
        fs::write(&image, [])?;
        fs::File::options()
            .write(true)
            .open(&image)?
            .set_len(1024 * MIB)?;
        let line = |peer: bool| {
            let mut command = self.repart(peer);
            command
                .args(["--empty=allow", "--dry-run=yes", "--json=short", SEED])
                .arg(format!("--definitions={}", self.inner(&definitions, peer)))
                .arg(self.inner(&image, peer));
            command
        };
        let ours = measure(|| line(false))?;
        let theirs = measure(|| line(true))?;
        self.add(Row {
            work: "dry-run plan, 8 definitions".into(),
            against: "systemd-repart --dry-run=yes",
            ours,
            theirs: Some(theirs),
            reach: ">= 2x, < 10 MiB",
            written: None,
        });
        Ok(())
    }

    fn many_partitions(&mut self) -> Outcome<()> {
        let definitions: Vec<(String, String)> = (0..100)
            .map(|n| {
                (
                    format!("{n:03}-part.conf"),
                    format!("Type=linux-generic\nLabel=part{n}\nWeight={}\n", n + 1),
                )
            })
            .collect();
        let definitions: Vec<(&str, String)> = definitions
            .iter()
            .map(|(name, text)| (name.as_str(), text.clone()))
            .collect();
        let definitions = self.definitions("many", &definitions)?;
        let image = self.scratch.join("many.raw");
        fs::remove_file(&image).ok();
        let common = [
            format!("--definitions={}", definitions.display()),
            image.display().to_string(),
        ];
        check(
            self.ddi_repart()
                .args(["--empty=create", "--size=4G", SEED])
                .args(&common),
        )?;
        fs::File::options()
            .write(true)
            .open(&image)?
            .set_len(8192 * MIB)?;
        let ours = measure(|| {
            let mut command = self.ddi_repart();
            command
                .args(["--dry-run=yes", "--json=short", SEED])
                .args(&common);
            command
        })?;
        self.add(Row {
            work: "plan, 100 definitions, 100 partitions".into(),
            against: "-",
            ours,
            theirs: None,
            reach: "< 20 ms",
            written: None,
        });
        Ok(())
    }

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

/// The best of some rounds, so that what else the machine does counts least.
fn measure(mut command: impl FnMut() -> Command) -> Outcome<Taken> {
    let mut best: Option<Taken> = None;
    for _ in 0..ROUNDS {
        let taken = once(&mut command)?;
        if best.is_none_or(|best| taken.seconds < best.seconds) {
            best = Some(taken);
        }
    }
    best.ok_or_else(|| "no rounds".into())
}

/// Runs a command under time(1), which knows its peak memory and its writes.
fn once(mut command: impl FnMut() -> Command) -> Outcome<Taken> {
    let inner = command();
    let mut outer = Command::new("time");
    outer
        .args(["-q", "-f", "%M %O"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let start = Instant::now();
    let output = outer
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let seconds = start.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{inner:?} failed:\n{text}").into());
    }
    let line = text.lines().last().unwrap_or_default();
    let mut numbers = line
        .split_whitespace()
        .filter_map(|word| word.parse::<f64>().ok());
    let peak = numbers.next().ok_or("time(1) said nothing")?;
    let blocks = numbers.next().ok_or("time(1) said too little")?;
    Ok(Taken {
        seconds,
        peak_mib: peak / 1024.0,
        written_mib: blocks * 512.0 / 1_048_576.0,
    })
}

fn check(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

/// Bytes that the file takes on its disk.
fn allocated(path: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}
