//! Verity: formatting with parity, and checking.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testimages::sample;

use crate::measure::{Taken, check, measure};
use crate::{Bench, MIB, Outcome, Row};

const SALT: &str = "--salt=00";

impl Bench {
    pub(crate) fn verity(&mut self) -> Outcome<()> {
        let data = self.scratch.join("data");
        let mut dice = sample::Dice::new(1);
        let chunk: Vec<u8> = (0..MIB).flat_map(|_| dice.roll().to_le_bytes()).collect();
        fs::write(&data, chunk.repeat(128))?;
        let path = |name: &str| self.scratch.join(name);
        let paths = [
            path("verity.tree"),
            path("verity.parity"),
            path("verity.root"),
        ];
        let [tree, parity, root] = &paths;
        let [plain, protected, verified] = [
            self.both(|command| command.arg("format").arg(SALT).args([&data, tree]))?,
            self.both(|command| {
                let root = option("--root-hash-file", root);
                let parity = option("--fec-device", parity);
                command
                    .arg("format")
                    .arg(SALT)
                    .args([root, parity])
                    .args([&data, tree])
            })?,
            self.both(|command| {
                let root = option("--root-hash-file", root);
                command.arg("verify").arg(root).args([&data, tree])
            })?,
        ];
        for (work, (ours, theirs), reach) in [
            ("verity format of 1 GiB", plain, ">= 4x, < 32 MiB"),
            (
                "the same with parity of 2 roots",
                protected,
                ">= 4x, < 64 MiB",
            ),
            ("verity verify of 1 GiB", verified, ">= 4x, < 32 MiB"),
        ] {
            self.add(Row {
                work: work.into(),
                against: "veritysetup",
                ours,
                theirs: Some(theirs),
                reach,
                written: None,
            });
        }
        self.repair(&data, &paths)?;
        for name in paths.iter().chain([&data]) {
            fs::remove_file(name)?;
        }
        Ok(())
    }

    /// The same command line with ours and theirs.
    fn both(&self, arguments: impl Fn(&mut Command) -> &mut Command) -> Outcome<(Taken, Taken)> {
        let theirs = measure(|| {
            let mut command = Command::new("veritysetup");
            arguments(&mut command);
            command
        })?;
        let ours = measure(|| {
            let mut command = self.ddi_verity();
            arguments(&mut command);
            command
        })?;
        Ok((ours, theirs))
    }

    fn ddi_verity(&self) -> Command {
        let mut command = Command::new(&self.ddi);
        command.arg("verity");
        command
    }

    /// A MiB in the middle is damaged, and repaired.
    fn repair(&mut self, data: &Path, [tree, parity, root]: &[PathBuf; 3]) -> Outcome<()> {
        let repair = || {
            let mut command = self.ddi_verity();
            command
                .arg("repair")
                .args([
                    option("--root-hash-file", root),
                    option("--fec-device", parity),
                ])
                .args([data, tree]);
            command
        };
        let damage = format!("of={}", data.display());
        let ours = measure(|| {
            let mut dd = Command::new("dd");
            dd.args([
                "if=/dev/zero",
                "bs=1M",
                "count=1",
                "seek=500",
                "conv=notrunc",
                &damage,
            ]);
            // If it fails, there is nothing to repair, which the last check shows.
            drop(check(&mut dd));
            repair()
        })?;
        let mut verify = self.ddi_verity();
        verify
            .arg("verify")
            .arg(option("--root-hash-file", root))
            .args([data, tree]);
        check(&mut verify)?;
        self.add(Row {
            work: "repair of 1 MiB in 1 GiB".into(),
            against: "-",
            ours,
            theirs: None,
            reach: "-",
            written: None,
        });
        Ok(())
    }
}

fn option(name: &str, value: &Path) -> String {
    format!("{name}={}", value.display())
}
