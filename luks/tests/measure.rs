//! Measuring into the PCRs of a software TPM, and the record of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use image_specs::tpm2::Bank;
use luks::tpm2::measure::{
    MeasureError, Measurement, Place, RecordError, SYSTEM_IDENTITY, measure,
};
use luks::tpm2::{Entropy, Tpm};
use luks::{Secret, VolumeKey};
use openssl::sha::sha256;
use serde_json::Value;
use testimages::swtpm::Swtpm;

const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn open(swtpm: &Swtpm, seed: u8) -> Tpm {
    Tpm::open(&swtpm.device().parse().unwrap(), Entropy::new([seed; 32])).unwrap()
}

fn place(log: &Path) -> Place<'static> {
    Place {
        pcr: SYSTEM_IDENTITY,
        banks: &[],
        log: log.to_owned(),
        boot_id: "0123456789abcdef0123456789abcdef".to_owned(),
        since_boot: 77,
    }
}

fn records(log: &Path) -> Vec<Value> {
    let bytes = fs::read(log).unwrap();
    let records = bytes.split(|byte| *byte == 0x1e).skip(1);
    records
        .map(|text| serde_json::from_slice(text).unwrap())
        .collect()
}

/// The PCR's value in the SHA-256 bank, as the TPM tells it.
fn pcr(swtpm: &Swtpm) -> String {
    let output = swtpm.tool("tpm2_pcrread sha256:15");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("0x").nth(1).unwrap().trim().to_lowercase()
}

#[test]
fn a_volume_key_is_measured_without_telling_it() {
    let swtpm = Swtpm::start();
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log/systemd/tpm2-measure.log");
    let key = VolumeKey::new(Secret::new(vec![7; 64]));
    let measurement = Measurement::volume_key(&key, "a:b", UUID).unwrap();
    let done = measure(&mut open(&swtpm, 1), &measurement, &place(&log)).unwrap();
    done.record.unwrap();
    let banks: Vec<Bank> = done.digests.iter().map(|(bank, _)| *bank).collect();
    assert_eq!(banks, Bank::ALL);
    let (_, digest) = done
        .digests
        .iter()
        .find(|(bank, _)| *bank == Bank::Sha256)
        .unwrap();
    assert_eq!(hex::encode(digest), key.fixate_hash("a:b", UUID).unwrap());
    let extended = sha256(&[&[0; 32][..], digest].concat());
    assert_eq!(pcr(&swtpm), hex::encode(extended));
    let records = records(&log);
    assert_eq!(records.len(), 1);
    let text = format!("cryptsetup:a\\x3ab:{UUID}");
    assert_eq!(records[0]["content"]["string"], text);
    assert_eq!(records[0]["content"]["eventType"], "volume-key");
    assert_eq!(records[0]["digests"].as_array().unwrap().len(), 4);
    assert_eq!(
        fs::metadata(&log).unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[test]
fn records_stand_in_the_order_of_the_pcr() {
    let swtpm = Swtpm::start();
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log");
    std::thread::scope(|scope| {
        for seed in 1..=8 {
            let (swtpm, log) = (&swtpm, &log);
            scope.spawn(move || {
                let measurement = Measurement::root_hash("root", &[seed; 32]);
                let done = measure(&mut open(swtpm, seed), &measurement, &place(log)).unwrap();
                done.record.unwrap();
            });
        }
    });
    let records = records(&log);
    assert_eq!(records.len(), 8);
    let mut value = [0; 32];
    for record in records {
        let digests = record["digests"].as_array().unwrap();
        let digest = digests
            .iter()
            .find(|one| one["hashAlg"] == "sha256")
            .unwrap();
        let digest = hex::decode(digest["digest"].as_str().unwrap()).unwrap();
        value = sha256(&[&value[..], &digest].concat());
    }
    assert_eq!(pcr(&swtpm), hex::encode(value));
}

#[test]
fn a_log_that_cannot_be_kept_is_told_and_the_pcr_is_extended() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm, 1);
    let scratch = tempfile::tempdir().unwrap();
    let torn = scratch.path().join("torn");
    fs::write(&torn, "half a rec").unwrap();
    fs::set_permissions(&torn, fs::Permissions::from_mode(0o1600)).unwrap();
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(&torn, &link).unwrap();
    let measurement = Measurement::root_hash("root", &[1]);
    for (log, wanted) in [(&torn, "not whole"), (&link, "cannot write")] {
        let before = pcr(&swtpm);
        let done = measure(&mut tpm, &measurement, &place(log)).unwrap();
        let error: RecordError = done.record.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert_ne!(pcr(&swtpm), before);
    }
    assert_eq!(fs::read(&torn).unwrap(), b"half a rec");
}

#[test]
fn a_refusal_leaves_the_log_whole() {
    let swtpm = Swtpm::start();
    let mut tpm = open(&swtpm, 1);
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log");
    let measurement = Measurement::root_hash("root", &[1]);
    // PCR 17 belongs to another locality.
    let foreign = Place {
        pcr: 17,
        ..place(&log)
    };
    let error = measure(&mut tpm, &measurement, &foreign).unwrap_err();
    assert!(matches!(error, MeasureError::Tpm(_)), "{error}");
    assert_eq!(
        fs::metadata(&log).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let missing = Place {
        pcr: 24,
        ..place(&log)
    };
    let error = measure(&mut tpm, &measurement, &missing).unwrap_err();
    assert!(matches!(error, MeasureError::NoBank(24)), "{error}");
    measure(&mut tpm, &measurement, &place(&log))
        .unwrap()
        .record
        .unwrap();
    assert_eq!(records(&log).len(), 1);
}
