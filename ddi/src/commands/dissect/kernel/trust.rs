//! Who may say that a root hash is signed: the kernel, and the certificates of `verity.d`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dissect::Rules;
use dissect::activate::Trust;
use image_specs::conf::boolean;
use veritysetup::signature::{Certificate, CertificateSource};

use crate::commands::dissect::{DissectArgs, environment};
use crate::commands::repart_sign;
use crate::exit::Failure;

/// Where certificates lie; a file hides those of its name in the directories after it.
const FOLDERS: [&str; 4] = [
    "/etc/verity.d",
    "/run/verity.d",
    "/usr/local/lib/verity.d",
    "/usr/lib/verity.d",
];

/// The trust that options, environment and kernel command line make.
pub(super) fn trust(args: &DissectArgs, rules: &Rules) -> Result<Trust, Failure> {
    let signatures = environment::switch("SYSTEMD_DISSECT_VERITY_SIGNATURE")?;
    let userspace = signatures && rules.userspace_verity && userspace_allowed();
    let mut certificates = Vec::new();
    if userspace {
        for path in files(&FOLDERS)? {
            certificates.push(load(&path)?);
        }
        for path in &args.verification.certificate {
            certificates.push(load(path)?);
        }
    }
    Ok(Trust {
        kernel: signatures,
        userspace,
        certificates,
    })
}

fn load(path: &Path) -> Result<Certificate, Failure> {
    let name = path.display().to_string();
    let openssl = repart_sign::openssl();
    Ok(Certificate::load(
        &name,
        &CertificateSource::File,
        &openssl,
    )?)
}

/// `*.crt`, sorted by name.
fn files(folders: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::message(format!("cannot read {folder}: {error}"))),
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "crt")
                && let Some(name) = path.file_name()
            {
                found.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// `systemd.allow_userspace_verity=` of the kernel command line; the last counts.
fn userspace_allowed() -> bool {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let values = line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("systemd.allow_userspace_verity="));
    values
        .filter_map(|value| boolean(value).ok())
        .next_back()
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        for path in [
            first.join("x.crt"),
            second.join("x.crt"),
            second.join("w.crt"),
        ] {
            fs::write(path, "").unwrap();
        }
        fs::write(second.join("y.pem"), "").unwrap();
        let folders = [
            first.to_str().unwrap(),
            "/no/such",
            second.to_str().unwrap(),
        ];
        let found = files(&folders).unwrap();
        assert_eq!(found, [second.join("w.crt"), first.join("x.crt")]);
    }
}
