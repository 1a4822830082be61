//! Random policies: what is calculated without the TPM is what the TPM reaches.

use std::fs;

use image_specs::tpm2::pcrlock::Prediction;
use image_specs::tpm2::{Bank, PcrList, PcrSet, Pcrlock, Token};
use luks::tpm2::{Device, Enrollment, Entropy, Sealer, Tpm2Error, Unsealing, enroll, unseal};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use testimages::swtpm::Swtpm;

const INDEX: u32 = 0x0180_0001;
/// Owner may write, owner may read.
const ATTRIBUTES: u32 = 0x0002_0002;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

fn seed() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn token(enrolled: &luks::tpm2::Enrolled) -> Token {
    Token::from_json(&enrolled.token).unwrap().unwrap()
}

#[test]
fn any_pcrs_of_any_bank_seal() {
    let tpm = Swtpm::start();
    for pcr in [0, 3, 7, 8, 11, 15, 16, 23] {
        tpm.tool(&format!("tpm2_pcrextend {pcr}:sha1={}", "01".repeat(20)));
        tpm.tool(&format!("tpm2_pcrextend {pcr}:sha384={}", "02".repeat(48)));
    }
    let device: Device = tpm.device().parse().unwrap();
    let lists = prop::collection::btree_set(0_u8..24, 1..24);
    let banks = prop::sample::select(&Bank::ALL[..]);
    runner(48)
        .run(&(lists, banks, seed()), |(pcrs, bank, seed)| {
            let list: Vec<String> = pcrs.iter().map(|pcr| format!("{pcr}:{bank}")).collect();
            let pcrs: PcrList = list.join("+").parse().unwrap();
            let sealer = Sealer::Tpm(device.clone());
            let enrollment = Enrollment {
                pcrs,
                ..Enrollment::default()
            };
            // Enrolling unseals once, so the calculated policy is the one that the TPM reaches.
            let enrolled = enroll(&enrollment, &sealer, Entropy::new(seed)).unwrap();
            prop_assert_eq!(token(&enrolled).bank, Some(bank));
            Ok(())
        })
        .unwrap();
}

/// What a PCR may have: some values, and perhaps the one that it has.
fn predictions() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    prop::collection::btree_map(0_u8..16, (0_u8..=7, prop::bool::weighted(0.9)), 1..6).prop_map(
        |map| {
            map.into_iter()
                .map(|(pcr, (more, now))| (pcr, more, now))
                .collect()
        },
    )
}

fn lock(wanted: &[(u8, u8, bool)]) -> Pcrlock {
    let predictions = wanted.iter().map(|(pcr, more, now)| {
        let mut values: Vec<Vec<u8>> = (1..=*more).map(|byte| vec![byte; 32]).collect();
        if *now {
            values.insert(values.len() / 2, vec![0; 32]);
        }
        if values.is_empty() {
            values.push(vec![99; 32]);
        }
        Prediction { pcr: *pcr, values }
    });
    let mut nv_public = INDEX.to_be_bytes().to_vec();
    nv_public.extend(Bank::Sha256.algorithm().to_be_bytes());
    nv_public.extend(ATTRIBUTES.to_be_bytes());
    nv_public.extend([0, 0, 0, 34]);
    Pcrlock {
        bank: Bank::Sha256,
        predictions: predictions.collect(),
        nv_index: INDEX,
        nv_handle: vec![1],
        nv_public,
    }
}

#[test]
fn any_predictions_hold_or_tell_which_do_not() {
    let tpm = Swtpm::start();
    let device: Device = tpm.device().parse().unwrap();
    tpm.tool(&format!(
        "tpm2_nvdefine {INDEX:#x} -C o -s 34 -a ownerread|ownerwrite"
    ));
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("digest");
    runner(32)
        .run(&(predictions(), seed()), |(wanted, seed)| {
            let lock = lock(&wanted);
            fs::write(&file, [&[0, 0x0b][..], &lock.digest().0].concat()).unwrap();
            tpm.tool(&format!(
                "tpm2_nvwrite {INDEX:#x} -C o -i {}",
                file.display()
            ));
            let enrollment = Enrollment {
                pcrlock: Some(lock.clone()),
                ..Enrollment::default()
            };
            let sealer = Sealer::Tpm(device.clone());
            let enrolled = enroll(&enrollment, &sealer, Entropy::new(seed)).unwrap();
            let unsealing = Unsealing {
                device: device.clone(),
                pcrlock: Some(&lock),
                ..Unsealing::default()
            };
            let other = Entropy::new(seed.map(|byte| !byte));
            let result = unseal(&token(&enrolled), &unsealing, other);
            let off: PcrSet = wanted
                .iter()
                .filter(|one| !one.2)
                .map(|one| one.0)
                .collect();
            match result {
                Ok(secret) => prop_assert!(off.is_empty() && secret == enrolled.secret),
                Err(Tpm2Error::Predictions(set)) => prop_assert_eq!(set, off),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
            Ok(())
        })
        .unwrap();
    let old = lock(&[(1, 0, true)]);
    let enrollment = Enrollment {
        pcrlock: Some(old.clone()),
        ..Enrollment::default()
    };
    let sealer = Sealer::Tpm(device.clone());
    let enrolled = enroll(&enrollment, &sealer, Entropy::new([1; 32])).unwrap();
    let unsealing = Unsealing {
        device,
        pcrlock: Some(&old),
        ..Unsealing::default()
    };
    let error = unseal(&token(&enrolled), &unsealing, Entropy::new([2; 32])).unwrap_err();
    assert!(matches!(error, Tpm2Error::OldPcrlock(INDEX)), "{error}");
}
