//! What is wrong is named, with what to do about it, by the exit code that systemd's tool has, and
//! nothing has changed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SEED, Scratch, ddi, is_root, repart, run, unprivileged};
use rustix::fs::{FlockOperation, flock};
use testimages::hostile::{self, Expected};

/// A definition that nothing is wrong with.
const FINE: &str = "Type=root\nFormat=squashfs\nCopyFiles=/\n";

/// Keys of one definition, the exit code, and the whole message (`$` is the scratch folder; what OpenSSL or
/// clap say behind `…` is theirs).
const DEFINITIONS: &[(&str, i32, &str)] = &[
    (
        "Type=root\nFormat=squashfs\nCopyFiles=/block:/x\nMinimize=best\nSizeMaxBytes=4096\nCompression=gzip\nCopyFiles=/noise:/y\n",
        1,
        "error: $/repart.d/10-x.conf: its contents need 73728 bytes, more than SizeMaxBytes= allows (4096)",
    ),
    (
        "Type=root\nFormat=vfat\nCopyFiles=/\nSizeMinBytes=16K\nSizeMaxBytes=16K\n",
        1,
        "error: making the vfat file system of 10-x.conf: a FAT file system of this width cannot have 16384 bytes with sectors of 4096 bytes; change the size, or the option -F",
    ),
    (
        "Type=bogus\n",
        1,
        "error: $/repart.d/10-x.conf:2:6: Type=\"bogus\" is refused: \"bogus\" is not a partition type; write a name such as root, usr-verity, esp, home, root-arm64 or a GUID",
    ),
    (
        "Format=ext4\n",
        1,
        "error: $/repart.d/10-x.conf: Type= is not set; every definition needs one",
    ),
    (
        "Tpye=root\n",
        1,
        "warning: $/repart.d/10-x.conf:2:1: unknown key Tpye= is ignored\nerror: $/repart.d/10-x.conf: Type= is not set; every definition needs one",
    ),
    (
        "nonsense\nType\n",
        1,
        "warning: $/repart.d/10-x.conf:2:1: this line has no \"=\" and is ignored; write KEY=VALUE\nwarning: $/repart.d/10-x.conf:3:1: this line has no \"=\" and is ignored; write KEY=VALUE\nerror: $/repart.d/10-x.conf: Type= is not set; every definition needs one",
    ),
    (
        "Type=root\nSizeMinBytes=abc\n",
        1,
        "error: $/repart.d/10-x.conf:3:14: SizeMinBytes=\"abc\" is refused: write a number of bytes, or one with K, M, G, T, P or E (base 1024) such as 64M",
    ),
    (
        "Type=root\nSizeMinBytes=99999P\n",
        1,
        "error: $/repart.d/10-x.conf:3:14: SizeMinBytes=\"99999P\" is refused: the number is too large, too small, or negative where that means nothing",
    ),
    (
        "Type=root\nSizeMinBytes=-5\n",
        1,
        "error: $/repart.d/10-x.conf:3:14: SizeMinBytes=\"-5\" is refused: the number is too large, too small, or negative where that means nothing",
    ),
    (
        "Type=root\nSizeMinBytes=10M\nSizeMaxBytes=1M\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: SizeMinBytes=10M is larger than SizeMaxBytes=1M",
    ),
    (
        "Type=root\nPaddingMinBytes=10M\nPaddingMaxBytes=1M\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: PaddingMinBytes=10M is larger than PaddingMaxBytes=1M",
    ),
    (
        "Type=root\nVerityDataBlockSizeBytes=3\n",
        1,
        "error: $/repart.d/10-x.conf:3:26: VerityDataBlockSizeBytes=\"3\" is refused: it must be a power of two from 512 to 4096",
    ),
    (
        "Type=root\nFormat=nosuch\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: nosuch cannot be filled without mounting it, which needs root; use vfat, squashfs, erofs, ext4, btrfs or xfs, or remove what populates it and set AddValidateFS=no",
    ),
    (
        "Type=root\nFormat=nosuch\nAddValidateFS=no\n",
        1,
        "error: making the nosuch file system of 10-x.conf: mkfs.nosuch is needed but not installed",
    ),
    (
        "Type=root\nFormat=ext4\nEncrypt=tpm2\n",
        1,
        "error: $/repart.d/10-x.conf:4:1: Encrypt= is not supported yet; remove it or use systemd-repart for this definition",
    ),
    (
        "Type=root\nEncrypt=key-file\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: Encrypt= is not supported yet; remove it or use systemd-repart for this definition",
    ),
    (
        "Type=root\nBlockDeviceReplace=/dev/sda\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: BlockDeviceReplace= is not supported yet; remove it or use systemd-repart for this definition",
    ),
    (
        "Type=root\nEncrypt=key-file\nIntegrity=inline\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: Encrypt= is not supported yet; remove it or use systemd-repart for this definition",
    ),
    (
        "Type=root\nIntegrity=inline\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: Integrity= needs Encrypt=",
    ),
    (
        "Type=root\nCopyBlocks=/nowhere\n",
        1,
        "error: $/repart.d/10-x.conf: cannot open /nowhere for CopyBlocks=: No such file or directory (os error 2)",
    ),
    (
        "Type=root\nCopyBlocks=/etc\n",
        1,
        "error: $/repart.d/10-x.conf: CopyBlocks=/etc (a directory) is not supported yet; name the file or device to copy from",
    ),
    (
        "Type=root\nCopyBlocks=$/file\n",
        1,
        "error: $/repart.d/10-x.conf: $/file has 6 bytes; CopyBlocks= needs a source of at least one byte and a multiple of 512",
    ),
    (
        "Type=root\nCopyBlocks=$/src/block\nFormat=squashfs\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: CopyBlocks= and Format= cannot be combined",
    ),
    (
        "Type=root\nCopyFiles=/file:/x\nFormat=swap\n",
        1,
        "error: $/repart.d/10-x.conf:4:1: Format=swap cannot be combined with CopyFiles=, MakeDirectories=, MakeSymlinks=, Subvolumes= or AddValidateFS=yes",
    ),
    (
        "Type=swap\nFormat=swap\nSizeMinBytes=4K\nSizeMaxBytes=4K\n",
        1,
        "error: making the swap file system of 10-x.conf: the contents need 40960 bytes, but only 4096 are there; enlarge SizeMinBytes= or leave files out",
    ),
    (
        "Type=root\nFormat=squashfs\nCompression=lz9\n",
        1,
        "error: making the squashfs file system of 10-x.conf: squashfs has no compression \"lz9\": use gzip, lzma, lzo, xz, lz4 or zstd",
    ),
    (
        "Type=root\nFormat=squashfs\nCompression=zstd\nCompressionLevel=99\n",
        1,
        "error: making the squashfs file system of 10-x.conf: compression level \"99\" is not one that squashfs has for zstd: it is a number from 1 to 22",
    ),
    (
        "Type=root\nMinimize=best\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: Minimize= needs Format= or Verity=hash",
    ),
    (
        "Type=root\nVerity=hash\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: Verity= needs VerityMatchKey=",
    ),
    (
        "Type=root\nVerity=data\nVerityMatchKey=x\nFormat=squashfs\n",
        1,
        "error: $/repart.d/10-x.conf:4:1: no Verity=hash partition has VerityMatchKey=x, which this Verity=data partition needs",
    ),
    (
        "Type=root-verity\nVerity=hash\nVerityMatchKey=x\n",
        1,
        "error: $/repart.d/10-x.conf:4:1: no Verity=data partition has VerityMatchKey=x, which this Verity=hash partition needs",
    ),
    (
        "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=x\n",
        1,
        "error: $/repart.d/10-x.conf:4:1: no Verity=data partition has VerityMatchKey=x, which this Verity=signature partition needs",
    ),
    (
        "Type=root\nSupplementFor=20-y\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: SupplementFor=20-y: there is no definition 20-y.conf",
    ),
    (
        "Type=root\nSizeMinBytes=9E\n",
        1,
        "error: resizing new.raw to 9E: cannot resize new.raw at byte 10376293541462688256: File too large (os error 27)",
    ),
];

/// Names and keys of definition files.
type Files = &'static [(&'static str, &'static str)];

/// Several definitions that do not go together.
const SETS: &[(Files, i32, &str)] = &[
    (
        &[
            ("10-a.conf", "Type=root\nSplitName=same\n"),
            ("20-b.conf", "Type=home\nSplitName=same\n"),
        ],
        1,
        "error: two partitions would be split into new.same.raw; give them different SplitName=",
    ),
    (
        &[
            (
                "10-a.conf",
                "Type=root\nFormat=squashfs\nVerity=data\nVerityMatchKey=x\n",
            ),
            (
                "20-b.conf",
                "Type=root-verity\nVerity=hash\nVerityMatchKey=x\n",
            ),
            (
                "30-c.conf",
                "Type=root-verity\nVerity=hash\nVerityMatchKey=x\n",
            ),
        ],
        1,
        "error: $/repart.d/10-a.conf:5:1: several Verity=hash partitions have VerityMatchKey=x; one only can be used",
    ),
    (
        &[
            (
                "10-a.conf",
                "Type=root\nFormat=squashfs\nCopyFiles=/\nVerity=data\nVerityMatchKey=x\n",
            ),
            (
                "20-b.conf",
                "Type=root-verity\nVerity=hash\nVerityMatchKey=x\n",
            ),
            (
                "30-c.conf",
                "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=x\n",
            ),
        ],
        1,
        "error: $/repart.d/30-c.conf needs a signature: pass --private-key= and --certificate=, or leave the partition for later with --defer-partitions=",
    ),
    (
        &[
            ("10-a.conf", "Type=root\n"),
            ("20-b.conf", "Type=root\nSupplementFor=20-b\n"),
        ],
        1,
        "error: $/repart.d/20-b.conf:3:1: SupplementFor=20-b: there is no definition 20-b.conf",
    ),
    (
        &[
            (
                "10-a.conf",
                "Type=root\nFormat=squashfs\nCopyFiles=/\nVerity=data\nVerityMatchKey=x\n",
            ),
            (
                "20-b.conf",
                "Type=root-verity\nVerity=hash\nVerityMatchKey=x\nSizeMaxBytes=4K\n",
            ),
        ],
        1,
        "error: hashing 10-a.conf into 20-b.conf: the hash tree of 1032192 bytes of data needs 16384 bytes, but its partition has 4096; enlarge SizeMinBytes= of the hash partition or use Minimize=best on it",
    ),
    (
        &[
            ("10-a.conf", "Type=root\nSizeMinBytes=1P\n"),
            ("20-b.conf", "Type=home\nSizeMinBytes=1P\n"),
        ],
        1,
        "error: resizing new.raw to 2P: cannot resize new.raw at byte 2251799814750720: File too large (os error 27)",
    ),
];

/// Arguments that contradict each other, or that name what is not there or cannot be used.
const ARGUMENTS: &[(&str, i32, &str)] = &[
    (
        "new.raw",
        1,
        "error: new.raw is not there; --empty=create makes a new image",
    ),
    (
        "--size=auto --empty=create",
        1,
        "error: operating on the disk of the running system is not supported yet\nhint: name an image file, or \"-\" to learn the minimal size",
    ),
    (
        "--empty=create new.raw",
        1,
        "error: --empty=create needs the size of the new image; pass --size=auto or --size=BYTES",
    ),
    (
        "--empty=create --size=auto --seed=zz new.raw",
        1,
        "error: invalid value 'zz' for '--seed <UUID|random>': \"zz\" is not a UUID; write 32 hex digits, with or without dashes at 8-4-4-4-12…",
    ),
    (
        "--empty=create --size=much new.raw",
        1,
        "error: invalid value 'much' for '--size <BYTES|auto>': write a number of bytes, or one with K, M, G, T, P or E (base 1024)…",
    ),
    (
        "--empty=create --size=0 new.raw",
        1,
        "error: new.raw: a disk of 0 bytes has no room for a partition table with 128 entries; it needs at least 34816 bytes",
    ),
    (
        "--empty=create --size=auto --sector-size=1000 new.raw",
        1,
        "error: --sector-size= must be 512, 1024, 2048 or 4096",
    ),
    (
        "--empty=create --size=auto --grain-size=1000 new.raw",
        1,
        "error: --grain-size= must be a power of two of at least 512",
    ),
    (
        "--empty=create --size=auto --architecture=z80 new.raw",
        1,
        "error: invalid value 'z80' for '--architecture <ARCH>': \"z80\" is not the name of an architecture; known are x86-64, arm64, riscv64 and others…",
    ),
    (
        "--empty=create --size=auto --include-partitions=foo new.raw",
        1,
        "error: \"foo\" is not a partition type; write a name such as root, usr-verity, esp, home, root-arm64 or a GUID",
    ),
    (
        "--empty=create --size=auto --include-partitions=root --exclude-partitions=esp new.raw",
        1,
        "error: the argument '--include-partitions <TYPE,…>' cannot be used with '--exclude-partitions <TYPE,…>'…",
    ),
    (
        "--empty=create --size=auto --defer-partitions=foo new.raw",
        1,
        "error: \"foo\" is not a partition type; write a name such as root, usr-verity, esp, home, root-arm64 or a GUID",
    ),
    (
        "--empty=create --size=auto --definitions=repart.d/10-x.conf new.raw",
        1,
        "error: cannot read directory $/repart.d/10-x.conf: Not a directory (os error 20)",
    ),
    (
        "--empty=create --size=auto --copy-source=nowhere new.raw",
        1,
        "error: cannot open --copy-source=nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --copy-source=file new.raw",
        1,
        "error: --copy-source=file is not a directory",
    ),
    (
        "--empty=create --size=auto --root=nowhere new.raw",
        1,
        "error: cannot open --root=nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --copy-from=nowhere new.raw",
        1,
        "error: --copy-from=nowhere is not there",
    ),
    (
        "--empty=create --size=auto --copy-from=file new.raw",
        1,
        "error: --copy-from=file has no GUID partition table",
    ),
    (
        "--empty=create --size=auto --copy-from=dos.raw new.raw",
        1,
        "error: --copy-from=dos.raw has no GUID partition table",
    ),
    (
        "--empty=create --size=auto nowhere/new.raw",
        1,
        "error: there is no folder nowhere; make it first",
    ),
    (
        "--empty=create --size=auto file/new.raw",
        1,
        "error: cannot create file/new.raw: Not a directory (os error 20)",
    ),
    (
        "--empty=create --size=auto .",
        1,
        "error: . is a directory; give the name of the image file to make",
    ),
    (
        "--empty=create --size=auto src",
        1,
        "error: src is a directory; give the name of the image file to make",
    ),
    (
        "--empty=create --size=auto pipe",
        1,
        "error: pipe is a pipe; give the name of the image file to make",
    ),
    (
        "--empty=create --size=auto socket",
        1,
        "error: socket is a socket; give the name of the image file to make",
    ),
    (
        "--empty=create --size=auto dangling",
        1,
        "error: dangling is a symbolic link that leads nowhere; give the name of the image file to make",
    ),
    (
        "--empty=create --size=auto /dev/null",
        1,
        "error: /dev/null is a character device; give the name of the image file to make",
    ),
    (
        "--empty=create --size=auto gpt.raw",
        1,
        "error: gpt.raw exists already; remove it, or say --empty=force to write over it",
    ),
    (
        "--dry-run=no nowhere.raw",
        1,
        "error: nowhere.raw is not there; --empty=create makes a new image",
    ),
    (
        "--dry-run=no src",
        1,
        "error: cannot open src: it is a directory; give an image file or a block device",
    ),
    (
        "--dry-run=no pipe",
        1,
        "error: cannot open pipe: it is a pipe; give an image file or a block device",
    ),
    (
        "--dry-run=no socket",
        1,
        "error: cannot open socket: it is a socket; give an image file or a block device",
    ),
    (
        "--dry-run=no dangling",
        1,
        "error: dangling is not there; --empty=create makes a new image",
    ),
    (
        "--dry-run=no /dev/null",
        1,
        "error: cannot open /dev/null: it is a character device; give an image file or a block device",
    ),
    (
        "--dry-run=no blank.raw",
        77,
        "error: blank.raw: the disk has no partition table, so it is left alone; --empty=allow lets one be written",
    ),
    (
        "--dry-run=yes blank.raw",
        77,
        "error: blank.raw: the disk has no partition table, so it is left alone; --empty=allow lets one be written",
    ),
    (
        "--dry-run=no --empty=allow small.raw",
        1,
        "error: small.raw: a disk of 16384 bytes has no room for a partition table with 128 entries; it needs at least 34816 bytes",
    ),
    (
        "--dry-run=no dos.raw",
        77,
        "error: dos.raw: the disk has a partition table that is not GPT, so it is left alone; --empty=force replaces it and loses its partitions",
    ),
    (
        "--dry-run=no --empty=allow dos.raw",
        77,
        "error: dos.raw: the disk has a partition table that is not GPT, so it is left alone; --empty=force replaces it and loses its partitions",
    ),
    (
        "--dry-run=no --empty=require dos.raw",
        77,
        "error: dos.raw: the disk has a partition table already, but --empty=require wants it empty",
    ),
    (
        "--dry-run=no --empty=require gpt.raw",
        77,
        "error: gpt.raw: the disk has a partition table already, but --empty=require wants it empty",
    ),
    (
        "--dry-run=no --empty=force --factory-reset=yes gpt.raw",
        1,
        "error: a factory reset needs an existing partition table; leave out --empty= or use --empty=allow",
    ),
    (
        "--dry-run=no --sector-size=4096 gpt.raw",
        77,
        "error: gpt.raw has a partition table that counts in sectors of 512 bytes, not 4096; leave out --sector-size=",
    ),
    ("--can-factory-reset gpt.raw", 1, ""),
    (
        "--dry-run=maybe gpt.raw",
        1,
        "error: invalid value 'maybe' for '--dry-run <BOOL>': write yes or no…",
    ),
    (
        "--empty=maybe gpt.raw",
        1,
        "error: invalid value 'maybe' for '--empty <MODE>'\n  [possible values: refuse, allow, require, force, create]…",
    ),
    (
        "--json=maybe gpt.raw",
        1,
        "error: invalid value 'maybe' for '--json <FORMAT>'\n  [possible values: pretty, short, off]…",
    ),
    (
        "--json=short --dry-run=no blank.raw",
        77,
        "{\"error\":\"blank.raw: the disk has no partition table, so it is left alone; --empty=allow lets one be written\",\"causes\":[],\"hint\":null,\"exitCode\":77}",
    ),
    (
        "--json=short --seed=zz blank.raw",
        1,
        "{\"error\":\"invalid value 'zz' for '--seed <UUID|random>': \\\"zz\\\" is not a UUID; write 32 hex digits, with or without dashes at 8-4-4-4-12\",\"causes\":[],\"hint\":\"see --help\",\"exitCode\":1}",
    ),
    (
        "--no-such-option gpt.raw",
        1,
        "error: unexpected argument '--no-such-option' found…",
    ),
    (
        "one.raw two.raw",
        1,
        "error: unexpected argument 'two.raw' found…",
    ),
    (
        "--split=yes",
        1,
        "error: operating on the disk of the running system is not supported yet\nhint: name an image file, or \"-\" to learn the minimal size",
    ),
    (
        "--empty=create --size=auto --append-fstab=auto new.raw",
        1,
        "error: --append-fstab= needs --generate-fstab=",
    ),
    (
        "--empty=create --size=auto --make-ddi=sysext new.raw",
        1,
        "error: --make-ddi= brings its own definitions; leave out --definitions=",
    ),
    (
        "--empty=create --size=auto --generate-crypttab=/x new.raw",
        1,
        "error: --generate-crypttab= (encryption) is not supported yet\nhint: leave the option out, or use systemd-repart for this run",
    ),
    (
        "--empty=create --size=auto --key-file=file new.raw",
        1,
        "error: --key-file= (encryption) is not supported yet\nhint: leave the option out, or use systemd-repart for this run",
    ),
    (
        "--empty=create --size=auto --tpm2-device=auto new.raw",
        1,
        "error: --tpm2-device= (encryption) is not supported yet\nhint: leave the option out, or use systemd-repart for this run",
    ),
    (
        "--empty=create --size=auto --image=gpt.raw new.raw",
        1,
        "error: --image= is not supported yet\nhint: leave the option out, or use systemd-repart for this run",
    ),
    (
        "--empty=create --size=auto --offline=no new.raw",
        1,
        "error: --offline=no is not supported yet\nhint: leave the option out, or use systemd-repart for this run",
    ),
    (
        "--empty=create --size=auto --private-key=one.key new.raw",
        1,
        "error: --private-key= needs its certificate\nhint: pass it with --certificate=",
    ),
    (
        "--empty=create --size=auto --private-key=nowhere --certificate=one.crt new.raw",
        1,
        "error: cannot read nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --private-key=one.key --certificate=nowhere new.raw",
        1,
        "error: cannot read nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --private-key=one.key --certificate=two.crt new.raw",
        1,
        "error: private key one.key does not belong to certificate two.crt",
    ),
    (
        "--empty=create --size=auto --private-key=locked.key --certificate=one.crt new.raw",
        1,
        "error: locked.key: the private key is encrypted, and no passphrase was given\nhint: give its passphrase in the environment variable PIN or in the credential repart.private-key-pin",
    ),
    (
        "--empty=create --size=auto --private-key=file --certificate=one.crt new.raw",
        1,
        "error: file: this is no private key in PEM format…",
    ),
    (
        "--empty=create --size=auto --private-key=one.key --certificate=file new.raw",
        1,
        "error: file: this is no X.509 certificate in PEM format…",
    ),
    (
        "--empty=create --size=auto --private-key=one.key --certificate=one.crt --private-key-source=magic new.raw",
        1,
        "error: \"magic\" is no source of keys; use file, provider:NAME or, for private keys, engine:NAME",
    ),
    (
        "--empty=create --size=auto --certificate=one.crt --join-signature=zz new.raw",
        1,
        "error: signature \"zz\" is not HASH:PATH or HASH:base64:DATA",
    ),
    (
        "--empty=create --size=auto --certificate=one.crt --join-signature=aa:bb new.raw",
        1,
        "error: root hash \"aa\" is not an even number of hex digits (at least 32)",
    ),
    (
        "--empty=create --size=auto --certificate=one.crt --join-signature=abababababababababababababababababababababababababababababababab:nowhere new.raw",
        1,
        "error: cannot use the signature for root hash abababababababababababababababababababababababababababababababab: cannot read nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --certificate=one.crt --join-signature=abababababababababababababababababababababababababababababababab:base64:AAAA new.raw",
        1,
        "error: cannot use the signature for root hash abababababababababababababababababababababababababababababababab: this is no PKCS#7 signature in DER format…",
    ),
    (
        "--empty=create --size=auto --join-signature=abababababababababababababababababababababababababababababababab:file new.raw",
        1,
        "error: cannot use the signature for root hash abababababababababababababababababababababababababababababababab: this is no PKCS#7 signature in DER format…",
    ),
];

/// Variables of the environment.
const VARIABLES: &[(&str, &str, i32, &str)] = &[
    (
        "SOURCE_DATE_EPOCH",
        "soon",
        1,
        "error: SOURCE_DATE_EPOCH is \"soon\", which is no time\nhint: set it to seconds since 1970, or unset it",
    ),
    (
        "SOURCE_DATE_EPOCH",
        "-1",
        1,
        "error: SOURCE_DATE_EPOCH is \"-1\", which is no time\nhint: set it to seconds since 1970, or unset it",
    ),
    (
        "SYSTEMD_REPART_MKFS_OPTIONS_SQUASHFS",
        "'x",
        1,
        "error: SYSTEMD_REPART_MKFS_OPTIONS_SQUASHFS is \"'x\": missing closing quote\nhint: quote it as for a shell",
    ),
    (
        "SYSTEMD_REPART_MKFS_OPTIONS_SQUASHFS",
        "-nonsense",
        1,
        "error: making the squashfs file system of 10-x.conf: SYSTEMD_REPART_MKFS_OPTIONS_* holds \"-nonsense\", but squashfs is written without an external program and knows no such option; unset the variable",
    ),
    (
        "SYSTEMD_REPART_OVERRIDE_FSTYPE",
        "nosuch",
        1,
        "warning: $/repart.d/10-x.conf:3:8: file system \"squashfs\" is overridden by \"nosuch\" from $SYSTEMD_REPART_OVERRIDE_FSTYPE\nerror: $/repart.d/10-x.conf:3:1: nosuch cannot be filled without mounting it, which needs root; use vfat, squashfs, erofs, ext4, btrfs or xfs, or remove what populates it and set AddValidateFS=no",
    ),
];

/// Type and permissions, and bytes, of everything in a folder.
type State = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// The folder that all runs of a case see as their working directory.
struct Place {
    scratch: Scratch,
    keep: Vec<UnixListener>,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path(name);
        fs::create_dir_all(at("src/folder")).unwrap();
        fs::write(at("src/file"), "hello\n").unwrap();
        fs::write(at("src/block"), vec![7; 8192]).unwrap();
        fs::write(at("file"), "hello\n").unwrap();
        fs::write(at("blank.raw"), vec![0; 2 << 20]).unwrap();
        fs::write(at("small.raw"), vec![0; 16384]).unwrap();
        let noise = (0u64..9000).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        fs::write(at("src/noise"), noise.collect::<Vec<u8>>()).unwrap();
        let mut dos = vec![0; 2 << 20];
        dos[446 + 4] = 0x83;
        dos[446 + 8] = 2;
        dos[446 + 12] = 100;
        dos[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(at("dos.raw"), dos).unwrap();
        let place = Self {
            scratch,
            keep: Vec::new(),
        };
        place.define(&[("10-x.conf", FINE)]);
        run(place.repart("--empty=create --size=auto gpt.raw").arg(SEED));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Keys, and things that are no files.
    fn furnish(mut self) -> Self {
        run(Command::new("mkfifo").arg(self.at("pipe")));
        self.keep
            .push(UnixListener::bind(self.at("socket")).unwrap());
        std::os::unix::fs::symlink("nowhere", self.at("dangling")).unwrap();
        for name in ["one", "two"] {
            let line = format!(
                "req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.crt"
            );
            self.openssl(&line);
        }
        self.openssl("pkey -in one.key -aes256 -passout pass:secret -out locked.key");
        self
    }

    fn openssl(&self, line: &str) {
        run(Command::new("openssl")
            .args(line.split(' '))
            .current_dir(self.at("")));
    }

    fn define(&self, files: &[(&str, &str)]) {
        let folder = self.at("repart.d");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        self.scratch.definitions(files);
    }

    fn repart(&self, line: &str) -> Command {
        let mut command = repart();
        command
            .args(["--definitions=repart.d", "--copy-source=src", "--pretty=no"])
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .current_dir(self.at(""))
            .env_remove("PIN");
        command
    }

    /// Everything that is in the folder.
    fn state(&self) -> State {
        let mut state = BTreeMap::new();
        state_of(&self.at(""), &mut state);
        state
    }

    /// Runs what must fail with this code; returns how it differs from what is expected.
    fn check(&self, command: &mut Command, code: i32, says: &str) -> Option<String> {
        let before = self.state();
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.replace(
            &format!("{}/", self.at("").display()).replace("//", "/"),
            "$/",
        );
        let text = text.trim_end();
        let same = self.state() == before;
        drop(fs::remove_file(self.at("new.raw")));
        let found = output.status.code();
        let right_text = match says.strip_suffix('\u{2026}') {
            Some(start) => text.starts_with(start),
            None => text == says,
        };
        let right = found == Some(code) && right_text && same;
        (!right).then(|| format!("code {found:?}, unchanged {same}\n@@{text:?}@@"))
    }
}

fn state_of(folder: &Path, state: &mut State) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let bytes = match kind.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        if kind.is_dir() {
            state_of(&path, state);
        }
        state.insert(path, (metadata.mode(), bytes));
    }
}

/// Fails with all that is wrong at once.
fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn definitions_that_are_wrong() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for (keys, code, says) in DEFINITIONS {
        let here = place.at("").display().to_string();
        place.define(&[("10-x.conf", &keys.replace("$/", &here))]);
        let mut command = place.repart("--empty=create --size=auto new.raw");
        let found = place.check(command.arg(SEED), *code, says);
        wrong.extend(found.map(|found| format!("{keys:?}: {found}")));
    }
    report(wrong);
}

#[test]
fn definitions_that_do_not_go_together() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for (files, code, says) in SETS {
        place.define(files);
        let mut command = place.repart("--empty=create --size=auto --split=yes new.raw");
        let found = place.check(command.arg(SEED), *code, says);
        wrong.extend(found.map(|found| format!("{:?}: {found}", files[0])));
    }
    report(wrong);
}

#[test]
fn arguments_that_are_wrong() {
    let place = Place::new().furnish();
    let mut wrong = Vec::new();
    for (line, code, says) in ARGUMENTS {
        let found = place.check(&mut place.repart(line), *code, says);
        wrong.extend(found.map(|found| format!("{line:?}: {found}")));
    }
    report(wrong);
}

#[test]
fn variables_that_are_wrong() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for (name, value, code, says) in VARIABLES {
        let mut command = place.repart("--empty=create --size=auto new.raw");
        let found = place.check(command.env(name, value), *code, says);
        wrong.extend(found.map(|found| format!("{name:?}, {value:?}: {found}")));
    }
    report(wrong);
}

#[test]
fn disks_that_are_broken() {
    let place = Place::new();
    place.define(&[("10-x.conf", "Type=linux-generic\n")]);
    for case in hostile::tables() {
        let image = place.at("hostile.raw");
        fs::write(&image, &case.bytes).unwrap();
        let before = place.state();
        let sector = format!("--sector-size={}", case.sector.get());
        for run in ["--dry-run=yes", "--dry-run=no"] {
            let mut command = place.repart(run);
            let output = command.args([&sector, "hostile.raw"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            let name = case.name;
            let (codes, says): (&[i32], &str) = match case.expected {
                Expected::Nothing => (&[77], "hostile.raw: the disk has no partition table"),
                Expected::Foreign => (&[77], "hostile.raw: the disk has "),
                Expected::Damaged(what) => (&[1], what),
                Expected::Primary(..) => (&[0, 1], ""),
                Expected::Backup => (&[0, 1], "warning: only the Backup copy"),
            };
            assert!(
                code.is_some_and(|code| codes.contains(&code)),
                "{name}: {code:?} {text}"
            );
            assert!(text.contains(says), "{name}: {text}");
            assert!(!text.contains("bug in ddi"), "{name}: {text}");
            if run == "--dry-run=yes" || code != Some(0) {
                assert!(
                    place.state() == before,
                    "{name}: {run} has changed something"
                );
            }
        }
    }
}

#[test]
fn disks_that_end_early() {
    let place = Place::new();
    let image = fs::read(place.at("gpt.raw")).unwrap();
    for size in [0, 1, 511, 512, 1023, 1024, 8192, 34816, image.len() / 2] {
        fs::write(place.at("short.raw"), &image[..size]).unwrap();
        let before = place.state();
        let output = place.repart("--dry-run=no short.raw").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 77)),
            "{size}: {text}"
        );
        assert!(text.contains("short.raw"), "{size}: {text}");
        assert!(place.state() == before, "{size}");
    }
}

#[test]
fn a_disk_that_somebody_else_works_on() {
    let place = Place::new();
    let image = fs::File::open(place.at("gpt.raw")).unwrap();
    flock(&image, FlockOperation::LockExclusive).unwrap();
    let holder = format!("(process {})", std::process::id());
    for line in ["--dry-run=no gpt.raw", "--dry-run=yes gpt.raw"] {
        let before = place.state();
        let text = common::fails(&mut place.repart(line), 1);
        assert!(
            text.contains("another process holds a lock on it: "),
            "{text}"
        );
        assert!(text.contains(&holder), "{text}");
        assert!(place.state() == before);
    }
}

#[test]
fn what_may_not_be_read_or_written() {
    let place = Place::new();
    let mode = |name: &str, mode| {
        fs::set_permissions(place.at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(place.at("closed")).unwrap();
    mode("closed", 0o555);
    mode("gpt.raw", 0o444);
    fs::write(place.at("src/secret"), "x").unwrap();
    let user = |line: &str| {
        let mut command = unprivileged(&place.repart(line));
        command.current_dir(place.at(""));
        command
    };
    let refused = |line: &str, says: &str| place.check(&mut user(line), 1, says);
    let mut wrong = Vec::new();
    wrong.extend(refused(
        "--empty=create --size=auto closed/new.raw",
        "error: cannot create closed/new.raw: Permission denied (os error 13)",
    ));
    wrong.extend(refused(
        "--dry-run=no --size=4M gpt.raw",
        "error: cannot open gpt.raw: Permission denied (os error 13)",
    ));
    // Nobody but root could look at these to see whether they changed.
    if is_root() {
        mode("src/secret", 0);
        wrong.extend(refused(
            "--empty=create --size=auto new.raw",
            "error: making the squashfs file system of 10-x.conf: cannot read src/secret: Permission denied (os error 13)",
        ));
    }
    report(wrong);
}

#[test]
fn folders_without_definitions_are_mentioned() {
    let place = Place::new();
    fs::create_dir(place.at("hollow")).unwrap();
    for (folder, says) in [
        ("nowhere", "warning: --definitions=nowhere does not exist\n"),
        (
            "hollow",
            "warning: --definitions=hollow has no definition files (*.conf)\n",
        ),
    ] {
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", "--pretty=no", SEED])
            .arg(format!("--definitions={folder}"))
            .arg("new.raw")
            .current_dir(place.at(""));
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), says);
        assert!(output.status.success(), "as systemd-repart");
        fs::remove_file(place.at("new.raw")).unwrap();
    }
}

#[test]
fn more_partitions_than_a_table_holds() {
    let place = Place::new();
    let names: Vec<String> = (0..129).map(|n| format!("{n:03}.conf")).collect();
    let keys = "Type=linux-generic\nSizeMaxBytes=4K\n";
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), keys)).collect();
    place.define(&files);
    report(Vec::from_iter(place.check(
        &mut place.repart("--empty=create --size=auto new.raw"),
        1,
        "error: new.raw: the partition table has 128 slots and all are used, so there is none for the linux-generic partition of $/repart.d/128.conf; remove a definition",
    )));
}

#[test]
fn an_fstab_that_is_there_stays() {
    let place = Place::new();
    place.define(&[(
        "10-x.conf",
        "Type=root\nFormat=squashfs\nCopyFiles=/\nMountPoint=/\n",
    )]);
    fs::write(place.at("src/fstab"), "mine\n").unwrap();
    let mut command = place.repart("--empty=create --size=auto --generate-fstab=/fstab new.raw");
    report(Vec::from_iter(place.check(&mut command, 1, "error: cannot write src/fstab: it exists already; pass --append-fstab=auto to add to it or --append-fstab=replace to replace it")));
}

#[test]
fn a_source_that_changes_while_it_is_copied() {
    let place = Place::new();
    let source = place.at("src/busy");
    fs::write(&source, vec![1; 48 << 20]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&source).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
            }
        });
        let output = place.repart("--empty=create --size=auto new.raw").output();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        output.unwrap()
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("src/busy changed while it was being copied; try again when nothing writes"),
        "{text}"
    );
    assert!(!place.at("new.raw").exists());
}

#[test]
fn a_file_system_that_is_full() {
    let place = Place::new();
    let line = place.repart("--empty=create --size=auto new.raw");
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh"])
        .arg(line.get_program())
        .args(line.get_args())
        .env("SOURCE_DATE_EPOCH", "1750000000")
        .current_dir(place.at(""));
    report(Vec::from_iter(place.check(&mut command, 1, "error: resizing new.raw to 1M: cannot resize new.raw at byte 1069568: File too large (os error 27)")));
}

#[test]
fn a_run_that_is_killed_leaves_nothing() {
    let place = Place::new();
    fs::write(place.at("src/large"), vec![7; 24 << 20]).unwrap();
    let scratch = place.at("tmp");
    fs::create_dir(&scratch).unwrap();
    let build = || {
        let mut command = place.repart("--empty=create --size=auto new.raw");
        command.arg(SEED).env("TMPDIR", &scratch);
        command
    };
    let begin = std::time::Instant::now();
    run(&mut build());
    let whole_run = begin.elapsed();
    let whole = fs::read(place.at("new.raw")).unwrap();
    fs::remove_file(place.at("new.raw")).unwrap();
    let before = place.state();
    let mut killed = 0;
    for step in 0..24 {
        let mut child = build().spawn().unwrap();
        std::thread::sleep(whole_run * step / 20);
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        match fs::read(place.at("new.raw")) {
            Ok(bytes) => assert!(bytes == whole, "a half-made image has the name"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        drop(fs::remove_file(place.at("new.raw")));
        assert!(place.state() == before, "something was left behind");
    }
    assert!(killed > 5, "only {killed} runs were cut");
    println!("{killed} runs killed");
}

#[test]
fn broken_images_are_dissected_without_a_crash() {
    let place = Place::new();
    for case in hostile::tables() {
        fs::write(place.at("hostile.raw"), &case.bytes).unwrap();
        let mut command = ddi();
        command
            .args(["dissect", "hostile.raw"])
            .current_dir(place.at(""));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}: {text}",
            case.name
        );
        assert!(!text.contains("panicked"), "{}: {text}", case.name);
    }
}
