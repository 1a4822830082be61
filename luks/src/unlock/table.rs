//! The lines that tell the kernel of a volume (Documentation/admin-guide/device-mapper, dm-crypt.rst
//! and dm-integrity.rst). Pure.

use blockdev::dm::Target;
use blockdev::mapped::DeviceNumber;
use image_specs::integrity::Superblock;
use image_specs::luks_header::{Integrity, Segment};
use image_specs::units::Bytes;

use crate::{Header, VolumeKey};

/// How a volume is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct Flags {
    /// Discards are passed on: who sees the device below sees which blocks are free.
    pub discards: bool,
    /// Work stays on the processor that asks for it.
    pub same_cpu: bool,
    /// Writes are passed on from the processors that encrypt.
    pub submit_from_crypt_cpus: bool,
    /// Reads are decrypted where they end.
    pub no_read_workqueue: bool,
    /// Writes are encrypted where they begin.
    pub no_write_workqueue: bool,
    /// Authenticated data is written without a journal.
    pub no_journal: bool,
}

/// The kernel could not be told of a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The device ends before the data.
    #[error("the device has {size} bytes, and the volume's data begins at byte {start}")]
    Size {
        /// Of the device.
        size: u64,
        /// Where the data begins.
        start: u64,
    },
    /// An authentication that is not known.
    #[error("data authenticated by {algorithm:?} with the cipher {cipher:?} is not known")]
    Integrity {
        /// By what.
        algorithm: String,
        /// The cipher.
        cipher: String,
    },
    /// Tags that the volume below does not have.
    #[error("the volume needs tags of {wanted} bytes, and the device has such of {found}")]
    TagSize {
        /// By its header.
        wanted: u16,
        /// By the integrity superblock.
        found: u16,
    },
    /// More than one range, and one of them is authenticated.
    #[error("a volume of several ranges cannot be authenticated")]
    Several,
    /// It cannot be resized.
    #[error("a volume whose data is authenticated cannot change its size")]
    FixedSize,
}

/// What the volume stands on.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) device: DeviceNumber,
    pub(super) size: Bytes,
    /// What authenticates it.
    pub(super) superblock: Option<Superblock>,
}

/// The lines, but for the key.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) integrity: Option<Target>,
    digest: u32,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    start: u64,
    sectors: u64,
    cipher: String,
    tweak: u64,
    offset: u64,
    options: Vec<String>,
}

impl Flags {
    /// What a header wants.
    pub fn of(header: &Header) -> Self {
        let flags = header.metadata().map(|metadata| &metadata.config.flags);
        let has = |name: &str| flags.is_some_and(|flags| flags.iter().any(|flag| flag == name));
        Self {
            discards: has("allow-discards"),
            same_cpu: has("same-cpu-crypt"),
            submit_from_crypt_cpus: has("submit-from-crypt-cpus"),
            no_read_workqueue: has("no-read-workqueue"),
            no_write_workqueue: has("no-write-workqueue"),
            no_journal: has("no-journal"),
        }
    }

    fn options(self) -> Vec<String> {
        let all = [
            (self.discards, "allow_discards"),
            (self.same_cpu, "same_cpu_crypt"),
            (self.submit_from_crypt_cpus, "submit_from_crypt_cpus"),
            (self.no_read_workqueue, "no_read_workqueue"),
            (self.no_write_workqueue, "no_write_workqueue"),
        ];
        let wanted = all.into_iter().filter(|(wanted, _)| *wanted);
        wanted.map(|(_, name)| name.to_owned()).collect()
    }
}

impl Tables {
    pub(super) fn new(
        header: &Header,
        key: &VolumeKey,
        base: &Base,
        flags: Flags,
    ) -> Result<Self, TableError> {
        let segments = header.segments();
        let digest = segments.first().map_or(0, |(_, digest)| *digest);
        let mut tables = Self {
            integrity: None,
            digest,
            lines: Vec::new(),
        };
        // Tags would remain of what is gone.
        let discards = flags.discards && base.superblock.is_none();
        let flags = Flags { discards, ..flags };
        let mut start = 0;
        for (segment, _) in &segments {
            let line = match (&segment.integrity, &base.superblock) {
                (Some(_), _) if segments.len() > 1 => return Err(TableError::Several),
                (Some(integrity), Some(superblock)) => {
                    let (cipher, tag) = authenticated(integrity, &segment.cipher, key)?;
                    if superblock.tag_size != tag {
                        return Err(TableError::TagSize {
                            wanted: tag,
                            found: superblock.tag_size,
                        });
                    }
                    tables.integrity = Some(below(segment, superblock, base, flags));
                    let mut options = flags.options();
                    options.push(format!("integrity:{tag}:aead"));
                    Line {
                        start,
                        sectors: superblock.provided_sectors,
                        cipher,
                        tweak: segment.iv_tweak,
                        offset: 0,
                        options,
                    }
                }
                (Some(integrity), None) => {
                    return Err(TableError::Integrity {
                        algorithm: integrity.algorithm.clone(),
                        cipher: segment.cipher.clone(),
                    });
                }
                (None, _) => plain(segment, start, base, flags)?,
            };
            start += line.sectors;
            tables.lines.push(line.with_sector_size(segment));
        }
        Ok(tables)
    }

    /// The name of the key that cryptsetup would use.
    pub(super) fn key_description(&self, uuid: &str) -> String {
        format!("cryptsetup:{uuid}-d{}", self.digest)
    }

    /// Sectors of 512 bytes in all.
    pub(super) fn sectors(&self) -> u64 {
        self.lines.iter().map(|line| line.sectors).sum()
    }

    /// The lines for dm-crypt on a device.
    pub(super) fn crypt(&self, base: DeviceNumber, key: &str) -> Vec<Target> {
        let line = |line: &Line| {
            let mut parameters = String::with_capacity(key.len() + 512);
            for part in [&line.cipher, " ", key] {
                parameters.push_str(part);
            }
            parameters.push_str(&format!(" {} {base} {}", line.tweak, line.offset));
            if !line.options.is_empty() {
                let count = line.options.len();
                parameters.push_str(&format!(" {count} {}", line.options.join(" ")));
            }
            Target {
                start: line.start,
                sectors: line.sectors,
                kind: "crypt".to_owned(),
                parameters,
            }
        };
        self.lines.iter().map(line).collect()
    }
}

impl Line {
    fn with_sector_size(mut self, segment: &Segment) -> Self {
        let size = segment.sector_size.get();
        if size != 512 {
            self.options.push(format!("sector_size:{size}"));
        }
        self
    }
}

fn plain(segment: &Segment, start: u64, base: &Base, flags: Flags) -> Result<Line, TableError> {
    let fails = || TableError::Size {
        size: base.size.get(),
        start: segment.offset.get(),
    };
    let left = base.size.checked_sub(segment.offset).ok_or_else(fails)?;
    let size = segment
        .size
        .unwrap_or(left)
        .round_down(segment.sector_size.grain());
    if size.is_zero() || size > left {
        return Err(fails());
    }
    Ok(Line {
        start,
        sectors: size.get() / 512,
        cipher: segment.cipher.clone(),
        tweak: segment.iv_tweak,
        offset: segment.offset.get() / 512,
        options: flags.options(),
    })
}

/// dm-integrity without an algorithm of its own: it keeps the tags that dm-crypt makes.
fn below(segment: &Segment, superblock: &Superblock, base: &Base, flags: Flags) -> Target {
    let mode = match flags.no_journal {
        true => 'D',
        false => 'J',
    };
    let mut options = Vec::new();
    if segment.sector_size.get() != 512 {
        options.push(format!("block_size:{}", segment.sector_size.get()));
    }
    let parameters = [
        base.device.to_string(),
        (segment.offset.get() / 512).to_string(),
        superblock.tag_size.to_string(),
        mode.to_string(),
        options.len().to_string(),
    ];
    Target {
        start: 0,
        sectors: superblock.provided_sectors,
        kind: "integrity".to_owned(),
        parameters: parameters
            .into_iter()
            .chain(options)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// The cipher as the kernel has it, with what authenticates, and the bytes of a tag.
fn authenticated(
    integrity: &Integrity,
    cipher: &str,
    key: &VolumeKey,
) -> Result<(String, u16), TableError> {
    let unknown = || TableError::Integrity {
        algorithm: integrity.algorithm.clone(),
        cipher: cipher.to_owned(),
    };
    let mut parts = cipher.splitn(3, '-');
    let (Some(name), Some(mode), Some(vector)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(unknown());
    };
    let tag = match integrity.algorithm.as_str() {
        "hmac(sha1)" => 20,
        "hmac(sha256)" => 32,
        "hmac(sha512)" => 64,
        "cmac(aes)" | "aead" | "poly1305" => 16,
        _ => return Err(unknown()),
    };
    if key.is_empty() || integrity.journal_encryption != "none" {
        return Err(unknown());
    }
    let (both, vector_size) = match integrity.algorithm.as_str() {
        "aead" => (
            format!("{mode}({name})"),
            if mode == "gcm" { 12 } else { 16 },
        ),
        "poly1305" => (format!("rfc7539({name},poly1305)"), 12),
        algorithm => (format!("authenc({algorithm},{mode}({name}))"), 16),
    };
    // A random vector is kept beside the tag.
    let kept = if vector == "random" { vector_size } else { 0 };
    Ok((format!("capi:{both}-{vector}"), tag + kept))
}

#[cfg(test)]
mod tests {
    use image_specs::units::SectorSize;
    use uuid::Uuid;

    use super::*;
    use crate::{Format, Secret};

    fn integrity(algorithm: &str) -> Integrity {
        Integrity {
            algorithm: algorithm.to_owned(),
            journal_encryption: "none".to_owned(),
            journal_integrity: "none".to_owned(),
            key_size: None,
        }
    }

    /// As cryptsetup 2.6 writes them.
    #[test]
    fn authenticated_ciphers_are_spelled_for_the_kernel() {
        let key = VolumeKey::new(Secret::new(vec![0; 96]));
        for (algorithm, cipher, wanted, tag) in [
            (
                "hmac(sha256)",
                "aes-xts-plain64",
                "capi:authenc(hmac(sha256),xts(aes))-plain64",
                32,
            ),
            (
                "hmac(sha512)",
                "aes-xts-plain64",
                "capi:authenc(hmac(sha512),xts(aes))-plain64",
                64,
            ),
            (
                "hmac(sha256)",
                "aes-xts-random",
                "capi:authenc(hmac(sha256),xts(aes))-random",
                48,
            ),
            ("aead", "aes-gcm-random", "capi:gcm(aes)-random", 28),
            (
                "poly1305",
                "chacha20-plain64-random",
                "capi:rfc7539(chacha20,poly1305)-random",
                28,
            ),
        ] {
            let found = authenticated(&integrity(algorithm), cipher, &key);
            assert_eq!(found, Ok((wanted.to_owned(), tag)));
        }
        for (algorithm, cipher) in [("crc32c", "aes-xts-plain64"), ("hmac(sha256)", "aes")] {
            assert!(authenticated(&integrity(algorithm), cipher, &key).is_err());
        }
    }

    #[test]
    fn lines_are_as_the_kernel_reads_them() {
        let key = VolumeKey::new(Secret::new((0..64).collect()));
        let header = Header::format(&Format {
            size: Bytes::mib(20),
            label: String::new(),
            uuid: Uuid::from_u128(1),
            cipher: "aes-xts-plain64".to_owned(),
            volume_key: key.clone(),
            sector_size: SectorSize::S4096,
            allow_discards: true,
        });
        let header = header.unwrap();
        let device = DeviceNumber { major: 7, minor: 1 };
        let base = Base {
            device,
            size: Bytes::new((20 << 20) + 512),
            superblock: None,
        };
        let mut flags = Flags::of(&header);
        assert!(flags.discards);
        flags.no_read_workqueue = true;
        let tables = Tables::new(&header, &key, &base, flags).unwrap();
        let crypt = tables.crypt(device, ":64:logon:x");
        assert_eq!(
            (crypt.len(), crypt[0].sectors, tables.sectors()),
            (1, 8192, 8192)
        );
        assert_eq!(
            crypt[0].parameters,
            "aes-xts-plain64 :64:logon:x 0 7:1 32768 \
             3 allow_discards no_read_workqueue sector_size:4096"
        );
        let uuid = "00000000-0000-0000-0000-000000000001";
        assert_eq!(
            tables.key_description(uuid),
            format!("cryptsetup:{uuid}-d0")
        );
        let small = Base {
            size: Bytes::mib(16),
            ..base
        };
        let error = Tables::new(&header, &key, &small, flags).unwrap_err();
        assert!(matches!(error, TableError::Size { .. }), "{error}");
    }
}
