//! Reading: what is in an image, its list of files, with and without their hashes.

use std::path::{Path, PathBuf};
use std::process::Command;

use testimages::sample;

use crate::measure::{check, measure};
use crate::{Bench, MIB, Outcome, Row, SEED};

impl Bench {
    pub(crate) fn read(&mut self) -> Outcome<()> {
        self.start()?;
        self.show()?;
        self.files()
    }

    /// From the start of the program to its first output.
    fn start(&mut self) -> Outcome<()> {
        let ours = measure(|| {
            let mut command = Command::new(&self.ddi);
            command.arg("--version");
            command
        })?;
        self.add(Row {
            work: "start to first output".into(),
            against: "-",
            ours,
            theirs: None,
            reach: "< 5 ms",
            written: None,
        });
        Ok(())
    }

    fn show(&mut self) -> Outcome<()> {
        let tree = self.scratch.join("small");
        if !tree.exists() {
            sample::system_tree(&tree, 40, MIB)?;
        }
        let copied = |kind: &str, format: &str| {
            let text = format!("Type={kind}\nFormat={format}\nCopyFiles=/:/\nMinimize=guess\n");
            (format!("{kind}.conf"), text)
        };
        let mut files = vec![copied("root", "erofs"), ("swap.conf".into(), swap())];
        files.extend(["home", "srv", "var", "tmp"].map(|kind| copied(kind, "ext4")));
        let files: Vec<(&str, String)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.clone()))
            .collect();
        let image = self.image("six", &files, &tree)?;
        self.compare(
            "a DDI of 6 partitions as JSON",
            &["--json=short"],
            &image,
            ">= 10x, < 10 MiB",
        )
    }

    fn files(&mut self) -> Outcome<()> {
        let tree = self.scratch.join("tree");
        if !tree.exists() {
            sample::system_tree(&tree, 8000, 200 * MIB)?;
        }
        for format in ["erofs", "squashfs"] {
            let text = format!("Type=root\nFormat={format}\nCopyFiles=/\nMinimize=best\n");
            let image = self.image(&format!("read-{format}"), &[("root.conf", text)], &tree)?;
            for verb in ["--list", "--mtree"] {
                let work = format!("{verb} of {format}, 200 MB, 8,000 files");
                self.compare(&work, &[verb], &image, ">= 1x")?;
            }
        }
        Ok(())
    }

    /// An image by our own hand.
    fn image(&self, name: &str, files: &[(&str, String)], tree: &Path) -> Outcome<PathBuf> {
        let definitions = self.definitions(name, files)?;
        let image = self.scratch.join(format!("{name}.raw"));
        std::fs::remove_file(&image).ok();
        check(
            self.repart(false)
                .args(["--empty=create", "--size=auto", SEED])
                .arg(format!("--definitions={}", definitions.display()))
                .arg(format!("--copy-source={}", tree.display()))
                .arg(&image),
        )?;
        Ok(image)
    }

    fn compare(
        &mut self,
        work: &str,
        options: &[&str],
        image: &Path,
        reach: &'static str,
    ) -> Outcome<()> {
        let line = |mut command: Command, peer| {
            command.args(options).arg(self.inner(image, peer));
            command
        };
        let ours = measure(|| {
            let mut command = Command::new(&self.ddi);
            command.arg("dissect");
            line(command, false)
        })?;
        let theirs = measure(|| {
            let mut command = Command::new("chroot");
            command.arg(&self.peer).arg("systemd-dissect");
            line(command, true)
        })?;
        self.add(Row {
            work: work.to_owned(),
            against: "systemd-dissect, as root",
            ours,
            theirs: Some(theirs),
            reach,
            written: None,
        });
        Ok(())
    }
}

fn swap() -> String {
    "Type=swap\nFormat=swap\nSizeMinBytes=16M\nSizeMaxBytes=16M\n".to_owned()
}
