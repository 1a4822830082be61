//! Whole images: signed, damaged, mixed up, without a table.
#![allow(missing_docs)]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockdev::table::{Commit, commit};
use blockdev::tool::SearchPath;
use blockdev::{BlockDevice, MemoryDevice};
use dissect::check::{self, CheckError, Finding};
use dissect::layout::{Part, layout};
use dissect::metadata::Metadata;
use dissect::report::Report;
use dissect::verity::Origin;
use dissect::{DissectError, Options, VerityError};
use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Label, Table};
use image_specs::identity;
use image_specs::partition::{Designator, PartitionType};
use image_specs::signature::{PARTITION_SIZE, VeritySignature};
use image_specs::units::{Bytes, Lba, SectorSize};
use uuid::Uuid;
use veritysetup::signature::{Certificate, CertificateSource, KeySource, Openssl, Signer};
use veritysetup::verify::VerifyError;
use veritysetup::{BlockSize, Params, RootHash, Salt, tree};

const NATIVE: Architecture = Architecture::X86_64;
const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
const MIB: u64 = 1024 * 1024;

/// The parts of a signed image, to be put together and broken.
struct Parts {
    folder: tempfile::TempDir,
    data: Vec<u8>,
    tree: Vec<u8>,
    root: RootHash,
    uuids: [Uuid; 3],
    signature: Vec<u8>,
    certificate: Certificate,
}

impl Parts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut data: Vec<u8> = (0..40 * 4096_u32).map(|i| i.to_le_bytes()[1]).collect();
        data[..4].copy_from_slice(b"hsqs");
        data[28..30].copy_from_slice(&4_u16.to_le_bytes());
        let size = Bytes::new(u64::try_from(data.len()).unwrap());
        let blocks = (BlockSize::DEFAULT, BlockSize::DEFAULT);
        let params = Params::for_data(size, blocks, Salt::default(), Uuid::from_u128(7)).unwrap();
        let mut hashes = Vec::new();
        let root = tree::build(&params, &data, &mut hashes, TWO).unwrap();
        let certificate = key_pair(folder.path(), "a");
        let (data_uuid, hash_uuid) = identity::verity_pair(root.as_bytes()).unwrap();
        let mut parts = Self {
            data,
            tree: hashes,
            uuids: [data_uuid, hash_uuid, Uuid::from_u128(3)],
            signature: Vec::new(),
            certificate,
            root,
            folder,
        };
        parts.signature = parts.sign(&parts.root);
        parts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, root: &RootHash) -> Vec<u8> {
        let certificate = self.certificate.clone();
        let key = self.path("a.key");
        let key = key.to_str().unwrap();
        let signer = Signer::load(key, &KeySource::File, certificate, None, &openssl()).unwrap();
        let text = VeritySignature {
            root_hash: root.as_bytes().to_vec(),
            fingerprint: None,
            signature: signer.sign(root).unwrap().as_der().to_vec(),
            more: Vec::new(),
        };
        text.to_partition(PARTITION_SIZE).unwrap()
    }

    /// Writes the image, with labels that end in these versions.
    fn write(&self, sector: SectorSize, versions: [&str; 3]) -> PathBuf {
        let size = Bytes::mib(8);
        let mut device = MemoryDevice::new(size, sector).unwrap();
        let mut table = Table::new(Uuid::from_u128(99), sector, size).unwrap();
        let contents = [&self.data, &self.tree, &self.signature];
        let kinds = ["root", "root-verity", "root-verity-sig"];
        for (slot, start) in [(0, 1), (1, 3), (5, 5)] {
            let index = slot.min(2);
            let lba = |mib: u64| mib * MIB / sector.get();
            let label = format!("{}_{}", kinds[index], versions[index]);
            let entry = Entry {
                kind: PartitionType::parse(kinds[index], NATIVE).unwrap(),
                uuid: self.uuids[index],
                first: Lba::new(lba(start)),
                last: Lba::new(lba(start + 1) - 1),
                attributes: 0,
                label: Label::new(&label).unwrap(),
                tail: Vec::new(),
            };
            table.insert(u32::try_from(slot).unwrap(), entry).unwrap();
            let at = Bytes::mib(start);
            device.write_all_at(contents[index], at).unwrap();
        }
        commit(&mut device, &table, Commit::Create).unwrap();
        let path = self.path("image.raw");
        std::fs::write(&path, device.into_bytes()).unwrap();
        path
    }

    fn usual(&self) -> PathBuf {
        self.write(SectorSize::S512, ["1", "1", "1"])
    }
}

fn openssl() -> Openssl {
    Openssl::new(SearchPath::new(None), [])
}

fn key_pair(folder: &Path, name: &str) -> Certificate {
    let status = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=test", "-keyout", &format!("{name}.key")])
        .args(["-out", &format!("{name}.crt")])
        .current_dir(folder)
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let path = folder.join(format!("{name}.crt"));
    Certificate::load(path.to_str().unwrap(), &CertificateSource::File, &openssl()).unwrap()
}

fn options() -> Options {
    Options::new(NATIVE)
}

#[test]
fn a_signed_image_is_told_and_passes_every_check() {
    let parts = Parts::new();
    for sector in [SectorSize::S512, SectorSize::S4096] {
        let path = parts.write(sector, ["1", "1", "1"]);
        let (image, dissected) = dissect::dissect(&path, &options()).unwrap();
        let verity = dissected.verity.as_ref().unwrap();
        assert_eq!(verity.root_hash, parts.root);
        assert_eq!(verity.origin, Origin::Embedded);
        assert_eq!(check::findings(&dissected), []);
        check::signature(&dissected, std::slice::from_ref(&parts.certificate)).unwrap();
        check::data(&image, &dissected, TWO).unwrap();

        let [data, hash, signature] = parts.uuids.map(|uuid| uuid.to_string());
        let report = Report::new(&dissected, &Metadata::default());
        let json = serde_json::to_value(&report).unwrap();
        let mount = |role: &str, uuid: &str, kind: &str, verity: Option<&str>, number: u32| {
            serde_json::json!({
                "rw": "ro", "designator": role, "partition_uuid": uuid,
                "partition_label": format!("{role}_1"), "fstype": kind,
                "architecture": "x86-64", "verity": verity, "growfs": false,
                "node": null, "partno": number,
            })
        };
        let expected = serde_json::json!([
            mount("root", &data, "squashfs", Some("signed"), 1),
            mount("root-verity", &hash, "DM_verity_hash", None, 2),
            mount(
                "root-verity-sig",
                &signature,
                "verity_hash_signature",
                None,
                6
            ),
        ]);
        assert_eq!(json["mounts"], expected);
        assert_eq!(json["sectorSize"], sector.get());
        assert_eq!(json["architecture"], "x86-64");
        assert_eq!(json["imageUuid"], Uuid::from_u128(99).to_string());
        assert_eq!(json["useInitRDSystemExtension"], false);
        assert_eq!(report.rows()[1][6], "-");
    }
}

#[test]
fn another_signer_is_refused() {
    let parts = Parts::new();
    let (_, dissected) = dissect::dissect(&parts.usual(), &options()).unwrap();
    let stranger = key_pair(parts.folder.path(), "b");
    let error = check::signature(&dissected, &[stranger]).unwrap_err();
    assert!(matches!(error, CheckError::Signature(_)), "{error}");
}

#[test]
fn sets_that_are_mixed_up_are_found() {
    let mut parts = Parts::new();
    parts.signature = parts.sign(&RootHash::new([9; 32]));
    let path = parts.write(SectorSize::S512, ["1", "2", "1"]);
    let (_, dissected) = dissect::dissect(&path, &options()).unwrap();
    let found = check::findings(&dissected);
    let of = |finding: &Finding| match finding {
        Finding::Uuid { partition, .. } => format!("uuid of {partition}"),
        Finding::Label { partition, .. } => format!("label of {partition}"),
        other => other.to_string(),
    };
    let found: Vec<String> = found.iter().map(of).collect();
    assert_eq!(
        found,
        [
            "uuid of root",
            "uuid of root-verity",
            "label of root-verity"
        ]
    );
}

#[test]
fn damage_is_named() {
    let mut parts = Parts::new();
    parts.data[4096 * 11] ^= 1;
    let (image, dissected) = dissect::dissect(&parts.usual(), &options()).unwrap();
    let error = check::data(&image, &dissected, TWO).unwrap_err();
    let CheckError::Verify { partition, source } = &error else {
        panic!("{error}");
    };
    assert_eq!(*partition, Designator::Root);
    assert!(matches!(source, VerifyError::DataBlock { block: 11, .. }));

    let whole = parts.tree.clone();
    for (offset, byte) in [
        (0, b'x'),
        (8, 9),
        (64, 3),
        (79, 0xff),
        (72, 0xff),
        (32, b'!'),
    ] {
        parts.tree = whole.clone();
        parts.tree[offset] = byte;
        if offset == 72 {
            parts.tree[73] = byte; // more data blocks than the partition has
        }
        let (image, dissected) = dissect::dissect(&parts.usual(), &options()).unwrap();
        let error = check::data(&image, &dissected, TWO).unwrap_err();
        let named = matches!(
            error,
            CheckError::NoSuperblock(_)
                | CheckError::Superblock { .. }
                | CheckError::Params { .. }
                | CheckError::Size { .. }
        );
        assert!(named, "{offset}: {error}");
    }

    parts.signature = b"{".to_vec();
    let error = dissect::dissect(&parts.usual(), &options()).unwrap_err();
    let damaged = matches!(error, DissectError::Verity(VerityError::Text { .. }));
    assert!(damaged, "{error}");
}

#[test]
fn what_is_no_image_is_refused() {
    let parts = Parts::new();
    let path = parts.path("zeros");
    std::fs::write(&path, vec![0; 65536]).unwrap();
    for path in [path, parts.path("missing"), parts.path("")] {
        let error = dissect::dissect(&path, &options()).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    // An empty file, and one of less than a sector.
    for size in [0, 100] {
        let path = parts.path("small");
        std::fs::write(&path, vec![0; size]).unwrap();
        assert!(dissect::dissect(&path, &options()).is_err());
    }
}

#[test]
fn a_file_system_without_a_table_is_the_root() {
    let parts = Parts::new();
    let path = parts.path("plain.raw");
    std::fs::write(&path, &parts.data).unwrap();
    let (_, dissected) = dissect::dissect(&path, &options()).unwrap();
    let report = Report::new(&dissected, &Metadata::default());
    let [mount] = report.mounts.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(mount.fstype.as_deref(), Some("squashfs"));
    assert_eq!((mount.rw, mount.partno, mount.verity), ("ro", None, None));
    assert_eq!(mount.node.as_deref(), path.to_str());
}

#[test]
fn the_layout_has_every_byte_between_the_tables() {
    let parts = Parts::new();
    let path = parts.usual();
    let image = dissect::Image::open(&path, None).unwrap();
    let probed = dissect::probe::probe(&image, &options().file_systems).unwrap();
    let table = probed.table.unwrap();
    let layout = layout(&table, probed.size);
    assert_eq!(layout.findings, []);
    let mut reached = table.first_usable().start(SectorSize::S512).unwrap();
    let mut numbers = Vec::new();
    for part in &layout.parts {
        let extent = match part {
            Part::Free(extent) => *extent,
            Part::Partition(slot) => {
                numbers.push(slot.number);
                slot.extent
            }
        };
        assert_eq!(extent.start, reached);
        reached = extent.end().unwrap();
    }
    assert_eq!(numbers, [1, 2, 6]);
    assert_eq!(layout.parts.len(), 6); // the first partition begins where the table lets it
    let usable = table.last_usable().start(SectorSize::S512).unwrap();
    assert_eq!(reached, usable.checked_add(Bytes::new(512)).unwrap());
}
