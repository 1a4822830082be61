//! Volumes that we make and cryptsetup opens, and the other way round, in a kernel with dm-crypt.

#[path = "common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use blockdev::dm::{DeviceMapper, DmName};
use blockdev::io::{ReadAt, Window};
use blockdev::keyring::ThreadKey;
use blockdev::loopdev::{LoopDevice, LoopOptions};
use blockdev::mapped::Lifetime;
use common::{CHEAP, Cryptsetup, secret};
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::bulk::{Authenticated, BulkError, Cipher, SegmentReader, copy};
use luks::integrity::offline::{Before, Formatted};
use luks::unlock::{self, Flags, Volume};
use luks::{DATA_OFFSET, Format, Header, Kdf, PluginError, Strictness, VolumeKey};
use serde_json::json;
use testimages::guest::{Guest, SCRATCH};
use uuid::Uuid;

const SIZE: Bytes = Bytes::mib(20);
const DATA: usize = 4 << 20;

fn load(file: &File) -> Header {
    let strictness = Strictness::with_memory(Bytes::mib(1024));
    let size = file.metadata().unwrap().len();
    let header = Header::load(file, Bytes::new(size), &strictness);
    header.unwrap().unwrap()
}

fn pattern(seed: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(seed * 2 + 7) >> 3).to_le_bytes()[0];
    (0..DATA).map(byte).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

fn name(text: &str) -> DmName {
    DmName::new(text).unwrap()
}

fn attach(file: &Path, read_only: bool) -> LoopDevice {
    let mut options = LoopOptions::new(SectorSize::S512);
    options.scan_partitions = false;
    options.read_only = read_only;
    let file = File::options().read(true).write(!read_only).open(file);
    LoopDevice::attach(&file.unwrap(), &options).unwrap()
}

/// What cryptsetup's device of an image gives.
fn read_by_cryptsetup(image: &Path, passphrase: &str) -> Vec<u8> {
    let tool = Cryptsetup::on(image);
    tool.open("theirs", passphrase);
    let mut data = vec![0; DATA];
    let mut device = File::open("/dev/mapper/theirs").unwrap();
    device.read_exact(&mut data).unwrap();
    drop(device);
    Cryptsetup::close("theirs");
    data
}

/// What our device of an image gives.
fn read_by_us(image: &Path, passphrase: &str) -> Vec<u8> {
    let mapper = DeviceMapper::open().unwrap();
    let device = attach(image, true);
    let device = File::open(device.node()).unwrap();
    let header = load(&File::open(image).unwrap());
    let key = header.unlock(&secret(passphrase)).unwrap();
    let volume = Volume {
        header: &header,
        key: &key,
        device: &device,
        read_only: true,
        flags: Flags::of(&header),
        lifetime: Lifetime::UntilUnused,
    };
    let active = unlock::open(&mapper, &name("ours"), &volume).unwrap();
    let mut data = vec![0; DATA];
    ReadAt::read_exact_at(active.file(), &mut data, 0).unwrap();
    active.close(&mapper).unwrap();
    assert!(goes(&mapper, &name("ours")));
    assert!(goes(&mapper, &name("ours_dif")));
    data
}

fn goes(mapper: &DeviceMapper, name: &DmName) -> bool {
    (0..400).any(|_| {
        let gone = mapper.info(name).unwrap().is_none();
        if !gone {
            thread::sleep(Duration::from_millis(5));
        }
        gone
    })
}

struct Ours {
    cipher: &'static str,
    key: usize,
    sector: u64,
    kdf: Kdf,
    label: &'static str,
    token: bool,
}

fn ours() -> Vec<Ours> {
    let mut all = Vec::new();
    for (cipher, key) in [
        ("aes-xts-plain64", 64),
        ("aes-xts-plain64", 32),
        ("aes-cbc-essiv:sha256", 32),
        ("aes-cbc-plain64", 16),
    ] {
        for sector in [512, 1024, 2048, 4096] {
            all.push(Ours {
                cipher,
                key,
                sector,
                kdf: Kdf::Minimal,
                label: if sector == 512 { "" } else { "a label" },
                token: sector == 4096,
            });
        }
    }
    for kdf in [Kdf::Default, Kdf::Argon2id, Kdf::Pbkdf2] {
        all.push(Ours {
            cipher: "aes-xts-plain64",
            key: 64,
            sector: 4096,
            kdf,
            label: "slow",
            token: true,
        });
    }
    all
}

const THEIRS: &[&[&str]] = &[
    &["--type=luks2"],
    &["--type=luks2", "--sector-size=512"],
    &[
        "--type=luks2",
        "--sector-size=4096",
        "--label=x",
        "--subsystem=y",
    ],
    &["--type=luks2", "--key-size=256"],
    &["--type=luks2", "--cipher=aes-xts-plain"],
    &[
        "--type=luks2",
        "--cipher=aes-cbc-essiv:sha256",
        "--key-size=256",
    ],
    &["--type=luks2", "--cipher=aes-cbc-plain64", "--key-size=192"],
    &[
        "--type=luks2",
        "--luks2-metadata-size=64k",
        "--luks2-keyslots-size=8m",
    ],
    &["--type=luks2", "--hash=sha512"],
    &["--type=luks1"],
    &[
        "--type=luks1",
        "--cipher=aes-cbc-essiv:sha256",
        "--key-size=256",
    ],
    &["--type=luks2", "--integrity=hmac-sha256"],
    &[
        "--type=luks2",
        "--integrity=hmac-sha512",
        "--sector-size=512",
    ],
    &[
        "--type=luks2",
        "--integrity=hmac-sha256",
        "--cipher=aes-xts-random",
    ],
];

/// Makes a volume and fills it, all in this process.
fn make(wanted: &Ours, image: &Path, plain: &[u8]) {
    let format = Format {
        size: SIZE,
        label: wanted.label.to_owned(),
        uuid: Uuid::from_u128(7),
        cipher: wanted.cipher.to_owned(),
        volume_key: VolumeKey::generate(wanted.key).unwrap(),
        sector_size: SectorSize::new(wanted.sector).unwrap(),
        allow_discards: wanted.token,
    };
    let mut header = Header::format(&format).unwrap();
    let slot = header.add_passphrase(&secret("ours"), wanted.kdf).unwrap();
    if wanted.token {
        let token = json!({"type": "test", "keyslots": [slot.to_string()]});
        header.add_token(&token).unwrap();
    }
    let file = File::create(image).unwrap();
    file.set_len(SIZE.get()).unwrap();
    file.write_all_at(&header.bytes().unwrap(), 0).unwrap();
    let (segment, _) = header.segments()[0];
    let cipher = Cipher::new(&format.volume_key, segment).unwrap();
    let whole = Extent::new(Bytes::ZERO, Bytes::mib(4));
    let mut target = Window::new(file, Extent::new(DATA_OFFSET, Bytes::mib(4)));
    copy(&cipher, &plain, &mut target, &[whole], NonZeroUsize::MIN).unwrap();
}

#[test]
fn cryptsetup_opens_and_finds_nothing_to_repair() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let image = path("image");
    for (index, wanted) in ours().iter().enumerate() {
        let about = format!(
            "{index}: {} {} {}",
            wanted.cipher, wanted.key, wanted.sector
        );
        let plain = pattern(index);
        make(wanted, &image, &plain);
        let before = fs::read(&image).unwrap();
        assert!(
            read_by_cryptsetup(&image, "ours") == plain,
            "{about}: theirs"
        );
        assert!(read_by_us(&image, "ours") == plain, "{about}: ours");
        let tool = Cryptsetup::on(&image);
        let dump = tool.dump();
        let label = match wanted.label {
            "" => "Label:         \t(no label)",
            label => &format!("Label:         \t{label}"),
        };
        assert!(dump.contains(label), "{about}: {dump}");
        assert!(
            dump.contains(&format!("sector: {} [bytes]", wanted.sector)),
            "{about}: {dump}"
        );
        assert!(dump.contains("0: test") == wanted.token, "{about}: {dump}");
        tool.run(&["repair", "--batch-mode"]);
        assert!(
            fs::read(&image).unwrap() == before,
            "{about}: there was something to repair"
        );
        println!("ours    {about} {:?} ok", wanted.kdf);
    }
}

#[test]
fn we_open_what_cryptsetup_fills() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let image = path("image");
    for (index, options) in THEIRS.iter().enumerate() {
        let plain = pattern(100 + index);
        let authenticated = options
            .iter()
            .any(|option| option.starts_with("--integrity"));
        formatted(&image, options, authenticated, &plain);
        assert!(
            read_by_us(&image, "theirs") == plain,
            "{options:?}: by the kernel"
        );
        assert!(
            read_here(&image, "theirs").unwrap() == plain,
            "{options:?}: in this process"
        );
        println!("theirs  {options:?} ok");
    }
}

/// Encrypted, authenticated, in one pass, without the kernel; which then checks each sector.
#[test]
fn authenticated_volumes_are_made_in_this_process() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let image = path("authenticated");
    for (sector, size) in [(4096, 24 << 20), (512, 22 << 20)] {
        let plain = pattern(13);
        let format = Format {
            size: Bytes::new(size),
            volume_key: VolumeKey::generate(96).unwrap(),
            sector_size: SectorSize::new(sector).unwrap(),
            allow_discards: false,
            ..common::format(SIZE)
        };
        let mut header = Header::format_authenticated(&format).unwrap();
        header
            .add_passphrase(&secret("ours"), Kdf::Minimal)
            .unwrap();
        let file = File::create(&image).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(&header.bytes().unwrap(), 0).unwrap();
        let (segment, _) = header.segments()[0];
        let cipher = Authenticated::new(&format.volume_key, segment).unwrap();
        let room = Bytes::new(size - DATA_OFFSET.get());
        let below = Formatted::below(cipher, segment.sector_size, room).unwrap();
        let mut target = Window::new(file, Extent::new(DATA_OFFSET, room));
        let source: (&dyn ReadAt, Bytes) = (&plain, Bytes::mib(4));
        let all = below.write(source, &mut target, Before::Zeros, &mut |_| true);
        assert!(all.unwrap());
        drop(target);

        let tool = Cryptsetup::on(&image);
        assert!(tool.dump().contains("integrity: hmac(sha256)"));
        tool.open("theirs", "ours");
        let mut device = File::open("/dev/mapper/theirs").unwrap();
        let mut data = Vec::new();
        device.read_to_end(&mut data).unwrap();
        drop(device);
        Cryptsetup::close("theirs");
        assert_eq!(u64::try_from(data.len()).unwrap(), below.data_size().get());
        assert!(data[..DATA] == plain && data[DATA..].iter().all(|byte| *byte == 0));
        assert!(read_by_us(&image, "ours") == plain);
        assert!(read_here(&image, "ours").unwrap() == plain);

        // One byte of the volume's data changes.
        let at = DATA_OFFSET.get() + below.layout.find(800).0 * 512 + 77;
        let file = File::options().read(true).write(true).open(&image).unwrap();
        let mut byte = [0];
        ReadAt::read_exact_at(&file, &mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = read_here(&image, "ours").unwrap_err();
        assert!(error.to_string().contains("not authentic"), "{error}");
    }
}

/// What an image gives in this process.
fn read_here(image: &Path, passphrase: &str) -> std::io::Result<Vec<u8>> {
    let file = File::open(image).unwrap();
    let size = Bytes::new(file.metadata().unwrap().len());
    let header = load(&file);
    let key = header.unlock(&secret(passphrase)).unwrap();
    let (segment, _) = header.segments()[0];
    let room = size.checked_sub(segment.offset).unwrap();
    let window = Window::new(file, Extent::new(segment.offset, room));
    let reader = SegmentReader::new(window, room, &key, segment).unwrap();
    let end = reader.size().get() - 1;
    assert!(reader.read_exact_at(&mut [0; 2], end).is_err());
    let mut read = vec![0; DATA];
    reader.read_exact_at(&mut read[..1000], 0)?;
    reader.read_exact_at(&mut read[1000..], 1000)?;
    Ok(read)
}

/// A volume that cryptsetup makes and fills.
fn formatted(image: &Path, options: &[&str], authenticated: bool, plain: &[u8]) {
    let file = File::create(image).unwrap();
    file.set_len(if authenticated { 32 << 20 } else { 24 << 20 })
        .unwrap();
    let cheap = match options.contains(&"--type=luks1") {
        true => &CHEAP[1..],
        false => CHEAP,
    };
    let tool = Cryptsetup::on(image);
    let mut all = [options, cheap].concat();
    if authenticated {
        all.push("--integrity-no-wipe");
    }
    tool.format("theirs", &all);
    tool.open("theirs", "theirs");
    let mut device = File::options()
        .write(true)
        .open("/dev/mapper/theirs")
        .unwrap();
    device.write_all(plain).unwrap();
    device.sync_all().unwrap();
    drop(device);
    Cryptsetup::close("theirs");
}

#[test]
fn devices_are_shared_kept_and_closed() {
    testimages::in_guest!(Uml);
    let image = path("shared");
    make(&ours()[3], &image, &pattern(1));
    let mapper = DeviceMapper::open().unwrap();
    let device = attach(&image, false);
    let device = File::open(device.node()).unwrap();
    let header = load(&File::open(&image).unwrap());
    let key = header.unlock(&secret("ours")).unwrap();
    let mut volume = Volume {
        header: &header,
        key: &key,
        device: &device,
        read_only: false,
        flags: Flags::of(&header),
        lifetime: Lifetime::UntilRemoved,
    };
    let ours = name("shared");
    let first = unlock::open_shared(&mapper, &ours, &volume).unwrap();
    assert!(!first.is_shared());
    let second = unlock::open_shared(&mapper, &ours, &volume).unwrap();
    assert!(second.is_shared());
    assert!(
        unlock::open(&mapper, &ours, &volume).is_err(),
        "the name is taken"
    );
    drop((first, second));

    // No key is left behind, and none is shown.
    // The kernel clears away what nobody holds when it finds the time.
    let left = || {
        fs::read_to_string("/proc/keys")
            .unwrap()
            .contains("cryptsetup:")
    };
    assert!((0..400).any(|_| {
        thread::sleep(Duration::from_millis(5));
        !left()
    }));
    let table = mapper.table(&ours).unwrap();
    assert!(table[0].parameters.contains(" :64:logon:cryptsetup:"));
    assert!(!format!("{table:?}").contains("logon"));

    // cryptsetup knows it for one of its own.
    let status = Cryptsetup::status("shared");
    for line in [
        "type:    LUKS2",
        "cipher:  aes-xts-plain64",
        "mode:    read/write",
    ] {
        assert!(status.contains(line), "{status}");
    }
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(SIZE.get() + (1 << 20)).unwrap();
    Cryptsetup::losetup_grow(&device);
    assert_eq!(unlock::resize(&mapper, &ours, &volume).unwrap(), 5 * 2048);
    let size = fs::read_to_string(format!(
        "/sys/block/dm-{}/size",
        mapper.info(&ours).unwrap().unwrap().minor
    ));
    assert_eq!(size.unwrap().trim(), "10240");
    assert!(unlock::close(&mapper, &ours, false).unwrap());
    assert!(!unlock::close(&mapper, &ours, false).unwrap());

    // A wrong key is not this volume's, whatever the kernel would make of it.
    assert!(!header.verify(&VolumeKey::generate(64).unwrap()).unwrap());
    // The last user takes it along, after a kill as well.
    volume.lifetime = Lifetime::UntilUnused;
    volume.read_only = true;
    let active = unlock::open(&mapper, &ours, &volume).unwrap();
    assert!(active.info().read_only);
    drop(active);
    assert!(goes(&mapper, &ours));
}

#[test]
fn tokens_of_plug_ins_unlock_in_the_kernel() {
    testimages::in_guest!(Uml);
    let image = path("token");
    make(&ours()[3], &image, &pattern(1));
    let mut header = load(&File::open(&image).unwrap());
    let keyring = json!({
        "type": "luks2-keyring", "keyslots": ["0"], "key_description": "ddi:token"
    });
    let token = header.add_token(&keyring).unwrap();
    let fido = json!({"type": "ddi-unknown", "keyslots": ["0"]});
    let unknown = header.add_token(&fido).unwrap();
    let error = header.unlock_token(unknown, None).unwrap_err();
    assert!(matches!(error, PluginError::NotInstalled { .. }), "{error}");
    let error = header.unlock_token(9, None).unwrap_err();
    assert!(matches!(error, PluginError::Missing(9)), "{error}");
    header.unlock_token(token, None).unwrap_err(); // no such key yet

    let wrong = ThreadKey::add("ddi:token", b"theirs").unwrap();
    let error = header.unlock_token(token, None).unwrap_err();
    assert!(matches!(error, PluginError::WrongKey(_)), "{error}");
    drop(wrong);
    let _right = ThreadKey::add("ddi:token", b"ours").unwrap();
    let key = header.unlock_token(token, None).unwrap();
    assert_eq!((key.is_in_kernel(), key.len()), (true, 64));
    let (segment, _) = header.segments()[0];
    let error = Cipher::new(&key, segment).unwrap_err();
    assert!(matches!(error, BulkError::KernelKey), "{error}");

    let device = attach(&image, true);
    let device = File::open(device.node()).unwrap();
    let volume = Volume {
        header: &header,
        key: &key,
        device: &device,
        read_only: true,
        flags: Flags::of(&header),
        lifetime: Lifetime::UntilUnused,
    };
    let mapper = DeviceMapper::open().unwrap();
    let active = unlock::open(&mapper, &name("token"), &volume).unwrap();
    let mut data = vec![0; DATA];
    ReadAt::read_exact_at(active.file(), &mut data, 0).unwrap();
    assert!(data == pattern(1));
}
