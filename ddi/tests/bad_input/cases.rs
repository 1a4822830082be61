//! Input that is wrong, and what must be said of it.

/// A definition that nothing is wrong with.
pub(crate) const FINE: &str = "Type=root\nFormat=squashfs\nCopyFiles=/\n";

/// Keys of one definition, the exit code, and the whole message (`$` is the scratch folder; what OpenSSL or
/// clap say behind `…` is theirs).
pub(crate) const DEFINITIONS: &[(&str, i32, &str)] = &[
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
        "Type=root\nFormat=ext4\nEncrypt=tpm2\nTPM2PCRs=7:sha1+8:sha256\n",
        1,
        "error: $/repart.d/10-x.conf:5:1: PCRs of the banks sha1 and sha256 are mixed; a policy can have one bank only",
    ),
    (
        "Type=root\nFormat=ext4\nEncrypt=key-file\nKeyFile=$/nowhere\n",
        1,
        "error: $/repart.d/10-x.conf:5:1: cannot read the key from $/nowhere: No such file or directory (os error 2)",
    ),
    (
        "Type=root\nKeyFile=$/src\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: $/src is neither a file nor a socket to read a key from",
    ),
    (
        "Type=root\nFormat=swap\nEncrypt=key-file\nEncryptVolumeKey=mine\n",
        1,
        "error: $/repart.d/10-x.conf:5:18: EncryptVolumeKey=\"mine\" is refused: known are random and seed",
    ),
    (
        "Type=root\nFormat=swap\nEncrypt=key-file\n",
        1,
        "warning: $/repart.d/10-x.conf names no KeyFile=, so the empty passphrase will unlock its partition\nerror: making the swap file system of 10-x.conf: the contents need 40960 bytes, but only 4096 are there; enlarge SizeMinBytes= or leave files out",
    ),
    (
        "Type=root\nEncryptFreeSpace=no\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: EncryptFreeSpace= needs Encrypt=",
    ),
    (
        "Type=root\nBlockDeviceReplace=/dev/sda\n",
        1,
        "error: $/repart.d/10-x.conf:3:1: BlockDeviceReplace= is not supported yet; remove it or use systemd-repart for this definition",
    ),
    (
        "Type=root\nEncrypt=tpm2\nIntegrity=inline\n",
        1,
        "error: $/repart.d/10-x.conf:4:1: Integrity=inline keeps its tags in the protection information of a disk that was formatted for it, so it cannot be built offline; remove the key, or use systemd-repart --offline=no on such a disk",
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
        "Type=root\nCopyBlocks=/proc\n",
        1,
        "error: $/repart.d/10-x.conf: /proc is on no block device, or on several; name what is to be copied",
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
pub(crate) type Files = &'static [(&'static str, &'static str)];

/// Several definitions that do not go together.
pub(crate) const SETS: &[(Files, i32, &str)] = &[
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
        "error: hashing 10-a.conf into 20-b.conf: the hash tree of 1032192 bytes of data, with its parity, needs 16384 bytes, but its partition has 4096; enlarge SizeMinBytes= of the hash partition or use Minimize=best on it",
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
pub(crate) const ARGUMENTS: &[(&str, i32, &str)] = &[
    (
        "new.raw",
        1,
        "error: new.raw is not there; --empty=create makes a new image",
    ),
    (
        "--size=auto --empty=create",
        1,
        "error: --empty=create makes a new image, which needs a name; give its path",
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
        "--split=yes -",
        1,
        "error: --split= needs an image to split",
    ),
    (
        "--root=/proc",
        76,
        "error: the file system of /proc is on no disk, or on several\nhint: name the disk or image file to work on; --list-devices shows those that there are",
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
        "--empty=create --size=auto --key-file=nowhere new.raw",
        1,
        "error: cannot read the key from nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --key-file=pipe new.raw",
        1,
        "error: pipe is neither a file nor a socket to read a key from",
    ),
    (
        "--empty=create --size=auto --tpm2-device=auto --tpm2-device-key=key.pub new.raw",
        1,
        "error: the argument '--tpm2-device <PATH|auto|list|swtpm:…",
    ),
    (
        "--empty=create --size=auto --image=nowhere new.raw",
        1,
        "error: cannot open --image=nowhere: No such file or directory (os error 2)",
    ),
    (
        "--empty=create --size=auto --image-policy=root=absent new.raw",
        1,
        "error: --image-policy= is for --image=",
    ),
    (
        "--empty=create --size=auto --private-key=one.key new.raw",
        1,
        "error: --private-key=one.key needs its certificate\nhint: pass it with --certificate=",
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
pub(crate) const VARIABLES: &[(&str, &str, i32, &str)] = &[
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
