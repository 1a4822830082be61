//! The built-in definitions of `--make-ddi=`: what stands in `systemd/repart/definitions/` where
//! nothing is installed there. Pure.

/// A kind of image that `--make-ddi=` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Ddi {
    Sysext,
    Confext,
    Portable,
}

const VERITY: &str = "\
[Partition]
Type=root-verity
Verity=hash
VerityMatchKey=root
Minimize=best
";

const SIGNATURE: &str = "\
[Partition]
Type=root-verity-sig
Verity=signature
VerityMatchKey=root
";

macro_rules! root {
    ($copy:literal) => {
        concat!(
            "[Partition]\nType=root\nFormat=erofs\n",
            $copy,
            "Verity=data\nVerityMatchKey=root\nMinimize=best\n"
        )
    };
}

impl Ddi {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Sysext, Self::Confext, Self::Portable];

    /// The value of `--make-ddi=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sysext => "sysext",
            Self::Confext => "confext",
            Self::Portable => "portable",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The folder below `/etc`, `/run`, `/usr/local/lib` and `/usr/lib` that holds definitions to be
    /// used in place of the built-in ones.
    pub fn directory(self) -> String {
        format!("systemd/repart/definitions/{}.repart.d", self.name())
    }

    /// The built-in definitions: file names and texts, in order.
    pub const fn files(self) -> [(&'static str, &'static str); 3] {
        let root = match self {
            Self::Sysext => root!("CopyFiles=/usr/\nCopyFiles=/opt/\n"),
            Self::Confext => root!("CopyFiles=/etc/\n"),
            Self::Portable => root!("CopyFiles=/\n"),
        };
        [
            ("10-root.conf", root),
            ("20-root-verity.conf", VERITY),
            ("30-root-verity-sig.conf", SIGNATURE),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf;

    #[test]
    fn the_texts_are_definitions() {
        for kind in Ddi::ALL {
            assert_eq!(Ddi::from_name(kind.name()), Some(kind));
            for (name, text) in kind.files() {
                let parsed = conf::parse(text.as_bytes(), &["Partition"]).unwrap();
                assert!(
                    parsed.strange.is_empty() && parsed.entries.len() > 2,
                    "{name}"
                );
            }
        }
        assert_eq!(Ddi::from_name("initrd"), None);
    }
}
