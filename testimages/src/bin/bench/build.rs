//! Building: hash trees, images, plans.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use testimages::sample;

use crate::measure::{check, measure, once};
use crate::{Bench, MIB, Outcome, Row, SEED};

impl Bench {
    pub(crate) fn build(&mut self) -> Outcome<()> {
        self.hash_tree()?;
        self.images()?;
        self.dry_run()?;
        self.many_partitions()?;
        self.vfat()
    }

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

    /// A partition of 1 GiB, three quarters full of noise.
    pub(crate) fn encrypted(&mut self) -> Outcome<()> {
        let tree = self.scratch.join("noise");
        if !tree.exists() {
            fs::create_dir(&tree)?;
            let mut dice = sample::Dice::new(2);
            let chunk: Vec<u8> = (0..8 * MIB / 8)
                .flat_map(|_| dice.roll().to_le_bytes())
                .collect();
            fs::write(tree.join("noise"), chunk.repeat(96))?;
        }
        let key = self.scratch.join("luks.key");
        fs::write(&key, "secret")?;
        let definitions = self.definitions("encrypted", &[(
            "10-home.conf",
            "Type=home\nFormat=ext4\nCopyFiles=/\nEncrypt=key-file\nEncryptKDF=minimal\nSizeMinBytes=1056M\nSizeMaxBytes=1056M\n".into(),
        )])?;
        let image = self.scratch.join("encrypted.raw");
        let image = &image;
        let fresh = |peer: bool| {
            let mut command = self.repart(peer);
            fs::remove_file(image).ok();
            command
                .args(["--empty=create", "--size=auto", "--offline=yes", SEED])
                .arg(format!("--definitions={}", self.inner(&definitions, peer)))
                .arg(format!("--copy-source={}", self.inner(&tree, peer)))
                .arg(format!("--key-file={}", self.inner(&key, peer)))
                .arg(self.inner(image, peer));
            command
        };
        let theirs = measure(|| fresh(true))?;
        let ours = measure(|| fresh(false))?;
        let size = f64::from(u32::try_from(allocated(image)? / 1024)?) / 1024.0;
        fs::remove_file(image).ok();
        self.add(Row {
            work: "encrypted ext4 of 1 GiB, minimal KDF".to_owned(),
            against: "systemd-repart --offline=yes",
            ours,
            theirs: Some(theirs),
            reach: ">= 4x, < 64 MiB",
            written: Some(ours.written_mib / size),
        });
        self.cipher()
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
}

/// Bytes that the file takes on its disk.
fn allocated(path: &Path) -> Outcome<u64> {
    Ok(fs::metadata(path)?.blocks() * 512)
}
