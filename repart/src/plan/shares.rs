//! Turns sizes that are shares into bytes, before anything else is decided. Pure.
//!
//! Invariant: definitions without shares stay as they are.

use std::borrow::Cow;

use image_specs::units::Bytes;

use super::{Options, PlannedTable};
use crate::definition::{Definition, DefinitionSet, Minimize, Share, ShareOf, Shares};
use crate::survey::Survey;

/// A share that cannot be counted, or sizes that exclude each other once they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ShareError {
    #[error(
        "{what} is to have a share of the disk, whose size is not known beforehand; pass --size= in bytes, or write the size in bytes"
    )]
    NoDisk { what: String },
    #[error("{what} is to have a share of the memory, whose size is not known; pass --memory=")]
    NoMemory { what: String },
    #[error("{what} is to have at least {min}, more than {max} at most")]
    Limits {
        what: String,
        min: Bytes,
        max: Bytes,
    },
    #[error("the contents of {what} need {size}, more than SizeMaxBytes= allows ({max})")]
    TooBig {
        what: String,
        size: Bytes,
        max: Bytes,
    },
}

/// What shares are counted on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wholes {
    /// What partitions may use of the disk, where that is known beforehand.
    disk: Option<Bytes>,
    memory: Option<Bytes>,
}

impl Wholes {
    pub(super) fn new(table: Option<&PlannedTable>, options: &Options) -> Self {
        let usable = |table: &PlannedTable| {
            let end = table.last_usable.get().saturating_add(1);
            let sectors = end.saturating_sub(table.first_usable.get());
            Bytes::new(sectors.saturating_mul(table.sector.get()))
        };
        Self {
            disk: table.map(usable),
            memory: options.memory,
        }
    }
}

/// The definitions with all sizes in bytes.
pub(super) fn resolve<'a>(
    set: &'a DefinitionSet,
    survey: &Survey,
    wholes: Wholes,
) -> Result<Cow<'a, DefinitionSet>, ShareError> {
    let shared = |definition: &Definition| definition.shares.iter().next().is_some();
    if !set.definitions.iter().any(shared) {
        return Ok(Cow::Borrowed(set));
    }
    let mut set = set.clone();
    for (index, definition) in set.definitions.iter_mut().enumerate() {
        if shared(definition) {
            count(definition, wholes)?;
            check_content(definition, survey, index)?;
        }
    }
    Ok(Cow::Owned(set))
}

fn count(definition: &mut Definition, wholes: Wholes) -> Result<(), ShareError> {
    let what = what(definition);
    let whole = |share: Share| match share.of {
        ShareOf::Disk => wholes
            .disk
            .ok_or_else(|| ShareError::NoDisk { what: what.clone() }),
        ShareOf::Memory => {
            (wholes.memory).ok_or_else(|| ShareError::NoMemory { what: what.clone() })
        }
    };
    let Shares {
        size_min,
        size_max,
        padding_min,
        padding_max,
    } = std::mem::take(&mut definition.shares);
    for (share, field) in [
        (size_min, &mut definition.size_min),
        (padding_min, &mut definition.padding_min),
    ] {
        if let Some(share) = share {
            *field = Some(share.at_least(whole(share)?));
        }
    }
    for (share, field) in [
        (size_max, &mut definition.size_max),
        (padding_max, &mut definition.padding_max),
    ] {
        if let Some(share) = share {
            *field = Some(share.at_most(whole(share)?));
        }
    }
    for (min, max) in [
        (definition.size_min, definition.size_max),
        (definition.padding_min, definition.padding_max),
    ] {
        if let Some((min, max)) = min.zip(max).filter(|(min, max)| min > max) {
            return Err(ShareError::Limits { what, min, max });
        }
    }
    Ok(())
}

/// What was built to learn its size must have no more than a greatest size in bytes would let it.
fn check_content(definition: &Definition, survey: &Survey, index: usize) -> Result<(), ShareError> {
    let built = (survey.contents.get(index)).and_then(|content| content.blocks);
    let built = built.filter(|_| definition.minimize != Minimize::Off);
    match built
        .zip(definition.size_max)
        .filter(|(size, max)| size > max)
    {
        Some((size, max)) => {
            let what = what(definition);
            Err(ShareError::TooBig { what, size, max })
        }
        None => Ok(()),
    }
}

fn what(definition: &Definition) -> String {
    let path = definition.origin.path.as_deref();
    let path = path.map_or_else(String::new, |path| format!(" of {}", path.display()));
    format!("the {} partition{path}", definition.kind)
}
