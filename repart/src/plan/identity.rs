//! Which label and which UUIDs a partition has from now on. Pure, but for the random numbers passed
//! in.

use image_specs::guid;
use image_specs::identity::{self, Seed};
use uuid::Uuid;

use super::layout::Layout;
use crate::definition::{UuidChoice, VerityMode};

/// Where random UUIDs come from: each call gives 16 new random bytes.
pub type Random<'a> = dyn FnMut() -> [u8; 16] + 'a;

impl Layout<'_> {
    /// Decides labels and UUIDs, in list order.
    pub(super) fn identify(&mut self, seed: Seed, random: &mut Random<'_>) {
        // A UUID that is written down is taken before any is derived, wherever it stands in the list.
        for entry in &mut self.entries {
            entry.uuid = match &entry.wanted {
                Some(wanted) => match wanted.definition.uuid {
                    UuidChoice::Fixed(uuid) => uuid,
                    UuidChoice::Derived => wanted.content.uuid.unwrap_or_default(),
                },
                None => Uuid::nil(),
            };
        }
        for index in 0..self.entries.len() {
            self.identify_one(index, seed, random);
        }
    }

    fn identify_one(&mut self, index: usize, seed: Seed, random: &mut Random<'_>) {
        let entry = &self.entries[index];
        let found = entry.found.as_ref();
        let (found_uuid, found_label) = match found {
            Some(found) => (found.uuid, found.label.clone()),
            None => (Uuid::nil(), String::new()),
        };
        let Some(wanted) = &entry.wanted else {
            let entry = &mut self.entries[index];
            (entry.uuid, entry.label) = (found_uuid, found_label);
            return;
        };
        let definition = wanted.definition;
        let hashed = matches!(definition.verity.mode, VerityMode::Data | VerityMode::Hash);
        let chosen = match definition.uuid {
            UuidChoice::Fixed(uuid) => Some(uuid),
            UuidChoice::Derived => wanted.content.uuid,
        };
        let (uuid, base) = match chosen {
            _ if !found_uuid.is_nil() => (found_uuid, found_uuid),
            Some(uuid) => (uuid, uuid),
            None => {
                let derived = self.derive(index, seed, random);
                (if hashed { Uuid::nil() } else { derived }, derived)
            }
        };
        let label = match &definition.label {
            _ if !found_label.is_empty() => found_label,
            Some(label) => label.clone(),
            None => self.make_label(index),
        };
        let entry = &mut self.entries[index];
        entry.uuid_from_root_hash = hashed && chosen.is_none() && found_uuid.is_nil();
        entry.uuid = uuid;
        entry.fs_uuid = identity::file_system(base);
        entry.luks_uuid = identity::luks(base);
        entry.label = label;
    }

    /// The UUID that follows from the seed, or a random one where another partition has it.
    fn derive(&self, index: usize, seed: Seed, random: &mut Random<'_>) -> Uuid {
        let kind = self.entries[index].kind();
        let derived = seed.partition(kind.guid(), self.earlier(index));
        let others = self
            .entries
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index);
        let mut taken = others.flat_map(|(_, e)| [Some(e.uuid), e.found.as_ref().map(|f| f.uuid)]);
        match taken.any(|uuid| uuid == Some(derived)) {
            true => guid::v4(random()),
            false => derived,
        }
    }

    /// How many entries of its type stand before entry `index` in the list.
    pub(super) fn earlier(&self, index: usize) -> u64 {
        let kind = self.entries[index].kind();
        let earlier = self.entries[..index].iter().filter(|e| e.kind() == kind);
        u64::try_from(earlier.count()).unwrap_or(u64::MAX)
    }

    /// The type's name, with a number where an earlier partition has that label.
    fn make_label(&self, index: usize) -> String {
        let kind = self.entries[index].kind();
        let base = kind.identifier().unwrap_or_else(|| "linux".to_owned());
        let earlier = &self.entries[..index];
        let numbered = (2_u64..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.clone())
            .chain(numbered)
            .find(|label| earlier.iter().all(|entry| entry.label != *label))
            .unwrap_or(base)
    }
}
