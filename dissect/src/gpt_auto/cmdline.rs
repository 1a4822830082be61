//! What the kernel's command line says of mounting by partition types (kernel-command-line(7)). Pure.

use std::path::PathBuf;

use image_specs::conf::boolean;
use image_specs::filter::ImageFilter;
use image_specs::policy::ImagePolicy;
use veritysetup::RootHash;

/// What was asked for.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub struct Settings {
    off: bool,
    off_in_initrd: bool,
    /// `root=`
    pub root: Detect,
    /// `rootfstype=`
    pub root_kind: Option<String>,
    /// `rootflags=`, all of them.
    pub root_options: Option<String>,
    /// `rw`, `ro`
    pub root_writable: Option<bool>,
    /// `mount.usr=` asks for the partition to be found.
    pub usr: bool,
    /// `mount.usrfstype=`
    pub usr_kind: Option<String>,
    /// `mount.usrflags=`, all of them.
    pub usr_options: Option<String>,
    /// `roothash=`
    pub root_hash: Option<RootHash>,
    /// `usrhash=`
    pub usr_hash: Option<RootHash>,
    /// `systemd.image_policy=`
    pub policy: Option<ImagePolicy>,
    /// `systemd.image_filter=`
    pub filter: ImageFilter,
    /// `systemd.swap=` forbids swap.
    pub no_swap: bool,
    /// `systemd.tpm2_measured_os=`
    pub measured: Option<bool>,
    /// `systemd.factory_reset=`
    pub factory_reset: bool,
    /// `ddi.gpt_auto_device=`: the disk to use in place of that with the root file system.
    pub device: Option<PathBuf>,
}

/// How the root file system is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detect {
    /// Nothing is said: it is found if the boot loader told where it was.
    #[default]
    Unset,
    /// It is named, or its root hash is.
    Off,
    /// `gpt-auto`, `gpt-auto-force`: by udev, from the partition table alone.
    Auto {
        /// Also during a factory reset.
        force: bool,
    },
    /// `dissect`, `dissect-force`: by udev, which dissects the disk.
    Dissect {
        /// Also during a factory reset.
        force: bool,
    },
}

/// A word of the command line makes no sense, and going on without it would not be safe.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's command line has {word:?}, which makes no sense")]
pub struct CmdlineError {
    /// The word.
    pub word: String,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Settings {
    /// Parses a command line. Words that make no sense are left out, as the kernel and systemd do, but for
    /// those on which safety hangs: policy, filter and root hashes.
    pub fn parse(text: &str) -> Result<Self, CmdlineError> {
        let mut settings = Self::default();
        for word in words(text) {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (&*word, None),
            };
            let taken = settings.take(&key.replace('-', "_"), value);
            taken.map_err(|source| CmdlineError { word, source })?;
        }
        Ok(settings)
    }

    /// Whether partitions are mounted at all.
    pub fn enabled(&self, initrd: bool) -> bool {
        let off = self.off || (initrd && self.off_in_initrd);
        !off
    }

    fn take(
        &mut self,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let switch = |default| value.map_or(Some(default), |value| boolean(value).ok());
        match (key, value) {
            ("systemd.gpt_auto", _) => self.off = !switch(true).unwrap_or(!self.off),
            ("rd.systemd.gpt_auto", _) => {
                self.off_in_initrd = !switch(true).unwrap_or(!self.off_in_initrd);
            }
            ("systemd.swap", _) => self.no_swap = !switch(true).unwrap_or(!self.no_swap),
            ("systemd.tpm2_measured_os", _) => self.measured = switch(true).or(self.measured),
            ("systemd.factory_reset", _) => {
                self.factory_reset = switch(true).unwrap_or(self.factory_reset);
            }
            ("rw", None) => self.root_writable = Some(true),
            ("ro", None) => self.root_writable = Some(false),
            (_, None) => {}
            ("root", Some(value)) => self.root = Detect::of(value),
            ("roothash", Some(value)) => {
                self.root = Detect::Off;
                self.root_hash = Some(value.parse()?);
            }
            ("usrhash", Some(value)) => self.usr_hash = Some(value.parse()?),
            ("rootfstype", Some(value)) => self.root_kind = Some(value.to_owned()),
            ("rootflags", Some(value)) => add(&mut self.root_options, value),
            ("mount.usr", Some(value)) => self.usr = Detect::of(value) != Detect::Off,
            ("mount.usrfstype", Some(value)) => self.usr_kind = Some(value.to_owned()),
            ("mount.usrflags", Some(value)) => add(&mut self.usr_options, value),
            ("systemd.image_policy", Some(value)) => self.policy = Some(value.parse()?),
            ("systemd.image_filter", Some(value)) => self.filter = value.parse()?,
            ("ddi.gpt_auto_device", Some(value)) => {
                self.device = (!value.is_empty()).then(|| value.into());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Detect {
    fn of(value: &str) -> Self {
        match value {
            "gpt-auto" => Self::Auto { force: false },
            "gpt-auto-force" => Self::Auto { force: true },
            "dissect" => Self::Dissect { force: false },
            "dissect-force" => Self::Dissect { force: true },
            _ => Self::Off,
        }
    }
}

/// Options join with commas.
fn add(options: &mut Option<String>, more: &str) {
    match options {
        Some(options) => {
            options.push(',');
            options.push_str(more);
        }
        None => *options = Some(more.to_owned()),
    }
}

/// The words of a command line; quotes keep blanks in one and are dropped. Words go into unit files, so
/// that no line ends within one.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => {
                let letter = if letter.is_control() { ' ' } else { letter };
                word.get_or_insert_default().push(letter);
            }
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks() {
        for (text, expected) in [
            ("", &[][..]),
            (" a  b\n", &["a", "b"]),
            ("a=\"b c\" d", &["a=b c", "d"]),
            ("'a b'=\"c'd\" \"\"", &["a b=c'd", ""]),
            ("a=\"b c", &["a=b c"]),
            ("a='b\nc'", &["a=b c"]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_last_word_counts_and_options_join() {
        let settings = Settings::parse(
            "root=x root=gpt-auto rootflags=a rootflags=b,c rw ro systemd.gpt-auto=0 systemd.gpt_auto \
             mount.usr=dissect systemd.swap=no systemd.tpm2_measured_os systemd.swap=nonsense rootfstype",
        )
        .unwrap();
        assert_eq!(settings.root, Detect::Auto { force: false });
        assert_eq!(settings.root_options.as_deref(), Some("a,b,c"));
        assert_eq!(settings.root_writable, Some(false));
        assert!(settings.enabled(false) && settings.usr && settings.no_swap);
        assert_eq!((settings.measured, settings.root_kind), (Some(true), None));
        for (line, initrd, host) in [
            ("rd.systemd.gpt_auto=0", false, true),
            ("systemd.gpt_auto=0", false, false),
            ("systemd.gpt_auto=nonsense", true, true),
        ] {
            let settings = Settings::parse(line).unwrap();
            assert_eq!(
                (settings.enabled(true), settings.enabled(false)),
                (initrd, host)
            );
        }
        let off = Settings::parse("root=gpt-auto roothash=00112233445566778899aabbccddeeff");
        assert_eq!(off.unwrap().root, Detect::Off);
        let device = Settings::parse("ddi.gpt_auto_device=/dev/vda")
            .unwrap()
            .device;
        assert_eq!(device, Some("/dev/vda".into()));
    }

    #[test]
    fn what_safety_hangs_on_must_make_sense() {
        for word in [
            "systemd.image_policy=bad",
            "systemd.image_filter=bad",
            "roothash=xyz",
            "usrhash=",
        ] {
            let error = Settings::parse(&format!("a {word} b")).unwrap_err();
            assert_eq!(error.word, word);
        }
    }
}
