//! The names of the keys. Pure.

use std::fmt;

macro_rules! keys {
    ($($name:ident),+ $(,)?) => {
        /// A key of the `[Partition]` section: all of systemd-repart 262, then those of ddi
        /// (docs/extensions.md).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is its own name")]
        pub enum Key { $($name),+ }

        impl Key {
            /// Every key.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Every key's name.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// The name in a definition file.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

keys! {
    Type, Label, VolumeLabel, UUID, Priority, FactoryReset, SupplementFor, Weight, PaddingWeight,
    SizeMinBytes, SizeMaxBytes, PaddingMinBytes, PaddingMaxBytes, Minimize, CopyBlocks, Format,
    CopyFiles, ExcludeFiles, ExcludeFilesTarget, MakeDirectories, MakeSymlinks, Subvolumes,
    DefaultSubvolume, Compression, CompressionLevel, AddValidateFS, FileSystemSectorSize,
    BlockDeviceReplace, MountPoint, SplitName, Encrypt, KeyFile, TPM2PCRs, EncryptKDF, Discard,
    Integrity, IntegrityAlgorithm, VolumeName, EncryptedVolume, Verity, VerityMatchKey,
    VerityDataBlockSizeBytes, VerityHashBlockSizeBytes, Flags, NoAuto, ReadOnly, GrowFileSystem,
    VerityHashAlgorithm, VeritySalt, VerityHashType, EncryptVolumeKey, EncryptFreeSpace,
    IfExists, IfMissing, IfOutOfBounds, Grow, VerityFEC, IntegrityKeyFile, EncryptRecoveryKey,
}

impl Key {
    /// The key of this name; names are case-sensitive.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_known_by_their_names() {
        const SYSTEMD: usize = 47;
        const OWN: usize = 12;
        assert_eq!(Key::ALL.len(), SYSTEMD + OWN);
        for key in Key::ALL {
            assert_eq!(Key::from_name(key.name()), Some(*key));
        }
        assert_eq!(Key::from_name("type"), None);
    }
}
