//! All definitions of a run, and how they belong together. Pure.

use super::{Definition, Diagnostic};

/// The definitions in list order, with what links them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefinitionSet {
    /// In list order: those of `--copy-from=` first, then by file name. Supplements are among them,
    /// and nothing of a supplement is merged into its target here: see [`DefinitionSet::merged`].
    pub definitions: Vec<Definition>,
    /// The verity sets.
    pub verity_sets: Vec<VeritySet>,
    /// Which definition adds to which.
    pub supplements: Vec<Supplement>,
    /// What was ignored or changed, in the order it was met.
    pub warnings: Vec<Diagnostic>,
    /// What kind of partition table a new one is to be (`--label=`).
    pub label: LabelKind,
    /// What becomes of a GPT's second copy (`--table-copy=`).
    pub copy: CopyMode,
}

/// `--table-copy=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// It is written when the table is.
    #[default]
    Keep,
    /// The table is written also where only the copy is missing at the disk's end, or damaged.
    Restore,
    /// A new image ends behind its last partition, without the copy.
    Cut,
}

/// A kind of partition table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelKind {
    /// A GPT.
    #[default]
    Gpt,
    /// A master boot record.
    Mbr,
}

/// The definitions that share a `VerityMatchKey=`, by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VeritySet {
    /// `Verity=data`.
    pub data: usize,
    /// `Verity=hash`.
    pub hash: usize,
    /// `Verity=signature`.
    pub signature: Option<usize>,
}

/// A `SupplementFor=` link, by places in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supplement {
    /// The definition that says `SupplementFor=`.
    pub supplement: usize,
    /// The definition that it means.
    pub target: usize,
}

impl DefinitionSet {
    /// The supplement of the definition at `target`, by its place in the list.
    pub fn supplement_of(&self, target: usize) -> Option<usize> {
        let mut links = self.supplements.iter();
        links
            .find(|link| link.target == target)
            .map(|link| link.supplement)
    }

    /// The verity set that the definition at `member` belongs to.
    pub fn verity_set_of(&self, member: usize) -> Option<VeritySet> {
        let holds = |set: &&VeritySet| {
            set.data == member || set.hash == member || set.signature == Some(member)
        };
        self.verity_sets.iter().find(holds).copied()
    }

    /// The definition at `target` with its supplement taken in, as long as the two are merged.
    ///
    /// Sizes follow systemd-repart, where an unset minimum counts as the largest number: a minimum
    /// that only one of the two sets is lost and the default applies.
    pub fn merged(&self, target: usize) -> Option<Definition> {
        let mut merged = self.definitions.get(target)?.clone();
        let Some(other) = self.supplement_of(target) else {
            return Some(merged);
        };
        let other = self.definitions.get(other)?;
        merged.weight = other.weight;
        merged.padding_weight = other.padding_weight;
        merged.size_min = merged.size_min.zip(other.size_min).map(larger);
        merged.padding_min = merged.padding_min.zip(other.padding_min).map(larger);
        merged.size_max = merged.size_max.into_iter().chain(other.size_max).min();
        merged.padding_max = merged
            .padding_max
            .into_iter()
            .chain(other.padding_max)
            .min();
        merged.populate.append(&other.populate);
        Some(merged)
    }
}

fn larger<T: Ord>((one, other): (T, T)) -> T {
    one.max(other)
}
