//! What a plan would overwrite that somebody may miss: members of RAID sets, volume groups and pools,
//! file systems, partition tables of other kinds. Pure, but for [`look`], which only reads.
//!
//! Members of something larger are never overwritten without being named, as more than this disk is
//! lost with them. Contents and tables of disks are not either, under a new table. What lies in free
//! space is left from a partition that is gone, or from a run that was cut short, which the next one
//! completes: of that only members count. Image files are built again and again, so that of them only
//! members count as well.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use blockdev::table::{self, Label, ReadTableError};
use blockdev::{BlockDevice, DeviceError, signatures};
use image_specs::magic::{Found, Kind};
use image_specs::mbr::Mbr;
use image_specs::units::{Bytes, Extent};

use super::old_tables::{
    HYBRID, TABLES, gpt_partitions, named_by, old_partitions, other_table, record, stray,
};
use super::session::{Session, SessionError};
use super::target::Target;
use crate::plan::{EmptyMode, Plan};

/// What may be overwritten (`--overwrite=`): names as the refusal gives them, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    all: bool,
    names: BTreeSet<String>,
}

/// A name that `--overwrite=` does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is nothing that is looked for; name what the refusal names, such as LVM2_member or ext4, or \"all\""
)]
pub struct UnknownKind(String);

/// Which refusals hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caution {
    /// What was permitted.
    pub permitted: Permitted,
    /// Whether `--empty=force` on a disk forgets file systems and tables without a word, as
    /// systemd-repart does.
    pub force_forgets: bool,
}

/// Something that would be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it is, by libblkid's name.
    pub name: &'static str,
    /// Its label, where it has one.
    pub label: Option<String>,
    /// The first byte on the disk that tells it.
    pub at: Bytes,
    /// Where it lies.
    pub place: Place,
    /// How much depends on it.
    pub weight: Weight,
}

/// Where something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the disk itself.
    Disk,
    /// In the partition of this number.
    Partition(u32),
    /// Where no partition is, and one is to be.
    Free,
}

/// How much depends on something, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Contents of this disk.
    Contents,
    /// More than this disk.
    Member,
}

/// What stands against a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be changed as planned, because this would be lost: {}; pass --overwrite={} if it may go",
    disk.display(),
    list(lost),
    names(lost)
)]
pub struct WouldLose {
    /// The disk.
    pub disk: PathBuf,
    /// What would be lost.
    pub lost: Vec<Lost>,
}

impl Permitted {
    /// What one of both permits.
    pub fn and(mut self, other: &Self) -> Self {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
        self
    }

    fn permits(&self, lost: &Lost) -> bool {
        self.all || self.names.contains(lost.name)
    }
}

impl FromStr for Permitted {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let mut permitted = Self::default();
        for word in text.split(',').map(str::trim) {
            match word {
                "all" => permitted.all = true,
                word if TABLES.contains(&word) || Kind::of_volume(word).is_some() => {
                    permitted.names.insert(word.to_owned());
                }
                _ => return Err(UnknownKind(word.to_owned())),
            }
        }
        Ok(permitted)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(label) = &self.label {
            write!(f, " {label:?}")?;
        }
        write!(f, " at byte {}", self.at.get())?;
        match self.place {
            Place::Disk => f.write_str(" of the disk itself"),
            Place::Partition(number) => write!(f, ", in partition {number}"),
            Place::Free => f.write_str(", where no partition is now"),
        }
    }
}

/// The least weight that is refused.
fn bound(caution: &Caution, empty: EmptyMode, block_device: bool) -> Weight {
    let forgets = caution.force_forgets && empty == EmptyMode::Force;
    match block_device && !forgets {
        true => Weight::Contents,
        false => Weight::Member,
    }
}

/// What of `seen` stands in the way.
pub fn refused(seen: Vec<Lost>, least: Weight, permitted: &Permitted) -> Vec<Lost> {
    let mut told = BTreeSet::new();
    let mut counts = |lost: &Lost| {
        let weighs = lost.weight >= least && !permitted.permits(lost);
        // Copies of one superblock are one thing.
        weighs && told.insert((lost.place, lost.name))
    };
    seen.into_iter().filter(|lost| counts(lost)).collect()
}

/// What the plan would overwrite, by place.
pub fn look(device: &dyn BlockDevice, plan: &Plan) -> Result<Vec<Lost>, DeviceError> {
    let label = match table::read(device) {
        Err(ReadTableError::Device(error)) => return Err(error),
        other => other,
    };
    let damaged = label.is_err();
    let label = label.unwrap_or(Label::None);
    let record = record(device)?;
    match plan.table.from_scratch {
        true => {
            let stray = stray(device, plan, (&label, damaged))?;
            let partitions = match &stray {
                Some((_, Some(table))) => gpt_partitions(table),
                _ => old_partitions(device, &label, record.as_ref()),
            };
            let tables = other_table(&label).into_iter();
            let tables = tables.chain(stray.map(|(lost, _)| lost));
            under_new_table(device, tables.collect(), partitions)
        }
        false => {
            // A record that is the table itself lists what the plan keeps anyway.
            let hybrid = matches!(&label, Label::Gpt(found) if found.hybrid);
            in_free_space(device, plan, record.as_ref().filter(|_| hybrid))
        }
    }
}

fn under_new_table(
    device: &dyn BlockDevice,
    tables: Vec<Lost>,
    partitions: Vec<(u32, Extent)>,
) -> Result<Vec<Lost>, DeviceError> {
    let whole = Extent::new(Bytes::ZERO, device.size());
    let mut lost = volumes(device, whole, Place::Disk)?;
    lost.extend(tables);
    for (number, extent) in partitions {
        let within = extent.end().is_some_and(|end| end <= device.size());
        if within {
            lost.extend(volumes(device, extent, Place::Partition(number))?);
        }
    }
    // What ends the last partition may end the disk, too.
    let inside: BTreeSet<(Bytes, &str)> = (lost.iter())
        .filter(|one| one.place != Place::Disk)
        .map(|one| (one.at, one.name))
        .collect();
    lost.retain(|one| one.place != Place::Disk || !inside.contains(&(one.at, one.name)));
    Ok(lost)
}

/// Of what lies in free space only members count; and what only the boot record still names.
fn in_free_space(
    device: &dyn BlockDevice,
    plan: &Plan,
    record: Option<&Mbr>,
) -> Result<Vec<Lost>, DeviceError> {
    let mut lost = Vec::new();
    let given_up = |at: Bytes| {
        let place = Extent::new(at, Bytes::new(1));
        plan.reset.iter().any(|gone| gone.extent.overlaps(place))
    };
    for extent in &plan.wipe {
        let end = extent.end().unwrap_or(Bytes::MAX).min(device.size());
        let extent = Extent::new(extent.start, end.saturating_sub(extent.start));
        let found = volumes(device, extent, Place::Free)?;
        let counts = |one: &Lost| one.weight == Weight::Member && !given_up(one.at);
        lost.extend(found.into_iter().filter(counts));
    }
    let known = |extent: Extent| {
        let mut found = plan.partitions.iter().filter_map(|one| one.found.as_ref());
        found.any(|found| found.extent.overlaps(extent))
    };
    for (_, extent) in named_by(record, device.sector_size()) {
        let taken = plan.wipe.iter().any(|new| new.overlaps(extent));
        if taken && !known(extent) && !given_up(extent.start) {
            lost.push(Lost {
                name: HYBRID,
                label: None,
                at: extent.start,
                place: Place::Free,
                weight: Weight::Member,
            });
        }
    }
    Ok(lost)
}

/// Signatures of anything but tables, with places on the disk.
fn volumes(
    device: &dyn BlockDevice,
    within: Extent,
    place: Place,
) -> Result<Vec<Lost>, DeviceError> {
    let found = signatures::probe(device, within)?;
    let found = found.into_iter().filter(|one| !one.kind.is_table());
    let lost = found.map(|one: Found| Lost {
        name: one.kind.name(),
        at: within.start.saturating_add(one.start()),
        weight: match one.kind.is_member() {
            true => Weight::Member,
            false => Weight::Contents,
        },
        label: one.label,
        place,
    });
    Ok(lost.collect())
}

impl Session<'_> {
    /// Says which refusals hold; until then all do.
    pub fn set_caution(&mut self, caution: Caution) {
        self.caution = caution;
    }

    /// Refuses a plan that ends what is in use, or overwrites what was not given up. Only reads.
    pub fn require_safe(&self, plan: &Plan) -> Result<(), SessionError> {
        self.require_unused(plan)?;
        let Some(target) = self.target.as_ref().filter(|target| !target.is_new()) else {
            return Ok(());
        };
        if !plan.changed {
            return Ok(());
        }
        let lost = self.would_lose(target, plan)?;
        match lost.is_empty() {
            true => Ok(()),
            false => Err(SessionError::WouldLose(WouldLose {
                disk: target.path().to_owned(),
                lost,
            })),
        }
    }

    fn would_lose(&self, target: &Target, plan: &Plan) -> Result<Vec<Lost>, SessionError> {
        let mut seen = look(target.device(), plan).map_err(super::target::TargetError::from)?;
        // A run that was cut short has left its own boot catalog.
        let own = |one: &Lost| one.name == Kind::Iso9660.name() && one.place == Place::Disk;
        seen.retain(|one| self.job.el_torito.is_none() || !own(one));
        let empty = self.job.options.empty;
        let least = bound(&self.caution, empty, target.is_block_device());
        Ok(refused(seen, least, &self.caution.permitted))
    }
}

fn list(lost: &[Lost]) -> String {
    let all: Vec<String> = lost.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn names(lost: &[Lost]) -> String {
    let names: BTreeSet<&str> = lost.iter().map(|one| one.name).collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(name: &'static str, weight: Weight) -> Lost {
        Lost {
            name,
            label: None,
            at: Bytes::new(512),
            place: Place::Partition(3),
            weight,
        }
    }

    #[test]
    fn what_is_permitted_is_read_by_name() {
        for (text, permits, refuses) in [
            ("all", &["ext4", "zfs_member", "dos"][..], &[][..]),
            (
                "ext4, LVM2_member",
                &["ext4", "LVM2_member"],
                &["xfs", "dos"],
            ),
            ("hybrid", &["hybrid"], &["dos"]),
            ("crypto_LUKS", &["crypto_LUKS"], &["ext4"]),
            ("gpt", &["gpt"], &["dos"]),
        ] {
            let permitted: Permitted = text.parse().unwrap();
            let ask = |name: &&'static str| permitted.permits(&lost(name, Weight::Member));
            assert!(permits.iter().all(ask), "{text}");
            assert!(!refuses.iter().any(ask), "{text}");
        }
        for text in ["", "ext5", "ext4,", "GPT", "ALL"] {
            let error = text.parse::<Permitted>().unwrap_err().to_string();
            assert!(
                error.contains("is nothing that is looked for"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn caution_depends_on_the_target_and_the_name() {
        let ours = Caution::default();
        let theirs = Caution {
            force_forgets: true,
            ..Caution::default()
        };
        for (caution, empty, block_device, expected) in [
            (&ours, EmptyMode::Force, true, Weight::Contents),
            (&ours, EmptyMode::Allow, true, Weight::Contents),
            (&ours, EmptyMode::Force, false, Weight::Member),
            (&theirs, EmptyMode::Force, true, Weight::Member),
            (&theirs, EmptyMode::Allow, true, Weight::Contents),
            (&theirs, EmptyMode::Require, true, Weight::Contents),
        ] {
            let found = bound(caution, empty, block_device);
            assert_eq!(found, expected, "{caution:?} {empty:?} {block_device}");
        }
    }

    #[test]
    fn refusals_name_each_thing_once_and_say_how_to_go_on() {
        let seen = vec![
            lost("ext4", Weight::Contents),
            lost("LVM2_member", Weight::Member),
            lost("LVM2_member", Weight::Member),
        ];
        let permitted = "ext4".parse().unwrap();
        let all = refused(seen.clone(), Weight::Contents, &Permitted::default());
        assert_eq!(all.len(), 2);
        assert_eq!(
            refused(seen.clone(), Weight::Member, &Permitted::default()).len(),
            1
        );
        assert_eq!(refused(seen, Weight::Contents, &permitted).len(), 1);
        let error = WouldLose {
            disk: PathBuf::from("/dev/sdx"),
            lost: all,
        };
        assert_eq!(
            error.to_string(),
            "/dev/sdx cannot be changed as planned, because this would be lost: ext4 at byte 512, in partition 3; LVM2_member at byte 512, in partition 3; pass --overwrite=LVM2_member,ext4 if it may go"
        );
    }
}
