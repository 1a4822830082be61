//! Random definition files.

use super::disk::{Disk, uuid};
use super::random::Random;
use super::{BLOCKS, TYPES};

/// Files (path below the folder of definitions, text) of one to twelve partitions.
pub(super) fn random(random: &mut Random, disk: &Disk, blocks: &str) -> Vec<(String, String)> {
    let most = random.pick(&[1, 2, 3, 4, 6, 12]);
    let count = random.range(1, most);
    let mut maker = Maker {
        room: room(disk),
        blocks,
        // Half of the disks are to be served, not only filled.
        modest: random.chance(70),
        count,
    };
    let mut files = Vec::new();
    let mut names = Vec::new();
    while u64::try_from(names.len()).unwrap_or(u64::MAX) < count {
        if random.chance(8) {
            maker.verity_set(random, &mut names, &mut files);
        } else {
            let kind = pick_type(random, disk);
            let mut text = maker.definition(random, &kind);
            if random.chance(6) && !names.is_empty() {
                let index = usize::try_from(random.below(count)).unwrap_or(0);
                let target: &String = names.get(index).unwrap_or(&names[0]);
                text = supplement(random, &text, target, &files);
            }
            maker.add(random, &mut names, &mut files, text);
        }
    }
    if random.chance(4) {
        files.push((
            format!("{:02}-masked.conf", random.below(100)),
            String::new(),
        ));
    }
    files
}

struct Maker<'a> {
    /// Roughly what there is to share.
    room: u64,
    blocks: &'a str,
    modest: bool,
    count: u64,
}

impl Maker<'_> {
    fn add(
        &mut self,
        random: &mut Random,
        names: &mut Vec<String>,
        files: &mut Vec<(String, String)>,
        text: String,
    ) {
        let number = names.len();
        let name = format!("{:02}-p{number}", random.below(100));
        if random.chance(8) {
            let extra = self.extra(random);
            let drop_in = format!("{name}.conf.d/{:02}-x.conf", random.below(30));
            files.push((drop_in, format!("[Partition]\n{extra}")));
        }
        files.push((format!("{name}.conf"), text));
        names.push(name);
    }

    fn definition(&self, random: &mut Random, kind: &str) -> String {
        let mut text = format!("[Partition]\nType={kind}\n");
        let mut key =
            |random: &mut Random, percent, name: &str, value: &dyn Fn(&mut Random) -> String| {
                if random.chance(percent) {
                    let value = value(random);
                    text.push_str(&format!("{name}={value}\n"));
                }
            };
        key(random, 35, "SizeMinBytes", &|random| self.size(random));
        key(random, 25, "SizeMaxBytes", &|random| self.large(random));
        key(random, 20, "Weight", &weight);
        key(random, 15, "PaddingWeight", &weight);
        key(random, 15, "PaddingMinBytes", &|random| self.size(random));
        key(random, 12, "PaddingMaxBytes", &|random| self.large(random));
        key(random, 30, "Priority", &|random| {
            random
                .pick(&["1", "2", "3", "100", "-1", "0", "2147483647"])
                .to_owned()
        });
        key(random, 15, "Label", &label);
        key(random, 15, "UUID", &|random| match random.below(5) {
            0 => "null".to_owned(),
            1 => String::new(),
            // What the usual seed gives to the second root partition.
            2 => "c938db28-a4b6-4968-8190-0379d3949b75".to_owned(),
            _ => uuid(random),
        });
        key(random, 15, "FactoryReset", &|_| "yes".to_owned());
        key(random, 5, "NoAuto", &|random| {
            random.pick(&["yes", "no"]).to_owned()
        });
        key(random, 5, "ReadOnly", &|random| {
            random.pick(&["yes", "no"]).to_owned()
        });
        key(random, 5, "GrowFileSystem", &|random| {
            random.pick(&["yes", "no"]).to_owned()
        });
        key(random, 4, "Flags", &|random| {
            random.pick(&["1", "0x1000000000000", "0b11"]).to_owned()
        });
        key(random, 5, "SplitName", &|random| {
            random.pick(&["-", "%t", "x-%n"]).to_owned()
        });
        key(random, 5, "FileSystemSectorSize", &|random| {
            random.pick(&["512", "4096", "1024", "1000"]).to_owned()
        });
        let content = random.below(100);
        if content < 25 {
            let formats = [
                "ext4", "vfat", "btrfs", "xfs", "squashfs", "erofs", "swap", "empty",
            ];
            text.push_str(&format!("Format={}\n", random.pick(&formats)));
        } else if content < 33 {
            text.push_str(&format!(
                "CopyBlocks={}/{}\n",
                self.blocks,
                random.pick(&BLOCKS).0
            ));
        }
        if random.chance(15) {
            text.push_str(&encryption(random));
        }
        if random.chance(2) {
            text.push_str("Typo=yes\nWeight=x\n");
        }
        text
    }

    /// A few keys for a drop-in.
    fn extra(&self, random: &mut Random) -> String {
        match random.below(5) {
            0 => format!("SizeMinBytes={}\n", self.size(random)),
            1 => format!("Weight={}\n", weight(random)),
            2 => format!("Label={}\n", label(random)),
            3 => format!("Priority={}\n", random.below(4)),
            _ => format!("PaddingMinBytes={}\n", self.size(random)),
        }
    }

    fn verity_set(
        &mut self,
        random: &mut Random,
        names: &mut Vec<String>,
        files: &mut Vec<(String, String)>,
    ) {
        let base = random.pick(&["root", "usr"]);
        let key = format!("set{}", names.len());
        let priority = match random.chance(25) {
            true => format!("Priority={}\n", random.range(1, 3)),
            false => String::new(),
        };
        let mut member = |random: &mut Random, suffix: &str, mode: &str, extra: String| {
            let text = format!(
                "[Partition]\nType={base}{suffix}\nVerity={mode}\nVerityMatchKey={key}\n{priority}{extra}"
            );
            self.add(random, names, files, text);
        };
        let mut data = String::new();
        if random.chance(50) {
            data = format!("SizeMaxBytes={}M\n", random.range(1, 200));
        }
        if random.chance(15) {
            data.push_str(&encryption(random));
        }
        member(random, "", "data", data);
        let mut hash = String::new();
        if random.chance(30) {
            hash = format!("SizeMinBytes={}\n", random.range(1, 10_000_000));
        }
        if random.chance(30) {
            hash.push_str(&format!(
                "VerityDataBlockSizeBytes={}\n",
                random.pick(&[512, 4096])
            ));
            hash.push_str(&format!(
                "VerityHashBlockSizeBytes={}\n",
                random.pick(&[1024, 4096])
            ));
        }
        if !random.chance(3) {
            member(random, "-verity", "hash", hash);
        }
        if random.chance(50) {
            member(random, "-verity-sig", "signature", String::new());
        }
    }

    fn size(&self, random: &mut Random) -> String {
        let fair = match self.modest {
            true => (self.room / (self.count + 1) / 2).max(4096),
            false => self.room.max(4096),
        };
        spell(random, fair)
    }

    fn large(&self, random: &mut Random) -> String {
        if random.chance(3) {
            return "15E".to_owned();
        }
        spell(random, self.room.max(8192))
    }
}

/// A size of up to about `most` bytes.
fn spell(random: &mut Random, most: u64) -> String {
    match random.below(12) {
        0 => random.range(1, 10_000).to_string(),
        1 => "0".to_owned(),
        2 => format!("{}K", random.range(1, (most >> 10).max(2))),
        3 => random.range(1, most).to_string(),
        4 => format!("{}.5M", random.range(1, (most >> 20).max(2))),
        _ => format!("{}M", random.range(1, (most >> 20).max(2))),
    }
}

fn weight(random: &mut Random) -> String {
    random
        .pick(&[
            "0", "0", "1", "10", "333", "1000", "2000", "1000000", "1000001",
        ])
        .to_owned()
}

/// Keys of encryption: those that are there, in any combination.
fn encryption(random: &mut Random) -> String {
    let mode = random.pick(&[
        "key-file",
        "tpm2",
        "key-file+tpm2",
        "yes",
        "no",
        "off",
        "luks",
    ]);
    let mut text = format!("Encrypt={mode}\n");
    let mut key = |percent, name: &str, values: &[&str]| {
        if random.chance(percent) {
            text.push_str(&format!("{name}={}\n", random.pick(values)));
        }
    };
    key(
        20,
        "EncryptKDF",
        &["argon2id", "pbkdf2", "minimal", "scrypt"],
    );
    key(20, "Discard", &["yes", "no", "maybe"]);
    key(10, "Integrity", &["inline", "yes", "off", "no"]);
    key(
        10,
        "IntegrityAlgorithm",
        &["hmac-sha1", "hmac-sha512", "crc32c"],
    );
    key(
        10,
        "VolumeLabel",
        &["", "a b", "0123456789012345678901234567890123456789"],
    );
    key(5, "VolumeName", &["x", "a/b"]);
    key(15, "TPM2PCRs", &["7", "7+11", "99", "7:sha256", ""]);
    key(
        15,
        "EncryptedVolume",
        &["foo", "a/b", ":::fixate-volume-key", "a:b:c:d:e"],
    );
    text
}

fn label(random: &mut Random) -> String {
    random
        .pick(&[
            "",
            "_empty",
            "system",
            "home",
            "a b",
            "straße",
            "%a-x",
            "0123456789012345678901234567890123456789",
        ])
        .to_owned()
}

/// Often one that the disk has.
fn pick_type(random: &mut Random, disk: &Disk) -> String {
    let partitions = disk.table.iter().flat_map(|table| &table.partitions);
    let found: Vec<&str> = partitions
        .map(|partition| partition.kind.as_str())
        .collect();
    match !found.is_empty() && random.chance(45) {
        true => random.pick(&found).to_owned(),
        false => random.pick(&TYPES).0.to_owned(),
    }
}

/// Makes a supplement of the definition `target`, mostly one of the same type.
fn supplement(random: &mut Random, text: &str, target: &str, files: &[(String, String)]) -> String {
    let main = format!("{target}.conf");
    let theirs = files.iter().find(|(path, _)| *path == main);
    let kind = theirs.and_then(|(_, text)| text.lines().find(|line| line.starts_with("Type=")));
    let lines = text
        .lines()
        .map(|line| match (line.starts_with("Type="), kind) {
            (true, Some(kind)) if random.chance(50) => kind,
            _ => line,
        });
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("SupplementFor={target}\n"));
    text
}

fn room(disk: &Disk) -> u64 {
    let used: u64 = disk
        .table
        .iter()
        .flat_map(|table| &table.partitions)
        .map(|p| p.sectors)
        .sum();
    disk.size.saturating_sub(used * disk.sector)
}
