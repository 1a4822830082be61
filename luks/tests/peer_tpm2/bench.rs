//! Both sides on one TPM.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image_specs::tpm2::policy::signed_message;
use image_specs::tpm2::token::{Argon2id, SignedPcrs};
use image_specs::tpm2::{Bank, PcrSet, PcrSignatures, Pcrlock, PolicyDigest, Token};
use luks::Secret;
use luks::tpm2::{Device, Enrollment, Entropy, Pin, PinCost, Sealer, Unsealing, enroll, unseal};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};
use testimages::swtpm::Swtpm;

use super::{Case, Cost, IGNORED, PIN};

/// A folder in the peer's root, with a TPM, a key that signs and a pcrlock policy.
pub(super) struct Bench {
    root: PathBuf,
    folder: tempfile::TempDir,
    pub(super) tpm: Swtpm,
    signer: PKey<Private>,
    samples: RefCell<Vec<Value>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let root = PathBuf::from(std::env::var_os("DDI_PEER_ROOT").expect(IGNORED));
        let folder = tempfile::tempdir_in(root.join("var/tmp")).unwrap();
        let signer = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let bench = Self {
            root,
            folder,
            tpm: Swtpm::start(),
            signer,
            samples: RefCell::default(),
        };
        bench.write("key", b"passphrase");
        bench.write("pub.pem", &bench.signer.public_key_to_pem().unwrap());
        bench.sign();
        bench.lock();
        // The TPM is as it is after the boot: the second of the predicted values.
        bench.tpm.tool("tpm2_pcrextend 16:sha256=2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        let key = bench.path("srk.pub");
        bench.tpm.tool(&format!(
            "tpm2_readpublic -c 0x81000001 -o {}",
            key.display()
        ));
        bench
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn device(&self) -> Device {
        self.tpm.device().parse().unwrap()
    }

    /// Signatures for PCR 11 with zeros, without a reference and with one.
    fn sign(&self) {
        let set = PcrSet::from_iter([11]);
        let policy = PolicyDigest::default().pcrs(Bank::Sha256, set, [&[0; 32][..]]);
        let der = self
            .signer
            .rsa()
            .unwrap()
            .public_key_to_der_pkcs1()
            .unwrap();
        let key = hex::encode(openssl::sha::sha256(&der));
        let entry = |reference: &str| {
            let mut signer = Signer::new(MessageDigest::sha256(), &self.signer).unwrap();
            let message = signed_message(&policy, reference);
            let signature = signer.sign_oneshot_to_vec(&message).unwrap();
            let mut entry = json!({
                "pcrs": [11], "pkfp": key, "pol": hex::encode(policy.0),
                "sig": openssl::base64::encode_block(&signature),
            });
            if !reference.is_empty() {
                entry["ref"] = reference.into();
            }
            entry
        };
        let file = json!({"sha256": [entry(""), entry("initrd")]});
        self.write("sig.json", file.to_string().as_bytes());
    }

    /// A policy with two values for PCR 16, made by systemd-pcrlock.
    fn lock(&self) {
        self.write("log", b"");
        self.write("firmware", b"");
        fs::create_dir(self.path("components")).unwrap();
        self.write("hello", b"hello");
        let tool = "/usr/lib/systemd/systemd-pcrlock";
        let mut lock = self.peer(tool);
        lock.args(["lock-raw", "hello", "--pcr=16"]);
        lock.arg("--pcrlock=components/500-a.pcrlock");
        succeeds(&mut lock);
        let mut policy = self.peer(tool);
        policy.args(["make-policy", "--pcr=16", "--force", "--location=-:600"]);
        policy.args(["--components=components", "--policy=pcrlock.json"]);
        succeeds(&mut policy);
    }

    /// A program of the peer, in the folder.
    pub(super) fn peer(&self, program: &str) -> Command {
        let inside = Path::new("/").join(self.folder.path().strip_prefix(&self.root).unwrap());
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(["env", "-C"])
            .arg(inside)
            .arg(program);
        command.env("SYSTEMD_TPM2_DEVICE", self.tpm.device());
        command.env("SYSTEMD_MEASURE_LOG_USERSPACE", "log");
        command.env("SYSTEMD_MEASURE_LOG_FIRMWARE", "firmware");
        command
            .env("PIN", PIN)
            .env("NEWPIN", PIN)
            .env("NEWPASSWORD", "recovered");
        command
    }

    /// A volume whose slot 0 has the passphrase of the file `key`.
    fn volume(&self) -> PathBuf {
        let image = self.path("image");
        let _ = fs::remove_file(&image);
        fs::File::create(&image).unwrap().set_len(20 << 20).unwrap();
        let mut format = Command::new("cryptsetup");
        format.args([
            "luksFormat",
            "-q",
            "--pbkdf=pbkdf2",
            "--pbkdf-force-iterations=1000",
        ]);
        succeeds(format.arg(&image).arg(self.path("key")));
        image
    }

    fn enrollment(&self, case: &Case) -> Enrollment {
        let cost = |cost| match cost {
            Cost::Pbkdf2 => PinCost::Pbkdf2,
            Cost::Argon2id => PinCost::Argon2id(Argon2id {
                memory: 1 << 20,
                iterations: 2,
                lanes: 2,
            }),
        };
        Enrollment {
            pcrs: case.pcrs.parse().unwrap(),
            signed: case.signed.map(|reference| SignedPcrs {
                public_key: fs::read(self.path("pub.pem")).unwrap(),
                pcrs: PcrSet::from_iter([11]),
                reference: reference.to_owned(),
            }),
            pcrlock: case.pcrlock.then(|| self.pcrlock()),
            pin: case.pin.map(|one| Pin {
                pin: pin(),
                cost: cost(one),
            }),
            key_handle: None,
        }
    }

    fn pcrlock(&self) -> Pcrlock {
        Pcrlock::parse(&fs::read(self.path("pcrlock.json")).unwrap()).unwrap()
    }

    /// systemd enrolls, we unseal.
    pub(super) fn theirs(&self, case: &Case) {
        let image = self.volume();
        let mut command = self.peer("systemd-cryptenroll");
        command.arg("--unlock-key-file=key");
        command.arg(match case.offline {
            true => "--tpm2-device-key=srk.pub".to_owned(),
            false => format!("--tpm2-device={}", self.tpm.device()),
        });
        command.arg(format!("--tpm2-pcrs={}", case.pcrs));
        command.arg(if case.pcrlock {
            "--tpm2-pcrlock=pcrlock.json"
        } else {
            "--tpm2-pcrlock="
        });
        if let Some(reference) = case.signed {
            command.args(["--tpm2-public-key=pub.pem", "--tpm2-public-key-pcrs=11"]);
            if !reference.is_empty() {
                command.arg(format!("--tpm2-public-key-policyref={reference}"));
            }
        }
        if case.pin.is_some() {
            command.args(["--tpm2-with-pin=yes", "--tpm2-argon2id-memory=1M"]);
            command.args([
                "--tpm2-argon2id-iterations=2",
                "--tpm2-argon2id-parallelism=2",
            ]);
        }
        succeeds(command.arg("image"));
        let token = Token::from_json(&tokens(&image)["0"]).unwrap().unwrap();
        self.has_the_fields_of(&token, case);
        self.opens(case.name, &image, &token);
    }

    /// Unseals a token of slot 1, and opens the volume by what comes of it.
    fn opens(&self, name: &str, image: &Path, token: &Token) -> Secret {
        let secret = self.unseal(token);
        let passphrase = String::from_utf8(secret.expose().to_vec()).unwrap();
        self.samples.borrow_mut().push(json!({
            "name": name, "token": token.to_json(), "passphrase": passphrase,
        }));
        let mut open = Command::new("cryptsetup");
        open.args(["open", "--test-passphrase", "--key-slot=1", "--key-file"]);
        self.write("secret", secret.expose());
        succeeds(open.arg(self.path("secret")).arg(image));
        secret
    }

    /// A token of the systemd that this machine runs, which may be older.
    pub(super) fn older(&self, options: &[&str]) {
        let image = self.volume();
        let mut command = Command::new("systemd-cryptenroll");
        command.env("PASSWORD", "passphrase").env("NEWPIN", PIN);
        command.current_dir(self.folder.path());
        self.enrolls(&mut command, options, &image);
    }

    /// A token of the newest systemd, with options that no case has.
    pub(super) fn otherwise(&self, options: &[&str]) {
        self.volume();
        let mut command = self.peer("systemd-cryptenroll");
        command.arg("--unlock-key-file=key");
        self.enrolls(&mut command, options, Path::new("image"));
    }

    fn enrolls(&self, command: &mut Command, options: &[&str], image: &Path) {
        command.arg(format!("--tpm2-device={}", self.tpm.device()));
        succeeds(command.args(options).arg(image));
        // Old versions leave their sessions behind.
        for what in ["-l", "-s", "-t"] {
            self.tpm.tool(&format!("tpm2_flushcontext {what}"));
        }
        let image = self.path("image");
        let token = Token::from_json(&tokens(&image)["0"]).unwrap().unwrap();
        self.opens(&options.join(" "), &image, &token);
    }

    /// Keeps what has been made, if that is wanted.
    pub(super) fn keep(&self) {
        let Some(folder) = std::env::var_os("DDI_TPM2_SAMPLES").map(PathBuf::from) else {
            return;
        };
        for name in ["sig.json", "pcrlock.json"] {
            fs::copy(self.path(name), folder.join(name)).unwrap();
        }
        let samples = serde_json::to_string_pretty(&*self.samples.borrow()).unwrap();
        fs::write(folder.join("samples.json"), samples).unwrap();
        fs::write(folder.join("state"), self.tpm.state()).unwrap();
    }

    /// Their token tells what ours would.
    fn has_the_fields_of(&self, theirs: &Token, case: &Case) {
        if case.pin == Some(Cost::Pbkdf2) {
            return;
        }
        let sealer = self.sealer(case);
        let ours = enroll(&self.enrollment(case), &sealer, entropy()).unwrap();
        let ours = Token::from_json(&ours.token).unwrap().unwrap();
        assert_eq!(ours.policies, theirs.policies, "{}", case.name);
        let rest = |token: &Token| Token {
            blobs: token.blobs.iter().map(|blob| vec![0; blob.len()]).collect(),
            salt: token.salt.as_ref().map(|salt| vec![0; salt.len()]),
            ..token.clone()
        };
        assert_eq!(rest(&ours), rest(theirs), "{}", case.name);
    }

    fn sealer(&self, case: &Case) -> Sealer {
        match case.offline {
            true => Sealer::PublicKey(fs::read(self.path("srk.pub")).unwrap()),
            false => Sealer::Tpm(self.device()),
        }
    }

    fn unseal(&self, token: &Token) -> Secret {
        let signatures = PcrSignatures::parse(&fs::read(self.path("sig.json")).unwrap()).unwrap();
        let unsealing = Unsealing {
            device: self.device(),
            pin: Some(&pin()),
            signatures: Some(&signatures),
            pcrlock: Some(&self.pcrlock()),
        };
        unseal(token, &unsealing, entropy()).unwrap()
    }

    /// We enroll, systemd unlocks: it must, to add a key.
    pub(super) fn ours(&self, case: &Case) {
        let image = self.volume();
        let enrolled = enroll(&self.enrollment(case), &self.sealer(case), entropy()).unwrap();
        self.write("secret", enrolled.secret.expose());
        let mut add = Command::new("cryptsetup");
        add.args([
            "luksAddKey",
            "-q",
            "--pbkdf=pbkdf2",
            "--pbkdf-force-iterations=1000",
        ]);
        add.arg("--key-file").arg(self.path("key"));
        succeeds(add.arg(&image).arg(self.path("secret")));
        let mut token = enrolled.token;
        token["keyslots"] = json!(["1"]);
        self.write("token.json", token.to_string().as_bytes());
        // Token plug-ins of older versions refuse several blobs in one token.
        let mut import = self.peer("cryptsetup");
        succeeds(import.args(["token", "import", "--json-file=token.json", "image"]));
        let mut unlock = self.peer("systemd-cryptenroll");
        unlock.arg(format!("--unlock-tpm2-device={}", self.tpm.device()));
        unlock.args(["--password", "image"]);
        succeeds(&mut unlock);
        self.write("recovered", b"recovered");
        let mut open = Command::new("cryptsetup");
        open.args(["open", "--test-passphrase", "--key-file"]);
        succeeds(open.arg(self.path("recovered")).arg(&image));
    }
}

/// A file in the peer's /run/systemd, for as long as the value lives.
pub(super) struct Placed(PathBuf);

impl Placed {
    pub(super) fn new(bench: &Bench, name: &str, place: &str) -> Self {
        let folder = bench.root.join("run/systemd");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(bench.path(name), folder.join(place)).unwrap();
        Self(folder.join(place))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn pin() -> Secret {
    Secret::new(PIN.as_bytes().to_vec())
}

pub(super) fn entropy() -> Entropy {
    let mut seed = [0; 32];
    openssl::rand::rand_bytes(&mut seed).unwrap();
    Entropy::new(seed)
}

pub(super) fn tokens(image: &Path) -> Value {
    let mut dump = Command::new("cryptsetup");
    let output = succeeds(dump.args(["luksDump", "--dump-json-metadata"]).arg(image));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    json["tokens"].clone()
}

pub(super) fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    let words: Vec<OsString> = command.get_args().map(OsString::from).collect();
    assert!(output.status.success(), "{words:?}: {message}");
    output
}
