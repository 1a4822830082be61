//! Compares plans with those of the newest systemd-repart, over random definitions, disks and
//! options.
//!
//! `peer ROOT [COUNT] [FIRST] [DDI]`: ROOT is a folder to change root into that has systemd-repart and
//! the mkfs programs (see `scripts/peer-root`); COUNT cases are made from the seeds FIRST and up. The
//! library plans each; the program DDI, if given, some of them too. Ends with 1 where a plan differs.
//! Needs root.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use image_specs::units::Lba;
use repart::plan;
use repart::report::Report;
use repart::survey::FoundLabel;
use serde_json::Value;
use testimages::peer::{self, Case};

#[path = "../../tests/common/mod.rs"]
mod common;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where cases lie below the root, as the peer sees it.
const PLACE: &str = "/var/tmp/ddi-peer";
/// Cases that one entry into the root runs.
const BATCH: u64 = 250;
/// Programs that run side by side.
const JOBS: u64 = 2;
/// What a UUID begins with that the planner took from its random numbers.
const RANDOM: &str = "52616e64-6f6d-";

fn main() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: peer ROOT [COUNT] [FIRST] [DDI]")?,
    );
    let count: u64 = arguments.next().map_or(Ok(5000), |text| text.parse())?;
    let first: u64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let peer = Peer::new(&root, count == 1, arguments.next().map(PathBuf::from))?;
    let mut tally = Tally::default();
    let mut start = first;
    while start < first + count {
        let end = (start + BATCH).min(first + count);
        peer.run(start, end)?;
        for seed in start..end {
            tally.add(peer.compare(seed)?);
        }
        eprintln!(
            "{} of {count} cases, {} differ",
            end - first,
            tally.different
        );
        start = end;
    }
    println!("{count} cases from seed {first}: {tally}");
    Ok(match tally.different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[derive(Default)]
struct Tally {
    different: u64,
    planned: u64,
    refused: u64,
    not_for_us: u64,
    crashed: u64,
    fits_here: u64,
    failed_later: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} differ; {} planned, {} refused and {} left alone by both; \
             the peer crashed on {}, refused {} for their alignment and failed to write {}",
            self.different,
            self.planned,
            self.refused,
            self.not_for_us,
            self.crashed,
            self.fits_here,
            self.failed_later,
        )
    }
}

impl Tally {
    fn add(&mut self, result: Same) {
        match result {
            Same::Planned => self.planned += 1,
            Same::Crashed => self.crashed += 1,
            Same::FitsHere => self.fits_here += 1,
            Same::FailedLater => self.failed_later += 1,
            Same::Refused(77) => self.not_for_us += 1,
            Same::Refused(_) => self.refused += 1,
            Same::Not => self.different += 1,
        }
    }
}

/// How a case came out.
enum Same {
    Planned,
    Refused(u8),
    /// The peer failed an assertion of its own.
    Crashed,
    /// It refuses a disk with partitions that end off the grain, and we do not.
    FitsHere,
    /// It failed while it wrote what it had planned.
    FailedLater,
    Not,
}

/// The other program, in its root.
struct Peer {
    root: PathBuf,
    keep: bool,
    /// Our program.
    ddi: Option<PathBuf>,
}

/// What a program makes of a case: its exit code, and the rows.
type Answer = (u8, Vec<Value>);

impl Peer {
    fn new(root: &Path, keep: bool, ddi: Option<PathBuf>) -> Outcome<Self> {
        let root = root.canonicalize()?;
        let place = root.join(&PLACE[1..]);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        for (name, size) in peer::BLOCKS {
            fs::write(place.join(name), vec![7; usize::try_from(size)?])?;
        }
        Ok(Self { root, keep, ddi })
    }

    fn folder(&self, seed: u64) -> PathBuf {
        self.root.join(&PLACE[1..]).join(seed.to_string())
    }

    /// Lays out the cases from `start` to `end` and runs the peer on each.
    fn run(&self, start: u64, end: u64) -> Outcome<()> {
        for seed in start..end {
            let case = Case::new(seed, PLACE);
            self.lay_out(&case)?;
            if let Some(ddi) = self.ddi.as_deref().filter(|_| is_for_program(&case)) {
                self.run_ours(ddi, &case)?;
            }
        }
        let mut jobs = Vec::new();
        for job in 0..JOBS {
            let script = format!(
                "cd {PLACE} || exit 1\n\
                 for ((i = {start} + {job}; i < {end}; i += {JOBS})); do\n\
                 cd {PLACE}/$i && mapfile -t a <args\n\
                 systemd-repart --offline=yes --json=short \"${{a[@]}}\" >out 2>err </dev/null\n\
                 echo $? >rc\ndone\n"
            );
            let mut command = Command::new("chroot");
            command.arg(&self.root).args(["/bin/bash", "-c", &script]);
            jobs.push(command.spawn()?);
        }
        for mut job in jobs {
            job.wait()?;
        }
        Ok(())
    }

    /// Runs our program on a case; its dry run leaves the disk as it is for the peer.
    fn run_ours(&self, ddi: &Path, case: &Case) -> Outcome<()> {
        let folder = self.folder(case.seed);
        let mut command = Command::new(ddi);
        command.args(["repart", "--offline=yes", "--json=short"]);
        command.args(case.choices.arguments());
        let mut definitions = OsString::from("--definitions=");
        definitions.push(folder.join("repart.d"));
        let output = command
            .arg(definitions)
            .arg(folder.join("disk.raw"))
            .output()?;
        let root = self.root.to_string_lossy();
        fs::write(
            folder.join("our-out"),
            String::from_utf8(output.stdout)?.replace(&*root, ""),
        )?;
        fs::write(folder.join("our-err"), output.stderr)?;
        let code = output.status.code().unwrap_or(255);
        fs::write(folder.join("our-rc"), code.to_string())?;
        Ok(())
    }

    fn lay_out(&self, case: &Case) -> Outcome<()> {
        let folder = self.folder(case.seed);
        let definitions = folder.join("repart.d");
        fs::create_dir_all(&definitions)?;
        for (path, text) in &case.files {
            let path = definitions.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match text.is_empty() {
                true => symlink("/dev/null", path)?,
                false => fs::write(path, text)?,
            }
        }
        if let Some(disk) = &case.disk {
            let mut file = fs::File::create(folder.join("disk.raw"))?;
            file.set_len(disk.size)?;
            for (offset, bytes) in disk.bytes() {
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(&bytes)?;
            }
        }
        let mut arguments = case.choices.arguments();
        arguments.push(format!("--definitions={PLACE}/{}/repart.d", case.seed));
        arguments.push(format!("{PLACE}/{}/disk.raw", case.seed));
        fs::write(folder.join("args"), arguments.join("\n") + "\n")?;
        Ok(())
    }

    fn compare(&self, seed: u64) -> Outcome<Same> {
        let folder = self.folder(seed);
        let case = Case::new(seed, PLACE);
        let theirs = read_answer(&folder, "")?;
        let mut ours = ours(&case);
        if folder.join("our-rc").exists() {
            let program = read_answer(&folder, "our-")?;
            let library = ours
                .as_ref()
                .map_or_else(|(code, _)| *code, |answer| answer.0);
            // What the library says is compared below; the program must say the same.
            if program.0 != library
                || ours
                    .as_ref()
                    .is_ok_and(|ours| !answers_agree(ours, &program))
            {
                let said = fs::read_to_string(folder.join("our-err"))?;
                println!(
                    "the program and the library differ: exit {library}, {} {said}",
                    program.0
                );
                ours = Err((98, said));
            }
        }
        let same = match &ours {
            Ok(ours) => answers_agree(ours, &theirs),
            Err((code, _)) => *code == theirs.0,
        };
        let errors = fs::read_to_string(folder.join("err")).unwrap_or_default();
        // docs/divergences.md: partitions that end off the grain do not stand in the way here.
        let stays = theirs.0 == 1
            && errors.contains("Can't fit requested partitions")
            && ours
                .as_ref()
                .is_ok_and(|ours| ours.1.iter().any(|row| is_off_grain(row, &case)));
        // A run that must write may fail in a mkfs program, long after the plan.
        let later = theirs.0 == 1
            && case.choices.writes()
            && ours.is_ok()
            && errors.contains("Applying changes to");
        if same || stays || later || theirs.0 > 128 {
            if !self.keep {
                fs::remove_dir_all(&folder)?;
            }
            return Ok(match theirs.0 {
                _ if stays => Same::FitsHere,
                _ if later => Same::FailedLater,
                0 => Same::Planned,
                129.. => Same::Crashed,
                code => Same::Refused(code),
            });
        }
        println!("--- case {seed}: {}", folder.display());
        println!(
            "{}",
            fs::read_to_string(folder.join("args"))?.replace('\n', " ")
        );
        match ours {
            Ok((code, rows)) => print_rows("ours", code, &rows),
            Err((code, message)) => println!("ours: exit {code}: {message}"),
        }
        print_rows("peer", theirs.0, &theirs.1);
        print!("{errors}");
        Ok(Same::Not)
    }
}

/// What our planner says; an error has the exit code that it asks for.
fn ours(case: &Case) -> Result<Answer, (u8, String)> {
    let folder = format!("{PLACE}/{}", case.seed);
    let set = common::load(case, &format!("{folder}/repart.d"))
        .map_err(|error| (1, error.to_string()))?;
    let mut survey = common::survey(case, &set);
    if let (FoundLabel::Gpt(found), false) = (&mut survey.label, case.choices.writes()) {
        // The peer's dry run does not see space behind the table's end.
        found.backup = Lba::new(u64::MAX);
    }
    let mut count = 0_u16;
    let mut random = || {
        count += 1;
        let mut bytes = *b"Random..........";
        bytes[14..].copy_from_slice(&count.to_be_bytes());
        bytes
    };
    let options = common::options(&case.choices);
    let plan = plan::plan(&survey, &set, &options, &mut random)
        .map_err(|error| (error.exit().code(), error.to_string()))?;
    plan::check(&plan, &survey).map_err(|error| (99, error.to_string()))?;
    let node = format!("{folder}/disk.raw");
    let report = Report::new(&plan, &set.definitions, Some(Path::new(&node)));
    Ok((0, report.json().as_array().cloned().unwrap_or_default()))
}

fn read_answer(folder: &Path, prefix: &str) -> Outcome<Answer> {
    let read = |name: &str| fs::read_to_string(folder.join(format!("{prefix}{name}")));
    let code = read("rc")?.trim().parse()?;
    let text = read("out")?;
    let rows = match code {
        0 => serde_json::from_str(&text)?,
        _ => Vec::new(),
    };
    Ok((code, rows))
}

fn answers_agree(ours: &Answer, theirs: &Answer) -> bool {
    ours.0 == theirs.0
        && ours.1.len() == theirs.1.len()
        && ours.1.iter().zip(&theirs.1).all(|(a, b)| rows_agree(a, b))
}

/// Same keys in the same order, same values, but for UUIDs that are random on both sides.
fn rows_agree(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_object(), theirs.as_object()) else {
        return false;
    };
    let is_random = |value: &Value| value.as_str().is_some_and(|text| text.starts_with(RANDOM));
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|((key, value), (their_key, their_value))| {
                key == their_key && (value == their_value || key == "uuid" && is_random(value))
            })
}

/// Whether our program is run on the case: on one of ten whose dry run is like the peer's, and that
/// needs no file inside of the root.
fn is_for_program(case: &Case) -> bool {
    let grown = |disk: &peer::Disk| {
        let table = disk.table.as_ref();
        table.is_some_and(|table| table.sectors != disk.size / disk.sector)
    };
    let copies = case
        .files
        .iter()
        .any(|(_, text)| text.contains("CopyBlocks="));
    case.seed.is_multiple_of(10)
        && !case.choices.writes()
        && !copies
        && !case.disk.as_ref().is_some_and(grown)
}

/// Whether an existing partition ends where no new one would.
fn is_off_grain(row: &Value, case: &Case) -> bool {
    let number = |key: &str| row[key].as_u64().unwrap_or(0);
    let sector = case.disk.as_ref().map_or(512, |disk| disk.sector);
    let grain = case.choices.grain_size.unwrap_or(4096).max(sector);
    let end = number("offset") + number("old_size");
    number("old_size") > 0 && !end.is_multiple_of(grain)
}

fn print_rows(who: &str, code: u8, rows: &[Value]) {
    println!("{who}: exit {code}");
    for row in rows {
        let cell = |key: &str| {
            row[key]
                .as_str()
                .map_or_else(|| row[key].to_string(), str::to_owned)
        };
        let file = cell("file");
        let file = file.rsplit('/').next().unwrap_or_default();
        println!(
            "  {:28} {:20} {} #{:3} {:14} at {:>14} size {:>14} <- {:>14} gap {:>14} <- {:>14} {}",
            cell("type"),
            cell("label"),
            cell("uuid"),
            cell("partno"),
            file,
            cell("offset"),
            cell("raw_size"),
            cell("old_size"),
            cell("raw_padding"),
            cell("old_padding"),
            cell("activity"),
        );
    }
}
