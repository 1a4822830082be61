//! Providers and engines, by way of the `openssl` program: the library's bindings cannot load
//! them. A PIN is passed in the child's environment, never on its command line.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Output, Stdio};

use super::{Certificate, KeySource, SignatureError};

const PIN_VARIABLE: &str = "DDI_KEY_PIN";

/// A key that cannot be loaded, only used.
pub(super) struct RemoteKey {
    pub(super) source: KeySource,
    pub(super) name: String,
    pub(super) pin: Option<Vec<u8>>,
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKey({:?}, {:?})", self.source, self.name)
    }
}

/// The certificate that a provider knows by a URI, as PEM.
pub(super) fn certificate(provider: &str, uri: &str) -> Result<Vec<u8>, SignatureError> {
    let mut command = Command::new("openssl");
    command
        .args(["storeutl", "-certs"])
        .args(["-provider", provider, "-provider", "default", uri]);
    run("read the certificate", command, &[])
}

/// Signs `text` and returns PKCS#7 in DER.
pub(super) fn sign(
    text: &[u8],
    key: &RemoteKey,
    certificate: &Certificate,
) -> Result<Vec<u8>, SignatureError> {
    let action = "sign the root hash";
    let start = |source| SignatureError::Start { action, source };
    let mut signer = tempfile::NamedTempFile::new().map_err(start)?;
    signer.write_all(&certificate.to_pem()?).map_err(start)?;
    let mut command = Command::new("openssl");
    command
        .args(["smime", "-sign", "-binary", "-noattr", "-outform", "DER"])
        .arg("-signer")
        .arg(signer.path())
        .args(["-inkey", &key.name]);
    match &key.source {
        KeySource::File => {}
        KeySource::Provider(name) => {
            command.args(["-provider", name, "-provider", "default"]);
        }
        KeySource::Engine(name) => {
            command.args(["-engine", name, "-keyform", "ENGINE"]);
        }
    }
    if let Some(pin) = &key.pin {
        command
            .args(["-passin", &format!("env:{PIN_VARIABLE}")])
            .env(PIN_VARIABLE, OsStr::from_bytes(pin));
    }
    run(action, command, text)
}

fn run(
    action: &'static str,
    mut command: Command,
    input: &[u8],
) -> Result<Vec<u8>, SignatureError> {
    let output = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| feed(child, input))
        .map_err(|source| SignatureError::Start { action, source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let arguments: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    Err(SignatureError::Program {
        action,
        arguments: arguments.join(" "),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn feed(mut child: Child, input: &[u8]) -> io::Result<Output> {
    if let Some(mut stdin) = child.stdin.take() {
        // A root hash fits the pipe; a child that does not read it tells why by itself.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}
