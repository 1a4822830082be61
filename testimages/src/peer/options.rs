//! Random command lines.

use super::disk::Disk;
use super::random::Random;
use super::{SEED, TYPES};

/// What a command line says.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the options of repart")]
pub struct Choices {
    pub empty: Empty,
    pub size: Size,
    pub sector_size: Option<u64>,
    pub grain_size: Option<u64>,
    pub factory_reset: bool,
    pub defer_types: Vec<String>,
    pub defer_empty: bool,
    pub defer_factory_reset: bool,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub architecture: Option<String>,
}

/// `--empty=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the option")]
pub enum Empty {
    Refuse,
    Allow,
    Require,
    Force,
    Create,
}

/// `--size=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the option")]
pub enum Size {
    Keep,
    AtLeast(u64),
    Auto,
}

impl Choices {
    pub(super) fn random(random: &mut Random, disk: &Disk) -> Self {
        let empty = empty(random, disk);
        let size = match random.below(10) {
            0..=1 => Size::Auto,
            2..=3 => Size::AtLeast(disk.size.min(4 << 30) + (random.below(600) << 20)),
            4 if random.chance(30) => Size::AtLeast(random.range(1 << 20, 1 << 30)),
            _ if empty == Empty::Create => Size::AtLeast(random.range(1, 900) << 20),
            _ => Size::Keep,
        };
        let types = |random: &mut Random, percent| match random.chance(percent) {
            true => (0..random.range(1, 3))
                .map(|_| random.pick(&TYPES).0.to_owned())
                .collect(),
            false => Vec::new(),
        };
        let include: Vec<String> = types(random, 5);
        // The peer takes a table in other sectors than 512 for none when it is to grow it.
        let growable = disk.sector == 512 || disk.table.is_none();
        Self {
            size: if growable { size } else { Size::Keep },
            sector_size: (disk.sector != 512 && disk.table.is_none() || random.chance(10))
                .then_some(disk.sector),
            grain_size: random
                .chance(15)
                .then(|| random.pick(&[512, 4096, 8192, 65_536, 1 << 20])),
            factory_reset: disk.table.is_some()
                && random.chance(if empty == Empty::Force { 1 } else { 12 }),
            defer_types: types(random, 10),
            defer_empty: random.chance(5),
            defer_factory_reset: random.chance(5),
            exclude: match include.is_empty() {
                true => types(random, 5),
                false => Vec::new(),
            },
            include,
            architecture: random
                .chance(5)
                .then(|| random.pick(&["arm64", "x86", "riscv64", "cris"]).to_owned()),
            empty,
        }
    }

    /// The options as they are given to the program, but for the definitions and the disk.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--seed={SEED}"),
            format!("--empty={}", self.empty.name()),
            format!("--dry-run={}", if self.writes() { "no" } else { "yes" }),
        ];
        match self.size {
            Size::Keep => {}
            Size::AtLeast(size) => arguments.push(format!("--size={size}")),
            Size::Auto => arguments.push("--size=auto".to_owned()),
        }
        let mut add = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        if let Some(size) = self.sector_size {
            add("sector-size", size.to_string());
        }
        if let Some(size) = self.grain_size {
            add("grain-size", size.to_string());
        }
        if self.factory_reset {
            add("factory-reset", "yes".to_owned());
        }
        if self.defer_empty {
            add("defer-partitions-empty", "yes".to_owned());
        }
        if self.defer_factory_reset {
            add("defer-partitions-factory-reset", "yes".to_owned());
        }
        if let Some(architecture) = &self.architecture {
            add("architecture", architecture.clone());
        }
        for (name, types) in [
            ("defer-partitions", &self.defer_types),
            ("include-partitions", &self.include),
            ("exclude-partitions", &self.exclude),
        ] {
            if !types.is_empty() {
                add(name, types.join(","));
            }
        }
        arguments
    }

    /// Whether the run must write, as the peer's dry run would not show what it does: it leaves out
    /// a factory reset and cannot make a file.
    pub fn writes(&self) -> bool {
        self.factory_reset || self.empty == Empty::Create
    }
}

impl Empty {
    const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
            Self::Require => "require",
            Self::Force => "force",
            Self::Create => "create",
        }
    }
}

fn empty(random: &mut Random, disk: &Disk) -> Empty {
    match (random.below(20), disk.table.is_some()) {
        (0, _) => Empty::Force,
        (1, _) => Empty::Require,
        (2, _) => Empty::Create,
        (3, _) => Empty::Allow,
        (4, _) => Empty::Refuse,
        (_, true) => random.pick(&[Empty::Refuse, Empty::Allow]),
        (_, false) => random.pick(&[Empty::Allow, Empty::Force, Empty::Require]),
    }
}
