//! Sealing and measuring by the kernel's device, in a machine with a TPM.

use std::fs;
use std::path::Path;

use image_specs::tpm2::{Bank, Token};
use luks::Secret;
use luks::tpm2::measure::{Measurement, Place, measure};
use luks::tpm2::{
    Device, Enrollment, Entropy, Pin, PinCost, Sealer, Tpm, Tpm2Error, Unsealing, device, enroll,
    unseal,
};
use testimages::guest::{Guest, SCRATCH};

#[test]
fn the_kernels_tpm_seals_and_measures() {
    testimages::in_guest!(Guest::Qemu.with::<&str>(&[]).tpm());
    let listed = device::list(Path::new("/sys/class/tpmrm")).unwrap();
    assert_eq!(listed[0].path, Path::new("/dev/tpmrm0"));
    let pin = |text: &str| Secret::new(text.as_bytes().to_vec());
    let enrollment = Enrollment {
        pcrs: "7+15".parse().unwrap(),
        pin: Some(Pin {
            pin: pin("1234"),
            cost: PinCost::Pbkdf2,
        }),
        ..Enrollment::default()
    };
    let mut seeds = 1..;
    let mut entropy = || Entropy::new([seeds.next().unwrap(); 32]);
    let sealer = Sealer::Tpm(Device::Auto);
    let enrolled = enroll(&enrollment, &sealer, entropy()).unwrap();
    let token = Token::from_json(&enrolled.token).unwrap().unwrap();
    let mut attempt = |text: &str| {
        let pin = pin(text);
        let unsealing = Unsealing {
            pin: Some(&pin),
            ..Unsealing::default()
        };
        unseal(&token, &unsealing, entropy())
    };
    let wrong = attempt("0000").unwrap_err();
    assert!(matches!(wrong, Tpm2Error::WrongPin(Some(_))), "{wrong}");
    assert_eq!(attempt("1234").unwrap(), enrolled.secret);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let place = Place {
        pcr: 15,
        banks: &[Bank::Sha256],
        log: Path::new(SCRATCH).join("log"),
        boot_id: boot.trim().replace('-', ""),
        since_boot: 1,
    };
    let mut tpm = Tpm::open(&Device::Auto, Entropy::new([99; 32])).unwrap();
    let measurement = Measurement::root_hash("root", &[7; 32]);
    let done = measure(&mut tpm, &measurement, &place).unwrap();
    done.record.unwrap();
    let value = [&[0; 32][..], &done.digests[0].1].concat();
    let wanted = hex::encode_upper(openssl::sha::sha256(&value));
    let told = fs::read_to_string("/sys/class/tpm/tpm0/pcr-sha256/15").unwrap();
    assert_eq!(told.trim(), wanted);
    let moved = attempt("1234").unwrap_err();
    assert!(matches!(moved, Tpm2Error::Pcrs(..)), "{moved}");
}
