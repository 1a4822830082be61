//! systemd-cryptenroll's TPM2 tokens and ours, each opened by the other, on one software TPM.
//!
//! Needs root, and the newest systemd in the folder that `DDI_PEER_ROOT` names: `make peer-test`. Where
//! `DDI_TPM2_SAMPLES` names a folder, the tokens of systemd's making are kept there, with the TPM's
//! state: `luks/tests/tpm2_samples` is from there.

mod bench;

use std::fs;

use luks::tpm2::Tpm;
use luks::tpm2::measure::{Measurement, Place, measure};
use serde_json::Value;

use bench::{Bench, Placed, entropy, succeeds};

const PIN: &str = "geheim";
const IGNORED: &str = "needs root and the newest systemd";

/// What a key is sealed to; the same words for both sides.
#[derive(Clone, Copy, Default)]
struct Case {
    name: &'static str,
    pcrs: &'static str,
    pin: Option<Cost>,
    signed: Option<&'static str>,
    pcrlock: bool,
    offline: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Cost {
    Pbkdf2,
    Argon2id,
}

const NOTHING: Case = Case {
    name: "TPM only",
    pcrs: "",
    pin: None,
    signed: None,
    pcrlock: false,
    offline: false,
};

const CASES: &[Case] = &[
    NOTHING,
    Case {
        name: "PCRs",
        pcrs: "7+11",
        ..NOTHING
    },
    Case {
        name: "PCRs of SHA-1",
        pcrs: "0+7:sha1",
        ..NOTHING
    },
    Case {
        name: "PIN by Argon2id",
        pcrs: "7",
        pin: Some(Cost::Argon2id),
        ..NOTHING
    },
    Case {
        name: "PIN by PBKDF2",
        pin: Some(Cost::Pbkdf2),
        ..NOTHING
    },
    Case {
        name: "signed PCRs",
        signed: Some(""),
        ..NOTHING
    },
    Case {
        name: "signed PCRs with reference",
        signed: Some("initrd"),
        ..NOTHING
    },
    Case {
        name: "signed PCRs, PCRs and PIN",
        pcrs: "7",
        pin: Some(Cost::Argon2id),
        signed: Some(""),
        ..NOTHING
    },
    Case {
        name: "pcrlock",
        pcrlock: true,
        ..NOTHING
    },
    Case {
        name: "pcrlock and PIN",
        pcrlock: true,
        pin: Some(Cost::Argon2id),
        ..NOTHING
    },
    Case {
        name: "pcrlock and signed PCRs",
        pcrlock: true,
        signed: Some(""),
        ..NOTHING
    },
    Case {
        name: "pcrlock, signed PCRs, PCRs and PIN",
        pcrlock: true,
        signed: Some("initrd"),
        pcrs: "7",
        pin: Some(Cost::Argon2id),
        ..NOTHING
    },
    Case {
        name: "public key of the TPM",
        offline: true,
        ..NOTHING
    },
    Case {
        name: "public key of the TPM, PCRs, signed PCRs and PIN",
        offline: true,
        pcrs: "7:sha256=0000000000000000000000000000000000000000000000000000000000000000",
        signed: Some(""),
        pin: Some(Cost::Argon2id),
        ..NOTHING
    },
];

#[test]
#[ignore = "needs root and the newest systemd: make peer-test"]
fn each_opens_what_the_other_enrolls() {
    let bench = Bench::new();
    // systemd looks for these two in their usual places only.
    let _placed = [
        Placed::new(&bench, "sig.json", "tpm2-pcr-signature.json"),
        Placed::new(&bench, "pcrlock.json", "pcrlock.json"),
    ];
    for case in CASES {
        println!("{}: systemd enrolls, we unseal", case.name);
        bench.theirs(case);
        println!("{}: we enroll, systemd unseals", case.name);
        bench.ours(case);
    }
    for options in [
        &["--tpm2-pcrs=7"][..],
        &["--tpm2-pcrs=", "--tpm2-with-pin=yes"],
        &[
            "--tpm2-pcrs=7",
            "--tpm2-public-key=pub.pem",
            "--tpm2-public-key-pcrs=11",
        ],
    ] {
        println!("older systemd enrolls, we unseal: {options:?}");
        bench.older(options);
    }
    println!("systemd enrolls a PIN as it is, we unseal");
    bench.otherwise(&["--tpm2-pcrs=", "--tpm2-with-pin=direct"]);
    bench.keep();
}

/// systemd's record of a measurement and ours, in one log, which then explains the PCR.
#[test]
#[ignore = "needs root and the newest systemd: make peer-test"]
fn measurements_are_recorded_alike() {
    let bench = Bench::new();
    let mut theirs = bench.peer("/usr/lib/systemd/systemd-pcrextend");
    theirs.arg(format!("--tpm2-device={}", bench.tpm.device()));
    theirs.args(["--pcr=15", "--event-type=dm-verity", "verity:root:0707"]);
    succeeds(theirs.env("SYSTEMD_FORCE_MEASURE", "1"));
    let log = bench.path("log");
    let records = || -> Vec<Value> {
        let bytes = fs::read(&log).unwrap();
        let records = bytes.split(|byte| *byte == 0x1e).skip(1);
        records
            .map(|text| serde_json::from_slice(text).unwrap())
            .collect()
    };
    let first = records().remove(0);
    let content = &first["content"];
    let place = Place {
        pcr: 15,
        banks: &[],
        log: log.clone(),
        boot_id: content["bootId"].as_str().unwrap().to_owned(),
        since_boot: content["timestamp"].as_u64().unwrap(),
    };
    let measurement = Measurement::root_hash("root", &[7, 7]);
    let mut tpm = Tpm::open(&bench.device(), entropy()).unwrap();
    measure(&mut tpm, &measurement, &place)
        .unwrap()
        .record
        .unwrap();
    let both = records();
    assert_eq!(both[0].to_string(), both[1].to_string());
    let mut show = bench.peer("/usr/lib/systemd/systemd-pcrlock");
    let shown = succeeds(show.args(["log", "--json=short", "--pcr=15"]));
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let log = shown["log"].as_array().unwrap();
    assert_eq!(
        log.iter().filter(|record| record["pcr"] == 15).count(),
        2,
        "{shown}"
    );
}
