//! Opening an image as the options ask for it, and what does not belong together in it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use dissect::contents::{Access, Verification};
use dissect::metadata::{self, Metadata};
use dissect::trust::Trust;
use dissect::unlock::Keys;
use dissect::uses::Uses;
use dissect::{Dissected, Image, Options, Rules, VeritySettings, check, probe, sidecar};
use image_specs::filter::ImageFilter;
use image_specs::partition::Designator;
use image_specs::policy::ImagePolicy;
use image_specs::release::check_name;
use veritysetup::RootHash;
use veritysetup::signature::{Certificate, CertificateSource};

use super::options::Selection;
use super::{DissectArgs, environment, keys};
use crate::commands::repart::sign;
use crate::exit::Failure;
use crate::surroundings;

/// An open image, and what is in it.
pub(super) struct Opened {
    pub(super) image: Image,
    pub(super) dissected: Dissected,
    /// What it is held against when its files are read, too.
    pub(super) options: Options,
}

/// Opens and dissects an image.
pub(super) fn open(args: &DissectArgs, path: &Path) -> Result<Opened, Failure> {
    let options = options(args, path)?;
    let (image, mut dissected) = dissect::dissect(path, &options)?;
    if args.output.all_versions {
        probe::passed_over(&image, &mut dissected, &options)?;
    }
    Ok(Opened {
        image,
        dissected,
        options,
    })
}

/// What the image at `path` is held against.
pub(super) fn options(args: &DissectArgs, path: &Path) -> Result<Options, Failure> {
    let selection = &args.selection;
    let filter = selection.image_filter.as_deref().unwrap_or_default();
    let policy = selection.image_policy.as_deref().unwrap_or("*");
    let mut verity = given(selection)?;
    if environment::sidecars()? {
        verity = sidecar::complete(path, verity)?;
    }
    if verity.signature.is_some() && verity.root_hash.is_none() {
        return Err(
            Failure::message("there is a signature of a root hash, but no root hash")
                .with_hint("pass --root-hash= or --usr-hash=, too"),
        );
    }
    let rules = environment::rules()?;
    Ok(Options {
        filter: filter.parse::<ImageFilter>()?,
        policy: policy.parse::<ImagePolicy>()?,
        rules: Rules {
            no_table: verity.tree.is_some(),
            ..rules
        },
        verity,
        file_systems: environment::file_systems(),
        ..Options::new(surroundings::architecture()?)
    })
}

/// What the options say about the verity set.
fn given(selection: &Selection) -> Result<VeritySettings, Failure> {
    let usr = selection.usr_hash.is_some() || selection.usr_hash_sig.is_some();
    let (designator, hash, signature) = match usr {
        true => (
            Designator::Usr,
            &selection.usr_hash,
            &selection.usr_hash_sig,
        ),
        false => (
            Designator::Root,
            &selection.root_hash,
            &selection.root_hash_sig,
        ),
    };
    let hash = hash.as_deref().map(str::parse::<RootHash>).transpose()?;
    let signature = signature
        .as_deref()
        .map(sidecar::parse_signature)
        .transpose()?;
    Ok(VeritySettings {
        designator: (hash.is_some() || signature.is_some()).then_some(designator),
        root_hash: hash,
        signature,
        tree: selection.verity_data.clone(),
    })
}

/// What was checked of an image.
pub(super) struct Checked {
    /// What does not belong together.
    pub(super) findings: Vec<String>,
    /// Whose signature the root hash has, of the certificates that are given or trusted here.
    pub(super) signer: Option<String>,
}

/// Checks what there is to check; a signature that should be by a given certificate, or data that
/// fails, is an error.
pub(super) fn checks(
    args: &DissectArgs,
    image: &Image,
    dissected: &Dissected,
) -> Result<Checked, Failure> {
    let table = dissected.table.iter();
    let table = table.flat_map(|table| table.findings(dissected.size));
    let mut findings: Vec<String> = table.map(|finding| finding.to_string()).collect();
    findings.extend(check::findings(dissected).iter().map(ToString::to_string));
    let certificates = certificates(args)?;
    let signer = match args.verification.certificate.is_empty() {
        false => Some(check::signature(dissected, &certificates)?),
        true => dissected
            .verity
            .as_ref()
            .and_then(|verity| verity.signer(&certificates)),
    };
    let signer = signer.map(|certificate| certificate.name().to_owned());
    if args.verification.verify_data {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        check::data(image, dissected, threads)?;
    }
    Ok(Checked { findings, signer })
}

/// Checks the image's name and purpose, where that is asked for, by what its files say.
pub(super) fn check_files(
    args: &DissectArgs,
    dissected: &Dissected,
    metadata: &Metadata,
) -> Result<(), Failure> {
    let file = dissected.path.file_name().unwrap_or_default();
    if args.verification.check_name {
        check_name(&file.to_string_lossy(), metadata.release())?;
    }
    match args.verification.purpose {
        Some(purpose) if !Uses::of(dissected, metadata).serve(purpose) => {
            Err(Failure::message(format!(
                "{} is not for this purpose: {}",
                dissected.path.display(),
                purpose.name()
            )))
        }
        _ => Ok(()),
    }
}

/// What the image's files say. Nobody is asked for a passphrase.
pub(super) fn metadata(
    args: &DissectArgs,
    opened: &Opened,
    keys: &Keys,
) -> Result<Metadata, Failure> {
    let certificates = certificates(args)?;
    let access = opened.access(&certificates, keys);
    metadata::of(&opened.image, &opened.dissected, access).map_err(keys::explained)
}

impl Opened {
    /// How its partitions are read.
    pub(super) fn access<'a>(
        &'a self,
        certificates: &'a [Certificate],
        keys: &'a Keys,
    ) -> Access<'a> {
        Access {
            verification: Verification {
                policy: &self.options.policy,
                certificates,
            },
            keys: Some(keys),
            file_systems: &self.options.file_systems,
        }
    }
}

/// The certificates that were given, else those that are trusted here.
pub(super) fn certificates(args: &DissectArgs) -> Result<Vec<Certificate>, Failure> {
    let given = &args.verification.certificate;
    if given.is_empty() {
        return Ok(Trust::load(Path::new("/")).certificates);
    }
    let load = |path: &PathBuf| {
        let openssl = sign::openssl();
        let path = path.display().to_string();
        Certificate::load(&path, &CertificateSource::File, &openssl)
    };
    Ok(given.iter().map(load).collect::<Result<_, _>>()?)
}
