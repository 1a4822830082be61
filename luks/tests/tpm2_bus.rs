//! Somebody on the bus between processor and TPM: sees all, changes what they like, learns nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image_specs::tpm2::Token;
use luks::Secret;
use luks::tpm2::{
    Device, Enrolled, Enrollment, Entropy, Pin, PinCost, Sealer, Tpm2Error, TpmError, Unsealing,
    enroll, unseal,
};
use testimages::swtpm::Swtpm;

const UNSEAL: u32 = 0x15e;
const CREATE: u32 = 0x153;
const START_SESSION: u32 = 0x176;

/// What the interposer does: which command's answer it changes, and at which byte from its end.
#[derive(Clone, Copy)]
struct Change {
    command: u32,
    from_end: usize,
}

/// Between us and a TPM, on a UNIX socket.
struct Bus {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    seen: Arc<Mutex<Vec<u8>>>,
    change: Arc<Mutex<Option<Change>>>,
    _tpm: Swtpm,
}

impl Bus {
    fn new() -> Self {
        let tpm = Swtpm::start();
        let Ok(Device::Tcp(host, port)) = tpm.device().parse() else {
            panic!("{}", tpm.device());
        };
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tpm");
        let listener = UnixListener::bind(&socket).unwrap();
        let (seen, change) = (Arc::default(), Arc::<Mutex<Option<Change>>>::default());
        let (log, wanted) = (Arc::clone(&seen), Arc::clone(&change));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let tpm = TcpStream::connect((host.as_str(), port));
                let (Ok(stream), Ok(tpm)) = (stream, tpm) else {
                    return;
                };
                pass_on(stream, tpm, &log, &wanted);
            }
        });
        Self {
            _folder: folder,
            socket,
            seen,
            change,
            _tpm: tpm,
        }
    }

    fn device(&self) -> Device {
        Device::Unix(self.socket.clone())
    }

    fn saw(&self, bytes: &[u8]) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.windows(bytes.len()).any(|window| window == bytes)
    }

    fn change(&self, change: Option<Change>) {
        *self.change.lock().unwrap() = change;
    }

    fn unseal(&self, enrolled: &Enrolled, seed: u8) -> Result<Secret, Tpm2Error> {
        let token = Token::from_json(&enrolled.token).unwrap().unwrap();
        let pin = pin();
        let unsealing = Unsealing {
            device: self.device(),
            pin: Some(&pin),
            ..Unsealing::default()
        };
        unseal(&token, &unsealing, Entropy::new([seed; 32]))
    }
}

fn pin() -> Secret {
    Secret::new(b"geheim".to_vec())
}

fn pass_on(
    mut ours: UnixStream,
    mut tpm: TcpStream,
    seen: &Mutex<Vec<u8>>,
    change: &Mutex<Option<Change>>,
) {
    let Some(command) = message(&mut ours) else {
        return;
    };
    tpm.write_all(&command).unwrap();
    let mut answer = message(&mut tpm).unwrap();
    let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
    if let Some(change) = change
        .lock()
        .unwrap()
        .filter(|change| change.command == code)
    {
        let place = answer.len() - change.from_end;
        answer[place] ^= 1;
    }
    let mut seen = seen.lock().unwrap();
    seen.extend(command);
    seen.extend(&answer);
    let _ = ours.write_all(&answer);
}

fn message(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut header = [0; 10];
    stream.read_exact(&mut header).ok()?;
    let size = u32::from_be_bytes(header[2..6].try_into().unwrap());
    let mut bytes = header.to_vec();
    bytes.resize(usize::try_from(size).unwrap(), 0);
    stream.read_exact(&mut bytes[10..]).ok()?;
    Some(bytes)
}

fn enrollment(pin: Option<Pin>) -> Enrollment {
    Enrollment {
        pcrs: "7".parse().unwrap(),
        pin,
        ..Enrollment::default()
    }
}

#[test]
fn no_secret_goes_over_the_bus() {
    let bus = Bus::new();
    let right = Pin {
        pin: pin(),
        cost: PinCost::Pbkdf2,
    };
    for (seed, pin) in [(1, None), (2, Some(right))] {
        let sealer = Sealer::Tpm(bus.device());
        let enrolled = enroll(&enrollment(pin), &sealer, Entropy::new([seed; 32])).unwrap();
        let secret = bus.unseal(&enrolled, seed + 10).unwrap();
        assert_eq!(secret, enrolled.secret);
        let raw = STANDARD.decode(secret.expose()).unwrap();
        assert!(!bus.saw(&raw) && !bus.saw(secret.expose()) && !bus.saw(b"geheim"));
        // The test can see: the sealed blob's private area went over the bus as the token has it.
        let token = Token::from_json(&enrolled.token).unwrap().unwrap();
        assert!(bus.saw(&token.blobs[0]));
        for half in raw.chunks(8) {
            assert!(!bus.saw(half));
        }
    }
}

#[test]
fn whatever_is_changed_on_the_bus_is_noticed() {
    let bus = Bus::new();
    let sealer = Sealer::Tpm(bus.device());
    let enrolled = enroll(&enrollment(None), &sealer, Entropy::new([1; 32])).unwrap();
    // From the end: the HMAC of the session that hides, its nonce; the policy session; the secret.
    for (seed, from_end) in (3..).zip([1, 20, 34, 40, 80, 100, 136, 150, 160]) {
        bus.change(Some(Change {
            command: UNSEAL,
            from_end,
        }));
        let error = bus.unseal(&enrolled, seed).unwrap_err();
        assert!(
            matches!(
                error,
                Tpm2Error::Tpm(TpmError::Changed(_) | TpmError::Answer(_))
            ),
            "{from_end}: {error}"
        );
    }
    // Another nonce of the TPM's makes other keys, so nothing fits from then on.
    bus.change(Some(Change {
        command: START_SESSION,
        from_end: 1,
    }));
    assert!(bus.unseal(&enrolled, 50).is_err());
    bus.change(Some(Change {
        command: CREATE,
        from_end: 200,
    }));
    let error = enroll(&enrollment(None), &sealer, Entropy::new([60; 32])).unwrap_err();
    assert!(
        matches!(error, Tpm2Error::Tpm(TpmError::Changed(_))),
        "{error}"
    );
    bus.change(None);
    assert_eq!(bus.unseal(&enrolled, 70).unwrap(), enrolled.secret);
}
