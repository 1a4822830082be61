//! Parity behind hash trees: what veritysetup makes of it, and what is repaired by it.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SEED, Scratch, cut, ddi, fails, partitions, repart, run};
use image_specs::fec_footer::{FOOTER_SIZE, Footer};
use serde_json::Value;

const ROOT: &str = "Type=root\nFormat=squashfs\nCopyFiles=/\nVerity=data\nVerityMatchKey=r\n";
const HASH: &str = "Type=root-verity\nVerity=hash\nVerityMatchKey=r\n";
const SIGNATURE: &str = "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n";

/// Keys of the data partition, of the hash partition, and how many roots these ask for.
const SETS: [(&str, &str, u8); 4] = [
    ("Minimize=best\n", "Minimize=best\nVerityFEC=2\n", 2),
    // The tree covers the whole partition, and the planner finds room for all of it.
    ("SizeMinBytes=24M\nSizeMaxBytes=24M\n", "VerityFEC=24\n", 24),
    (
        "Minimize=best\n",
        "Minimize=best\nVerityFEC=7\nVerityHashAlgorithm=sha512\nVerityDataBlockSizeBytes=1024\nVerityHashBlockSizeBytes=1024\n",
        7,
    ),
    (
        "Minimize=best\n",
        "SizeMinBytes=8M\nVerityFEC=3\nVeritySalt=-\n",
        3,
    ),
];

struct Parts {
    data: PathBuf,
    hash: PathBuf,
    root_hash: String,
    footer: Footer,
}

impl Parts {
    fn cut(scratch: &Scratch, image: &Path, built: &[Value]) -> Self {
        let [data, hash] = ["data", "hash"].map(|name| scratch.path(name));
        cut(image, &built[0], &data);
        cut(image, &built[1], &hash);
        let bytes = fs::read(&hash).unwrap();
        let footer = Footer::parse(&bytes[bytes.len() - FOOTER_SIZE..]);
        Self {
            data,
            hash,
            root_hash: built[0]["roothash"].as_str().unwrap().to_owned(),
            footer: footer.unwrap().unwrap(),
        }
    }

    fn options(&self) -> [String; 3] {
        [
            format!("--fec-device={}", self.hash.display()),
            format!("--fec-offset={}", self.footer.offset.get()),
            format!("--fec-roots={}", self.footer.roots),
        ]
    }

    /// Runs veritysetup, which must have nothing to say.
    fn verify(&self) {
        let output = Command::new("veritysetup")
            .arg("verify")
            .args([&self.data, &self.hash])
            .arg(&self.root_hash)
            .args(self.options())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }

    /// The parity is the one that veritysetup itself makes.
    fn compare(&self, scratch: &Scratch) {
        let theirs = scratch.path("theirs");
        let bytes = fs::read(&self.hash).unwrap();
        let offset = usize::try_from(self.footer.offset.get()).unwrap();
        fs::write(&theirs, &bytes[..offset]).unwrap();
        let shown = run(Command::new("veritysetup").arg("dump").arg(&self.hash));
        let field = |name: &str| {
            let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
            let value = line.split_once(':').unwrap().1.trim().to_owned();
            value.trim_end_matches(" [bytes]").to_owned()
        };
        run(Command::new("veritysetup")
            .arg("format")
            .args([&self.data, &theirs])
            .arg(format!("--uuid={}", field("UUID")))
            .arg(format!("--salt={}", field("Salt")))
            .arg(format!("--hash={}", field("Hash algorithm")))
            .arg(format!("--data-blocks={}", field("Data blocks")))
            .arg(format!("--data-block-size={}", field("Data block size")))
            .arg(format!("--hash-block-size={}", field("Hash block size")))
            .arg(format!("--fec-device={}", theirs.display()))
            .args(&self.options()[1..]));
        let theirs = fs::read(theirs).unwrap();
        assert!(theirs == bytes[..theirs.len()]);
        let behind = &bytes[theirs.len()..bytes.len() - FOOTER_SIZE];
        assert!(theirs.len() > offset && behind.iter().all(|byte| *byte == 0));
    }

    fn repair(&self) -> Command {
        let mut command = ddi();
        command
            .args(["verity", "repair"])
            .args([&self.data, &self.hash])
            .arg(&self.root_hash);
        command
    }

    /// Blocks of data, tree and parity are lost, and come back.
    fn damage_and_repair(&self) {
        let whole = [&self.data, &self.hash].map(|path| fs::read(path).unwrap());
        let block = u64::from(self.footer.block);
        let noise = vec![0x5a; self.footer.block.try_into().unwrap()];
        let [data, hash] =
            [&self.data, &self.hash].map(|path| File::options().write(true).open(path).unwrap());
        // Each in a round of its own, as two parity bytes save no more than two blocks of it.
        let rounds = self
            .footer
            .blocks
            .div_ceil(255 - u64::from(self.footer.roots));
        assert!(rounds > 2);
        let [one, other] = [1, 2].map(|more| (self.footer.blocks - 1 + more) % rounds + rounds);
        data.write_all_at(&noise, one * block).unwrap();
        data.write_all_at(&noise[..100], other * block + 5).unwrap();
        let tree = self.footer.offset.get() - block;
        hash.write_all_at(&noise[..300], tree + 500).unwrap();
        hash.write_all_at(&noise[..9], self.footer.offset.get())
            .unwrap();
        let said = fails(
            Command::new("veritysetup")
                .arg("verify")
                .args([&self.data, &self.hash])
                .arg(&self.root_hash),
            2,
        );
        assert!(said.contains("Verification failed"), "{said}");
        let said = run(&mut self.repair());
        assert!(
            said.contains("in 3 blocks of data and hash tree, and"),
            "{said}"
        );
        for (path, whole) in [&self.data, &self.hash].into_iter().zip(whole) {
            assert!(fs::read(path).unwrap() == whole, "{}", path.display());
        }
        self.verify();
    }
}

#[test]
fn parity_is_what_veritysetup_makes_and_repairs() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let signing = scratch.signing();
    for (data, hash, roots) in SETS {
        let (root, hash) = (format!("{ROOT}{data}"), format!("{HASH}{hash}"));
        let definitions = scratch.definitions(&[
            ("10-root.conf", &root),
            ("20-hash.conf", &hash),
            ("30-sig.conf", SIGNATURE),
        ]);
        let image = scratch.path("image.raw");
        let _ = fs::remove_file(&image);
        let command = || {
            let mut command = repart();
            command
                .args([SEED, &definitions, &source])
                .args(&signing)
                .arg(&image);
            command
        };
        let build = || partitions(command().args(["--empty=create", "--size=auto"]));
        let built = build();
        let parts = Parts::cut(&scratch, &image, &built);
        assert_eq!(parts.footer.roots, roots);
        parts.verify();
        parts.compare(&scratch);
        parts.damage_and_repair();

        // The same again, and nothing more to do.
        let first = fs::read(&image).unwrap();
        let second = partitions(command().arg("--dry-run=no"));
        assert!(second.iter().all(|one| one["activity"] == "unchanged"));
        fs::remove_file(&image).unwrap();
        build();
        assert!(fs::read(&image).unwrap() == first, "{hash}");
        run(ddi().args(["dissect", "--verify-data"]).arg(&image));
    }
}

#[test]
fn footers_are_believed_as_far_as_they_fit() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let (root, hash) = (
        format!("{ROOT}Minimize=best\n"),
        format!("{HASH}Minimize=best\nVerityFEC=2\n"),
    );
    let definitions = scratch.definitions(&[("10-root.conf", &root), ("20-hash.conf", &hash)]);
    let image = scratch.path("image.raw");
    let built = partitions(
        repart()
            .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
            .arg(&image),
    );
    let parts = Parts::cut(&scratch, &image, &built);
    let dump = || {
        let output = ddi()
            .args(["verity", "dump"])
            .arg(&parts.hash)
            .output()
            .unwrap();
        assert!(output.status.success());
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [shown, warned] = dump();
    assert!(shown.contains("FEC RS roots:   \t2\n"), "{shown}");
    assert!(warned.is_empty(), "{warned}");

    let size = fs::metadata(&parts.hash).unwrap().len();
    let file = File::options().write(true).open(&parts.hash).unwrap();
    let place = size - u64::try_from(FOOTER_SIZE).unwrap();
    let good = parts.footer.clone();
    let mut torn = good.encode().unwrap();
    torn[20] ^= 1;
    let lie = |footer: Footer| footer.encode().unwrap();
    for (bytes, words) in [
        (torn, "the checksum of the footer"),
        (
            lie(Footer {
                roots: 24,
                ..good.clone()
            }),
            "there is room up to byte",
        ),
        (
            lie(Footer {
                offset: image_specs::units::Bytes::ZERO,
                ..good.clone()
            }),
            "does not go with the hash tree",
        ),
        (
            lie(Footer {
                blocks: 1,
                ..good.clone()
            }),
            "parity for 1 blocks",
        ),
        (
            lie(Footer {
                block: 512,
                ..good.clone()
            }),
            "blocks of 512 bytes",
        ),
    ] {
        file.write_all_at(&bytes, place).unwrap();
        let said = fails(&mut parts.repair(), 1);
        assert!(
            said.contains(words) && said.contains("--fec-device="),
            "{said}"
        );
        let [shown, warned] = dump();
        assert!(!shown.contains("FEC") && warned.contains(words), "{warned}");
        // Who knows better says so.
        run(parts.repair().args(parts.options()));
    }
    file.write_all_at(&[0; FOOTER_SIZE], place).unwrap();
    let said = fails(&mut parts.repair(), 1);
    assert!(said.contains("has no footer that tells of any"), "{said}");
}

#[test]
fn parity_that_cannot_be_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    for (data, hash, words) in [
        (
            "Minimize=best\n",
            "Minimize=best\nVerityFEC=2\nVerityDataBlockSizeBytes=512\n",
            "20-hash.conf: VerityFEC= is not possible: error correction needs data and hash blocks of one size",
        ),
        (
            "Minimize=best\n",
            "VerityFEC=48\n",
            "20-hash.conf:5:11: VerityFEC=\"48\" is refused",
        ),
    ] {
        let (root, hash) = (format!("{ROOT}{data}"), format!("{HASH}{hash}"));
        let definitions = scratch.definitions(&[("10-root.conf", &root), ("20-hash.conf", &hash)]);
        let image = scratch.path("image.raw");
        let said = fails(
            repart()
                .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
                .arg(&image),
            1,
        );
        assert!(said.contains(words), "{said}");
        assert!(!image.exists());
    }
}
