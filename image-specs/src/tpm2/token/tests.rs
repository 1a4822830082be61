use super::*;
use proptest::prelude::*;

/// Made by systemd-cryptenroll 262 with `--tpm2-pcrs=7 --tpm2-with-pin=yes`.
const WITH_PIN: &str = include_str!("with-pin.json");
/// Made by systemd-cryptenroll 262 with `--tpm2-pcrs=7+11`.
const PCRS: &str = include_str!("pcrs.json");

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn tokens_of_cryptenroll_are_read_and_written_back_alike() {
    for text in [WITH_PIN, PCRS] {
        let mut json = parsed(text);
        let token = Token::from_json(&json).unwrap().unwrap();
        json.as_object_mut().unwrap().shift_remove("keyslots");
        assert_eq!(token.to_json().to_string(), json.to_string());
    }
    let token = Token::from_json(&parsed(WITH_PIN)).unwrap().unwrap();
    assert_eq!(
        (token.pcrs, token.bank, token.primary, token.pin),
        (
            PcrSet::from_iter([7]),
            Some(Bank::Sha256),
            Primary::Ecc,
            true
        )
    );
    assert_eq!(
        token.argon2id,
        Some(Argon2id {
            memory: 664_444_198,
            iterations: 2,
            lanes: 2
        })
    );
}

#[test]
fn other_tokens_are_not_ours() {
    let json = json!({"type": "systemd-fido2", "keyslots": ["1"]});
    assert_eq!(Token::from_json(&json), Ok(None));
    assert_eq!(Token::from_json(&json!([])), Err(TokenError::NoObject));
}

#[test]
fn what_a_field_may_not_be_is_refused() {
    let long = "A".repeat(MAX_BLOB * 2);
    for (field, value) in [
        ("tpm2-blob", json!(null)),
        ("tpm2-blob", json!(7)),
        ("tpm2-blob", json!("not base64!")),
        ("tpm2-blob", json!("")),
        ("tpm2-blob", json!(long)),
        ("tpm2-blob", json!([])),
        ("tpm2-blob", json!(["AAAA", "AAAA"])),
        ("tpm2-blob", json!(["AAAA", "AAAA", "AAAA"])),
        ("tpm2-policy-hash", json!("00")),
        ("tpm2-policy-hash", json!({"0": 1})),
        ("tpm2-pcrs", json!([24])),
        ("tpm2-pcrs", json!(["7"])),
        ("tpm2-pcrs", json!(7)),
        ("tpm2-pcrs", json!([-1])),
        ("tpm2-pcr-bank", json!("md5")),
        ("tpm2-pcr-bank", json!(1)),
        ("tpm2-primary-alg", json!("dsa")),
        ("tpm2-pin", json!("yes")),
        ("tpm2_pcrlock", json!(1)),
        ("tpm2_salt", json!(17)),
        ("tpm2_srk", json!("")),
        ("tpm2_pubkey_pcrs", json!([11])),
        ("tpm2_pubkey", json!("AAAA")),
        ("tpm2_pubkey_ref", json!("initrd")),
        ("tpm2_pubkey_ref", json!("x".repeat(1025))),
        ("tpm2_argon2id_memcost", json!(-1)),
        ("tpm2_argon2id_iterations", json!(1_u64 << 32)),
        ("tpm2_argon2id_lanes", json!(null)),
    ] {
        let mut json = parsed(WITH_PIN);
        json[field] = value.clone();
        assert!(Token::from_json(&json).is_err(), "{field}: {value}");
    }
}

#[test]
fn a_signed_policy_comes_back() {
    let mut token = Token::from_json(&parsed(PCRS)).unwrap().unwrap();
    token.signed = Some(SignedPcrs {
        public_key: b"PEM".to_vec(),
        pcrs: PcrSet::from_iter([11]),
        reference: "initrd".to_owned(),
    });
    token.blobs.push(vec![1; 3]);
    token.policies.push([3; 32]);
    token.pcrlock = true;
    assert_eq!(Token::from_json(&token.to_json()), Ok(Some(token)));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}", field in "tpm2[-_][a-z_]{2,10}") {
        let mut json = parsed(WITH_PIN);
        json[field] = text.into();
        let _ = Token::from_json(&json);
    }
}
