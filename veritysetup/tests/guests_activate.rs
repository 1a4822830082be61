//! Verity devices in a kernel that has them.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use blockdev::dm::{DeviceMapper, DmName};
use blockdev::loopdev::{LoopDevice, LoopOptions};
use image_specs::units::{Bytes, SectorSize};
use image_specs::verity::Superblock;
use testimages::guest::{Guest, SCRATCH};
use veritysetup::activate::{
    self, ActivateError, Active, DeviceNumber, ErrorCorrection, Lifetime, OnCorruption, Request,
    Strictness, VerityTable,
};
use veritysetup::{Params, RootHash};

/// Data and hash tree on loop devices.
struct Sample {
    params: Params,
    root: RootHash,
    data_path: PathBuf,
    data: LoopDevice,
    hash: LoopDevice,
}

const BLOCKS: u64 = 300;

impl Sample {
    fn new(name: &str) -> Self {
        Self::with_options(name, &[])
    }

    fn with_options(name: &str, options: &[&str]) -> Self {
        let path = |end: &str| Path::new(SCRATCH).join(format!("{name}.{end}"));
        let mut data = File::create_new(path("data")).unwrap();
        for block in 0..BLOCKS {
            let byte = u8::try_from(block % 251).unwrap() + 1;
            data.write_all(&[byte; 4096]).unwrap();
        }
        let done = std::process::Command::new("veritysetup")
            .args(["format", "--salt=00ff"])
            .args(options)
            .args([path("data"), path("hash")])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        let words = String::from_utf8(done.stdout).unwrap();
        let root = words
            .lines()
            .find_map(|line| line.strip_prefix("Root hash:"))
            .unwrap();
        let mut superblock = [0; 512];
        let mut hash = File::open(path("hash")).unwrap();
        hash.read_exact(&mut superblock).unwrap();
        let superblock = Superblock::parse(&superblock).unwrap().unwrap();
        Self {
            params: Params::from_superblock(&superblock).unwrap(),
            root: root.trim().parse().unwrap(),
            data: attach(&File::open(path("data")).unwrap()),
            hash: attach(&hash),
            data_path: path("data"),
        }
    }

    fn table(&self) -> VerityTable<'_> {
        VerityTable {
            params: &self.params,
            root: &self.root,
            data: number(&self.data),
            hash: number(&self.hash),
            strictness: Strictness::default(),
            correction: None,
        }
    }

    fn request(&self, lifetime: Lifetime) -> Request<'_> {
        Request {
            table: self.table(),
            signature: None,
            lifetime,
        }
    }
}

fn attach(file: &File) -> LoopDevice {
    let mut options = LoopOptions::new(SectorSize::S512);
    options.scan_partitions = false;
    options.read_only = true;
    LoopDevice::attach(file, &options).unwrap()
}

fn number(device: &LoopDevice) -> DeviceNumber {
    let number = fs::metadata(device.node()).unwrap().rdev();
    DeviceNumber {
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
    }
}

fn name(text: &str) -> DmName {
    DmName::new(text).unwrap()
}

/// Whether the device goes away, which the kernel does after the last user has closed it.
fn goes(mapper: &DeviceMapper, name: &DmName) -> bool {
    soon(|| mapper.info(name).unwrap().is_none())
}

/// Whether this comes true within a while.
fn soon(is_true: impl Fn() -> bool) -> bool {
    (0..400).any(|_| {
        let now = is_true();
        if !now {
            thread::sleep(Duration::from_millis(5));
        }
        now
    })
}

#[test]
fn devices_check_share_and_go() {
    testimages::in_guest!(Uml);
    let mapper = DeviceMapper::open().unwrap();
    let sample = Sample::new("good");
    one_that_lasts(&mapper, &sample);
    one_that_goes(&mapper, &sample);
    wrong_root_hashes(&mapper, &sample);
    sharing(&mapper, &sample);
    forgotten_ones(&mapper, &sample);
    signatures_are_not_passed_over(&mapper, &sample);
    for cycle in 0..100 {
        let other = name("other");
        let active = activate::open_shared(&mapper, &other, &sample.request(Lifetime::UntilUnused));
        let active = active.unwrap_or_else(|error| panic!("cycle {cycle}: {error:?}"));
        active.close(&mapper).unwrap();
    }
    // The kernel forgets the name first, and takes the node away after that.
    assert!(soon(|| !Path::new("/dev/dm-0").exists()));
    corruption_is_found(&mapper);
}

fn one_that_lasts(mapper: &DeviceMapper, sample: &Sample) {
    let stays = name("stays");
    let request = sample.request(Lifetime::UntilRemoved);
    let active = activate::open(mapper, &stays, &request).unwrap();
    let link = mapper.link(&stays, active.info()).unwrap();
    assert_eq!(fs::canonicalize(&link).unwrap(), active.node());
    assert_eq!(
        fs::read(&link).unwrap(),
        fs::read(&sample.data_path).unwrap()
    );
    let error = activate::open(mapper, &stays, &request).unwrap_err();
    assert!(matches!(error, ActivateError::Exists(_)), "{error:?}");
    drop(active);
    let status = std::process::Command::new("veritysetup")
        .args(["status", "stays"])
        .output()
        .unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    assert!(
        told.contains("verified") && told.contains(&sample.root.to_string()),
        "{told}"
    );
    let info = mapper.info(&stays).unwrap().unwrap();
    assert!(info.active && info.read_only && !info.deferred_remove);
    assert!(
        info.uuid.starts_with("CRYPT-VERITY-") && info.uuid.ends_with("-stays"),
        "{info:?}"
    );
    assert!(activate::close(mapper, &stays, false).unwrap());
    assert!(
        !activate::close(mapper, &stays, false).unwrap(),
        "gone before"
    );
    assert!(fs::symlink_metadata(&link).is_err());
}

fn one_that_goes(mapper: &DeviceMapper, sample: &Sample) {
    let goes_away = name("goes");
    let request = sample.request(Lifetime::UntilUnused);
    let active = activate::open(mapper, &goes_away, &request).unwrap();
    assert!(mapper.info(&goes_away).unwrap().unwrap().deferred_remove);
    let other_user = File::open(active.node()).unwrap();
    drop(active);
    assert!(mapper.info(&goes_away).unwrap().is_some());
    drop(other_user);
    assert!(goes(mapper, &goes_away));
}

fn wrong_root_hashes(mapper: &DeviceMapper, sample: &Sample) {
    for lifetime in [Lifetime::UntilUnused, Lifetime::UntilRemoved] {
        let wrong = RootHash::new([0x5a; 32]);
        let mut request = sample.request(lifetime);
        request.table.root = &wrong;
        let error = activate::open(mapper, &name("wrong"), &request).unwrap_err();
        assert!(
            matches!(error, ActivateError::Corrupted { .. }),
            "{error:?}"
        );
        assert!(goes(mapper, &name("wrong")));
    }
}

fn sharing(mapper: &DeviceMapper, sample: &Sample) {
    let (first_name, second_name) = (name("first"), name("second"));
    let request = sample.request(Lifetime::UntilUnused);
    let open = |other: &DmName, request: &Request<'_>| -> Active {
        activate::open_shared(mapper, other, request).unwrap()
    };
    let first = open(&first_name, &request);
    let second = open(&second_name, &request);
    assert!(!first.is_shared() && second.is_shared());
    assert_eq!(first.node(), second.node());
    assert_eq!(first.name().as_str(), format!("{}-verity", sample.root));
    let mut loose = request.clone();
    loose.table.strictness.on_corruption = OnCorruption::Ignore;
    let third = open(&second_name, &loose);
    assert_ne!(
        third.node(),
        second.node(),
        "one that checks less is none of them"
    );
    assert_eq!(third.name(), &second_name);
    drop(first);
    assert!(mapper.info(second.name()).unwrap().is_some());
    thread::scope(|scope| {
        for _ in 0..6 {
            let request = &request;
            let second_name = &second_name;
            scope.spawn(move || {
                let mapper = DeviceMapper::open().unwrap();
                for _ in 0..10 {
                    let active = activate::open_shared(&mapper, second_name, request).unwrap();
                    let mut block = [0; 4096];
                    File::open(active.node())
                        .unwrap()
                        .read_exact(&mut block)
                        .unwrap();
                    assert_eq!(block, [1; 4096]);
                }
            });
        }
    });
    let shared = second.name().clone();
    drop((second, third));
    assert!(goes(mapper, &shared) && goes(mapper, &second_name));
}

/// What a killed process leaves between two calls is no obstacle.
fn forgotten_ones(mapper: &DeviceMapper, sample: &Sample) {
    let request = sample.request(Lifetime::UntilUnused);
    let shared = name(&format!("{}-verity", sample.root));
    mapper.create(&shared, "CRYPT-VERITY-forgotten").unwrap();
    let active = activate::open_shared(mapper, &name("other"), &request).unwrap();
    drop(active);
    assert!(goes(mapper, &shared));
    mapper.create(&shared, "CRYPT-VERITY-forgotten").unwrap();
    let target = request.table.target(None).unwrap();
    mapper.load(&shared, &[target], true).unwrap();
    let active = activate::open_shared(mapper, &name("other"), &request).unwrap();
    drop(active);
    assert!(goes(mapper, &shared));
}

/// This kernel knows no signatures: one that is asked for must not be dropped silently.
fn signatures_are_not_passed_over(mapper: &DeviceMapper, sample: &Sample) {
    let folder = Path::new(SCRATCH);
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-batch", "-nodes", "-newkey", "rsa:2048", "-x509"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let (text, signed) = (folder.join("root"), folder.join("root.p7s"));
    fs::write(&text, sample.root.to_string()).unwrap();
    let made = std::process::Command::new("openssl")
        .args([
            "smime", "-sign", "-nocerts", "-noattr", "-binary", "-outform", "der",
        ])
        .arg("-inkey")
        .arg(&key)
        .arg("-signer")
        .arg(&certificate)
        .arg("-in")
        .arg(&text)
        .arg("-out")
        .arg(&signed)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let signature = veritysetup::signature::Signature::from_der(fs::read(&signed).unwrap());
    let signature = signature.unwrap();
    let mut request = sample.request(Lifetime::UntilUnused);
    request.signature = Some(&signature);
    let error = activate::open(mapper, &name("signed"), &request).unwrap_err();
    assert!(
        matches!(error, ActivateError::Signature { .. }),
        "{error:?}"
    );
    assert!(goes(mapper, &name("signed")));
}

fn corruption_is_found(mapper: &DeviceMapper) {
    let sample = Sample::new("bad");
    let mut data = File::options().write(true).open(&sample.data_path).unwrap();
    data.seek(SeekFrom::Start(200 * 4096)).unwrap();
    data.write_all(b"other").unwrap();
    data.sync_all().unwrap();
    let bad = name("bad");
    let active = activate::open(mapper, &bad, &sample.request(Lifetime::UntilUnused)).unwrap();
    let mut device = File::open(active.node()).unwrap();
    device.seek(SeekFrom::Start(200 * 4096)).unwrap();
    assert!(device.read_exact(&mut [0; 4096]).is_err());
    assert_eq!(mapper.status(&bad).unwrap()[0].parameters, "C");
}

/// A damaged block is given as it was, where there is parity; else it is not given.
#[test]
fn parity_repairs_what_is_read() {
    testimages::in_guest!(Guest::Qemu.with(&["veritysetup"]));
    let mapper = DeviceMapper::open().unwrap();
    let folder = Path::new(SCRATCH);
    let parity = folder.join("fec.parity");
    let option = format!("--fec-device={}", parity.display());
    let sample = Sample::with_options("fec", &[&option]);
    let parity = attach(&File::open(&parity).unwrap());
    let whole = fs::read(&sample.data_path).unwrap();
    let mut damaged = whole.clone();
    damaged[4096 * 7..4096 * 8].fill(0xff);
    fs::write(&sample.data_path, &damaged).unwrap();
    File::open(&sample.data_path).unwrap().sync_all().unwrap();
    let mut request = sample.request(Lifetime::UntilUnused);
    let plain = activate::open(&mapper, &name("plain"), &request).unwrap();
    assert!(fs::read(plain.node()).is_err());
    drop(plain);
    request.table.correction = Some(ErrorCorrection {
        device: number(&parity),
        offset: Bytes::ZERO,
        roots: 2,
        hash_end: Bytes::new(fs::metadata(folder.join("fec.hash")).unwrap().len()),
    });
    let repaired = activate::open(&mapper, &name("repaired"), &request).unwrap();
    assert_eq!(fs::read(repaired.node()).unwrap(), whole);
    let words = &mapper.table(repaired.name()).unwrap()[0].parameters;
    assert!(words.contains("use_fec_from_device"), "{words}");
    repaired.close(&mapper).unwrap();
}
