//! Signs a root hash: `sign HASH KEY KEY-SOURCE CERTIFICATE CERTIFICATE-SOURCE`, with the key's
//! passphrase or PIN in `PIN`. Writes PKCS#7 in DER.

use std::error::Error;
use std::io::Write;

use blockdev::tool::SearchPath;
use veritysetup::RootHash;
use veritysetup::signature::{Certificate, Openssl, Signer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [hash, key, key_source, certificate, certificate_source] = args.as_slice() else {
        return Err("usage: sign HASH KEY KEY-SOURCE CERTIFICATE CERTIFICATE-SOURCE".into());
    };
    let search = SearchPath::new(std::env::var_os("PATH").as_deref());
    let openssl = Openssl::new(search, std::env::vars_os());
    let certificate = Certificate::load(certificate, &certificate_source.parse()?, &openssl)?;
    let pin = std::env::var("PIN").ok();
    let pin = pin.as_deref().map(str::as_bytes);
    let signer = Signer::load(key, &key_source.parse()?, certificate, pin, &openssl)?;
    let root: RootHash = hash.parse()?;
    std::io::stdout().write_all(signer.sign(&root)?.as_der())?;
    Ok(())
}
