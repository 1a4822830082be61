//! Opening an image as the options ask for it, and what does not belong together in it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use dissect::{Dissected, Image, Options, VeritySettings, check};
use image_specs::filter::ImageFilter;
use image_specs::partition::Designator;
use image_specs::policy::ImagePolicy;
use veritysetup::RootHash;
use veritysetup::signature::{Certificate, CertificateSource};

use super::DissectArgs;
use crate::commands::repart_sign;
use crate::exit::Failure;
use crate::surroundings;

/// An open image, and what is in it.
pub(super) struct Opened {
    pub(super) image: Image,
    pub(super) dissected: Dissected,
}

/// Opens and dissects an image.
pub(super) fn open(args: &DissectArgs, path: &Path) -> Result<Opened, Failure> {
    let options = options(args)?;
    let (image, dissected) = dissect::dissect(path, &options)?;
    Ok(Opened { image, dissected })
}

fn options(args: &DissectArgs) -> Result<Options, Failure> {
    let selection = &args.selection;
    let filter = selection.image_filter.as_deref().unwrap_or_default();
    let policy = selection.image_policy.as_deref().unwrap_or("*");
    Ok(Options {
        filter: filter.parse::<ImageFilter>()?,
        policy: policy.parse::<ImagePolicy>()?,
        verity: given_hash(args)?,
        ..Options::new(surroundings::architecture()?)
    })
}

fn given_hash(args: &DissectArgs) -> Result<VeritySettings, Failure> {
    let (designator, text) = match (&args.selection.root_hash, &args.selection.usr_hash) {
        (Some(text), _) => (Designator::Root, text),
        (None, Some(text)) => (Designator::Usr, text),
        (None, None) => return Ok(VeritySettings::default()),
    };
    let hash: RootHash = text.parse()?;
    Ok(VeritySettings::of(designator, hash))
}

/// Everything that does not belong together; a signature or data that fails is an error.
pub(super) fn checks(
    args: &DissectArgs,
    image: &Image,
    dissected: &Dissected,
) -> Result<Vec<String>, Failure> {
    let table = dissected
        .table
        .iter()
        .flat_map(|table| table.findings(dissected.size));
    let mut findings: Vec<String> = table.map(|finding| finding.to_string()).collect();
    findings.extend(check::findings(dissected).iter().map(ToString::to_string));
    if !args.verification.certificate.is_empty() {
        let load = |path: &PathBuf| {
            Certificate::load(
                &path.display().to_string(),
                &CertificateSource::File,
                &repart_sign::openssl(),
            )
        };
        let certificates = args
            .verification
            .certificate
            .iter()
            .map(load)
            .collect::<Result<Vec<_>, _>>()?;
        check::signature(dissected, &certificates)?;
    }
    if args.verification.verify_data {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        check::data(image, dissected, threads)?;
    }
    Ok(findings)
}
