//! The seed of a run: what UUIDs are derived from.

use image_specs::identity::Seed;
use uuid::Uuid;

use super::args::RepartArgs;
use super::load;
use crate::exit::Failure;
use crate::surroundings;
use crate::values::SeedArg;

/// A seed, and whether later runs have the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) seed: Seed,
    pub(super) lasts: bool,
}

/// `--seed=`, else the machine ID below the root, else a random one.
pub(super) fn choose(args: &RepartArgs) -> Result<Chosen, Failure> {
    let lasting = |seed: Uuid| Chosen {
        seed: Seed::new(seed),
        lasts: true,
    };
    let machine = || load::machine_id(args.configuration.root.as_deref());
    match args.operation.seed {
        Some(SeedArg::Fixed(seed)) => Ok(lasting(seed)),
        Some(SeedArg::Random) => random(),
        None if args.ddi_kind().is_some() => random(),
        None => machine().map_or_else(random, |id| Ok(lasting(id))),
    }
}

fn random() -> Result<Chosen, Failure> {
    let seed = surroundings::random().map(Uuid::from_bytes)?;
    Ok(Chosen {
        seed: Seed::new(seed),
        lasts: false,
    })
}
