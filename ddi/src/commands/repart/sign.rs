//! The signing options of `ddi repart`: keys, certificates and ready-made signatures.

use repart::build::sign::{Joined, KeyHolder, Signing};
use veritysetup::signature::{
    Certificate, CertificateSource, JoinSignature, KeySource, Openssl, SignatureError, Signer,
};

use super::args;
use crate::exit::Failure;
use crate::surroundings;

/// Loads what the options name, so that a wrong key is found before anything is built.
pub(crate) fn signing(args: &args::Signing) -> Result<Signing, Failure> {
    let load = |name: &String| load_certificate(name, args);
    let certificates: Vec<_> = args
        .certificate
        .iter()
        .map(load)
        .collect::<Result<_, _>>()?;
    let joined = args.join_signature.iter();
    let joined = joined.map(|text| join(text, &certificates));
    Ok(Signing {
        joined: joined.collect::<Result<_, _>>()?,
        signers: signers(args, certificates)?,
    })
}

/// The keys with their certificates: the first with the first, and so on.
fn signers(
    args: &args::Signing,
    certificates: Vec<Certificate>,
) -> Result<Vec<KeyHolder>, Failure> {
    let keys = &args.private_key;
    if keys.len() > certificates.len() {
        let name = &keys[certificates.len()];
        let text = format!("--private-key={name} needs its certificate");
        return Err(Failure::message(text).with_hint("pass it with --certificate="));
    }
    if !keys.is_empty() && keys.len() < certificates.len() {
        let name = certificates[keys.len()].name();
        let text = format!("--certificate={name} has no --private-key=");
        return Err(Failure::message(text)
            .with_hint("pass as many keys as certificates, each pair in the same order"));
    }
    let source = args.private_key_source.as_deref().unwrap_or("file");
    let source: KeySource = source.parse()?;
    let pin = passphrase();
    let holder = |(name, certificate): (&String, Certificate)| {
        let fingerprint = fingerprint(&certificate)?;
        let signer = Signer::load(name, &source, certificate, pin.as_deref(), &openssl());
        let signer = signer.map_err(key_failure)?;
        Ok(KeyHolder {
            signer,
            fingerprint,
        })
    };
    keys.iter().zip(certificates).map(holder).collect()
}

/// Loads a signature that was made elsewhere, and finds out by which of the certificates.
fn join(text: &str, certificates: &[Certificate]) -> Result<Joined, Failure> {
    let join: JoinSignature = text.parse()?;
    let signature = join.load()?;
    let signed = |one: &&Certificate| {
        signature
            .verify(&join.root, std::slice::from_ref(*one))
            .is_ok()
    };
    let certificate = match certificates {
        [] => {
            return Err(Failure::message(
                "--join-signature= needs the certificate that the signature was made with",
            )
            .with_hint("pass it with --certificate="));
        }
        [only] => only,
        several => several.iter().find(signed).ok_or_else(|| {
            let root = &join.root;
            Failure::message(format!(
                "none of the certificates made the --join-signature= for root hash {root}"
            ))
            .with_hint("pass the certificate of each signature with --certificate=")
        })?,
    };
    Ok(Joined {
        fingerprint: fingerprint(certificate)?,
        root_hash: join.root,
        signature,
    })
}

fn fingerprint(certificate: &Certificate) -> Result<Option<[u8; 32]>, Failure> {
    Ok(certificate.fingerprint()?.try_into().ok())
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

fn load_certificate(name: &str, args: &args::Signing) -> Result<Certificate, Failure> {
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
