//! Formatting without the kernel: superblock, journal, tags and data in one pass, on a file or device,
//! without root. The kernel opens the result, and every sector of it verifies.
//!
//! The superblock is written last: what is cut off before is no integrity device. Data are read by
//! several threads, which calculate tags, and written by one; memory is bounded.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use blockdev::io::{ReadAt, WriteAt};
use image_specs::integrity::layout::{Journal, Parameters};
use image_specs::integrity::{Flags, Layout, LayoutError, Superblock, SuperblockError};
use image_specs::units::{Bytes, SectorSize};

use super::{Algorithm, Tagger, TaggerError};
use crate::Secret;
use crate::bulk::{Authenticated, BulkError};

/// Bytes of data that a thread takes at once.
const PIECE: u64 = 1 << 20;
/// Bytes that a superblock's place has.
const SUPERBLOCK_ROOM: usize = 4096;
const SECTOR: u64 = 512;
/// Where an entry of the journal says that it is not in use.
const UNUSED: [u8; 8] = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
/// The alignment of devices that are made for data.
const GRAIN: u64 = 4096;

/// How a device is formatted.
#[derive(Clone, Debug)]
pub struct Format {
    /// What tags are calculated with.
    pub algorithm: Algorithm,
    /// The key, for what takes one.
    pub key: Option<Secret>,
    /// Bytes of a tag; `None` for all that the algorithm gives.
    pub tag_size: Option<u16>,
    /// The device's sectors.
    pub sector: SectorSize,
    /// Bytes of the journal; `None` for the kernel's choice.
    pub journal_size: Option<u64>,
    /// Sectors between areas of tags; `None` for the kernel's choice.
    pub interleave: Option<u32>,
    /// Areas of tags as old kernels have them.
    pub legacy_padding: bool,
    /// No salt in tags, as old kernels have them.
    pub legacy_hmac: bool,
}

/// A device as it is to be.
#[derive(Clone, Debug)]
pub struct Formatted {
    /// Its superblock.
    pub superblock: Superblock,
    /// Where everything lies.
    pub layout: Layout,
    tagger: Tagger,
    /// What encrypts the data, and then makes the tags.
    cipher: Option<Authenticated>,
}

/// What the device held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Zeros: what is zero need not be written, and holes stay holes.
    Zeros,
    /// Anything.
    Anything,
}

/// A device cannot be formatted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// Its size and parameters do not go together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Tags cannot be calculated.
    #[error(transparent)]
    Tagger(#[from] TaggerError),
    /// The data cannot be encrypted.
    #[error(transparent)]
    Cipher(#[from] BulkError),
    /// Nobody knows how long tags are.
    #[error("how long tags of {0} are is not known; say it")]
    TagSize(Algorithm),
    /// The superblock cannot be stored.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// There are more data than fit.
    #[error("{data} bytes of data do not fit, there is room for {room}")]
    DataSize {
        /// The data.
        data: u64,
        /// What fits.
        room: u64,
    },
    /// The data cannot be read.
    #[error("cannot read {size} bytes of data at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// How many.
        size: usize,
        /// Why.
        source: io::Error,
    },
    /// The device cannot be written.
    #[error("cannot write to the integrity device at byte {offset}")]
    Write {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

impl Format {
    /// What is taken where nothing is said, for tags of this algorithm.
    pub fn new(algorithm: Algorithm, key: Option<Secret>) -> Self {
        Self {
            algorithm,
            key,
            tag_size: None,
            sector: SectorSize::S512,
            journal_size: None,
            interleave: None,
            legacy_padding: false,
            legacy_hmac: false,
        }
    }

    /// Lays a device of this size out; `salt` should be random.
    pub fn fit(&self, size: Bytes, salt: [u8; 16]) -> Result<Formatted, OfflineError> {
        let (superblock, layout) = self.parameters()?.fit(size, salt)?;
        superblock.encode()?; // what cannot be stored is refused here
        let salted = superblock.flags.has(Flags::FIXED_HMAC);
        let salt = salted.then_some(superblock.salt);
        Ok(Formatted {
            tagger: Tagger::new(&self.algorithm, self.key.as_ref(), salt)?,
            superblock,
            layout,
            cipher: None,
        })
    }

    /// Bytes that a device of this size offers; neither salt nor key changes that.
    pub fn room(&self, size: Bytes) -> Result<Bytes, OfflineError> {
        let (_, layout) = self.parameters()?.fit(size, [0; 16])?;
        Ok(Bytes::new(layout.provided_sectors.saturating_mul(SECTOR)))
    }

    /// The size of a device, in whole 4096 bytes, that offers at least `data` bytes.
    pub fn size_for(&self, data: Bytes) -> Result<Bytes, OfflineError> {
        let parameters = self.parameters()?;
        let wanted = data.get().div_ceil(SECTOR).max(1);
        let fits = |grains: u64| {
            let size = Bytes::new(grains.saturating_mul(GRAIN));
            let layout = parameters.fit(size, [0; 16]);
            layout.is_ok_and(|(_, layout)| layout.provided_sectors >= wanted)
        };
        let (mut low, mut high) = (0, data.get() / GRAIN + 16);
        while !fits(high) {
            low = high;
            high = high
                .checked_mul(2)
                .filter(|grains| *grains <= u64::MAX / GRAIN)
                .ok_or(LayoutError::TooSmall(data.get()))?;
        }
        // `high` always fits, whatever lies between.
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match fits(middle) {
                true => high = middle,
                false => low = middle,
            }
        }
        Ok(Bytes::new(high * GRAIN))
    }

    fn parameters(&self) -> Result<Parameters, OfflineError> {
        let tag_size = self.tag_size.or_else(|| self.algorithm.tag_size());
        let flags = [
            (!self.legacy_padding, Flags::FIXED_PADDING),
            (!self.legacy_hmac, Flags::FIXED_HMAC),
        ];
        let set = flags.iter().filter(|(wanted, _)| *wanted);
        let log2 = (self.sector.get() / SECTOR).ilog2();
        Ok(Parameters {
            tag_size: tag_size.ok_or_else(|| OfflineError::TagSize(self.algorithm.clone()))?,
            log2_sectors_per_block: u8::try_from(log2).unwrap_or(0),
            journal_sectors: self.journal_size.map(|bytes| bytes / SECTOR),
            interleave: self.interleave,
            flags: set.fold(Flags::default(), |all, (_, flag)| all.with(*flag)),
        })
    }
}

/// Data and tags of a piece of a device.
struct Piece {
    /// Where the data go, in bytes.
    at: u64,
    data: Vec<u8>,
    /// Where the tags go, in bytes.
    tags_at: u64,
    tags: Vec<u8>,
}

/// Data to be written: all there are, then zeros.
struct Source<'a> {
    data: &'a dyn ReadAt,
    size: u64,
}

impl Formatted {
    /// Lays out what lies below an authenticated volume, in a segment of `size` bytes: its data is
    /// encrypted as it is written, and its tags are those of dm-crypt.
    pub fn below(
        cipher: Authenticated,
        sector: SectorSize,
        size: Bytes,
    ) -> Result<Self, OfflineError> {
        let mut format = Format::new(Algorithm::crc32c(), None);
        format.tag_size = Some(cipher.tag_size());
        format.sector = sector;
        format.legacy_hmac = true;
        let mut formatted = format.fit(size, [0; 16])?;
        formatted.cipher = Some(cipher);
        Ok(formatted)
    }

    /// Bytes that the device offers.
    pub fn data_size(&self) -> Bytes {
        Bytes::new(self.layout.provided_sectors.saturating_mul(SECTOR))
    }

    /// Writes everything, with `size` bytes of `data` and zeros behind them. `progress` is told how many
    /// bytes of the device's data are done; where it says `false`, that is all.
    ///
    /// Where `before` is zeros and data are, nothing is written. Sectors that are not written verify all
    /// the same: tags are written for each.
    pub fn write(
        &self,
        (data, size): (&dyn ReadAt, Bytes),
        target: &mut dyn WriteAt,
        before: Before,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, OfflineError> {
        let room = self.data_size();
        if size > room {
            let (data, room) = (size.get(), room.get());
            return Err(OfflineError::DataSize { data, room });
        }
        self.erase(target)?;
        let source = Source {
            data,
            size: size.get(),
        };
        let whole = self.write_data(&source, target, before, progress)?;
        self.write_empty(target)?;
        Ok(whole)
    }

    /// Writes superblock and journal only: nothing verifies before it has been written by the kernel.
    pub fn write_empty(&self, target: &mut dyn WriteAt) -> Result<(), OfflineError> {
        self.write_journal(target)?;
        let mut place = [0; SUPERBLOCK_ROOM];
        let superblock = self.superblock.encode()?;
        place
            .iter_mut()
            .zip(superblock)
            .for_each(|(to, from)| *to = from);
        write(target, &place, 0)
    }

    /// Nothing is an integrity device from here on, until all is done.
    fn erase(&self, target: &mut dyn WriteAt) -> Result<(), OfflineError> {
        write(target, &[0; SUPERBLOCK_ROOM], 0)
    }

    fn write_journal(&self, target: &mut dyn WriteAt) -> Result<(), OfflineError> {
        let journal = self.layout.journal;
        for section in 0..journal.sections {
            let start = journal.start() + section * journal.section_sectors;
            // At most some MiB: 500 bytes of entries in each of eight sectors, with a block of data each.
            let bytes = journal_section(&journal, section);
            write(target, &bytes, start * SECTOR)?;
        }
        Ok(())
    }

    fn write_data(
        &self,
        source: &Source<'_>,
        target: &mut dyn WriteAt,
        before: Before,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, OfflineError> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            let (sender, pieces) = sync_channel(threads);
            for _ in 0..threads {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || self.prepare(source, next, &sender));
            }
            drop(sender);
            // Where this ends early, the threads find nobody to give pieces to, and end.
            store(pieces, target, before, progress)
        })
    }

    /// Makes pieces until there are none left, or nobody wants them.
    fn prepare(
        &self,
        source: &Source<'_>,
        next: &AtomicU64,
        sender: &SyncSender<Result<Piece, OfflineError>>,
    ) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((first, sectors)) = self.piece_sectors(number) else {
                return;
            };
            let piece = self.piece(source, first, sectors);
            let failed = piece.is_err();
            if sender.send(piece).is_err() || failed {
                return;
            }
        }
    }

    /// The sectors of a piece, which all lie in one area; `None` behind the last.
    fn piece_sectors(&self, number: u64) -> Option<(u64, u64)> {
        let area_sectors = 1 << self.layout.log2_interleave;
        let block = 1 << self.layout.log2_sectors_per_block;
        let most = (PIECE / SECTOR).min(area_sectors).max(block);
        let in_area = area_sectors / most;
        let (area, within) = (number / in_area, number % in_area);
        let first = area.checked_mul(area_sectors)?.checked_add(within * most)?;
        let left = self.layout.provided_sectors.checked_sub(first)?;
        (left > 0).then(|| (first, left.min(most)))
    }

    fn piece(&self, source: &Source<'_>, first: u64, sectors: u64) -> Result<Piece, OfflineError> {
        let size = usize::try_from(sectors * SECTOR).unwrap_or(0);
        let mut data = vec![0; size];
        source.fill(&mut data, first * SECTOR)?;
        let block = usize::try_from(self.superblock.sector_size()).unwrap_or(512);
        let tag_size = usize::from(self.layout.tag_size);
        let mut tags = vec![0; size / block * tag_size];
        let step = 1 << self.layout.log2_sectors_per_block;
        let numbers = (first..).step_by(step);
        let blocks = data
            .chunks_exact_mut(block)
            .zip(tags.chunks_exact_mut(tag_size));
        match &self.cipher {
            None => numbers
                .zip(blocks)
                .for_each(|(sector, (block, tag))| self.tagger.tag(sector, block, tag)),
            Some(cipher) => {
                let mut sealer = cipher.sealer()?;
                for (sector, (block, tag)) in numbers.zip(blocks) {
                    sealer.seal(sector, block, tag)?;
                }
            }
        }
        let (at, tags_at) = self.layout.find(first);
        let at = at * SECTOR;
        Ok(Piece {
            at,
            data,
            tags_at,
            tags,
        })
    }
}

impl Source<'_> {
    /// Fills a buffer; behind the data there are zeros.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), OfflineError> {
        let left = self.size.saturating_sub(offset);
        let size = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(part) = buffer.get_mut(..size).filter(|part| !part.is_empty()) else {
            return Ok(());
        };
        let read = self.data.read_exact_at(part, offset);
        read.map_err(|source| OfflineError::Read {
            offset,
            size,
            source,
        })
    }
}

/// Writes pieces as they come.
fn store(
    pieces: Receiver<Result<Piece, OfflineError>>,
    target: &mut dyn WriteAt,
    before: Before,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, OfflineError> {
    let mut done = 0;
    for piece in pieces {
        let piece = piece?;
        let zero = before == Before::Zeros && piece.data.iter().all(|byte| *byte == 0);
        if !zero {
            write(target, &piece.data, piece.at)?;
        }
        write(target, &piece.tags, piece.tags_at)?;
        done += u64::try_from(piece.data.len()).unwrap_or(0);
        if !progress(done) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A section of a journal with nothing in it.
fn journal_section(journal: &Journal, section: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let entry = usize::try_from(journal.entry_size).unwrap_or(usize::MAX);
    for sector in 0..journal.section_sectors {
        let mut whole = [0; 512];
        if sector < journal.entry_sectors() {
            let entries = usize::try_from(journal.entries_per_sector).unwrap_or(0);
            for place in whole.chunks_mut(entry).take(entries) {
                place
                    .iter_mut()
                    .zip(UNUSED)
                    .for_each(|(to, from)| *to = from);
            }
        }
        let id = Journal::commit_id(section, sector).to_le_bytes();
        whole
            .iter_mut()
            .rev()
            .zip(id.iter().rev())
            .for_each(|(to, from)| *to = *from);
        bytes.extend_from_slice(&whole);
    }
    bytes
}

fn write(target: &mut dyn WriteAt, bytes: &[u8], offset: u64) -> Result<(), OfflineError> {
    let written = target.write_all_at(bytes, offset);
    written.map_err(|source| OfflineError::Write { offset, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 16] = [7; 16];

    fn keyed() -> Format {
        let key = Secret::new(b"k".repeat(32));
        Format::new(Algorithm::hmac_sha256(), Some(key))
    }

    fn formatted(format: &Format, data: &[u8], size: u64, before: Before) -> Vec<u8> {
        let formatted = format.fit(Bytes::new(size), SALT).unwrap();
        let mut target = vec![0; usize::try_from(size).unwrap()];
        let length = Bytes::new(u64::try_from(data.len()).unwrap());
        let mut seen = 0;
        let done = formatted.write((&data, length), &mut target, before, &mut |done| {
            seen = done;
            true
        });
        assert!(done.unwrap());
        assert_eq!(seen, formatted.data_size().get());
        target
    }

    #[test]
    fn every_sector_has_its_tag() {
        let data: Vec<u8> = (0..300_000_u32)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        for (sector, interleave) in [(512, None), (4096, Some(64)), (1024, Some(4096))] {
            let format = Format {
                sector: SectorSize::new(sector).unwrap(),
                interleave,
                ..keyed()
            };
            let bytes = formatted(&format, &data, 3 << 20, Before::Zeros);
            assert_eq!(bytes, formatted(&format, &data, 3 << 20, Before::Anything));
            let superblock = Superblock::parse(&bytes).unwrap().unwrap();
            let layout = Layout::of(&superblock, Bytes::mib(3)).unwrap();
            let tagger = Tagger::new(&format.algorithm, format.key.as_ref(), Some(SALT)).unwrap();
            for number in
                (0..layout.provided_sectors).step_by(usize::try_from(sector / 512).unwrap())
            {
                let (at, tag_at) = layout.find(number);
                let (at, tag_at) = (
                    usize::try_from(at * 512).unwrap(),
                    usize::try_from(tag_at).unwrap(),
                );
                let block = &bytes[at..][..usize::try_from(sector).unwrap()];
                let mut tag = [0; 32];
                tagger.tag(number, block, &mut tag);
                assert_eq!(tag, bytes[tag_at..][..32], "{number}");
                let from = usize::try_from(number * 512).unwrap().min(data.len());
                let expected = &data[from..(from + block.len()).min(data.len())];
                assert_eq!(&block[..expected.len()], expected);
            }
        }
    }

    #[test]
    fn sizes_are_found_for_data() {
        for data in [1, 512, 4096, 1 << 20, (1 << 20) + 1, 300 << 20, 5 << 30] {
            let size = keyed().size_for(Bytes::new(data)).unwrap();
            let room = keyed().fit(size, SALT).unwrap().data_size();
            assert!(room.get() >= data, "{data}: {room:?}");
            assert!(size.get() < data + data / 8 + (2 << 20), "{data}: {size:?}");
        }
        assert!(keyed().size_for(Bytes::MAX).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_written() {
        let small = keyed().fit(Bytes::mib(2), SALT).unwrap();
        let none = Format {
            tag_size: Some(0),
            ..keyed()
        };
        let refused = none.fit(Bytes::mib(2), SALT).unwrap_err();
        assert!(
            matches!(refused, OfflineError::Superblock(_)),
            "{refused:?}"
        );
        let data = vec![0; 4 << 20];
        let mut target = Vec::new();
        let error = small.write(
            (&data, Bytes::mib(4)),
            &mut target,
            Before::Anything,
            &mut |_| true,
        );
        assert!(matches!(error, Err(OfflineError::DataSize { .. })));
        assert!(target.is_empty());
        let short = small.write(
            (&data[..512].to_vec(), Bytes::new(600)),
            &mut vec![],
            Before::Anything,
            &mut |_| true,
        );
        assert!(matches!(
            short,
            Err(OfflineError::Read {
                offset: 0,
                size: 600,
                ..
            })
        ));
    }

    #[test]
    fn what_is_cut_off_is_no_integrity_device() {
        struct Full(Vec<u8>, usize);
        impl WriteAt for Full {
            fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
                self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                self.0.write_all_at(bytes, offset)
            }
        }
        let small = keyed().fit(Bytes::mib(2), SALT).unwrap();
        let old = formatted(&keyed(), &[], 2 << 20, Before::Anything);
        for writes in 1..6 {
            let mut target = Full(old.clone(), writes);
            let empty = (&[][..] as &[u8], Bytes::ZERO);
            let done = small.write(
                (&empty.0, empty.1),
                &mut target,
                Before::Anything,
                &mut |_| true,
            );
            match done {
                Err(OfflineError::Write { .. }) => {
                    assert_eq!(Superblock::parse(&target.0), Ok(None), "{writes}");
                }
                done => assert!(done.unwrap() && writes == 5, "{writes}"),
            }
        }
    }
}
