//! How definitions belong together: verity sets and supplements. Pure.

use super::{
    CopyBlocks, Definition, DefinitionSet, Diagnostic, Encrypt, Key, Link, Minimize, Problem,
    Supplement, VerityMode, VeritySet,
};

/// Fills in the links of a set and refuses definitions that do not fit each other.
pub(super) fn link(set: &mut DefinitionSet) -> Result<(), Box<Diagnostic>> {
    let definitions = &set.definitions;
    let mut verity_sets: Vec<VeritySet> = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        if definition.verity.mode == VerityMode::Off {
            continue;
        }
        let refuse = |(key, what)| Box::new(definition.diagnostic(key, Problem::Link(what)));
        let found = verity_set(definitions, index).map_err(refuse)?;
        check_member(definitions, definition, found).map_err(refuse)?;
        if !verity_sets.contains(&found) {
            verity_sets.push(found);
        }
    }
    let mut supplements = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        let refuse = |(key, what)| Box::new(definition.diagnostic(key, Problem::Link(what)));
        let link = supplement(definitions, index, &supplements).map_err(refuse)?;
        supplements.extend(link);
    }
    set.verity_sets = verity_sets;
    set.supplements = supplements;
    Ok(())
}

/// The verity set of the definition at `index`.
fn verity_set(definitions: &[Definition], index: usize) -> Result<VeritySet, (Key, Link)> {
    let me = &definitions[index];
    let match_key = me.verity.match_key.clone().unwrap_or_default();
    let find = |wanted: VerityMode| {
        if me.verity.mode == wanted {
            return Ok(Some(index));
        }
        let mut siblings = definitions.iter().enumerate().filter(|(_, other)| {
            other.verity.mode == wanted && other.verity.match_key == me.verity.match_key
        });
        let sibling = siblings.next().map(|(sibling, _)| sibling);
        if siblings.next().is_some() {
            let match_key = match_key.clone();
            return Err((Key::VerityMatchKey, Link::VerityTwice { wanted, match_key }));
        }
        Ok(sibling)
    };
    let missing = |wanted| {
        let missing = Link::VerityMissing {
            wanted,
            mode: me.verity.mode,
            match_key: match_key.clone(),
        };
        (Key::VerityMatchKey, missing)
    };
    Ok(VeritySet {
        data: find(VerityMode::Data)?.ok_or_else(|| missing(VerityMode::Data))?,
        hash: find(VerityMode::Hash)?.ok_or_else(|| missing(VerityMode::Hash))?,
        signature: find(VerityMode::Signature)?,
    })
}

/// Checks one member of a verity set against the others.
fn check_member(
    definitions: &[Definition],
    me: &Definition,
    set: VeritySet,
) -> Result<(), (Key, Link)> {
    let (data, hash) = (&definitions[set.data], &definitions[set.hash]);
    let signature = set.signature.map(|index| &definitions[index]);
    for other in [data, hash].into_iter().chain(signature) {
        if other.priority != me.priority {
            let mismatch = Link::VerityPriority {
                one: me.priority,
                other: other.priority,
                match_key: me.verity.match_key.clone().unwrap_or_default(),
            };
            return Err((Key::Priority, mismatch));
        }
        if other.existing.if_missing != me.existing.if_missing {
            let match_key = me.verity.match_key.clone().unwrap_or_default();
            return Err((Key::IfMissing, Link::VerityIfMissing { match_key }));
        }
    }
    let lower: &[&Definition] = match me.verity.mode {
        VerityMode::Hash => &[data],
        VerityMode::Signature => &[data, hash],
        VerityMode::Off | VerityMode::Data => return Ok(()),
    };
    for lower in lower {
        if let Some(mine) = &me.copy_blocks
            && !same_kind(mine, lower.copy_blocks.as_ref())
        {
            let (mode, lower) = (me.verity.mode, lower.verity.mode);
            return Err((Key::CopyBlocks, Link::VerityCopy { mode, lower }));
        }
    }
    if me.verity.mode == VerityMode::Hash && me.minimize != Minimize::Off {
        if data.minimize == Minimize::Off && data.copy_blocks.is_none() {
            return Err((Key::Minimize, Link::MinimizeHash));
        }
        if data.encryption.mode != Encrypt::Off {
            return Err((Key::Minimize, Link::MinimizeEncrypted));
        }
    }
    Ok(())
}

/// Whether two sources are both `auto`, or both not.
fn same_kind(one: &CopyBlocks, other: Option<&CopyBlocks>) -> bool {
    other.is_some_and(|other| (*one == CopyBlocks::Auto) == (*other == CopyBlocks::Auto))
}

/// The link that the definition at `index` asks for.
fn supplement(
    definitions: &[Definition],
    index: usize,
    earlier: &[Supplement],
) -> Result<Option<Supplement>, (Key, Link)> {
    let me = &definitions[index];
    let Some(name) = &me.supplement_for else {
        return Ok(None);
    };
    let refuse = |link: Link| Err((Key::SupplementFor, link));
    // A definition cannot be its own supplement.
    let mut others = definitions
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index);
    let found = others.find(|(_, other)| other.origin.name() == name);
    let Some((target, other)) = found else {
        return refuse(Link::SupplementUnknown(name.clone()));
    };
    if other.supplement_for.is_some() {
        return refuse(Link::SupplementOfSupplement(name.clone()));
    }
    if earlier.iter().any(|link| link.target == target) {
        return refuse(Link::SupplementTwice(name.clone()));
    }
    let key = cannot_merge(me).or_else(|| cannot_merge(other));
    if let Some(key) = key {
        let target = name.clone();
        return refuse(Link::SupplementKey { target, key });
    }
    check_limits(name, me, other)?;
    Ok(Some(Supplement {
        supplement: index,
        target,
    }))
}

/// The key that keeps a definition from having or being a supplement.
fn cannot_merge(definition: &Definition) -> Option<Key> {
    let keys = [
        (Key::CopyBlocks, definition.copy_blocks.is_some()),
        (Key::Encrypt, definition.encryption.mode != Encrypt::Off),
        (Key::Integrity, definition.tags.standalone),
        (Key::Verity, definition.verity.mode != VerityMode::Off),
    ];
    keys.into_iter()
        .find(|(_, is_set)| *is_set)
        .map(|(key, _)| key)
        .or_else(|| definition.existing.first_set())
}

/// The larger minimum must not exceed the smaller maximum.
fn check_limits(name: &str, me: &Definition, other: &Definition) -> Result<(), (Key, Link)> {
    let limits = [
        (
            (Key::SizeMinBytes, [me.size_min, other.size_min]),
            (Key::SizeMaxBytes, [me.size_max, other.size_max]),
        ),
        (
            (Key::PaddingMinBytes, [me.padding_min, other.padding_min]),
            (Key::PaddingMaxBytes, [me.padding_max, other.padding_max]),
        ),
    ];
    for ((min_key, mins), (max_key, maxs)) in limits {
        let min = mins.into_iter().flatten().max();
        let max = maxs.into_iter().flatten().min();
        let Some((min, max)) = min.zip(max).filter(|(min, max)| min > max) else {
            continue;
        };
        let limits = Link::SupplementLimits {
            target: name.to_owned(),
            min_key,
            min,
            max_key,
            max,
        };
        return Err((min_key, limits));
    }
    Ok(())
}
