//! CPU architectures as the UAPI specifications and systemd spell them. Pure.

use std::fmt;
use std::str::FromStr;

macro_rules! architectures {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// A CPU architecture by its UAPI name. The list is complete.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is its own name")]
        pub enum Architecture { $($variant),+ }

        impl Architecture {
            /// Every architecture, by name.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in definition files, `extension-release` and file names.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

architectures! {
    Alpha "alpha", Arc "arc", ArcBe "arc-be", Arm "arm", ArmBe "arm-be", Arm64 "arm64",
    Arm64Be "arm64-be", Cris "cris", Ia64 "ia64", Loongarch64 "loongarch64", M68k "m68k",
    Mips "mips", MipsLe "mips-le", Mips64 "mips64", Mips64Le "mips64-le", Nios2 "nios2",
    Parisc "parisc", Parisc64 "parisc64", Ppc "ppc", PpcLe "ppc-le", Ppc64 "ppc64",
    Ppc64Le "ppc64-le", Riscv32 "riscv32", Riscv64 "riscv64", S390 "s390", S390x "s390x",
    Sh "sh", Sh64 "sh64", Sparc "sparc", Sparc64 "sparc64", Tilegx "tilegx", X86 "x86",
    X86_64 "x86-64",
}

/// Names by which kernels, Debian and compilers call an architecture.
const ALIASES: &[(&str, Architecture)] = &[
    ("aarch64", Architecture::Arm64),
    ("armv7l", Architecture::Arm),
    ("loong64", Architecture::Loongarch64),
    ("mipsel", Architecture::MipsLe),
    ("mips64el", Architecture::Mips64Le),
    ("hppa", Architecture::Parisc),
    ("ppc64le", Architecture::Ppc64Le),
    ("ppc64el", Architecture::Ppc64Le),
    ("i386", Architecture::X86),
    ("i486", Architecture::X86),
    ("i586", Architecture::X86),
    ("i686", Architecture::X86),
    ("x86_64", Architecture::X86_64),
    ("amd64", Architecture::X86_64),
];

/// What can run the architectures that `uname` names; beyond the aliases above.
const UNAME: &[(&str, Architecture)] = &[
    ("arm64_be", Architecture::Arm64Be),
    ("aarch64_be", Architecture::Arm64Be),
    ("armv4l", Architecture::Arm),
    ("armv5tel", Architecture::Arm),
    ("armv6l", Architecture::Arm),
    ("armv8l", Architecture::Arm),
    ("armv7b", Architecture::ArmBe),
    ("parisc64", Architecture::Parisc64),
    ("crisv32", Architecture::Cris),
    ("sh3", Architecture::Sh),
    ("sh4", Architecture::Sh),
    ("sh5", Architecture::Sh64),
];

/// The name is no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an architecture; known are x86-64, arm64, riscv64 and others")]
pub struct UnknownArchitecture(pub String);

impl Architecture {
    /// The smaller architecture whose programs this one runs too, if it has one.
    pub const fn secondary(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::X86),
            Self::Arm64 => Some(Self::Arm),
            Self::S390x => Some(Self::S390),
            Self::Ppc64 => Some(Self::Ppc),
            _ => None,
        }
    }

    /// Parses a UAPI name only, with no aliases.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|arch| arch.name() == name)
    }

    /// The architecture that a kernel calls `machine` in `uname -m`.
    pub fn from_uname(machine: &str) -> Option<Self> {
        machine.parse().ok().or_else(|| {
            UNAME
                .iter()
                .find(|(name, _)| *name == machine)
                .map(|(_, arch)| *arch)
        })
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    /// Parses a UAPI name or one of the usual aliases (`aarch64`, `amd64`, …).
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name)
            .or_else(|| {
                ALIASES
                    .iter()
                    .find(|(alias, _)| *alias == name)
                    .map(|(_, arch)| *arch)
            })
            .ok_or_else(|| UnknownArchitecture(name.to_owned()))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_itself() {
        for arch in Architecture::ALL {
            assert_eq!(arch.name().parse(), Ok(*arch));
        }
    }

    #[test]
    fn aliases_parse_and_strangers_do_not() {
        assert_eq!("amd64".parse(), Ok(Architecture::X86_64));
        assert_eq!(Architecture::from_uname("armv6l"), Some(Architecture::Arm));
        assert_eq!(Architecture::from_name("amd64"), None);
        for stranger in ["", "X86-64", "x86-64 ", "vax"] {
            assert!(stranger.parse::<Architecture>().is_err(), "{stranger:?}");
        }
    }
}
