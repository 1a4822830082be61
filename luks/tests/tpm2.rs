//! Sealing and unsealing with a software TPM.

use image_specs::tpm2::token::{Argon2id, SignedPcrs};
use image_specs::tpm2::{PcrSet, PcrSignatures, Token};
use luks::Secret;
use luks::tpm2::{
    Device, Enrolled, Enrollment, Entropy, Pin, PinCost, Sealer, Tpm2Error, Unsealing, enroll,
    unseal,
};
use testimages::swtpm::Swtpm;

/// Each test has its own TPM; a stream of its own for each run.
fn entropy() -> Entropy {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let mut seed = [7; 32];
    seed[0] = NEXT.fetch_add(1, Ordering::Relaxed);
    Entropy::new(seed)
}

struct Bench {
    tpm: Swtpm,
    device: Device,
}

impl Bench {
    fn new() -> Self {
        let tpm = Swtpm::start();
        let device = tpm.device().parse().unwrap();
        Self { tpm, device }
    }

    fn enroll(&self, enrollment: &Enrollment) -> Enrolled {
        let sealer = Sealer::Tpm(self.device.clone());
        enroll(enrollment, &sealer, entropy()).unwrap()
    }

    fn unsealing(&self) -> Unsealing<'_> {
        Unsealing {
            device: self.device.clone(),
            ..Unsealing::default()
        }
    }

    fn unseal(&self, enrolled: &Enrolled) -> Result<Secret, Tpm2Error> {
        unseal(&token(enrolled), &self.unsealing(), entropy())
    }

    /// Nothing may be left in the TPM, which has three places only.
    fn is_clean(&self) {
        for what in ["handles-transient", "handles-loaded-session"] {
            let left = self.tpm.tool(&format!("tpm2_getcap {what}"));
            assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{what}");
        }
    }

    fn extend(&self, pcr: u8) {
        let digest = "11".repeat(32);
        self.tpm
            .tool(&format!("tpm2_pcrextend {pcr}:sha256={digest}"));
    }
}

fn token(enrolled: &Enrolled) -> Token {
    Token::from_json(&enrolled.token).unwrap().unwrap()
}

fn pin(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

#[test]
fn a_secret_comes_back_while_the_pcrs_stay() {
    let bench = Bench::new();
    for pcrs in ["", "7", "7+11:sha1", "0+1+2+3+4+5+6+7+8+9+10+11"] {
        let enrollment = Enrollment {
            pcrs: pcrs.parse().unwrap(),
            ..Enrollment::default()
        };
        let enrolled = bench.enroll(&enrollment);
        assert_eq!(enrolled.secret.len(), 44, "{pcrs}");
        assert_eq!(bench.unseal(&enrolled).unwrap(), enrolled.secret, "{pcrs}");
        assert_eq!(enrolled.unmeasured, !pcrs.is_empty());
        bench.is_clean();
    }
    let enrollment = Enrollment {
        pcrs: "7".parse().unwrap(),
        ..Enrollment::default()
    };
    let enrolled = bench.enroll(&enrollment);
    bench.extend(7);
    let error = bench.unseal(&enrolled).unwrap_err();
    assert!(
        matches!(error, Tpm2Error::Pcrs(set, _) if set == PcrSet::from_iter([7])),
        "{error}"
    );
    bench.is_clean();
    assert!(!bench.enroll(&enrollment).unmeasured);
}

#[test]
fn a_wrong_pin_counts_once_and_then_the_tpm_is_locked() {
    let bench = Bench::new();
    bench
        .tpm
        .tool("tpm2_dictionarylockout -s -n 3 -t 77 -l 100");
    for cost in [
        PinCost::Pbkdf2,
        PinCost::Argon2id(Argon2id {
            memory: 1 << 20,
            iterations: 2,
            lanes: 2,
        }),
    ] {
        let right = Pin {
            pin: pin("1234"),
            cost,
        };
        let enrolled = bench.enroll(&Enrollment {
            pin: Some(right.clone()),
            ..Enrollment::default()
        });
        let error = bench.unseal(&enrolled).unwrap_err();
        assert!(matches!(error, Tpm2Error::PinNeeded));
        let try_pin = |text: &str| {
            let typed = pin(text);
            let unsealing = Unsealing {
                pin: Some(&typed),
                ..bench.unsealing()
            };
            unseal(&token(&enrolled), &unsealing, entropy())
        };
        assert_eq!(try_pin("1234").unwrap(), enrolled.secret);
        let error = try_pin("0000").unwrap_err();
        assert!(matches!(error, Tpm2Error::WrongPin(Some(2))), "{error}");
        assert_eq!(try_pin("1234").unwrap(), enrolled.secret);
        bench.is_clean();
        bench.tpm.tool("tpm2_dictionarylockout -c");
        if cost == PinCost::Pbkdf2 {
            continue;
        }
        for left in [2, 1, 0] {
            let error = try_pin("4321").unwrap_err();
            assert!(
                matches!(error, Tpm2Error::WrongPin(Some(n)) if n == left),
                "{error}"
            );
            let message = format!("{error} {error:?}");
            assert!(!message.contains("4321"), "{message}");
        }
        let error = try_pin("1234").unwrap_err();
        assert!(matches!(error, Tpm2Error::Lockout(Some(77))), "{error}");
        assert!(error.to_string().contains("77 seconds"), "{error}");
        bench.is_clean();
    }
}

#[test]
fn a_tpm_that_is_away_seals_by_its_public_key() {
    let bench = Bench::new();
    // Makes the storage root key.
    bench.enroll(&Enrollment::default());
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("key");
    bench.tpm.tool(&format!(
        "tpm2_readpublic -c 0x81000001 -o {}",
        file.display()
    ));
    let key = Sealer::PublicKey(std::fs::read(&file).unwrap());
    let zeros = "0".repeat(64);
    let right = Pin {
        pin: pin("geheim"),
        cost: PinCost::Pbkdf2,
    };
    for used in [None, Some(&right)] {
        let enrollment = Enrollment {
            pcrs: format!("7:sha256={zeros}").parse().unwrap(),
            pin: used.cloned(),
            ..Enrollment::default()
        };
        let enrolled = enroll(&enrollment, &key, entropy()).unwrap();
        let unsealing = Unsealing {
            pin: used.map(|pin| &pin.pin),
            ..bench.unsealing()
        };
        let secret = unseal(&token(&enrolled), &unsealing, entropy()).unwrap();
        assert_eq!(secret, enrolled.secret);
        bench.is_clean();
        let other = Bench::new();
        other.enroll(&Enrollment::default());
        let elsewhere = Unsealing {
            device: other.device.clone(),
            ..unsealing
        };
        let error = unseal(&token(&enrolled), &elsewhere, entropy()).unwrap_err();
        assert!(matches!(error, Tpm2Error::OtherTpm), "{error}");
    }
    let open = Enrollment {
        pcrs: "7".parse().unwrap(),
        ..Enrollment::default()
    };
    let error = enroll(&open, &key, entropy()).unwrap_err();
    assert!(matches!(error, Tpm2Error::Values(_)), "{error}");
}

#[test]
fn rsa_keys_seal_too() {
    let bench = Bench::new();
    let scratch = tempfile::tempdir().unwrap();
    let context = scratch.path().join("context");
    let context = context.display();
    let attributes =
        "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda";
    bench.tpm.tool(&format!(
        "tpm2_createprimary -G rsa2048:aes128cfb -a '{attributes}' -c {context}"
    ));
    bench
        .tpm
        .tool(&format!("tpm2_evictcontrol -c {context} 0x81000123"));
    bench.tpm.tool("tpm2_flushcontext -t");
    let right = Pin {
        pin: pin("pin"),
        cost: PinCost::Pbkdf2,
    };
    let enrollment = Enrollment {
        pin: Some(right.clone()),
        key_handle: Some(0x8100_0123),
        ..Enrollment::default()
    };
    let enrolled = bench.enroll(&enrollment);
    assert_eq!(enrolled.token["tpm2-primary-alg"], "rsa");
    let unsealing = Unsealing {
        pin: Some(&right.pin),
        ..bench.unsealing()
    };
    assert_eq!(
        unseal(&token(&enrolled), &unsealing, entropy()).unwrap(),
        enrolled.secret
    );
    let file = scratch.path().join("key");
    bench.tpm.tool(&format!(
        "tpm2_readpublic -c 0x81000123 -o {}",
        file.display()
    ));
    let key = Sealer::PublicKey(std::fs::read(&file).unwrap());
    let enrolled = enroll(&enrollment, &key, entropy()).unwrap();
    assert_eq!(
        unseal(&token(&enrolled), &unsealing, entropy()).unwrap(),
        enrolled.secret
    );
    bench.is_clean();
    for (handle, wanted) in [
        (0x8100_0999, "has no key at 0x81000999"),
        (0x4000_0001, "no handle"),
    ] {
        let enrollment = Enrollment {
            key_handle: Some(handle),
            ..Enrollment::default()
        };
        let sealer = Sealer::Tpm(bench.device.clone());
        let error = enroll(&enrollment, &sealer, entropy()).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn an_absent_tpm_is_told() {
    for (device, wanted) in [
        ("/nowhere/tpmrm0", "there is no TPM at /nowhere/tpmrm0"),
        (
            "swtpm:path=/nowhere/socket",
            "cannot talk to the TPM swtpm:path=/nowhere/socket",
        ),
    ] {
        let sealer = Sealer::Tpm(device.parse().unwrap());
        let error = enroll(&Enrollment::default(), &sealer, entropy()).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn signed_policies_need_a_fitting_signature() {
    let bench = Bench::new();
    let key = openssl::rsa::Rsa::generate(2048).unwrap();
    let signed = SignedPcrs {
        public_key: key.public_key_to_pem().unwrap(),
        pcrs: PcrSet::from_iter([11]),
        reference: String::new(),
    };
    let enrolled = bench.enroll(&Enrollment {
        signed: Some(signed),
        ..Enrollment::default()
    });
    let error = bench.unseal(&enrolled).unwrap_err();
    assert!(matches!(error, Tpm2Error::SignatureNeeded), "{error}");
    let none = PcrSignatures::parse(b"{}").unwrap();
    let unsealing = Unsealing {
        signatures: Some(&none),
        ..bench.unsealing()
    };
    let error = unseal(&token(&enrolled), &unsealing, entropy()).unwrap_err();
    assert!(matches!(error, Tpm2Error::Signature(_)), "{error}");
    bench.is_clean();
}
