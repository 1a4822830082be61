//! TPM2 tokens and the files beside them: whatever is accepted is bounded, and is written back alike.
#![no_main]

use image_specs::tpm2::policy::MAX_BRANCHES;
use image_specs::tpm2::token::MAX_SHARDS;
use image_specs::tpm2::{PcrList, PcrSignatures, Pcrlock, Public, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(token)) = Token::parse(data) {
        assert!((1..=MAX_SHARDS).contains(&token.blobs.len()));
        assert_eq!(token.blobs.len(), token.policies.len());
        assert_eq!(Token::from_json(&token.to_json()), Ok(Some(token)));
    }
    if let Ok(signatures) = PcrSignatures::parse(data) {
        assert!(signatures.all().iter().all(|one| !one.signature.is_empty()));
    }
    if let Ok(lock) = Pcrlock::parse(data) {
        for one in &lock.predictions {
            assert!((1..=MAX_BRANCHES).contains(&one.values.len()));
            assert!(one.values.iter().all(|value| value.len() == lock.bank.size()));
        }
        let _ = (lock.digest(), lock.nv_name());
    }
    if let Ok(public) = Public::parse(data) {
        assert_eq!(public.encode().as_deref(), Ok(data));
    }
    if let Ok(list) = std::str::from_utf8(data).unwrap_or_default().parse::<PcrList>() {
        assert_eq!(list.to_string().parse(), Ok(list));
    }
});
