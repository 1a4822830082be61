//! What goes to the kernel's device-mapper and comes back: `struct dm_ioctl` and what follows it,
//! version 4 of the interface. Pure.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use zeroize::{Zeroize as _, Zeroizing};

use super::{DmInfo, DmName, Target};
use crate::sys::dm::HEADER_SIZE;

pub(super) const CREATE: u8 = 3;
pub(super) const REMOVE: u8 = 4;
pub(super) const SUSPEND: u8 = 6;
pub(super) const STATUS: u8 = 7;
pub(super) const TABLE_LOAD: u8 = 9;
pub(super) const TABLE_STATUS: u8 = 12;
pub(super) const MESSAGE: u8 = 14;

pub(super) const READ_ONLY: u32 = 1;
pub(super) const SUSPENDED: u32 = 1 << 1;
pub(super) const STATUS_TABLE: u32 = 1 << 4;
const ACTIVE_PRESENT: u32 = 1 << 5;
const BUFFER_FULL: u32 = 1 << 8;
/// The kernel erases its copies of what it is given.
pub(super) const SECURE_DATA: u32 = 1 << 15;
pub(super) const DEFERRED_REMOVE: u32 = 1 << 17;

/// `DM_UDEV_PRIMARY_SOURCE_FLAG`, in the place of flags: udev's rules are to take the event for the
/// one that announces the device. The cookie below it is zero, which no semaphore has.
const PRIMARY_SOURCE: u32 = 0x40 << 16;

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`.
#[repr(C)]
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Spec {
    start: u64,
    sectors: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

const SPEC_SIZE: usize = 40;
const _: () = assert!(size_of::<Header>() == HEADER_SIZE);
const _: () = assert!(size_of::<Spec>() == SPEC_SIZE);

/// A command.
pub(super) struct Request {
    header: Header,
    targets: Zeroizing<Vec<u8>>,
}

/// What came back.
pub(super) struct Answer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Request {
    pub(super) fn new(name: &DmName) -> Self {
        let mut header = Header {
            version: [4, 0, 0],
            data_size: 0,
            data_start: 312,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event: 0,
            padding: 0,
            device: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        fill(&mut header.name, name.as_str());
        Self {
            header,
            targets: Zeroizing::default(),
        }
    }

    pub(super) fn set_uuid(&mut self, uuid: &str) {
        fill(&mut self.header.uuid, uuid);
    }

    pub(super) const fn set_flag(&mut self, flag: u32) {
        self.header.flags |= flag;
    }

    /// Marks the event for udev.
    pub(super) const fn announce(&mut self, udev: bool) {
        if udev {
            self.header.event = PRIMARY_SOURCE;
        }
    }

    pub(super) fn set_targets(&mut self, table: &[Target]) {
        // In one allocation: one that grows would leave copies of keys behind.
        let room = table
            .iter()
            .map(|target| SPEC_SIZE + target.parameters.len() + 8);
        self.targets = Zeroizing::new(Vec::with_capacity(room.sum()));
        self.header.target_count = u32::try_from(table.len()).unwrap_or(u32::MAX);
        for target in table {
            // Parameters end with NUL, and the next target begins at a multiple of eight.
            let length = (SPEC_SIZE + target.parameters.len() + 1).next_multiple_of(8);
            let mut spec = Spec {
                start: target.start,
                sectors: target.sectors,
                status: 0,
                next: u32::try_from(length).unwrap_or(u32::MAX),
                kind: [0; 16],
            };
            fill(&mut spec.kind, &target.kind);
            let end = self.targets.len() + length;
            self.targets.extend_from_slice(spec.as_bytes());
            self.targets.extend_from_slice(target.parameters.as_bytes());
            self.targets.resize(end, 0);
        }
    }

    /// A message to the target of the first sector, as `struct dm_target_msg`.
    pub(super) fn set_message(&mut self, text: &str) {
        self.targets.extend_from_slice(&0_u64.to_ne_bytes());
        self.targets.extend_from_slice(text.as_bytes());
        self.targets.push(0);
    }

    /// The command with `room` bytes for the answer, at least as many as it has itself.
    pub(super) fn buffer(&self, room: usize) -> Zeroizing<Vec<u64>> {
        let header = self.header.as_bytes();
        let size = header.len() + self.targets.len();
        let mut words = Zeroizing::new(vec![0; size.max(room).div_ceil(8)]);
        let bytes = words.as_mut_bytes();
        bytes[..header.len()].copy_from_slice(header);
        bytes[header.len()..size].copy_from_slice(&self.targets);
        words
    }
}

impl Answer {
    pub(super) fn new(mut words: Zeroizing<Vec<u64>>) -> Self {
        let bytes = Zeroizing::new(words.as_bytes().to_vec());
        words.zeroize();
        Self { bytes }
    }

    pub(super) fn header(&self) -> Option<Header> {
        let (header, _) = Header::read_from_prefix(&self.bytes).ok()?;
        Some(header)
    }

    /// Whether there was too little room.
    pub(super) fn is_cut(&self) -> bool {
        self.header()
            .is_some_and(|header| header.flags & BUFFER_FULL != 0)
    }

    /// The targets; `None` where the answer makes no sense.
    pub(super) fn targets(&self) -> Option<Vec<Target>> {
        let header = self.header()?;
        let start = usize::try_from(header.data_start).ok()?;
        let end = usize::try_from(header.data_size).ok()?;
        let data = self.bytes.get(start..end)?;
        let mut targets = Vec::new();
        let mut at = 0;
        for _ in 0..header.target_count {
            let (spec, text) = Spec::read_from_prefix(data.get(at..)?).ok()?;
            targets.push(Target {
                start: spec.start,
                sectors: spec.sectors,
                kind: text_of(&spec.kind),
                parameters: text_of(text),
            });
            // Counted from the first target here, not from the one before.
            at = usize::try_from(spec.next).ok()?;
        }
        Some(targets)
    }
}

impl Header {
    pub(super) fn info(&self) -> Option<DmInfo> {
        Some(DmInfo {
            name: text_of(&self.name),
            uuid: text_of(&self.uuid),
            minor: rustix::fs::minor(self.device),
            open_count: u32::try_from(self.open_count).ok()?,
            active: self.flags & ACTIVE_PRESENT != 0,
            read_only: self.flags & READ_ONLY != 0,
            deferred_remove: self.flags & DEFERRED_REMOVE != 0,
        })
    }
}

/// Copies what fits; the last byte stays zero.
fn fill(field: &mut [u8], text: &str) {
    let room = field.len() - 1;
    for (place, byte) in field[..room].iter_mut().zip(text.bytes()) {
        *place = byte;
    }
}

/// The text before the first NUL.
fn text_of(field: &[u8]) -> String {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stand_one_behind_the_other() {
        let target = |start, parameters: &str| Target {
            start,
            sectors: 8,
            kind: "verity".to_owned(),
            parameters: parameters.to_owned(),
        };
        let mut request = Request::new(&DmName::new("x").unwrap());
        request.set_targets(&[target(0, "1 2 3"), target(8, "")]);
        let answer = Answer::new(request.buffer(0));
        let data = &answer.bytes[HEADER_SIZE..];
        assert_eq!(answer.header().unwrap().target_count, 2);
        assert_eq!(data.len(), 48 + 48);
        assert_eq!(&data[..8], 0_u64.to_ne_bytes());
        assert_eq!(&data[20..24], 48_u32.to_ne_bytes());
        assert_eq!(&data[40..46], b"1 2 3\0");
        assert_eq!(&data[48..56], 8_u64.to_ne_bytes());
    }

    #[test]
    fn a_message_follows_its_sector() {
        let mut request = Request::new(&DmName::new("x").unwrap());
        request.set_message("@hello");
        let answer = Answer::new(request.buffer(0));
        assert_eq!(
            &answer.bytes[HEADER_SIZE..][..16],
            b"\0\0\0\0\0\0\0\0@hello\0\0"
        );
    }

    #[test]
    fn answers_are_bounded() {
        let name = DmName::new("x").unwrap();
        let mut request = Request::new(&name);
        request.header.target_count = 2;
        request.header.data_size = 400;
        let answer = Answer::new(request.buffer(400));
        assert_eq!(answer.targets().unwrap().len(), 2, "all zero");
        request.header.data_size = 320;
        assert_eq!(Answer::new(request.buffer(400)).targets(), None);
        request.header.data_size = u32::MAX;
        assert_eq!(Answer::new(request.buffer(400)).targets(), None);
    }
}
