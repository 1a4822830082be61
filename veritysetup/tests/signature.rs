//! Signatures against the `openssl` program, and keys that a token keeps (softhsm2).
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use blockdev::tool::SearchPath;
use veritysetup::RootHash;
use veritysetup::signature::{
    Certificate, CertificateSource, JoinError, JoinSignature, JoinSource, KeySource, Openssl,
    Signature, SignatureError, Signer,
};

const ROOT: &str = "35d7502c55320932d5e1f52c7d38699f8ba2df3409bb52d5b4ad5b6dce18d18c";

struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, line: &str) {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(self.0.path())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
    }

    /// Makes `NAME.key` and `NAME.crt`.
    fn pair(&self, name: &str, algorithm: &str) {
        self.run(&format!(
            "openssl req -x509 -newkey {algorithm} -nodes -keyout {name}.key -out {name}.crt \
             -subj /CN={name} -days 2"
        ));
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::load(&self.name(name), &CertificateSource::File, &openssl()).unwrap()
    }

    fn signer(&self, name: &str) -> Signer {
        let certificate = self.certificate(&format!("{name}.crt"));
        let key = self.name(&format!("{name}.key"));
        Signer::load(&key, &KeySource::File, certificate, None, &openssl()).unwrap()
    }
}

fn openssl() -> Openssl {
    Openssl::new(SearchPath::new(None), std::env::vars_os())
}

fn root() -> RootHash {
    ROOT.parse().unwrap()
}

#[test]
fn signatures_are_those_of_openssl() {
    let keys = Keys::new();
    std::fs::write(keys.path("text"), ROOT).unwrap();
    for (name, algorithm, fixed) in [
        ("rsa", "rsa:2048", true),
        ("big", "rsa:4096", true),
        ("ec", "ec -pkeyopt ec_paramgen_curve:P-256", false),
    ] {
        keys.pair(name, algorithm);
        let signer = keys.signer(name);
        let signature = signer.sign(&root()).unwrap();
        std::fs::write(keys.path("ours"), signature.as_der()).unwrap();
        for tool in ["cms", "smime"] {
            keys.run(&format!(
                "openssl {tool} -verify -binary -inform DER -in ours -content text \
                 -certfile {name}.crt -nointern -noverify -out /dev/null"
            ));
        }
        keys.run(&format!(
            "openssl smime -sign -binary -noattr -in text -signer {name}.crt -inkey {name}.key \
             -outform DER -out theirs"
        ));
        let theirs = std::fs::read(keys.path("theirs")).unwrap();
        if fixed {
            assert_eq!(signature.as_der(), theirs);
        }
        let certificate = keys.certificate(&format!("{name}.crt"));
        let theirs = Signature::from_der(theirs).unwrap();
        theirs.verify(&root(), &[certificate]).unwrap();
    }
}

#[test]
fn only_the_signed_hash_and_given_certificates_count() {
    let keys = Keys::new();
    keys.pair("a", "rsa:2048");
    keys.pair("b", "rsa:2048");
    let [a, b] = ["a.crt", "b.crt"].map(|name| keys.certificate(name));
    let signature = keys.signer("a").sign(&root()).unwrap();
    signature.verify(&root(), &[b.clone(), a.clone()]).unwrap();
    for (root, certificates) in [
        (root(), vec![b]),
        (root(), vec![]),
        (RootHash::new([0; 32]), vec![a]),
    ] {
        let error = signature.verify(&root, &certificates).unwrap_err();
        assert!(matches!(error, SignatureError::Refused { .. }), "{error}");
    }
    let cut = &signature.as_der()[..100];
    assert!(matches!(
        Signature::from_der(cut),
        Err(SignatureError::NoSignature(_))
    ));
}

#[test]
fn fingerprints_are_those_of_openssl() {
    let keys = Keys::new();
    keys.pair("a", "rsa:2048");
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(keys.path("a.crt"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, expected) = text.trim().split_once('=').unwrap();
    let found = keys.certificate("a.crt").fingerprint().unwrap();
    assert_eq!(hex::encode(found), expected.replace(':', "").to_lowercase());
}

#[test]
fn wrong_keys_are_named() {
    let keys = Keys::new();
    keys.pair("a", "rsa:2048");
    keys.pair("b", "rsa:2048");
    keys.run("openssl pkcs8 -topk8 -in a.key -out locked.key -passout pass:secret");
    std::fs::write(keys.path("empty"), "").unwrap();
    let load = |key: &str, passphrase: Option<&[u8]>| {
        let certificate = keys.certificate("a.crt");
        Signer::load(
            &keys.name(key),
            &KeySource::File,
            certificate,
            passphrase,
            &openssl(),
        )
    };
    load("locked.key", Some(b"secret")).unwrap();
    let (locked, a, b) = (
        keys.name("locked.key"),
        keys.name("a.crt"),
        keys.name("b.key"),
    );
    for (key, passphrase, expected) in [
        (
            "locked.key",
            None,
            format!("{locked}: the private key is encrypted, and no passphrase was given"),
        ),
        (
            "locked.key",
            Some(&b"wrong"[..]),
            format!("{locked}: the passphrase does not open the private key"),
        ),
        (
            "b.key",
            None,
            format!("private key {b} does not belong to certificate {a}"),
        ),
        (
            "a.crt",
            None,
            format!("{a}: this is no private key in PEM format"),
        ),
        (
            "empty",
            None,
            format!(
                "{}: this is no private key in PEM format",
                keys.name("empty")
            ),
        ),
        (
            "missing",
            None,
            format!("cannot read {}", keys.name("missing")),
        ),
    ] {
        let error = load(key, passphrase).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let error =
        Certificate::load(&keys.name("a.key"), &CertificateSource::File, &openssl()).unwrap_err();
    assert!(matches!(error, SignatureError::NoCertificate { .. }));
}

#[test]
fn a_token_signs_through_an_engine() {
    let keys = Keys::new();
    keys.pair("a", "rsa:2048");
    keys.pair("b", "rsa:2048");
    std::fs::create_dir(keys.path("tokens")).unwrap();
    let configuration = format!("directories.tokendir = {}\n", keys.name("tokens"));
    std::fs::write(keys.path("softhsm2.conf"), configuration).unwrap();
    keys.run("softhsm2-util --init-token --free --label ddi --pin 1234 --so-pin 1234");
    keys.run("openssl pkcs8 -topk8 -nocrypt -in a.key -out a.p8");
    keys.run("softhsm2-util --import a.p8 --token ddi --label key --id 01 --pin 1234");
    // The child inherits the environment, which no test of this process may change: so the test
    // runs itself again.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "inside_the_token_environment"])
        .env("SOFTHSM2_CONF", keys.path("softhsm2.conf"))
        .env("PKCS11_MODULE_PATH", softhsm_module())
        .env("DDI_TEST_KEYS", keys.path(""))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run by a_token_signs_through_an_engine"]
fn inside_the_token_environment() {
    let folder = PathBuf::from(std::env::var_os("DDI_TEST_KEYS").unwrap());
    let load = |certificate: &str, pin: &str| {
        let certificate = folder.join(certificate);
        let certificate = Certificate::load(
            certificate.to_str().unwrap(),
            &CertificateSource::File,
            &openssl(),
        )
        .unwrap();
        let engine = "engine:pkcs11".parse().unwrap();
        let uri = "pkcs11:token=ddi;object=key;type=private";
        Signer::load(uri, &engine, certificate, Some(pin.as_bytes()), &openssl()).unwrap()
    };
    let signer = load("a.crt", "1234");
    let signature = signer.sign(&root()).unwrap();
    let from_file = Signer::load(
        folder.join("a.key").to_str().unwrap(),
        &KeySource::File,
        signer.certificate().clone(),
        None,
        &openssl(),
    );
    assert_eq!(signature, from_file.unwrap().sign(&root()).unwrap());

    let error = load("b.crt", "1234").sign(&root()).unwrap_err();
    assert!(
        matches!(
            error,
            SignatureError::Program(_) | SignatureError::Mismatch { .. }
        ),
        "{error}"
    );
    let error = load("a.crt", "4321").sign(&root()).unwrap_err();
    assert!(matches!(error, SignatureError::Program(_)), "{error}");
    assert!(!error.to_string().contains("4321"), "{error}");
}

fn softhsm_module() -> &'static Path {
    [
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/softhsm/libsofthsm2.so",
    ]
    .map(Path::new)
    .into_iter()
    .find(|path| path.exists())
    .expect("the package softhsm2 is installed")
}

#[test]
fn sources_are_parsed() {
    assert_eq!("file".parse::<KeySource>().unwrap(), KeySource::File);
    let provider = KeySource::Provider("pkcs11".to_owned());
    assert_eq!("provider:pkcs11".parse::<KeySource>().unwrap(), provider);
    for bad in ["", "engine", "engine:", "provider:", "tpm2:x", "file:x"] {
        assert!(bad.parse::<KeySource>().is_err(), "{bad:?}");
    }
    for bad in ["", "engine:pkcs11", "provider:"] {
        assert!(bad.parse::<CertificateSource>().is_err(), "{bad:?}");
    }
}

#[test]
fn signatures_made_elsewhere_are_joined() {
    let keys = Keys::new();
    keys.pair("a", "rsa:2048");
    let signature = keys.signer("a").sign(&root()).unwrap();
    std::fs::write(keys.path("signature"), signature.as_der()).unwrap();
    keys.run("openssl base64 -A -in signature -out text");
    let base64 = std::fs::read_to_string(keys.path("text")).unwrap();
    for text in [
        format!("{ROOT}:{}", keys.name("signature")),
        format!("{ROOT}:base64:{base64}"),
    ] {
        let join: JoinSignature = text.parse().unwrap();
        assert_eq!(join.root, root());
        assert_eq!(join.load().unwrap(), signature);
    }

    for bad in ["", ROOT, &format!("{ROOT}:"), "xy:file", "00:file"] {
        assert!(bad.parse::<JoinSignature>().is_err(), "{bad:?}");
    }
    let bad = format!("{ROOT}:base64:!").parse::<JoinSignature>();
    assert!(matches!(bad, Err(JoinError::Base64(_))));
    for size in [0, 16385] {
        let join = JoinSignature {
            root: root(),
            source: JoinSource::Data(vec![0; size]),
        };
        assert!(matches!(join.load(), Err(JoinError::Size(_))));
    }
}
