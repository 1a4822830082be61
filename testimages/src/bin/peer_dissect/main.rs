//! Takes images apart with `ddi dissect` and with the newest systemd-dissect, and compares what they say.
//!
//! `peer_dissect ROOT DDI [NAME…]`: ROOT is a folder to change root into that has systemd-dissect and the
//! programs that make images (see `scripts/peer-root`), DDI our program; with names, only those images
//! are taken apart and everything is kept. The images of `testimages::dissections` are made here; where
//! systemd-dissect mounts what it shows, it runs in a guest with device-mapper and every file system.
//! Exit codes and JSON must agree, but for what `known` lists. Ends with 1 where something differs.
//! Needs root.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use testimages::dissections::{Case, PLACE, cases, recipe};
use testimages::guest::Guest;

mod answer;
mod known;

use answer::Answer;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where answers lie below the root; the images themselves are gone with the guest.
const ANSWERS: &str = "/var/tmp/ddi-peer-dissect-answers";

const LIMIT: Duration = Duration::from_secs(1800);

fn main() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: peer_dissect ROOT DDI [NAME…]";
    let root = PathBuf::from(arguments.next().ok_or(usage)?).canonicalize()?;
    let ddi = PathBuf::from(arguments.next().ok_or(usage)?).canonicalize()?;
    let names: Vec<String> = arguments.collect();
    let wanted = |case: &Case| names.is_empty() || names.iter().any(|name| name == case.image);
    let cases: Vec<Case> = cases().into_iter().filter(wanted).collect();
    let answers = root.join(&ANSWERS[1..]);
    // Others that compare in the same root wait.
    let lock = fs::File::create(root.join("var/tmp/ddi-peer-dissect.lock"))?;
    lock.lock()?;
    run(&root, &ddi, &answers, &cases)?;
    let mut different = 0;
    for (number, case) in cases.iter().enumerate() {
        let read = |side| Answer::read(&answers, number, side, &root);
        let (ours, theirs) = (read("ours")?, read("theirs")?);
        let lines = ours.differences(&theirs);
        if lines.is_empty() || known::is_known(case, &ours, &theirs) {
            continue;
        }
        different += 1;
        println!("--- {} {} {}", case.environment, case.options, case.image);
        lines.iter().for_each(|line| println!("  {line}"));
    }
    let images = cases.iter().map(|case| case.image);
    let images = images.collect::<std::collections::BTreeSet<_>>().len();
    println!(
        "{} dissections of {images} images, {different} differ",
        cases.len()
    );
    if names.is_empty() {
        fs::remove_dir_all(&answers)?;
    }
    Ok(match different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Makes the images and takes all of them apart.
fn run(root: &Path, ddi: &Path, answers: &Path, cases: &[Case]) -> Outcome<()> {
    let images = root.join(&PLACE[1..]);
    for folder in [answers, &images] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    symlink(ddi, answers.join("systemd-dissect"))?;
    fs::write(images.join("recipe"), recipe())?;
    let inside =
        format!("cd {PLACE} && bash ./recipe >recipe.log 2>&1 || {{ cat recipe.log; exit 1; }}");
    finish(
        Command::new("chroot")
            .arg(root)
            .args(["bash", "-c", &inside]),
    )?;
    // What mounts: showing and listing.
    let mounts = ["--json", "--list", "--mtree"];
    let shown = |case: &Case| mounts.iter().any(|option| case.options.starts_with(option));
    let here = script(root, answers, cases, |case, side| {
        side == Side::Ours || !shown(case)
    })?;
    let path = answers.join("script.here");
    fs::write(&path, here)?;
    finish(Command::new("bash").arg(&path))?;
    let pack = "tar --sparse --xattrs --xattrs-include='user.*' --create --file $0/images.tar .";
    finish(
        Command::new("bash")
            .args(["-c", pack])
            .arg(answers)
            .current_dir(&images),
    )?;
    let there = script(root, answers, cases, |case, side| {
        side == Side::Theirs && shown(case)
    })?;
    let path = answers.join("script");
    fs::write(&path, format!("{}{there}", guest(root, answers)))?;
    let outcome = Guest::Uml.limit(LIMIT).run(&[Path::new("bash"), &path]);
    match outcome.is_success() {
        true => Ok(()),
        false => Err(format!("the guest: {:?}\n{}", outcome.end, outcome.console).into()),
    }
}

fn finish(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {output:?}").into()),
    }
}

/// How the guest begins. The images lie on a disk of its own, as the host's files have no attributes
/// there. Programs that mount need a root that is a mount point.
fn guest(root: &Path, answers: &Path) -> String {
    format!(
        "set -eu\nroot={root:?}\nmkdir /run/ddi-test/images\n\
         mount --bind \"$root\" \"$root\"\n\
         for name in proc sys dev; do mount --rbind /$name \"$root/$name\"; done\n\
         mount -t tmpfs tmpfs \"$root/run\"\n\
         mount --bind /run/ddi-test/images \"$root{PLACE}\"\n\
         tar --xattrs --xattrs-include='user.*' --extract --file {answers:?}/images.tar \
         --directory \"$root{PLACE}\"\nset +eu\n"
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

/// Runs those cases for those sides that `wanted` takes. The folder of the images is `$D`. A tool that
/// waits for a passphrase is stopped.
fn script(
    root: &Path,
    answers: &Path,
    cases: &[Case],
    wanted: impl Fn(&Case, Side) -> bool,
) -> Outcome<String> {
    let mut script = format!(
        "export LC_ALL=C.UTF-8 SYSTEMD_COLORS=0\nroot={root:?} place={PLACE} answers={answers:?}\n\
         cd \"$root$place\"\n"
    );
    for (number, case) in cases.iter().enumerate() {
        let Case {
            image,
            options,
            environment,
        } = case;
        for (side, name, program, place) in [
            (
                Side::Theirs,
                "theirs",
                "chroot $root systemd-dissect",
                "$place",
            ),
            (
                Side::Ours,
                "ours",
                "$answers/systemd-dissect",
                "$root$place",
            ),
        ] {
            if wanted(case, side) {
                writeln!(
                    script,
                    "D={place}; timeout 20 env {environment} {program} {options} $D/{image} \
                     >$answers/{number}.{name} 2>$answers/{number}.{name}.err </dev/null\n\
                     echo $? >$answers/{number}.{name}.code"
                )?;
            }
        }
    }
    script.push_str("exit 0\n");
    Ok(script)
}
