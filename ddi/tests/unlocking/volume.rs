//! Encrypted volumes for tests, made without a kernel.

use std::fs;
use std::path::Path;

use blockdev::io::{ReadAt, Window};
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::bulk::{Authenticated, Cipher};
use luks::integrity::offline::{Before, Formatted};
use luks::key::RecoveryKey;
use luks::tpm2::{self, Enrollment, Entropy, Pin, PinCost, Sealer};
use luks::{DATA_OFFSET, Format, Header, Kdf, Secret, VolumeKey};

/// What a volume is to be like.
pub(crate) struct Volume {
    /// What opens it.
    pub(crate) passphrases: Vec<Vec<u8>>,
    /// Bytes that are encrypted at a time.
    pub(crate) sector: u64,
    /// Whether they are authenticated as well.
    pub(crate) authenticated: bool,
    /// A TPM that opens it, too: its name, the PCRs that it must have, and a PIN.
    pub(crate) tpm2: Option<(String, &'static str, Option<&'static str>)>,
    /// A token that is for no passphrase of ours.
    pub(crate) token: Option<serde_json::Value>,
    /// A recovery key that opens it, too.
    pub(crate) recovery: Option<RecoveryKey>,
}

impl Volume {
    pub(crate) fn new() -> Self {
        Self {
            passphrases: Vec::new(),
            sector: 512,
            authenticated: false,
            tpm2: None,
            token: None,
            recovery: None,
        }
    }
}

/// Writes `plain`, encrypted, with its header to `target`.
pub(crate) fn encrypt(plain: &Path, target: &Path, volume: &Volume) {
    let mut data = fs::read(plain).unwrap();
    data.resize(data.len().next_multiple_of(4096), 0);
    let room = match volume.authenticated {
        true => Bytes::mib(8).saturating_add(Bytes::new(data.len().try_into().unwrap())),
        false => Bytes::new(data.len().try_into().unwrap()),
    };
    let size = DATA_OFFSET.saturating_add(room);
    let format = Format {
        size,
        label: "test".to_owned(),
        uuid: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
        cipher: "aes-xts-plain64".to_owned(),
        volume_key: VolumeKey::new(Secret::new(
            (0..if volume.authenticated { 96 } else { 64 }).collect(),
        )),
        sector_size: SectorSize::new(volume.sector).unwrap(),
        allow_discards: false,
    };
    let header = match volume.authenticated {
        true => Header::format_authenticated(&format),
        false => Header::format(&format),
    };
    let mut header = header.unwrap();
    for passphrase in &volume.passphrases {
        let secret = Secret::new(passphrase.clone());
        header.add_passphrase(&secret, Kdf::Minimal).unwrap();
    }
    if let Some((device, pcrs, pin)) = &volume.tpm2 {
        seal(&mut header, device, pcrs, *pin);
    }
    if let Some(token) = &volume.token {
        header.add_token(token).unwrap();
    }
    if let Some(recovery) = &volume.recovery {
        recovery.add_to(&mut header).unwrap();
    }
    let key = header.volume_key().unwrap().clone();
    let (segment, _) = header.segments()[0];
    let mut all = header.bytes().unwrap();
    all.resize(usize::try_from(size.get()).unwrap(), 0);
    if volume.authenticated {
        let cipher = Authenticated::new(&key, segment).unwrap();
        let below = Formatted::below(cipher, segment.sector_size, room).unwrap();
        let source: (&dyn ReadAt, Bytes) = (&data, Bytes::new(data.len().try_into().unwrap()));
        let mut window = Window::new(&mut all, Extent::new(DATA_OFFSET, room));
        let written = below.write(source, &mut window, Before::Zeros, &mut |_| true);
        assert!(written.unwrap());
    } else {
        let cipher = Cipher::new(&key, segment).unwrap();
        cipher.encrypt(&mut data, 0).unwrap();
        all[usize::try_from(DATA_OFFSET.get()).unwrap()..].copy_from_slice(&data);
    }
    fs::write(target, all).unwrap();
}

fn seal(header: &mut Header, device: &str, pcrs: &str, pin: Option<&str>) {
    let enrollment = Enrollment {
        pcrs: pcrs.parse().unwrap(),
        signed: None,
        pcrlock: None,
        pin: pin.map(|pin| Pin {
            pin: Secret::new(pin.as_bytes().to_vec()),
            cost: PinCost::Pbkdf2,
        }),
        key_handle: None,
    };
    let sealer = Sealer::Tpm(device.parse().unwrap());
    let enrolled = tpm2::enroll(&enrollment, &sealer, Entropy::new([7; 32])).unwrap();
    let slot = header
        .add_passphrase(&enrolled.secret, Kdf::Minimal)
        .unwrap();
    let mut token = enrolled.token;
    token["keyslots"] = serde_json::json!([slot.to_string()]);
    header.add_token(&token).unwrap();
}
