//! Growing: what is done at first boot, on a disk that is much larger than the image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Taken, check, measure};
use crate::{Bench, MIB, Outcome, Row, SEED};

/// Partitions of the image.
const PARTITIONS: u32 = 8;
/// The disk that it meets.
const DISK: u64 = MIB * MIB;

impl Bench {
    /// Grows the last of eight partitions and adds a ninth, with no file system to make: what remains
    /// is planning, reading and writing tables, and telling the kernel.
    pub(crate) fn grow(&mut self) -> Outcome<()> {
        let old = self.definitions("grow-old", &borrowed(&definitions(PARTITIONS)))?;
        let new = self.definitions("grow-new", &borrowed(&definitions(PARTITIONS + 1)))?;
        let (small, disk) = (
            self.scratch.join("grow-small.raw"),
            self.scratch.join("grow.raw"),
        );
        fs::remove_file(&small).ok();
        check(
            self.ddi_repart()
                .args(["--empty=create", "--size=1G", SEED])
                .arg(format!("--definitions={}", old.display()))
                .arg(&small),
        )?;
        let mut rows = Vec::new();
        for on_loop in [false, true] {
            let mut taken = Vec::new();
            for peer in [false, true] {
                taken.push(self.grown(&new, (&small, &disk), peer, on_loop)?);
            }
            let place = if on_loop { "a loop device of " } else { "" };
            rows.push(Row {
                work: format!("grow 8 partitions, {place}1 TiB, and add one"),
                against: "systemd-repart",
                ours: taken[0],
                theirs: Some(taken[1]),
                reach: ">= 1x, < 20 ms",
                written: None,
            });
        }
        rows.into_iter().for_each(|row| self.add(row));
        fs::remove_file(&disk)?;
        Ok(())
    }

    fn grown(
        &self,
        definitions: &Path,
        (small, disk): (&Path, &Path),
        peer: bool,
        on_loop: bool,
    ) -> Outcome<Taken> {
        let attached = std::cell::RefCell::new(None::<PathBuf>);
        let taken = measure(|| {
            detach(attached.take());
            let node = prepare(small, disk, on_loop).unwrap_or_else(|error| panic!("{error}"));
            let mut command = self.repart(peer);
            let target = match &node {
                Some(node) => node.display().to_string(),
                None => self.inner(disk, peer),
            };
            attached.replace(node);
            command
                .args(["--dry-run=no", SEED])
                .arg(format!("--definitions={}", self.inner(definitions, peer)))
                .arg(target);
            command
        });
        detach(attached.take());
        taken
    }
}

fn definitions(count: u32) -> Vec<(String, String)> {
    let one = |number: u32| {
        (
            format!("{number}0-part.conf"),
            format!("Type=linux-generic\nLabel=part{number}\nSizeMinBytes=64M\nWeight={number}\n"),
        )
    };
    (1..=count).map(one).collect()
}

fn borrowed(definitions: &[(String, String)]) -> Vec<(&str, String)> {
    definitions
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect()
}

/// Puts the image on the large disk anew.
fn prepare(small: &Path, disk: &Path, on_loop: bool) -> Outcome<Option<PathBuf>> {
    fs::remove_file(disk).ok();
    check(
        Command::new("cp")
            .arg("--sparse=always")
            .args([small, disk]),
    )?;
    fs::File::options().write(true).open(disk)?.set_len(DISK)?;
    if !on_loop {
        return Ok(None);
    }
    let output = Command::new("losetup")
        .args(["--find", "--show", "--partscan"])
        .arg(disk)
        .output()?;
    Ok(Some(String::from_utf8(output.stdout)?.trim().into()))
}

fn detach(node: Option<PathBuf>) {
    if let Some(node) = node {
        let _ = Command::new("losetup").arg("--detach").arg(node).status();
    }
}
