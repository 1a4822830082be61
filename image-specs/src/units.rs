//! Sizes and positions with their unit in the type.
//!
//! All arithmetic is checked: a definition or an image may hold any number, and a silent wrap would
//! put data in the wrong place. Pure.

use std::fmt;

/// A number of bytes: a size, or an offset from the start of a disk or file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

/// A logical block address: a position on a disk, counted in its sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(u64);

/// The size of a disk's logical sector: 512, 1024, 2048 or 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectorSize(u32);

/// The alignment of partition starts and sizes: a power of two of at least 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grain(u64);

/// A half-open range of bytes on a disk or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// First byte.
    pub start: Bytes,
    /// Number of bytes.
    pub size: Bytes,
}

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);
    /// The largest number of bytes that can be said.
    pub const MAX: Self = Self(u64::MAX);

    /// `count` bytes.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// `count` KiB; panics where that passes 2⁶⁴, so only for constants.
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// `count` MiB; panics where that passes 2⁶⁴, so only for constants.
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` past 2⁶⁴.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, or the largest number where it passes 2⁶⁴.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The next multiple of `grain` that is not below, or `None` past 2⁶⁴.
    pub fn round_up(self, grain: Grain) -> Option<Self> {
        self.0.checked_next_multiple_of(grain.0).map(Self)
    }

    /// The next multiple of `grain` that is not above.
    pub fn round_down(self, grain: Grain) -> Self {
        Self(self.0 - self.0 % grain.0)
    }

    /// Whether this is a multiple of `unit` bytes (false for a unit of zero).
    pub fn is_multiple_of(self, unit: u64) -> bool {
        unit != 0 && self.0.is_multiple_of(unit)
    }
}

impl fmt::Display for Bytes {
    /// Base 1024 with at most one decimal, cut and not rounded: `10M`, `78.9M`, `0B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(char, u32); 6] = [
            ('E', 60),
            ('P', 50),
            ('T', 40),
            ('G', 30),
            ('M', 20),
            ('K', 10),
        ];
        for (letter, shift) in UNITS {
            let whole = self.0 >> shift;
            if whole > 0 {
                let rest = self.0 - (whole << shift);
                let tenth = (u128::from(rest) * 10) >> shift;
                return match tenth {
                    0 => f.pad(&format!("{whole}{letter}")),
                    _ => f.pad(&format!("{whole}.{tenth}{letter}")),
                };
            }
        }
        f.pad(&format!("{}B", self.0))
    }
}

impl Lba {
    /// Sector number `count`.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The byte where this sector begins, or `None` past 2⁶⁴.
    pub fn start(self, sector: SectorSize) -> Option<Bytes> {
        self.0.checked_mul(sector.get()).map(Bytes)
    }
}

impl SectorSize {
    /// 512 bytes, what nearly every image uses.
    pub const S512: Self = Self(512);
    /// 4096 bytes.
    pub const S4096: Self = Self(4096);
    /// Every size that is allowed, smallest first.
    pub const ALL: [Self; 4] = [Self(512), Self(1024), Self(2048), Self(4096)];

    /// A sector of `bytes`, or `None` unless it is 512, 1024, 2048 or 4096.
    pub fn new(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.get() == bytes)
    }

    /// Bytes in a sector.
    pub const fn get(self) -> u64 {
        self.0 as u64
    }

    /// Bytes in a sector.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 as u64)
    }

    /// The sector as an alignment.
    pub const fn grain(self) -> Grain {
        Grain(self.0 as u64)
    }

    /// The sector that `offset` lies in.
    pub fn lba(self, offset: Bytes) -> Lba {
        Lba(offset.0 / self.get())
    }
}

impl Grain {
    /// 4096 bytes, the default.
    pub const DEFAULT: Self = Self(4096);

    /// An alignment of `bytes`, or `None` unless it is a power of two of at least 512.
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes >= 512 && bytes.is_power_of_two()).then_some(Self(bytes))
    }

    /// Bytes in a grain.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Extent {
    /// `size` bytes from `start`.
    pub const fn new(start: Bytes, size: Bytes) -> Self {
        Self { start, size }
    }

    /// The first byte behind, or `None` past 2⁶⁴.
    pub fn end(self) -> Option<Bytes> {
        self.start.checked_add(self.size)
    }

    /// Whether the two share a byte (an end past 2⁶⁴ counts as the largest number).
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.start.saturating_add(other.size)
            && other.start < self.start.saturating_add(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_base_1024_with_one_decimal() {
        for (bytes, text) in [
            (0, "0B"),
            (512, "512B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (10 << 20, "10M"),
            (82_733_056, "78.9M"),
            (1 << 30, "1G"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(Bytes::new(bytes).to_string(), text);
        }
    }

    #[test]
    fn rounding_is_checked() {
        let grain = Grain::DEFAULT;
        assert_eq!(Bytes::new(1).round_up(grain), Some(Bytes::new(4096)));
        assert_eq!(Bytes::new(4096).round_up(grain), Some(Bytes::new(4096)));
        assert_eq!(Bytes::MAX.round_up(grain), None);
        assert_eq!(Bytes::new(8191).round_down(grain), Bytes::new(4096));
    }

    #[test]
    fn sector_and_grain_refuse_what_is_no_power_of_two() {
        for bad in [0, 1, 256, 511, 513, 3072, 8192] {
            assert_eq!(SectorSize::new(bad), None, "{bad}");
        }
        for bad in [0, 256, 513, 6144] {
            assert_eq!(Grain::new(bad), None, "{bad}");
        }
        assert_eq!(Grain::new(1 << 20).map(Grain::get), Some(1 << 20));
    }

    #[test]
    fn overlap_needs_a_shared_byte() {
        let extent = |start, size| Extent::new(Bytes::new(start), Bytes::new(size));
        assert!(extent(0, 10).overlaps(extent(9, 1)));
        assert!(!extent(0, 10).overlaps(extent(10, 1)));
        assert!(!extent(5, 0).overlaps(extent(6, 3)));
    }
}
