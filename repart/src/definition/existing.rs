//! What a definition wants done with the partition that is there, or is not: `IfExists=`,
//! `IfMissing=`, `IfOutOfBounds=` and `Grow=`, which are ddi's (docs/extensions.md). Pure.

use image_specs::conf;

use super::{Combination, CopyBlocks, Definition, Key, Reason, Refusal, UuidChoice, VerityMode};

/// What is to happen with a partition that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Existing {
    /// `IfExists=`.
    pub if_exists: IfExists,
    /// `IfMissing=`.
    pub if_missing: IfMissing,
    /// `IfOutOfBounds=`.
    pub if_out_of_bounds: IfOutOfBounds,
    /// `Grow=`: whether a partition that exists may grow.
    pub grow: bool,
    /// `FactoryReset=remove`: a new one is only made together with a new table.
    pub only_on_new_disks: bool,
}

/// `IfExists=`: whether a definition takes a partition of its type that it did not make itself. What
/// it made itself is known by its UUID and always taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// It is taken, as systemd-repart does.
    #[default]
    Use,
    /// It is left to others; the definition has one of its own.
    New,
    /// There must be none.
    Fail,
}

/// `IfMissing=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfMissing {
    /// The partition is made, as systemd-repart does.
    #[default]
    Create,
    /// It must be there.
    Fail,
    /// Nothing is made.
    Ignore,
}

/// `IfOutOfBounds=`: whether a partition that exists may be smaller than `SizeMinBytes=` or larger
/// than `SizeMaxBytes=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfOutOfBounds {
    /// It may: one that is smaller grows, one that is larger stays, as with systemd-repart.
    #[default]
    Accept,
    /// It may not.
    Fail,
}

impl Default for Existing {
    fn default() -> Self {
        Self {
            if_exists: IfExists::default(),
            if_missing: IfMissing::default(),
            if_out_of_bounds: IfOutOfBounds::default(),
            grow: true,
            only_on_new_disks: false,
        }
    }
}

impl Existing {
    /// Takes one assignment; an empty value is the default.
    pub(super) fn assign(&mut self, key: Key, value: &str) -> Result<(), Reason> {
        match key {
            Key::IfExists => {
                self.if_exists = match value {
                    "" | "use" => IfExists::Use,
                    "new" => IfExists::New,
                    "fail" => IfExists::Fail,
                    _ => return Err(Reason::Choice("use, new and fail")),
                }
            }
            Key::IfMissing => {
                self.if_missing = match value {
                    "" | "create" => IfMissing::Create,
                    "fail" => IfMissing::Fail,
                    "ignore" => IfMissing::Ignore,
                    _ => return Err(Reason::Choice("create, fail and ignore")),
                }
            }
            Key::IfOutOfBounds => {
                self.if_out_of_bounds = match value {
                    "" | "accept" => IfOutOfBounds::Accept,
                    "fail" => IfOutOfBounds::Fail,
                    _ => return Err(Reason::Choice("accept and fail")),
                }
            }
            _ => self.grow = conf::tristate(value)?.unwrap_or(true),
        }
        Ok(())
    }

    /// The first of its keys that is not at its default.
    pub(super) fn first_set(&self) -> Option<Key> {
        let default = Self::default();
        let keys = [
            (Key::IfExists, self.if_exists != default.if_exists),
            (Key::IfMissing, self.if_missing != default.if_missing),
            (
                Key::IfOutOfBounds,
                self.if_out_of_bounds != default.if_out_of_bounds,
            ),
            (Key::Grow, self.grow != default.grow),
        ];
        let mut set = keys.into_iter().filter(|(_, is_set)| *is_set);
        set.next().map(|(key, _)| key)
    }

    /// Whether what the definition made itself is told from others of its type, by the UUID.
    pub fn knows_its_own(&self) -> bool {
        match self.if_exists {
            IfExists::Use => false,
            IfExists::New => true,
            IfExists::Fail => self.if_missing != IfMissing::Ignore,
        }
    }
}

/// Refuses what no disk could fulfil, and partitions that could not be told from others.
pub(super) fn check(definition: &Definition) -> Result<(), Refusal> {
    let existing = &definition.existing;
    if existing.if_exists == IfExists::Fail && existing.if_missing == IfMissing::Fail {
        return Err((Key::IfExists, Combination::Impossible));
    }
    let known = match definition.uuid {
        UuidChoice::Fixed(uuid) => !uuid.is_nil(),
        UuidChoice::Derived => {
            let hashed = matches!(definition.verity.mode, VerityMode::Data | VerityMode::Hash);
            !hashed && definition.copy_blocks != Some(CopyBlocks::Auto)
        }
    };
    match existing.knows_its_own() && !known {
        true => Err((Key::IfExists, Combination::Unrecognisable)),
        false => Ok(()),
    }
}
