//! Options of veritytab(5), and what may stand for a root hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::integrity::Units;
use super::options::{Found, OptionError, Unknown, expected, split, value};
use crate::conf::{absolute_path, boolean, size, unsigned};
use crate::guid;

const MAX_BLOCK: u64 = 512 * 1024;

/// What a volume's options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityOptions {
    /// `superblock=`
    pub superblock: bool,
    /// `format=`: 0 or 1, for what has no superblock.
    pub format: u8,
    /// `data-block-size=`, for what has no superblock.
    pub data_block: u32,
    /// `hash-block-size=`, for what has no superblock.
    pub hash_block: u32,
    /// `data-blocks=`, for what has no superblock; `None` for the whole device.
    pub data_blocks: Option<u64>,
    /// `hash-offset=`
    pub hash_offset: u64,
    /// `salt=`, for what has no superblock.
    pub salt: Option<Vec<u8>>,
    /// `uuid=`, for what has no superblock.
    pub uuid: Option<Uuid>,
    /// `hash=`, for what has no superblock.
    pub hash: Option<String>,
    /// `ignore-corruption`, `restart-on-corruption`, `panic-on-corruption`: the last one counts.
    pub corruption: Corruption,
    /// `ignore-zero-blocks`
    pub ignore_zero_blocks: bool,
    /// `check-at-most-once`
    pub check_at_most_once: bool,
    /// `fec-device=`: a path, or named as in fstab.
    pub fec_device: Option<String>,
    /// `fec-offset=`
    pub fec_offset: u64,
    /// `fec-roots=`: 2 to 24.
    pub fec_roots: u8,
    /// `root-hash-signature=`
    pub signature: Option<SignatureSource>,
    /// `tpm2-measure-nvpcr=`: the name of what to measure into.
    pub measure: Option<String>,
    /// For the generator.
    pub units: Units,
    /// The whole list was a signature, as older versions had it.
    pub old_signature: bool,
}

/// What is done about data that are not what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Corruption {
    #[default]
    Fail,
    Ignore,
    Restart,
    Panic,
}

/// Where the signature of a root hash is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureSource {
    /// In the property of the data device that udev found.
    Auto,
    /// In a file.
    File(String),
    /// Here (DER).
    Bytes(Vec<u8>),
}

/// Where a root hash is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootHashSource {
    /// In the property of the data device that udev found.
    Auto,
    /// In a file, or given by a socket.
    File(String),
    /// Here.
    Bytes(Vec<u8>),
}

impl Default for VerityOptions {
    fn default() -> Self {
        Self {
            superblock: true,
            format: 1,
            data_block: 4096,
            hash_block: 4096,
            data_blocks: None,
            hash_offset: 0,
            salt: None,
            uuid: None,
            hash: None,
            corruption: Corruption::Fail,
            ignore_zero_blocks: false,
            check_at_most_once: false,
            fec_device: None,
            fec_offset: 0,
            fec_roots: 2,
            signature: None,
            measure: None,
            units: Units::default(),
            old_signature: false,
        }
    }
}

impl VerityOptions {
    /// Reads a list of options.
    pub fn parse(text: &str) -> Result<Found<Self>, OptionError> {
        let mut options = Self::default();
        let mut unknown = Vec::new();
        if text.starts_with('/') || text.starts_with("base64:") {
            options.signature = Some(signature(text, text)?);
            options.old_signature = true;
            return Ok(Found { options, unknown });
        }
        for (_, word) in split(text)? {
            let known = options.units.take(&word)
                || options.take_flag(&word)
                || options.take_value(&word)?;
            if !known {
                unknown.push(Unknown(word));
            }
        }
        Ok(Found { options, unknown })
    }

    fn take_flag(&mut self, word: &str) -> bool {
        match word {
            "ignore-corruption" => self.corruption = Corruption::Ignore,
            "restart-on-corruption" => self.corruption = Corruption::Restart,
            "panic-on-corruption" => self.corruption = Corruption::Panic,
            "ignore-zero-blocks" => self.ignore_zero_blocks = true,
            "check-at-most-once" => self.check_at_most_once = true,
            _ => return false,
        }
        true
    }

    fn take_value(&mut self, word: &str) -> Result<bool, OptionError> {
        let Some((key, text)) = word.split_once('=') else {
            return Ok(false);
        };
        match key {
            "superblock" => self.superblock = value(word, text, boolean)?,
            "format" => self.format = format(word, text)?,
            "data-block-size" => self.data_block = block(word, text)?,
            "hash-block-size" => self.hash_block = block(word, text)?,
            "data-blocks" => {
                self.data_blocks = Some(value(word, text, |text| unsigned(text, u64::MAX))?);
            }
            "hash-offset" => self.hash_offset = offset(word, text)?,
            "salt" => self.salt = salt(word, text)?,
            "uuid" => {
                let parsed = guid::parse(text);
                self.uuid = Some(parsed.map_err(|_| expected(word, "write a UUID"))?);
            }
            "hash" => self.hash = Some(text.to_ascii_lowercase()),
            "fec-device" => self.fec_device = Some(device(word, text)?),
            "fec-offset" => self.fec_offset = offset(word, text)?,
            "fec-roots" => self.fec_roots = roots(word, text)?,
            "root-hash-signature" => self.signature = Some(signature(word, text)?),
            "tpm2-measure-nvpcr" => self.measure = measure(word, text)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl SignatureSource {
    /// Reads what stands for a signature: a path, `base64:` with the signature, or `auto`.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        signature(text, text)
    }
}

impl RootHashSource {
    /// Reads what stands for a root hash: hex, `-` or `auto` or nothing, or the path of a file or socket.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        match text {
            "" | "-" | "auto" => Ok(Self::Auto),
            path if path.starts_with('/') => absolute_path(path, false)
                .map(Self::File)
                .map_err(|_| expected(text, "write a path without ..")),
            _ => hex_bytes(text).map(Self::Bytes).ok_or_else(|| {
                expected(text, "write a root hash in hex, auto, or an absolute path")
            }),
        }
    }
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok().filter(|bytes| !bytes.is_empty())
}

fn format(word: &str, text: &str) -> Result<u8, OptionError> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        _ => Err(expected(word, "write 0 (Chrome OS) or 1 (normal)")),
    }
}

fn block(word: &str, text: &str) -> Result<u32, OptionError> {
    let bytes = value(word, text, size)?;
    let good = bytes.is_power_of_two() && (512..=MAX_BLOCK).contains(&bytes);
    u32::try_from(bytes)
        .ok()
        .filter(|_| good)
        .ok_or_else(|| expected(word, "write a power of two from 512 to 512K"))
}

fn offset(word: &str, text: &str) -> Result<u64, OptionError> {
    let bytes = value(word, text, size)?;
    match bytes.is_multiple_of(512) {
        true => Ok(bytes),
        false => Err(expected(word, "write a multiple of 512")),
    }
}

fn salt(word: &str, text: &str) -> Result<Option<Vec<u8>>, OptionError> {
    match text {
        "" => Ok(None),
        "-" => Ok(Some(Vec::new())),
        _ => hex_bytes(text)
            .filter(|bytes| bytes.len() <= 256)
            .map(Some)
            .ok_or_else(|| expected(word, "write up to 256 bytes in hex, or - for none")),
    }
}

fn device(word: &str, text: &str) -> Result<String, OptionError> {
    let path = super::device_path(text);
    absolute_path(&path, false)
        .map_err(|_| expected(word, "write an absolute path, or UUID=, LABEL= …"))
}

fn roots(word: &str, text: &str) -> Result<u8, OptionError> {
    let number = value(word, text, |text| unsigned(text, 255))?;
    u8::try_from(number)
        .ok()
        .filter(|roots| (2..=24).contains(roots))
        .ok_or_else(|| expected(word, "write a number from 2 to 24"))
}

fn signature(word: &str, text: &str) -> Result<SignatureSource, OptionError> {
    if text == "auto" {
        return Ok(SignatureSource::Auto);
    }
    if let Some(encoded) = text.strip_prefix("base64:") {
        let bytes = STANDARD.decode(encoded);
        return bytes
            .map(SignatureSource::Bytes)
            .map_err(|_| expected(word, "what follows base64: is no base64"));
    }
    absolute_path(text, false)
        .map(SignatureSource::File)
        .map_err(|_| {
            expected(
                word,
                "write an absolute path, base64: and the signature, or auto",
            )
        })
}

fn measure(word: &str, text: &str) -> Result<Option<String>, OptionError> {
    const DEFAULT: &str = "verity";
    match (text.is_empty(), boolean(text)) {
        (true, _) | (_, Ok(false)) => Ok(None),
        (_, Ok(true)) => Ok(Some(DEFAULT.to_owned())),
        _ if crate::conf::is_file_name(text) => Ok(Some(text.to_owned())),
        _ => Err(expected(word, "write yes, no or the name of an NvPCR")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken() {
        let text = "superblock=no,format=0,data-block-size=4K,hash-block-size=512,data-blocks=7,\
                    hash-offset=1K,salt=00ff,hash=SHA512,ignore-corruption,panic-on-corruption,\
                    ignore-zero-blocks,check-at-most-once,fec-device=PARTLABEL=f,fec-offset=512,fec-roots=24,\
                    root-hash-signature=base64:AAAA,_netdev,foo=bar,tpm2-measure-nvpcr=yes,\
                    uuid=5c8cf7a4-1c29-4d0e-a8e0-d6bd4d9d4c66";
        let found = VerityOptions::parse(text).unwrap();
        let options = found.options;
        assert!(!options.superblock && options.ignore_zero_blocks && options.check_at_most_once);
        assert_eq!(
            (options.format, options.data_block, options.hash_block),
            (0, 4096, 512)
        );
        assert_eq!((options.data_blocks, options.hash_offset), (Some(7), 1024));
        assert_eq!(options.salt.as_deref(), Some(&[0, 0xff][..]));
        assert_eq!(options.hash.as_deref(), Some("sha512"));
        assert_eq!(options.corruption, Corruption::Panic);
        assert_eq!(
            options.fec_device.as_deref(),
            Some("/dev/disk/by-partlabel/f")
        );
        assert_eq!((options.fec_offset, options.fec_roots), (512, 24));
        assert_eq!(options.signature, Some(SignatureSource::Bytes(vec![0; 3])));
        assert_eq!(options.measure.as_deref(), Some("verity"));
        assert!(options.units.network && options.uuid.is_some());
        assert_eq!(found.unknown, [Unknown("foo=bar".to_owned())]);
    }

    #[test]
    fn a_bare_signature_is_taken_as_of_old() {
        let found = VerityOptions::parse("/run/x.p7s").unwrap().options;
        assert_eq!(
            found.signature,
            Some(SignatureSource::File("/run/x.p7s".to_owned()))
        );
        assert!(found.old_signature);
        let found = VerityOptions::parse("root-hash-signature=auto,salt=-,salt=").unwrap();
        assert_eq!(found.options.signature, Some(SignatureSource::Auto));
        assert_eq!(found.options.salt, None);
    }

    /// What systemd-veritysetup refuses, too.
    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "superblock=maybe",
            "superblock=",
            "format=2",
            "data-block-size=1000",
            "data-block-size=1M",
            "hash-block-size=256",
            "data-blocks=x",
            "hash-offset=5",
            "salt=zz",
            "uuid=x",
            "fec-device=rel",
            "fec-roots=1",
            "fec-roots=25",
            "fec-offset=1",
            "root-hash-signature=rel",
            "root-hash-signature=",
            "root-hash-signature=base64:zz=",
            "base64:zz=",
            "a\\b",
        ] {
            assert!(VerityOptions::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn root_hashes_are_here_or_elsewhere() {
        for text in ["", "-", "auto"] {
            assert_eq!(RootHashSource::parse(text), Ok(RootHashSource::Auto));
        }
        let file = RootHashSource::File("/run/hash".to_owned());
        assert_eq!(RootHashSource::parse("/run//hash"), Ok(file));
        assert_eq!(
            RootHashSource::parse("00FF"),
            Ok(RootHashSource::Bytes(vec![0, 255]))
        );
        for bad in ["zz", "0", "/a/../b"] {
            assert!(RootHashSource::parse(bad).is_err(), "{bad}");
        }
    }
}
