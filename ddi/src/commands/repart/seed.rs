//! The seed of a run: what UUIDs are derived from.

use std::io;

use image_specs::guid;
use image_specs::identity::Seed;
use uuid::Uuid;

use super::args::RepartArgs;
use super::load;
use crate::exit::Failure;
use crate::surroundings;
use crate::values::SeedArg;

/// The credential that holds a seed.
const CREDENTIAL: &str = "repart.seed";

/// A seed, and whether later runs have the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) seed: Seed,
    pub(super) lasts: bool,
}

/// `--seed=`, else the credential `repart.seed`, else the machine ID below the root, else a random one.
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
        None => match credential()?.or_else(machine) {
            Some(seed) => Ok(lasting(seed)),
            None => random(),
        },
    }
}

/// The UUID in the credential `repart.seed`; `None` where there is no such credential.
fn credential() -> Result<Option<Uuid>, Failure> {
    let Some(path) = surroundings::credentials().map(|folder| folder.join(CREDENTIAL)) else {
        return Ok(None);
    };
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| {
            Failure::message(format!("cannot read {}: {error}", path.display()))
        })?,
    };
    guid::parse(text.trim()).map(Some).map_err(|error| {
        Failure::message(format!("credential {CREDENTIAL} is no seed: {error}"))
            .with_hint("write a UUID, or pass --seed=")
    })
}

fn random() -> Result<Chosen, Failure> {
    let seed = surroundings::random().map(Uuid::from_bytes)?;
    Ok(Chosen {
        seed: Seed::new(seed),
        lasts: false,
    })
}
