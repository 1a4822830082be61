//! The signing options of `ddi repart`: keys, certificates and ready-made signatures.

use repart::build::sign::Signing;
use veritysetup::signature::{
    Certificate, CertificateSource, JoinSignature, KeySource, Openssl, SignatureError, Signer,
};

use super::repart_args;
use crate::exit::Failure;
use crate::surroundings;

/// Loads what the options name, so that a wrong key is found before anything is built.
pub(crate) fn signing(args: &repart_args::Signing) -> Result<Signing, Failure> {
    let certificate = args
        .certificate
        .as_deref()
        .map(|name| load_certificate(name, args))
        .transpose()?;
    let fingerprint = certificate
        .as_ref()
        .map(Certificate::fingerprint)
        .transpose()?;
    let fingerprint = fingerprint.and_then(|digest| digest.try_into().ok());
    let mut joined = Vec::new();
    for text in &args.join_signature {
        let join: JoinSignature = text.parse()?;
        joined.push((join.root.clone(), join.load()?));
    }
    if !joined.is_empty() && certificate.is_none() {
        return Err(Failure::message(
            "--join-signature= needs the certificate that the signature was made with",
        )
        .with_hint("pass it with --certificate="));
    }
    let signer = match (&args.private_key, certificate) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(Failure::message("--private-key= needs its certificate")
                .with_hint("pass it with --certificate="));
        }
        (Some(name), Some(certificate)) => {
            let source: KeySource = args
                .private_key_source
                .as_deref()
                .unwrap_or("file")
                .parse()?;
            let pin = passphrase();
            let signer = Signer::load(name, &source, certificate, pin.as_deref(), &openssl());
            Some(signer.map_err(key_failure)?)
        }
    };
    Ok(Signing {
        signer,
        fingerprint,
        joined,
    })
}

fn key_failure(error: SignatureError) -> Failure {
    let locked = matches!(&error, SignatureError::Encrypted(_));
    let failure = Failure::from(error);
    match locked {
        true => failure.with_hint(
            "give its passphrase in the environment variable PIN or in the credential repart.private-key-pin",
        ),
        false => failure,
    }
}

fn load_certificate(name: &str, args: &repart_args::Signing) -> Result<Certificate, Failure> {
    let source: CertificateSource = args
        .certificate_source
        .as_deref()
        .unwrap_or("file")
        .parse()?;
    Ok(Certificate::load(name, &source, &openssl())?)
}

/// The PIN or passphrase of the key: systemd's credential, or `$PIN`.
fn passphrase() -> Option<Vec<u8>> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").and_then(|folder| {
        std::fs::read(std::path::Path::new(&folder).join("repart.private-key-pin")).ok()
    });
    credential.or_else(|| std::env::var_os("PIN").map(|pin| pin.as_encoded_bytes().to_vec()))
}

/// Providers and engines find their configuration in the environment, so it is passed on.
pub(crate) fn openssl() -> Openssl {
    Openssl::new(surroundings::search_path(), std::env::vars_os())
}
