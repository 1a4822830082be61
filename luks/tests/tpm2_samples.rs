//! Tokens that systemd-cryptenroll 262 and 252 made on one software TPM, whose state is kept beside them.

use image_specs::tpm2::{PcrSet, PcrSignatures, Pcrlock, Token};
use luks::Secret;
use luks::tpm2::{Entropy, Tpm2Error, Unsealing, unseal};
use serde_json::Value;
use testimages::swtpm::Swtpm;

const STATE: &[u8] = include_bytes!("tpm2_samples/state");
const SAMPLES: &str = include_str!("tpm2_samples/samples.json");
const SIGNATURES: &[u8] = include_bytes!("tpm2_samples/sig.json");
const PCRLOCK: &[u8] = include_bytes!("tpm2_samples/pcrlock.json");

fn samples() -> Vec<Value> {
    serde_json::from_str(SAMPLES).unwrap()
}

/// Unseals each sample, with a stream of random bytes for each.
fn each(tpm: &Swtpm, check: impl Fn(&Value, &Token, Result<Secret, Tpm2Error>)) {
    let signatures = PcrSignatures::parse(SIGNATURES).unwrap();
    let pcrlock = Pcrlock::parse(PCRLOCK).unwrap();
    let pin = Secret::new(b"geheim".to_vec());
    let unsealing = Unsealing {
        device: tpm.device().parse().unwrap(),
        pin: Some(&pin),
        signatures: Some(&signatures),
        pcrlock: Some(&pcrlock),
    };
    for (seed, sample) in (1..).zip(samples()) {
        let token = Token::from_json(&sample["token"]).unwrap().unwrap();
        let secret = unseal(&token, &unsealing, Entropy::new([seed; 32]));
        check(&sample, &token, secret);
    }
}

#[test]
fn the_tpm_that_made_them_opens_them() {
    let tpm = Swtpm::with_state(STATE);
    assert!(samples().len() >= 17);
    each(&tpm, |sample, _, secret| {
        let secret = secret.unwrap_or_else(|error| panic!("{}: {error}", sample["name"]));
        assert_eq!(
            secret.expose(),
            sample["passphrase"].as_str().unwrap().as_bytes()
        );
    });
}

#[test]
fn other_values_of_pcrs_close_what_is_bound_to_them() {
    let tpm = Swtpm::with_state(STATE);
    for pcr in [7, 11, 16] {
        let digest = "11".repeat(32);
        tpm.tool(&format!(
            "tpm2_pcrextend {pcr}:sha1={},sha256={digest}",
            "11".repeat(20)
        ));
    }
    each(&tpm, |sample, token, secret| {
        let open = token.pcrs.is_empty() && token.signed.is_none() && !token.pcrlock;
        match secret {
            Ok(_) => assert!(open, "{sample}"),
            Err(Tpm2Error::Signature(_)) => assert!(token.signed.is_some(), "{sample}"),
            Err(Tpm2Error::Predictions(set)) => {
                assert!(token.pcrlock && set == PcrSet::from_iter([16]), "{sample}");
            }
            Err(Tpm2Error::Pcrs(set, _)) => assert_eq!(set, token.pcrs, "{sample}"),
            Err(error) => panic!("{sample}: {error}"),
        }
    });
}

#[test]
fn another_tpm_opens_none() {
    let tpm = Swtpm::start();
    each(&tpm, |sample, token, secret| {
        let error = secret.unwrap_err();
        let told = match token.srk {
            Some(_) => matches!(error, Tpm2Error::NoKey(0x8100_0001)),
            None => matches!(error, Tpm2Error::OtherTpm),
        };
        assert!(told, "{}: {error}", sample["name"]);
    });
}
