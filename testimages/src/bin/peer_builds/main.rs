//! Builds images with `ddi repart` and with the newest systemd-repart, and compares what comes out.
//!
//! `peer_builds ROOT DDI [NAME…]`: ROOT is a folder to change root into that has systemd-repart and the
//! mkfs programs (see `scripts/peer-root`), DDI our program; with names, only those scenarios are run
//! and their files kept. Each scenario of `testimages::builds` runs once with each tool. Exit codes,
//! JSON, the files beside the image, partition tables and contents must be the same; then each tool
//! must find nothing to do on the other's image. Ends with 1 where something differs. Needs root.
//!
//! `peer_builds ROOT DDI --disks COUNT [SEED]` does so with random disks that have partitions already,
//! until COUNT of them were changed by both.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use testimages::builds::{INPUTS, SEED, Scenario, scenarios};

mod answer;
mod disks;
mod image;

use answer::Answer;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where scenarios lie below the root.
const PLACE: &str = "/var/tmp/ddi-peer-builds";
/// What `$D` stands for.
const DEFINED: &str = "--definitions=@/repart.d --offline=yes --json=short --seed=$S";

fn main() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: peer_builds ROOT DDI [NAME…]";
    let root = PathBuf::from(arguments.next().ok_or(usage)?).canonicalize()?;
    let ddi = PathBuf::from(arguments.next().ok_or(usage)?).canonicalize()?;
    let names: Vec<String> = arguments.collect();
    if let [option, numbers @ ..] = &names[..]
        && option == "--disks"
    {
        let number = |at: usize, usual: u64| numbers.get(at).map_or(Ok(usual), |text| text.parse());
        return disks::run(&root, &ddi, number(0, 2000)?, number(1, 1)?);
    }
    let bench = Bench::new(root, &ddi)?;
    let (mut count, mut different) = (0, 0);
    for scenario in scenarios() {
        if !names.is_empty() && !names.iter().any(|name| name == scenario.name) {
            continue;
        }
        count += 1;
        let found = bench.compare(&scenario)?;
        if !found.is_empty() {
            different += 1;
            println!("--- {}", scenario.name);
            found.iter().for_each(|line| println!("{line}"));
        }
        if names.is_empty() {
            bench.clear(&scenario)?;
        }
    }
    println!("{count} builds, {different} differ");
    Ok(match different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Which program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

/// The place where both run.
struct Bench {
    root: PathBuf,
    /// A link to our program by the name `systemd-repart`, and one by `systemd-dissect`.
    repart: PathBuf,
    dissect: PathBuf,
}

impl Bench {
    fn new(root: PathBuf, ddi: &Path) -> Outcome<Self> {
        let place = root.join(&PLACE[1..]);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        for folder in ["shared", "bin"] {
            fs::create_dir_all(place.join(folder))?;
        }
        let bin = place.join("bin");
        let (repart, dissect) = (bin.join("systemd-repart"), bin.join("systemd-dissect"));
        symlink(ddi, &repart)?;
        symlink(ddi, &dissect)?;
        let bench = Self {
            root,
            repart,
            dissect,
        };
        let made = bench.shell(&format!("cd {PLACE}/shared; {INPUTS}"))?;
        if !made.status.success() {
            return Err(format!("the inputs: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        Ok(bench)
    }

    /// The folder of a scenario, from outside.
    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(&PLACE[1..]).join(name)
    }

    fn clear(&self, scenario: &Scenario) -> Outcome<()> {
        for side in [Side::Ours, Side::Theirs] {
            let folder = self.folder(&kept(scenario, side));
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }

    /// Everything that differs, as text.
    fn compare(&self, scenario: &Scenario) -> Outcome<Vec<String>> {
        self.clear(scenario)?;
        let theirs = self.run(scenario, Side::Theirs)?;
        let ours = self.run(scenario, Side::Ours)?;
        let mut found = Vec::new();
        for (step, (ours, theirs)) in scenario.steps.iter().zip(ours.iter().zip(&theirs)) {
            let differences = ours.differences(theirs, scenario.loose);
            if !differences.is_empty() {
                found.push(format!("  step {step}"));
                found.extend(differences.into_iter().map(|line| format!("    {line}")));
            }
        }
        let folders = [Side::Ours, Side::Theirs].map(|side| self.folder(&kept(scenario, side)));
        found.extend(image::folders(&folders[0], &folders[1], scenario.loose)?);
        for name in image::images(&folders[0])? {
            found.extend(self.cross(scenario, &name)?);
        }
        Ok(found)
    }

    /// Runs all steps and puts the folder aside.
    fn run(&self, scenario: &Scenario, side: Side) -> Outcome<Vec<Answer>> {
        let folder = self.folder(scenario.name);
        self.lay_out(scenario, side)?;
        let mut answers = Vec::new();
        for step in scenario.steps {
            answers.push(self.step(scenario, side, step)?);
        }
        fs::rename(&folder, self.folder(&kept(scenario, side)))?;
        Ok(answers)
    }

    fn lay_out(&self, scenario: &Scenario, side: Side) -> Outcome<()> {
        let definitions = self.folder(scenario.name).join("repart.d");
        fs::create_dir_all(&definitions)?;
        for (path, text) in scenario.files {
            let path = definitions.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let text = self.fill(scenario, side, text);
            match text.is_empty() {
                true => symlink("/dev/null", path)?,
                false => fs::write(path, format!("[Partition]\n{text}"))?,
            }
        }
        Ok(())
    }

    /// Puts in the folders, as the program sees them; `%` counts only before a slash.
    fn fill(&self, scenario: &Scenario, side: Side, text: &str) -> String {
        let prefix = match side {
            Side::Ours => self.root.to_string_lossy().into_owned(),
            Side::Theirs => String::new(),
        };
        text.replace("$D", DEFINED)
            .replace("$S", SEED)
            .replace("@/", &format!("{prefix}{PLACE}/{}/", scenario.name))
            .replace("%/", &format!("{prefix}{PLACE}/shared/"))
    }

    fn step(&self, scenario: &Scenario, side: Side, step: &str) -> Outcome<Answer> {
        if let Some(script) = step.strip_prefix('!') {
            // Shells always run inside, so that both sides have the same programs.
            let script = self.fill(scenario, Side::Theirs, script);
            return Ok(Answer::new(&self.shell(&script)?, ""));
        }
        let filled = self.fill(scenario, side, step);
        let arguments = self.expand(&filled)?;
        let mut command = match side {
            Side::Ours => Command::new(&self.repart),
            Side::Theirs => self.inside("systemd-repart"),
        };
        command
            .args(arguments)
            .env("SOURCE_DATE_EPOCH", "1700000000");
        for variable in scenario.environment {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            command.env(name, value);
        }
        let output = command.stdin(Stdio::null()).output()?;
        Ok(Answer::new(&output, &self.root.to_string_lossy()))
    }

    /// Arguments from words; `$(cat FILE)` within one is what the file says.
    fn expand(&self, text: &str) -> Outcome<Vec<String>> {
        let mut text = text.to_owned();
        while let Some((before, rest)) = text.split_once("$(cat ") {
            let (path, after) = rest.split_once(')').ok_or("an open $(cat")?;
            let outside = match Path::new(path).starts_with(&self.root) {
                true => PathBuf::from(path),
                false => self.root.join(path.trim_start_matches('/')),
            };
            let mut value = fs::read_to_string(outside)?.trim().to_owned();
            if Path::new(path).starts_with(&self.root) {
                value = value.replace(PLACE, &format!("{}{PLACE}", self.root.display()));
            }
            text = format!("{before}{value}{after}");
        }
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Both tools on each image: the same to do, mostly nothing, and the same verdict on it.
    fn cross(&self, scenario: &Scenario, name: &str) -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        for (maker, whose) in [(Side::Ours, "our"), (Side::Theirs, "systemd's")] {
            let image = self.folder(&kept(scenario, maker)).join(name);
            let both = |run: &dyn Fn(Side) -> Outcome<Answer>| -> Outcome<Vec<String>> {
                Ok(run(Side::Ours)?.differences(&run(Side::Theirs)?, false))
            };
            let mut note = |what: &str, lines: Vec<String>| {
                let line = |line: String| format!("  {what} {whose} {name}: {line}");
                found.extend(lines.into_iter().map(line));
            };
            if name == "disk.raw" && !scenario.files.is_empty() {
                let again = |side| self.again(scenario, side, &image);
                note("running on", both(&again)?);
            }
            note(
                "validating",
                both(&|side| self.dissect(side, "--validate", &image))?,
            );
            note("dissecting", self.views(&image)?);
        }
        Ok(found)
    }

    /// Runs once more on a copy of an image. A row more tells that its bytes have changed.
    fn again(&self, scenario: &Scenario, side: Side, image: &Path) -> Outcome<Answer> {
        let folder = self.folder(scenario.name);
        self.lay_out(scenario, side)?;
        fs::copy(image, folder.join("disk.raw"))?;
        let last = scenario.steps.last().copied().unwrap_or_default();
        let grain = last
            .split(' ')
            .find(|word| word.starts_with("--grain-size="));
        let step = format!("$D --dry-run=no {} @/disk.raw", grain.unwrap_or_default());
        let answer = self.step(scenario, side, &step)?;
        let kept = image::same(image, &folder.join("disk.raw"))?;
        fs::remove_dir_all(&folder)?;
        Ok(answer.with_note(if kept { "unchanged" } else { "changed" }))
    }

    /// What both tools show of an image, where systemd's can mount what is in it.
    fn views(&self, image: &Path) -> Outcome<Vec<String>> {
        let theirs = self.dissect(Side::Theirs, "--json=short", image)?;
        if !theirs.is_success() {
            return Ok(Vec::new());
        }
        let ours = self.dissect(Side::Ours, "--json=short", image)?;
        Ok(ours
            .without_metadata()
            .differences(&theirs.without_metadata(), false))
    }

    fn dissect(&self, side: Side, option: &str, image: &Path) -> Outcome<Answer> {
        let mut command = match side {
            Side::Ours => Command::new(&self.dissect),
            Side::Theirs => self.mounting("systemd-dissect"),
        };
        let path = match side {
            Side::Ours => image.to_owned(),
            Side::Theirs => Path::new("/").join(image.strip_prefix(&self.root)?),
        };
        let output = command.arg(option).arg(path).output()?;
        Ok(Answer::new(&output, &self.root.to_string_lossy()))
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).arg(program);
        command
    }

    /// As [`Self::inside`], where the root is a mount point, which programs that mount need.
    fn mounting(&self, program: &str) -> Command {
        let script = r#"mount --rbind "$0" "$0" && cd "$0" && exec chroot . "$@""#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "bash", "-c", script])
            .arg(&self.root)
            .arg(program);
        command
    }

    fn shell(&self, script: &str) -> Outcome<Output> {
        Ok(self.inside("bash").args(["-c", script]).output()?)
    }
}

/// Where a side's folder is put aside.
fn kept(scenario: &Scenario, side: Side) -> String {
    match side {
        Side::Ours => format!("{}.ours", scenario.name),
        Side::Theirs => format!("{}.theirs", scenario.name),
    }
}
