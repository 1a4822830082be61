//! Tables of cases: each was compared with systemd-repart 262.

use std::path::PathBuf;

use image_specs::arch::Architecture;
use image_specs::partition::{FLAG_GROW_FILE_SYSTEM, FLAG_NO_AUTO, FLAG_READ_ONLY};
use image_specs::units::Bytes;
use proptest::prelude::*;

use super::*;

fn source(name: &str, lines: &str) -> Source {
    Source {
        path: PathBuf::from(format!("/d/{name}.conf")),
        text: format!("[Partition]\n{}", lines.replace("; ", "\n")).into_bytes(),
        drop_ins: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings {
        can_mount: true,
        ..Settings::new(Architecture::X86_64)
    }
}

pub(super) fn read_all(files: &[&str]) -> Result<DefinitionSet, String> {
    let names = ["10-a", "20-b", "30-c"];
    let sources: Vec<_> = names
        .iter()
        .zip(files)
        .map(|(name, text)| source(name, text))
        .collect();
    read(Vec::new(), &sources, &settings()).map_err(|error| error.to_string())
}

fn read_one(lines: &str) -> Definition {
    let mut set = read_all(&[lines]).unwrap_or_else(|error| panic!("{lines}: {error}"));
    set.definitions.remove(0)
}

/// Warnings of one definition, without the path.
fn warnings(lines: &str) -> Vec<String> {
    let set = read_all(&[lines]).unwrap_or_else(|error| panic!("{lines}: {error}"));
    let warnings = set.warnings.iter().map(ToString::to_string);
    warnings
        .map(|warning| warning.replace("/d/10-a.conf:", ""))
        .collect()
}

#[test]
fn what_is_refused() {
    for (lines, message) in [
        (
            "Label=x",
            "/d/10-a.conf: Type= is not set; every definition needs one",
        ),
        ("Type=zzz", "/d/10-a.conf:2:6: Type=\"zzz\" is refused"),
        ("Type=", "2:6: Type=\"\" is refused"),
        (
            "Type=home; SizeMinBytes=",
            "3:14: SizeMinBytes=\"\" is refused: write a number",
        ),
        ("Type=home; SizeMinBytes=64m", "is refused"),
        (
            "Type=home; SizeMinBytes=10M; SizeMaxBytes=5M",
            "3:1: SizeMinBytes=10M is larger than SizeMaxBytes=5M",
        ),
        (
            "Type=home; PaddingMinBytes=10M; PaddingMaxBytes=5M",
            "is larger than",
        ),
        (
            "Type=home; SizeMinBytes=4K; SizeMaxBytes=4095",
            "is larger than SizeMaxBytes=0B",
        ),
        ("Type=home; FileSystemSectorSize=100", "power of two"),
        (
            "Type=home; VerityDataBlockSizeBytes=8192",
            "power of two from 512 to 4096",
        ),
        ("Type=home; VerityDataBlockSizeBytes=256", "power of two"),
        ("Type=home; VerityHashBlockSizeBytes=", "is refused"),
        (
            "Type=home; CopyFiles=/a:/b:fsverity=copy:d",
            "write it as SOURCE:TARGET:OPTIONS",
        ),
        ("Type=home; CopyFiles=/a\\q", "backslash"),
        ("Type=home; TPM2PCRs=99", "PCRs"),
        ("Type=home; TPM2PCRs=7:sha256=aa", "PCRs"),
        ("Type=home; TPM2PCRs=7:md5", "PCRs"),
        (
            "Type=home; Minimize=yes; Format=ext4",
            "Minimize=best needs",
        ),
        (
            "Type=home; Minimize=guess",
            "Minimize= needs Format= or Verity=hash",
        ),
        (
            "Type=home; Format=squashfs; AddValidateFS=no",
            "needs content",
        ),
        (
            "Type=home; Format=squashfs; CopyBlocks=/x",
            "CopyBlocks= and Format= cannot be combined",
        ),
        (
            "Type=home; AddValidateFS=yes; CopyBlocks=/x",
            "CopyBlocks= cannot be combined",
        ),
        (
            "Type=home; MakeSymlinks=/a:b; CopyBlocks=/x",
            "CopyBlocks= cannot be combined",
        ),
        (
            "Type=home; BlockDeviceReplace=/x; CopyBlocks=/x",
            "cannot be combined",
        ),
        (
            "Type=home; BlockDeviceReplace=/x; Format=ext4",
            "cannot be combined",
        ),
        (
            "Type=home; BlockDeviceReplace=/x; MakeDirectories=/a",
            "cannot be combined",
        ),
        (
            "Type=home; AddValidateFS=yes; Format=swap",
            "Format=swap cannot be combined",
        ),
        (
            "Type=home; MakeDirectories=/a; Format=empty",
            "Format=empty cannot be combined",
        ),
        ("Type=home; Integrity=inline", "Integrity= needs Encrypt="),
        (
            "Type=home; Encrypt=yes; Integrity=inline; Discard=yes",
            "Integrity= and Discard= cannot",
        ),
        ("Type=home; VolumeName=foo", "VolumeName= needs Encrypt="),
        (
            "Type=home; VolumeName=foo; Encrypt=yes",
            "VolumeName= needs BlockDeviceReplace=",
        ),
        ("Type=home; VolumeName=a/b", "no valid name"),
        (
            "Type=home; VerityMatchKey=foo",
            "VerityMatchKey= needs Verity=",
        ),
        ("Type=home; Verity=data", "Verity= needs VerityMatchKey="),
        (
            "Type=home; Verity=data; VerityMatchKey=x",
            "no Verity=hash partition has VerityMatchKey=x",
        ),
        (
            "Type=root-verity; Verity=hash; VerityMatchKey=x",
            "no Verity=data partition",
        ),
        (
            "Type=root-verity-sig; Verity=signature; VerityMatchKey=x",
            "no Verity=data partition",
        ),
        (
            "Type=home; Verity=hash; VerityMatchKey=x; Format=ext4",
            "Format= cannot be used with Verity=hash",
        ),
        (
            "Type=home; Verity=hash; VerityMatchKey=x; Encrypt=yes",
            "Encrypt= cannot be used with Verity=hash",
        ),
        (
            "Type=home; Verity=signature; VerityMatchKey=x; SizeMinBytes=1M",
            "cannot be used with Verity=signature",
        ),
        (
            "Type=home; DefaultSubvolume=/x; Format=btrfs",
            "must be listed in Subvolumes=",
        ),
        (
            "Type=home; SupplementFor=foo",
            "3:1: SupplementFor=foo: there is no definition foo.conf",
        ),
        (
            "Type=home; SupplementFor=10-a",
            "there is no definition 10-a.conf",
        ),
        ("[Partition", "2:1: the section header has no"),
        ("Label=caf\u{0}\\", "Type= is not set"),
    ] {
        let error = read_all(&[lines]).unwrap_err();
        assert!(error.contains(message), "{lines}: {error}");
    }
}

#[test]
fn what_is_ignored_with_a_warning() {
    for (lines, messages) in [
        ("Type=home; X-Foo=1; [X-Bar]; a=b", &[] as &[&str]),
        (
            "Type=home; Typ=1",
            &["3:1: unknown key Typ= is ignored; did you mean Type=?"],
        ),
        (
            "Type=home; FOO",
            &["3:1: this line has no \"=\" and is ignored; write KEY=VALUE"],
        ),
        ("Type=home; Weight=-1", &["3:8: Weight=\"-1\" is ignored"]),
        (
            "Type=home; Weight=1000001; PaddingWeight=1000000",
            &["Weight=\"1000001\" is ignored"],
        ),
        ("Type=home; Priority=2147483648", &["Priority="]),
        ("Type=home; NoAuto=auto", &["write yes or no"]),
        ("Type=home; Flags=garbage; Flags=", &["Flags=", "Flags="]),
        ("Type=home; UUID=nil", &["write a UUID, null, or nothing"]),
        (
            "Type=home; FactoryReset=; Priority=; Weight=",
            &["FactoryReset=", "Priority=", "Weight="],
        ),
        (
            "Type=home; NoAuto=; ReadOnly=; Minimize=; Encrypt=; Verity=; Integrity=; \
             IntegrityAlgorithm=; EncryptKDF=; Discard=; AddValidateFS=; Compression=; \
             CompressionLevel=; VolumeLabel=; VolumeName=; SupplementFor=; VerityMatchKey=; \
             CopyBlocks=; BlockDeviceReplace=; MakeDirectories=; MakeSymlinks=; Subvolumes=; \
             DefaultSubvolume=; ExcludeFiles=; TPM2PCRs=; KeyFile=; SplitName=; MountPoint=; \
             EncryptedVolume=; FileSystemSectorSize=",
            &[],
        ),
        (
            "Type=home; Minimize=foo; Encrypt=x; Verity=x",
            &["off, best", "key-file", "signature"],
        ),
        ("Type=home; Label=a%Qb", &["%Q is no specifier"]),
        (
            "Type=home; Label=ééééééééééééééééééé",
            &["at most 36 bytes"],
        ),
        (
            "Type=home; CopyFiles=\"foo\":/bar",
            &["\\\"foo\\\":/bar\" is ignored: the path is not absolute"],
        ),
        (
            "Type=home; CopyFiles=/a:/b:fsverity=copy,zzz",
            &["option \"zzz\" is not known"],
        ),
        (
            "Type=home; CopyFiles=; CopyFiles=/b::x; CopyFiles=:/b",
            &["absolute", "absolute", "absolute"],
        ),
        (
            "Type=home; MakeDirectories=a \"/b c /d",
            &["no partner", "not absolute"],
        ),
        (
            "Type=home; MakeSymlinks=a:b /c :/h",
            &["not absolute", "LINKPATH:TARGET", "not absolute"],
        ),
        (
            "Type=home; Format=btrfs; Subvolumes=a /b:ro,zz /e:",
            &["not absolute", "\"zz\"", "\"\" is not known"],
        ),
        ("Type=home; ExcludeFiles=/b a /c b", &["not absolute"]),
        (
            "Type=home; MountPoint=/a:b:c; MountPoint=a; MountPoint=\"/a",
            &["PATH:OPTIONS", "absolute", "partner"],
        ),
        (
            "Type=home; EncryptedVolume=a/b; EncryptedVolume=a:b:c:d; EncryptedVolume=a:b:c:d:e",
            &["file", "\"d\"", "EXTRA"],
        ),
        (
            "Type=home; Format=a/b",
            &["it cannot be a file system's name"],
        ),
        (
            "Type=home; CopyBlocks=foo; BlockDeviceReplace=foo",
            &["absolute", "absolute"],
        ),
        (
            "Type=home; SizeMinBytes=5000",
            &["3:14: SizeMinBytes=5000 is rounded to 8192"],
        ),
        (
            "Type=home; Discard=yes; EncryptKDF=minimal",
            &["Discard= has no effect", "EncryptKDF= has no effect"],
        ),
        (
            "Type=esp; ReadOnly=yes; GrowFileSystem=no",
            &["ReadOnly= means nothing", "GrowFileSystem= means"],
        ),
        ("Type=home; Flags=1", &["Flags= sets bits below 48"]),
    ] {
        let found = warnings(lines);
        assert_eq!(found.len(), messages.len(), "{lines}: {found:#?}");
        for (found, message) in found.iter().zip(messages) {
            assert!(found.contains(message), "{lines}: {found}");
        }
    }
}

#[test]
fn values_arrive() {
    let all = read_one(
        "Type=root; Label=%o x; UUID=11111111222233334444555555555555; Priority=-5; FactoryReset=yes; \
         Weight=0x10; PaddingWeight=0o17; SizeMinBytes=1; SizeMaxBytes=1.5G; PaddingMinBytes=1; \
         PaddingMaxBytes=8191; Minimize=guess; Format=btrfs; CopyFiles=/a:/b/; \
         CopyFiles=/x\\x20y::; CopyFiles=/q:/r:fsverity=copy; ExcludeFiles=/a/ /b; \
         ExcludeFilesTarget=\"/c d\"; MakeDirectories=/x /x/ /y; MakeSymlinks=/d:/e:/f \"/h:'k l'\"; \
         Subvolumes=/s:ro /t:ro:nodatacow /s:nodatacow; DefaultSubvolume=/t; Compression=zstd; \
         CompressionLevel=3; FileSystemSectorSize=256; MountPoint=/m//n/:x y; MountPoint=\"/o:p\"; \
         SplitName=%a.%t; Encrypt=key-file+tpm2; KeyFile=/k; TPM2PCRs=7+11:sha256; EncryptKDF=minimal; \
         Discard=no; Integrity=inline; IntegrityAlgorithm=hmac-sha512; VolumeLabel=v; \
         EncryptedVolume=n:/k:o,p:fixate-volume-key",
    );
    insta::assert_debug_snapshot!(Definition {
        origin: Origin::default(),
        ..all
    });
}

#[test]
fn resets_and_appends() {
    let reset = read_one(
        "Type=home; UUID=null; UUID=; CopyBlocks=auto; CopyBlocks=; ExcludeFiles=/a; ExcludeFiles=; \
         MountPoint=/a; MountPoint=; EncryptedVolume=a; EncryptedVolume=; TPM2PCRs=7; TPM2PCRs=; \
         KeyFile=/k; KeyFile=; FileSystemSectorSize=512; FileSystemSectorSize=; Label=x; Label=; \
         ExcludeFilesTarget=/a; ExcludeFilesTarget=; DefaultSubvolume=/a; DefaultSubvolume=",
    );
    let mut fresh = Definition::new(reset.kind);
    (fresh.origin, fresh.flags) = (reset.origin.clone(), FLAG_GROW_FILE_SYSTEM);
    fresh.label = Some(String::new());
    assert_eq!(reset, fresh);
    let kept = read_one(
        "Type=home; CopyFiles=/a; CopyFiles=; MakeDirectories=/a; MakeDirectories=; \
         MakeSymlinks=/a:b; MakeSymlinks=; Subvolumes=/a; Subvolumes=",
    );
    assert_eq!(kept.populate.copy_files.len(), 1);
    assert_eq!(kept.populate.directories, ["/a"]);
    assert_eq!(
        (kept.populate.symlinks.len(), kept.populate.subvolumes.len()),
        (1, 1)
    );
}

#[test]
fn formats_are_implied() {
    for (lines, format, validates) in [
        ("Type=home", None, false),
        ("Type=home; Format=ext4", Some("ext4"), true),
        ("Type=home; Format=vfat", Some("vfat"), false),
        ("Type=home; Format=ext4; Format=a/b", Some("ext4"), true),
        ("Type=home; AddValidateFS=yes", Some("ext4"), true),
        ("Type=home; AddValidateFS=no", None, false),
        ("Type=home; MakeDirectories=/a", Some("ext4"), true),
        ("Type=home; MakeSymlinks=/a:b", Some("ext4"), true),
        ("Type=home; CopyFiles=/a", Some("ext4"), true),
        ("Type=home; Subvolumes=/a", None, false),
        ("Type=home; ExcludeFiles=/a", None, false),
        ("Type=home; MountPoint=/a", None, false),
        ("Type=home; Encrypt=yes", Some("ext4"), true),
        ("Type=home; Encrypt=yes; CopyBlocks=/a", None, false),
        ("Type=esp; MakeDirectories=/a", Some("vfat"), false),
        ("Type=xbootldr; Encrypt=yes", Some("vfat"), false),
        ("Type=swap", Some("swap"), false),
        ("Type=swap; MakeDirectories=/a", Some("swap"), false),
        ("Type=swap; Encrypt=yes", Some("swap"), false),
        ("Type=swap; CopyBlocks=/a", None, false),
        ("Type=home; Format=empty", None, false),
        ("Type=home; Format=f2fs", Some("f2fs"), true),
        ("Type=home; Format=erofs", Some("erofs"), true),
        (
            "Type=home; Format=swap; Minimize=guess",
            Some("swap"),
            false,
        ),
    ] {
        let definition = read_one(lines);
        let found = definition.format.as_ref().map(Format::name);
        assert_eq!(
            (found, definition.add_validate_fs),
            (format, validates),
            "{lines}"
        );
    }
    let labels = [
        "Type=home; Format=empty",
        "Type=home; Format=empty; Label=x",
    ];
    assert_eq!(
        labels.map(|lines| read_one(lines).label.unwrap()),
        ["_empty", "x"]
    );
}

#[test]
fn unmountable_formats_need_a_mount() {
    let settings = Settings::new(Architecture::X86_64);
    for (lines, good) in [
        ("Type=home; Format=f2fs", false),
        ("Type=home; Format=f2fs; AddValidateFS=no", true),
        ("Type=home; Format=ext4; MakeDirectories=/a", true),
        ("Type=swap; MakeDirectories=/a", true),
    ] {
        assert_eq!(
            read(Vec::new(), &[source("a", lines)], &settings).is_ok(),
            good,
            "{lines}"
        );
    }
}

#[test]
fn attribute_bits_are_those_that_libfdisk_writes() {
    const G: u64 = FLAG_GROW_FILE_SYSTEM;
    const R: u64 = FLAG_READ_ONLY;
    const N: u64 = FLAG_NO_AUTO;
    const B48: u64 = 1 << 48;
    for (lines, flags) in [
        ("Type=home", G),
        ("Type=home; ReadOnly=yes", R),
        (
            "Type=home; NoAuto=yes; ReadOnly=yes; GrowFileSystem=yes",
            N | R | G,
        ),
        ("Type=home; NoAuto=no; ReadOnly=no; GrowFileSystem=no", G),
        ("Type=home; ReadOnly=yes; GrowFileSystem=no", R),
        ("Type=home; GrowFileSystem=no", G),
        ("Type=home; Format=empty", N | G),
        ("Type=home; Format=empty; NoAuto=no", G),
        ("Type=root-verity", R),
        (
            "Type=root-verity; NoAuto=yes; ReadOnly=yes; GrowFileSystem=yes",
            N | R,
        ),
        ("Type=root-verity; ReadOnly=no", 0),
        ("Type=root-verity-sig; NoAuto=yes", R),
        ("Type=root-verity-sig; ReadOnly=no", 0),
        ("Type=esp; NoAuto=yes; ReadOnly=yes; GrowFileSystem=yes", 0),
        ("Type=swap; NoAuto=yes; ReadOnly=yes", N),
        ("Type=linux-generic; NoAuto=yes", 0),
        ("Type=user-home; ReadOnly=yes", 0),
        ("Type=0fc63daf848347728e793d69d8477de5; NoAuto=yes", 0),
        ("Type=tmp", G),
        ("Type=home; Flags=1", 0),
        ("Type=home; Flags=0b1", 0),
        ("Type=home; Flags=0x8000000000000000", N | G),
        ("Type=home; Flags=0x1000000000000000", R | G),
        ("Type=home; Flags=0x1000000000000000; ReadOnly=no", G),
        ("Type=home; Flags=0x0800000000000000; GrowFileSystem=no", G),
        ("Type=home; Flags=0x0800000000000000; ReadOnly=yes", R | G),
        (
            "Type=home; Flags=0x0001000000000000; NoAuto=yes",
            B48 | G | N,
        ),
        ("Type=home; Flags=0x0001000000000004; NoAuto=yes", 0),
        (
            "Type=home; Flags=0xffff000000000000; NoAuto=no; ReadOnly=no; GrowFileSystem=no",
            0xffff_0000_0000_0000 & !N & !R | G,
        ),
    ] {
        assert_eq!(read_one(lines).flags, flags, "{lines}");
    }
    let pair = [
        "Type=home; Verity=data; VerityMatchKey=r",
        "Type=srv; Verity=hash; VerityMatchKey=r",
    ];
    let flags = read_all(&pair)
        .unwrap()
        .definitions
        .iter()
        .map(|d| d.flags)
        .collect::<Vec<_>>();
    assert_eq!(flags, [R, G]);
}

const DATA: &str = "Type=root; Verity=data; VerityMatchKey=r";
const HASH: &str = "Type=root-verity; Verity=hash; VerityMatchKey=r";
const SIGNATURE: &str = "Type=root-verity-sig; Verity=signature; VerityMatchKey=r";

#[test]
fn verity_sets_are_linked() {
    let set = read_all(&[SIGNATURE, HASH, DATA]).unwrap();
    let linked = VeritySet {
        data: 2,
        hash: 1,
        signature: Some(0),
    };
    assert_eq!(set.verity_sets, [linked]);
    assert_eq!(set.verity_set_of(1), Some(linked));
    let with = |base: &str, more: &str| format!("{base}; {more}");
    for (files, message) in [
        (
            [with(DATA, "Priority=1"), HASH.into()].as_slice(),
            "differs from Priority=0",
        ),
        (
            &[DATA.into(), HASH.into(), HASH.into()],
            "several Verity=hash",
        ),
        (
            &[DATA.into(), HASH.into(), DATA.into()],
            "several Verity=data",
        ),
        (
            &[DATA.into(), with(HASH, "CopyBlocks=/x")],
            "CopyBlocks= on a Verity=hash",
        ),
        (
            &[with(DATA, "CopyBlocks=auto"), with(HASH, "CopyBlocks=/x")],
            "same kind",
        ),
        (
            &[DATA.into(), HASH.into(), with(SIGNATURE, "CopyBlocks=/x")],
            "Verity=signature",
        ),
        (
            &[DATA.into(), with(HASH, "Minimize=best")],
            "Minimize= on a Verity=hash",
        ),
        (
            &[
                with(DATA, "Encrypt=yes; Format=erofs; Minimize=best"),
                with(HASH, "Minimize=best"),
            ],
            "encrypted",
        ),
        (
            &[DATA.into(), with(HASH, "VerityMatchKey=q")],
            "no Verity=hash partition",
        ),
        (
            &[DATA.into(), with(HASH, "MakeDirectories=/a")],
            "cannot be used with Verity=hash",
        ),
        (
            &[DATA.into(), with(HASH, "AddValidateFS=yes")],
            "cannot be used with Verity=hash",
        ),
        (
            &[DATA.into(), HASH.into(), with(SIGNATURE, "Minimize=best")],
            "Minimize= needs",
        ),
    ] {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let error = read_all(&files).unwrap_err();
        assert!(error.contains(message), "{files:?}: {error}");
    }
    for files in [
        [with(DATA, "Encrypt=yes"), HASH.into()],
        [
            DATA.into(),
            with(
                HASH,
                "SizeMinBytes=1M; SizeMaxBytes=1G; Subvolumes=/a; ExcludeFiles=/b",
            ),
        ],
        [with(DATA, "CopyBlocks=/y"), with(HASH, "CopyBlocks=/x")],
        [with(DATA, "CopyBlocks=/y"), with(HASH, "Minimize=best")],
    ] {
        read_all(&files.each_ref().map(String::as_str)).unwrap();
    }
}

#[test]
fn supplements_are_linked_and_merged() {
    let set = read_all(&[
        "Type=home; SupplementFor=20-b; Weight=5; SizeMinBytes=1G; SizeMaxBytes=2G; MakeDirectories=/a /b; \
         MakeSymlinks=/x:y; Format=ext4",
        "Type=srv; SizeMinBytes=1M; SizeMaxBytes=3G; MakeDirectories=/a; PaddingMinBytes=1M",
    ])
    .unwrap();
    assert_eq!(
        set.supplements,
        [Supplement {
            supplement: 0,
            target: 1
        }]
    );
    let merged = set.merged(1).unwrap();
    assert_eq!(
        (merged.weight, merged.size_min),
        (5, Some(Bytes::new(1 << 30)))
    );
    assert_eq!(
        (merged.size_max, merged.padding_min),
        (Some(Bytes::new(2 << 30)), None)
    );
    assert_eq!(merged.populate.directories, ["/a", "/b"]);
    assert!(merged.populate.symlinks.is_empty());
    for (files, message) in [
        (
            [
                "Type=home; SupplementFor=20-b",
                "Type=home; SupplementFor=10-a",
                "Type=srv",
            ],
            "itself a supplement",
        ),
        (
            [
                "Type=home; SupplementFor=20-b",
                "Type=home",
                "Type=home; SupplementFor=20-b",
            ],
            "/30-c.conf:3:1: SupplementFor=20-b: 20-b.conf already has",
        ),
        (
            [
                "Type=home; SupplementFor=20-b; Encrypt=yes",
                "Type=home",
                "Type=srv",
            ],
            "Encrypt=",
        ),
        (
            [
                "Type=home; SupplementFor=20-b",
                "Type=home; CopyBlocks=/x",
                "Type=srv",
            ],
            "CopyBlocks=",
        ),
        (
            [
                "Type=home; SupplementFor=20-b; SizeMinBytes=1G",
                "Type=home; SizeMaxBytes=50M",
                "Type=srv",
            ],
            "is larger than SizeMaxBytes=50M",
        ),
        (
            [
                "Type=home; SupplementFor=20-b; PaddingMinBytes=1G",
                "Type=home; PaddingMaxBytes=50M",
                "Type=srv",
            ],
            "is larger than",
        ),
    ] {
        let error = read_all(&files).unwrap_err();
        assert!(error.contains(message), "{files:?}: {error}");
    }
}

#[test]
fn architectures_are_rewritten_and_types_filtered() {
    let kind = |text: &str| PartitionType::parse(text, Architecture::X86_64).unwrap();
    let sources = [
        source("a", "Type=root"),
        source("b", "Type=esp"),
        source("c", "SizeMinBytes=2M; SizeMaxBytes=1M; Type=home"),
    ];
    let names = |settings: &Settings| {
        let set = read(Vec::new(), &sources, settings).unwrap();
        set.definitions
            .iter()
            .map(|d| d.kind.to_string())
            .collect::<Vec<_>>()
    };
    let mut settings = settings();
    settings.filter = Filter::Exclude(vec![kind("home")]);
    assert_eq!(names(&settings), ["root-x86-64", "esp"]);
    settings.architecture = Some(Architecture::Arm64);
    assert_eq!(names(&settings), ["root-arm64", "esp"]);
    for root in ["root", "root-arm64"] {
        settings.filter = Filter::Include(vec![kind(root)]);
        assert_eq!(names(&settings), ["root-arm64"]);
    }
    settings.architecture = Some(Architecture::Cris);
    settings.filter = Filter::Include(vec![kind("root")]);
    assert_eq!(names(&settings), ["root-x86-64"]);
}

#[test]
fn the_environment_overrides_file_systems() {
    for (variable, value, lines, format) in [
        ("", "vfat", "Type=home; Format=ext4", Some("vfat")),
        ("", "vfat", "Type=home", None),
        ("", "vfat", "Type=home; MakeDirectories=/a", Some("ext4")),
        ("", "vfat", "Type=home; Format=empty", Some("vfat")),
        ("", "", "Type=home; Format=ext4", None),
        ("_HOME", "vfat", "Type=home", Some("vfat")),
        ("_HOME", "vfat", "Type=srv; Format=ext4", Some("ext4")),
        ("_HOME", "vfat", "Type=home; CopyBlocks=/x", Some("vfat")),
        (
            "_HOME",
            "vfat",
            "Type=home; Format=squashfs; Minimize=best",
            Some("vfat"),
        ),
        ("_ROOT", "vfat", "Type=root-arm64", Some("vfat")),
        ("_SWAP", "vfat", "Type=swap", Some("swap")),
        ("_LINUX_GENERIC", "vfat", "Type=linux-generic", None),
        ("_USER_HOME", "vfat", "Type=user-home", None),
        ("_ROOT_VERITY", "vfat", "Type=root-verity", None),
        ("_ESP", "ext4", "Type=esp", Some("ext4")),
        ("_TMP", "ext4", "Type=tmp", Some("ext4")),
    ] {
        let mut settings = settings();
        let variable = format!("SYSTEMD_REPART_OVERRIDE_FSTYPE{variable}");
        settings
            .environment
            .insert(variable.clone(), value.to_owned());
        let set = read(Vec::new(), &[source("a", lines)], &settings).unwrap();
        let found = set.definitions[0].format.as_ref().map(Format::name);
        assert_eq!(found, format, "{variable}={value} {lines}");
    }
}

#[test]
fn drop_ins_apply_after_the_file_and_are_named_in_messages() {
    let mut one = source("10-a", "Type=home; Label=a");
    let drop_in =
        |name: &str, text: &str| (PathBuf::from(format!("/d/10-a.conf.d/{name}")), text.into());
    one.drop_ins = vec![
        drop_in("50.conf", "[Partition]\nType=srv\nLabel=b\n"),
        drop_in("60.conf", ""),
    ];
    let set = read(Vec::new(), std::slice::from_ref(&one), &settings()).unwrap();
    let found = &set.definitions[0];
    assert_eq!(
        (found.kind.to_string(), found.label.as_deref()),
        ("srv".to_owned(), Some("b"))
    );
    assert_eq!(found.origin.drop_ins.len(), 2);
    assert_eq!(
        found.origin.keys[&Key::Label].to_string(),
        "/d/10-a.conf.d/50.conf:3:1"
    );
    one.drop_ins
        .push(drop_in("70.conf", "[Partition]\nSizeMinBytes=x"));
    let error = read(Vec::new(), &[one], &settings())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/d/10-a.conf.d/70.conf:2:14: SizeMinBytes="),
        "{error}"
    );
}

#[test]
fn what_the_file_system_does_not_have_is_said() {
    for (lines, expected) in [
        (
            "Format=ext4; Compression=zstd",
            "4:1: Compression= means nothing for ext4 and is ignored",
        ),
        (
            "Format=vfat; CompressionLevel=1",
            "CompressionLevel= means nothing for vfat",
        ),
        (
            "Format=btrfs; CompressionLevel=1",
            "CompressionLevel= means nothing without Compression=",
        ),
        (
            "Format=xfs; Subvolumes=/a",
            "Subvolumes= means nothing for xfs",
        ),
        (
            "Compression=zstd",
            "Compression= means nothing without a file system",
        ),
    ] {
        let said = warnings(&format!("Type=linux-generic; {lines}"));
        assert!(
            said.iter().any(|line| line.contains(expected)),
            "{lines}: {said:?}"
        );
    }
    for lines in [
        "Format=btrfs; Subvolumes=/a",
        "Format=btrfs; Compression=zstd; CompressionLevel=1",
    ] {
        assert_eq!(
            warnings(&format!("Type=linux-generic; {lines}")),
            [""; 0],
            "{lines}"
        );
    }
}

#[test]
fn what_is_not_supported_yet_is_named() {
    for (lines, message) in [
        ("Type=home; Encrypt=tpm2", None),
        (
            "Type=home; Encrypt=yes; Integrity=inline",
            Some("/d/10-a.conf:4:1: Integrity=inline keeps its tags"),
        ),
        ("Type=home; Encrypt=yes", None),
        (
            "Type=home; BlockDeviceReplace=/x",
            Some("BlockDeviceReplace= is not supported yet"),
        ),
        (
            "Type=home; CopyFiles=/a; CopyFiles=/b:/c:fsverity=copy",
            Some("/d/10-a.conf:4:1: CopyFiles=/b with fsverity=copy is not supported yet"),
        ),
        ("Type=home; CopyFiles=/b:/c:fsverity=off", None),
        ("Type=home; KeyFile=/x", None),
    ] {
        let set = read_all(&[lines]).unwrap();
        let found = unsupported(&set).map(|diagnostic| diagnostic.to_string());
        match message {
            None => assert_eq!(found, None),
            Some(message) => assert!(found.unwrap().contains(message), "{lines}"),
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(lines in proptest::collection::vec((
        proptest::sample::select(Key::NAMES),
        "[ -~é]{0,12}|/a:/b|/x /y:ro|[0-9]{1,3}[KMG]?|yes|auto|home|root|data|off",
    ), 0..12)) {
        let text: Vec<_> = lines.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = read_all(&[&format!("Type=home\n{}", text.join("\n"))]);
    }
}
