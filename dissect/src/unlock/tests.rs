//! Who is asked, how often, and which headers are not taken at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use image_specs::units::{Extent, SectorSize};
use luks::{Format, Kdf, Secret};

use super::*;

const SIZE: Bytes = Bytes::mib(17);

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// A volume that these passphrases open.
fn volume(passphrases: &[&str], kdf: Kdf) -> Vec<u8> {
    let mut header = Header::format(&Format {
        size: SIZE,
        label: String::new(),
        uuid: uuid::Uuid::from_u128(7),
        cipher: "aes-xts-plain64".to_owned(),
        volume_key: VolumeKey::new(Secret::new(vec![5; 64])),
        sector_size: SectorSize::S512,
        allow_discards: false,
    })
    .unwrap();
    for passphrase in passphrases {
        header.add_passphrase(&secret(passphrase), kdf).unwrap();
    }
    header.bytes().unwrap()
}

fn partition(designator: Designator, encryption: Encryption) -> Partition {
    Partition {
        designator,
        number: Some(1),
        extent: Extent::new(Bytes::mib(1), SIZE),
        uuid: None,
        label: None,
        architecture: None,
        attributes: 0,
        file_system: Some("crypto_LUKS".to_owned()),
        encryption: Some(encryption),
        writable: true,
        grow: false,
        inside: None,
    }
}

/// Somebody who gives these answers, one after the other.
struct Somebody {
    answers: Mutex<Vec<&'static str>>,
    asked: Arc<AtomicUsize>,
}

impl Ask for Somebody {
    fn ask(&self, question: &Question) -> std::io::Result<Option<Secret>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let Question::Passphrase { again, .. } = question else {
            panic!("{question}");
        };
        assert!(number == 0 || *again || question.to_string().contains("srv"));
        Ok(self.answers.lock().unwrap().pop().map(secret))
    }
}

fn keys(answers: &[&'static str]) -> (Keys, Arc<AtomicUsize>) {
    let mut keys = Keys::new(Bytes::mib(256));
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = Mutex::new(answers.iter().rev().copied().collect());
    keys.ask = Some(Box::new(Somebody {
        answers,
        asked: Arc::clone(&asked),
    }));
    (keys, asked)
}

fn open(volume: &[u8], designator: Designator, keys: &Keys) -> Result<Offer, String> {
    let (partition, policy) = (
        partition(designator, Encryption::Luks),
        ImagePolicy::allow(),
    );
    let unlocked = unlock(&volume, SIZE, &partition, &policy, keys);
    let unlocked = unlocked.map_err(|error| error.to_string())?;
    assert_eq!(unlocked.key.expose(), [5; 64]);
    Ok(unlocked.by.offer)
}

#[test]
fn people_are_asked_three_times_and_once_for_all_that_they_open() {
    let (home, srv) = (Designator::Home, Designator::Srv);
    let volume = volume(&["right", "other"], Kdf::Minimal);
    let (keys, asked) = keys(&["wrong", "right", "never"]);
    for designator in [home, srv] {
        assert_eq!(open(&volume, designator, &keys), Ok(Offer::Typed));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let (keys, asked) = self::keys(&["one", "two", "three", "right"]);
    let said = open(&volume, home, &keys).unwrap_err();
    assert!(
        said.ends_with("the passphrase that was typed opens no key slot"),
        "{said}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let (keys, _) = self::keys(&[]);
    let said = open(&volume, home, &keys).unwrap_err();
    assert!(said.contains("no passphrase was given"), "{said}");
    // What is given is tried first, and then nobody is asked.
    let (mut keys, asked) = self::keys(&["right"]);
    (keys.key_file, keys.given) = (Some(secret("wrong")), Some(secret("other")));
    assert_eq!(open(&volume, home, &keys), Ok(Offer::Given));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_header_must_say_what_it_said_to_the_policy() {
    let (mut keys, _) = keys(&[]);
    keys.given = Some(secret("right"));
    let volume = volume(&["right"], Kdf::Minimal);
    let policy: ImagePolicy = "root=encryptedwithintegrity".parse().unwrap();
    let claimed = partition(Designator::Root, Encryption::WithIntegrity);
    let error = unlock(&volume, SIZE, &claimed, &policy, &keys).unwrap_err();
    assert!(
        matches!(error, UnlockError::Contradiction(Designator::Root)),
        "{error}"
    );
    let error = unlock(&vec![0; 1 << 20], Bytes::mib(1), &claimed, &policy, &keys).unwrap_err();
    assert!(
        matches!(error, UnlockError::NoHeader(Designator::Root)),
        "{error}"
    );
}

#[test]
fn headers_that_want_more_memory_than_there_is_are_refused() {
    let volume = volume(&["right"], Kdf::Argon2id);
    let partition = partition(Designator::Root, Encryption::Luks);
    let mut keys = Keys::new(Bytes::kib(64));
    keys.given = Some(secret("right"));
    let error = unlock(&volume, SIZE, &partition, &ImagePolicy::allow(), &keys).unwrap_err();
    let UnlockError::Header { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("memory"), "{source}");
}
