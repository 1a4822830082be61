//! Providers and engines, by way of the `openssl` program: the library's bindings cannot load
//! them. A PIN is passed in the child's environment, never on its command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use blockdev::tool::{Run, SearchPath, Tool};

use super::{Certificate, KeySource, SignatureError};

const PIN_VARIABLE: &str = "DDI_KEY_PIN";

/// How the `openssl` program is found and started, if it is needed.
#[derive(Clone, Debug)]
pub struct Openssl {
    search: SearchPath,
    environment: Vec<(OsString, OsString)>,
}

/// A key that cannot be loaded, only used.
pub(super) struct RemoteKey {
    pub(super) source: KeySource,
    pub(super) name: String,
    pub(super) pin: Option<Vec<u8>>,
    pub(super) openssl: Openssl,
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKey({:?}, {:?})", self.source, self.name)
    }
}

impl Openssl {
    /// `environment` is all that the program sees of it: providers and engines find their
    /// configuration there (`OPENSSL_CONF`, `PKCS11_MODULE_PATH`, `SOFTHSM2_CONF`, …).
    pub fn new(
        search: SearchPath,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            search,
            environment: environment.into_iter().collect(),
        }
    }

    /// The certificate that a provider knows by a URI, as PEM.
    pub(super) fn certificate(&self, provider: &str, uri: &str) -> Result<Vec<u8>, SignatureError> {
        let run = self.start()?.args(["storeutl", "-certs"]).args([
            "-provider",
            provider,
            "-provider",
            "default",
            uri,
        ]);
        Ok(run.output()?.stdout)
    }

    fn start(&self) -> Result<Run, SignatureError> {
        let run = Tool::Openssl.require(&self.search)?.run();
        let set = |run: Run, (name, value): &(OsString, OsString)| run.env(name, value);
        Ok(self.environment.iter().fold(run, set))
    }
}

impl RemoteKey {
    /// Signs `text` and returns PKCS#7 in DER.
    pub(super) fn sign(
        &self,
        text: &[u8],
        certificate: &Certificate,
    ) -> Result<Vec<u8>, SignatureError> {
        let scratch = || {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(&certificate.to_pem()?)?;
            Ok(file)
        };
        let signer = scratch().map_err(SignatureError::Scratch)?;
        let mut run = self
            .openssl
            .start()?
            .args(["smime", "-sign", "-binary", "-noattr", "-outform", "DER"])
            .arg("-signer")
            .arg(signer.path())
            .args(["-inkey", &self.name]);
        run = match &self.source {
            KeySource::File => run,
            KeySource::Provider(name) => run.args(providers(name)),
            KeySource::Engine(name) => run.args(["-engine", name, "-keyform", "ENGINE"]),
        };
        if let Some(pin) = &self.pin {
            run = run
                .args(["-passin", &format!("env:{PIN_VARIABLE}")])
                .env(PIN_VARIABLE, OsStr::from_bytes(pin));
        }
        Ok(run.stdin(text).output()?.stdout)
    }
}

/// Loads the provider behind OpenSSL's own: a token's library that itself uses OpenSSL (SoftHSM
/// does) waits for ever where the provider comes first.
fn providers(name: &str) -> [&str; 4] {
    ["-provider", "default", "-provider", name]
}
