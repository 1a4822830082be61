//! An El Torito boot catalog in front of a disk image, so that firmware boots it from a CD as well
//! (El Torito 1.0; ECMA-119): five sectors of 2048 bytes with an empty ISO 9660 volume and one UEFI
//! boot entry, which points at the ESP. The bytes are systemd-repart's. Pure.

use crate::units::Bytes;

/// Where the sectors go: behind what ISO 9660 leaves to others, here the partition table.
pub const OFFSET: Bytes = Bytes::kib(32);

/// The first byte behind the sectors; partitions must not begin before.
pub const END: Bytes = Bytes::new((FIRST_SECTOR + SECTORS) as u64 * SECTOR as u64);

const SECTOR: usize = 2048;
const FIRST_SECTOR: u32 = 16;
const SECTORS: u32 = 5;
const CATALOG: u32 = 19;
const ROOT: u32 = 20;
const RECORD: usize = 34;
const ROOT_SIZE: u32 = 2 * 34;

/// The names in the volume's descriptor, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identifiers {
    system: String,
    volume: String,
    publisher: String,
}

/// When the volume was made, and in which time zone that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Quarters of an hour that local time is ahead of UTC.
    pub zone: i8,
}

/// The sectors cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum ElToritoError {
    #[error(
        "the El Torito {what} identifier {text:?} must have at most {most} characters out of letters, digits, blanks and !\"%&'()*+,-./:;<=>?_"
    )]
    Identifier {
        what: &'static str,
        text: String,
        most: usize,
    },
    #[error(
        "the ESP at byte {0} cannot be an El Torito image: it must begin at a multiple of 2048 below 8 TiB"
    )]
    Esp(u64),
    #[error(
        "the time {0} (seconds since 1970) is not in the years 1900 to 2155 that ISO 9660 can tell"
    )]
    Time(i64),
}

impl Identifiers {
    /// Checks the names: at most 32, 32 and 128 characters that ISO 9660 allows, or small letters.
    pub fn new(system: &str, volume: &str, publisher: &str) -> Result<Self, ElToritoError> {
        Ok(Self {
            system: identifier("system", system, 32)?,
            volume: identifier("volume", volume, 32)?,
            publisher: identifier("publisher", publisher, 128)?,
        })
    }
}

fn identifier(what: &'static str, text: &str, most: usize) -> Result<String, ElToritoError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b" !\"%&'()*+,-./:;<=>?_".contains(&byte);
    match text.len() <= most && text.bytes().all(fine) {
        true => Ok(text.to_owned()),
        false => Err(ElToritoError::Identifier {
            what,
            text: text.to_owned(),
            most,
        }),
    }
}

/// The five sectors, to be written at [`OFFSET`], for an ESP that begins at the byte `esp`.
pub fn encode(names: &Identifiers, moment: Moment, esp: Bytes) -> Result<Vec<u8>, ElToritoError> {
    let image = esp
        .is_multiple_of(2048)
        .then(|| u32::try_from(esp.get() / 2048).ok())
        .flatten()
        .ok_or(ElToritoError::Esp(esp.get()))?;
    let date = Date::of(moment)?;
    Ok([
        descriptor(names, date),
        boot_record(),
        terminator(),
        catalog(image),
        root(date),
    ]
    .concat())
}

/// Bytes of a sector that are put in one by one.
struct Sector(Vec<u8>);

impl Sector {
    fn new() -> Self {
        Self(vec![0; SECTOR])
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Text, filled up with blanks.
    fn text(&mut self, offset: usize, size: usize, text: &str) {
        self.0[offset..offset + size].fill(b' ');
        self.put(offset, text.as_bytes());
    }
}

/// The primary volume descriptor.
fn descriptor(names: &Identifiers, date: Date) -> Vec<u8> {
    let mut sector = Sector::new();
    sector.put(0, b"\x01CD001\x01");
    sector.text(8, 32, &names.system);
    sector.text(40, 32, &names.volume);
    sector.put(80, &both32(FIRST_SECTOR + SECTORS));
    sector.put(120, &both16(1)); // volumes of the set
    sector.put(124, &both16(1)); // number of this one
    sector.put(128, &both16(2048));
    sector.put(156, &directory_record(0, date));
    sector.text(190, 128, ""); // volume set
    sector.text(318, 128, &names.publisher);
    sector.text(446, 128, ""); // data preparer
    sector.text(574, 128, "SYSTEMD-REPART"); // application
    sector.text(702, 3 * 37, ""); // copyright, abstract, bibliography
    sector.put(813, &date.long()); // creation
    sector.put(830, &date.long()); // modification
    sector.put(847, &[b'0'; 16]); // expiration
    sector.put(864, &[b'0'; 16]); // effective
    sector.put(881, &[1]); // file structure version
    sector.0
}

fn boot_record() -> Vec<u8> {
    let mut sector = Sector::new();
    sector.put(0, b"\0CD001\x01EL TORITO SPECIFICATION");
    sector.put(0x47, &CATALOG.to_le_bytes());
    sector.0
}

fn terminator() -> Vec<u8> {
    let mut sector = Sector::new();
    sector.put(0, b"\xffCD001\x01");
    sector.0
}

/// The catalog: validation entry, boot entry for the image at that sector, end.
fn catalog(image: u32) -> Vec<u8> {
    const UEFI: u8 = 0xef;
    let mut sector = Sector::new();
    sector.put(0, &[1, UEFI]);
    // The checksum makes the sum of the entry's 16-bit words zero.
    sector.put(28, &[0xaa, 0x66, 0x55, 0xaa]);
    sector.put(32, &[0x88]); // bootable, no emulation, whole image
    sector.put(40, &image.to_le_bytes());
    sector.put(64, &[0x91]); // last header, no entries
    sector.0
}

/// The root directory: itself and its parent, which is itself.
fn root(date: Date) -> Vec<u8> {
    let mut sector = Sector::new();
    sector.put(0, &directory_record(0, date));
    sector.put(RECORD, &directory_record(1, date));
    sector.0
}

/// The record of the root directory under the one-byte name `name`.
fn directory_record(name: u8, date: Date) -> Vec<u8> {
    const DIRECTORY: u8 = 2;
    let mut record = vec![34, 0];
    record.extend(both32(ROOT));
    record.extend(both32(ROOT_SIZE));
    record.extend(date.short());
    record.extend([DIRECTORY, 0, 0]);
    record.extend(both16(1)); // volume
    record.extend([1, name]);
    record
}

/// A number, little-endian and then big-endian.
fn both16(number: u16) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn both32(number: u32) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

/// A date by the calendar.
#[derive(Clone, Copy, Debug)]
struct Date {
    /// Years since 1900.
    year: u8,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    zone: i8,
}

impl Date {
    fn of(moment: Moment) -> Result<Self, ElToritoError> {
        let out = ElToritoError::Time(moment.seconds);
        let ahead = i64::from(moment.zone) * 900;
        let local = moment.seconds.checked_add(ahead).ok_or(out.clone())?;
        let (days, second) = (local.div_euclid(86400), local.rem_euclid(86400));
        let (year, month, day) = civil(days);
        let small = |number: i64| u8::try_from(number).map_err(|_| out.clone());
        Ok(Self {
            year: small(year - 1900)?,
            month: small(month)?,
            day: small(day)?,
            hour: small(second / 3600)?,
            minute: small(second / 60 % 60)?,
            second: small(second % 60)?,
            zone: moment.zone,
        })
    }

    fn short(self) -> [u8; 7] {
        let [zone] = self.zone.to_ne_bytes();
        [
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            zone,
        ]
    }

    fn long(self) -> Vec<u8> {
        let year = u16::from(self.year) + 1900;
        let Self {
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        let digits = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00");
        let mut bytes = digits.into_bytes();
        bytes.extend(self.zone.to_ne_bytes());
        bytes
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Counts in eras of
/// 400 years that begin with a March, so that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let shifted = days.saturating_add(719_468); // from 0000-03-01
    let (era, day) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153; // from March
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, of_month)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MOMENT: Moment = Moment {
        seconds: 1_700_000_000,
        zone: 0,
    };

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, zone, text) in [
            (0, 0, "1970010100000000"),
            (1_700_000_000, 0, "2023111422132000"),
            (1_700_000_000, 4, "2023111423132000"),
            (951_782_400, 0, "2000022900000000"),
            (951_868_800, -4, "2000022923000000"),
            (-1, 0, "1969123123595900"),
            (4_102_444_799, 0, "2099123123595900"),
        ] {
            let date = Date::of(Moment { seconds, zone }).unwrap();
            assert_eq!(&date.long()[..16], text.as_bytes());
        }
        for seconds in [i64::MIN, -3_000_000_000, 6_000_000_000, i64::MAX] {
            assert!(Date::of(Moment { seconds, zone: 0 }).is_err());
        }
    }

    #[test]
    fn xorriso_finds_the_boot_image() {
        let names = Identifiers::new("mysys", "MYVOL", "pub").unwrap();
        let sectors = encode(&names, MOMENT, Bytes::mib(1)).unwrap();
        assert_eq!(
            OFFSET.get() + u64::try_from(sectors.len()).unwrap(),
            END.get()
        );
        let sum = sectors[3 * SECTOR..3 * SECTOR + 32]
            .chunks(2)
            .fold(0_u16, |sum, word| {
                sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
            });
        assert_eq!(sum, 0);
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut image = vec![0; 2 << 20];
        image[32768..43008].copy_from_slice(&sectors);
        std::fs::write(file.path(), image).unwrap();
        let drive = format!("stdio:{}", file.path().display());
        let done = Command::new("xorriso")
            .args(["-indev", &drive, "-report_el_torito", "plain", "-pvd_info"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        for part in [
            "El Torito boot img :   1  UEFI  y   none",
            "MYVOL",
            "SYSTEMD-REPART",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.lines()
                .any(|line| line.contains("UEFI") && line.trim().ends_with("512")),
            "{text}"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let names = Identifiers::default();
        for esp in [1, 512, 2049, 1 << 43] {
            assert_eq!(
                encode(&names, MOMENT, Bytes::new(esp)),
                Err(ElToritoError::Esp(esp))
            );
        }
        assert!(Identifiers::new(&"x".repeat(33), "", "").is_err());
        assert!(Identifiers::new("", "\u{fc}", "").is_err());
        assert!(Identifiers::new("", "", &"x".repeat(129)).is_err());
        assert!(Identifiers::new("a b", "", &"x".repeat(128)).is_ok());
    }
}
