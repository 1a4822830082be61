//! Which partitions are looked at, and as what. Pure.

use image_specs::identity;
use image_specs::partition::{
    Designator, FLAG_GROW_FILE_SYSTEM, FLAG_NO_AUTO, FLAG_READ_ONLY, PartitionType, VerityRole,
};
use uuid::Uuid;

use super::{AssignError, Partition};
use crate::options::{Options, VarCheck};
use crate::probe::Found;

/// The attribute bit by which firmware is told to leave an ESP alone.
const FLAG_NO_BLOCK_IO: u64 = 1 << 1;

/// The label of a place that waits for an update.
const EMPTY_LABEL: &str = "_empty";

/// What partitions must be like to be looked at.
pub(super) struct Wanted<'a> {
    options: &'a Options,
    /// Whose UUIDs the root hash decides, and the UUIDs.
    verity: Option<(Designator, (Uuid, Uuid))>,
    /// The only UUID of `/var`, unless any will do.
    var: Option<Uuid>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(options: &'a Options) -> Result<Self, AssignError> {
        let settings = &options.verity;
        let mut verity = None;
        if let Some(hash) = &settings.root_hash {
            let pair = identity::verity_pair(hash.as_bytes());
            let pair = pair.filter(|(data, hash)| !data.is_nil() && !hash.is_nil());
            let pair = pair.ok_or_else(|| AssignError::UnusableHash(hash.clone()))?;
            verity = Some((settings.data(), pair));
        }
        let var = match options.rules.var {
            VarCheck::Relaxed => None,
            VarCheck::Machine(id) => PartitionType::of(Designator::Var, options.native)
                .map(|kind| identity::var_partition(id, kind.guid())),
        };
        Ok(Self {
            options,
            verity,
            var,
        })
    }

    /// The partition as it would be used; `None` where it is not for us.
    pub(super) fn take(&self, found: &Found) -> Option<Partition> {
        let designator = found.kind.designator?;
        let label = found.label.as_deref().unwrap_or_default();
        let skipped = label == EMPTY_LABEL
            || designator == Designator::UserHome
            || !self.passes(designator, label)
            || hidden(designator, found.attributes)
            || !self.fits_verity(designator, found)
            || (designator == Designator::Var && self.var.is_some_and(|id| found.uuid != Some(id)));
        if skipped {
            return None;
        }
        let (writable, grow) = modes(designator, found.attributes);
        Some(Partition {
            designator,
            number: Some(found.number),
            extent: found.extent,
            uuid: found.uuid,
            label: found.label.clone(),
            architecture: found.kind.architecture,
            attributes: found.attributes,
            file_system: forced_file_system(designator).map(str::to_owned),
            encryption: None,
            writable,
            grow: grow && writable,
            inside: None,
        })
    }

    fn passes(&self, designator: Designator, label: &str) -> bool {
        let designator = match designator {
            Designator::LinuxGeneric => Designator::Root,
            other => other,
        };
        self.options.filter.matches(designator, label)
    }

    /// Whether the partition is of the verity set that is asked for, if it is of one.
    fn fits_verity(&self, designator: Designator, found: &Found) -> bool {
        let (Some(role), Some(set)) = (
            designator.verity_role(),
            designator.verity_sibling(VerityRole::Data),
        ) else {
            return true;
        };
        let meant = self.options.rules.verity && self.options.verity.concern(set);
        let uuids = self.verity.filter(|(asked, _)| *asked == set);
        match role {
            VerityRole::Data => uuids.is_none_or(|(_, (data, _))| found.uuid == Some(data)),
            VerityRole::Hash => {
                meant && uuids.is_none_or(|(_, (_, hash))| found.uuid == Some(hash))
            }
            VerityRole::Signature => meant && self.fits_signed_hash(set, found),
        }
    }

    /// Whether a signature partition is of the root hash that is asked for.
    fn fits_signed_hash(&self, set: Designator, found: &Found) -> bool {
        let settings = &self.options.verity;
        let asked = settings
            .root_hash
            .as_ref()
            .filter(|_| settings.data() == set);
        asked.is_none_or(|hash| found.signs.as_ref() == Some(hash))
    }
}

/// Whether the attribute bits keep a partition from being used.
fn hidden(designator: Designator, flags: u64) -> bool {
    match designator {
        Designator::Esp => flags & FLAG_NO_BLOCK_IO != 0,
        _ => flags & FLAG_NO_AUTO != 0,
    }
}

/// Whether the attribute bits let a partition be written and grown.
fn modes(designator: Designator, flags: u64) -> (bool, bool) {
    let verity = matches!(
        designator.verity_role(),
        Some(VerityRole::Hash | VerityRole::Signature)
    );
    match designator {
        Designator::Esp | Designator::Swap => (true, false),
        _ if verity => (false, false),
        _ => (
            flags & FLAG_READ_ONLY == 0,
            flags & FLAG_GROW_FILE_SYSTEM != 0,
        ),
    }
}

/// What a partition holds by its type alone.
fn forced_file_system(designator: Designator) -> Option<&'static str> {
    match designator {
        Designator::Esp | Designator::Xbootldr => Some("vfat"),
        _ => match designator.verity_role()? {
            VerityRole::Data => None,
            VerityRole::Hash => Some("DM_verity_hash"),
            VerityRole::Signature => Some("verity_hash_signature"),
        },
    }
}
