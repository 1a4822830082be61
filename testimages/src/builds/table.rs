//! One feature each.

use super::Scenario;

const ESP: (&str, &str) = (
    "10-esp.conf",
    "Type=esp\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=40M\nSizeMaxBytes=40M\nFileSystemSectorSize=512\n",
);
const SWAP: (&str, &str) = (
    "20-swap.conf",
    "Type=swap\nSizeMinBytes=1M\nSizeMaxBytes=8M\n",
);
const BLOCKS: (&str, &str) = ("30-root.conf", "Type=root\nCopyBlocks=%/blocks\n");
const GENERIC: (&str, &str) = ("40-generic.conf", "Type=linux-generic\nSizeMinBytes=1M\n");

const DATA: (&str, &str) = (
    "10-root.conf",
    "Type=root\nCopyBlocks=%/blocks\nVerity=data\nVerityMatchKey=r\n",
);
const VERITY: &[(&str, &str)] = &[
    DATA,
    (
        "20-verity.conf",
        "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n",
    ),
];
const SIGNED: &[(&str, &str)] = &[
    VERITY[0],
    VERITY[1],
    (
        "30-sig.conf",
        "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n",
    ),
];

pub(super) fn table() -> Vec<Scenario> {
    let mut all = empty_modes();
    all.extend(sizes());
    all.extend(contents());
    all.extend(tables());
    all.extend(verity());
    all.extend(beside());
    all.extend(definitions());
    all
}

fn empty_modes() -> Vec<Scenario> {
    const MODES: &[&str] = &[
        "$D @/missing.raw",
        "$D --empty=allow @/missing.raw",
        "!truncate -s 64M @/blank.raw @/disk.raw",
        "$D --dry-run=no @/blank.raw",
        "$D --dry-run=no --empty=refuse @/blank.raw",
        "$D --empty=require @/blank.raw",
        "$D --dry-run=no --empty=require @/blank.raw",
        "$D --dry-run=no --empty=require @/blank.raw",
        "$D --dry-run=no --empty=allow @/disk.raw",
        "$D --dry-run=no --empty=allow @/disk.raw",
        "$D --dry-run=no --empty=force @/disk.raw",
        "$D --empty=create --size=64M @/disk.raw",
        "$D --empty=create @/none.raw",
        "$D --empty=create --dry-run=yes --size=64M @/none.raw",
        "!rm -f @/none.raw",
        "!truncate -s 64M @/mbr.raw && printf 'label: dos\\nlabel-id: 0x12345678\\n' | sfdisk -q @/mbr.raw",
        "$D --dry-run=no @/mbr.raw",
        "$D --dry-run=no --empty=allow @/mbr.raw",
        "$D --dry-run=no --empty=require @/mbr.raw",
        "!mkdir @/folder",
        "$D --dry-run=no @/folder",
    ];
    vec![
        Scenario::new("empty-modes", &[SWAP, GENERIC], MODES),
        Scenario::new(
            "empty-force-mbr",
            &[SWAP],
            &[
                "!truncate -s 64M @/disk.raw && printf 'label: dos\\nlabel-id: 0x12345678\\n' | sfdisk -q @/disk.raw",
                "$D --dry-run=no --empty=force @/disk.raw",
            ],
        ),
        Scenario::new(
            "no-definitions",
            &[],
            &[
                "$D --empty=create --size=8M @/disk.raw",
                "$D --dry-run=no @/disk.raw",
                "--definitions=@/nowhere --json=short --offline=yes @/disk.raw",
                "--definitions=@/nowhere --json=pretty --offline=yes @/disk.raw",
                "$D --empty=create --size=auto @/auto.raw",
                "$D -",
            ],
        ),
        Scenario::new(
            "minimal-size",
            &[ESP, SWAP, BLOCKS],
            &["$D -", "$D --copy-source=%/tree -", "$D --json=off -"],
        ),
    ]
}

fn sizes() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "grow-file",
            &[GENERIC],
            &[
                "$D --empty=create --size=20M @/disk.raw",
                "$D --size=40M --dry-run=no @/disk.raw",
                "$D --size=10M --dry-run=no @/disk.raw",
                "$D --size=auto --dry-run=no @/disk.raw",
            ],
        ),
        Scenario::new(
            "auto-small",
            &[(
                "10.conf",
                "Type=linux-generic\nSizeMinBytes=4096\nSizeMaxBytes=4096\n",
            )],
            &["$D --empty=create --size=auto @/disk.raw"],
        ),
        Scenario::new(
            "auto-two",
            &[SWAP, BLOCKS],
            &["$D --empty=create --size=auto @/disk.raw"],
        ),
        Scenario::new(
            "odd-size",
            &[GENERIC],
            &["$D --empty=create --size=20000001 @/disk.raw"],
        ),
        Scenario::new(
            "sectors-4096",
            &[SWAP, GENERIC],
            &[
                "$D --empty=create --sector-size=4096 --size=64M @/disk.raw",
                "$D --dry-run=no @/disk.raw",
            ],
        ),
        Scenario::new(
            "sectors-2048",
            &[SWAP, GENERIC],
            &["$D --empty=create --sector-size=2048 --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "grain",
            &[SWAP, GENERIC],
            &["$D --empty=create --grain-size=1M --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "grain-512",
            &[
                ("10.conf", "Type=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M\n"),
                GENERIC,
            ],
            &["$D --empty=create --grain-size=512 --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "too-small",
            &[("10.conf", "Type=linux-generic\nSizeMinBytes=100M\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "priorities",
            &[
                ("10.conf", "Type=linux-generic\nSizeMinBytes=40M\n"),
                ("20.conf", "Type=home\nSizeMinBytes=40M\nPriority=5\n"),
                ("30.conf", "Type=srv\nSizeMinBytes=10M\nPriority=1\n"),
            ],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
    ]
}

fn contents() -> Vec<Scenario> {
    const CREATE: &[&str] = &["$D --copy-source=%/tree --empty=create --size=200M @/disk.raw"];
    vec![
        Scenario::new("vfat", &[ESP], CREATE),
        Scenario::new(
            "vfat-excluded",
            &[(
                "10.conf",
                "Type=esp\nFormat=vfat\nCopyFiles=/efi:/\nExcludeFiles=/efi/short\n\
                 ExcludeFilesTarget=/EFI/BOOT/\nMakeDirectories=/EFI/Linux /loader/entries\n\
                 Label=a label too long\nSizeMinBytes=50M\nFileSystemSectorSize=512\n",
            )],
            CREATE,
        ),
        Scenario::new("swap-label", &[("10.conf", "Type=swap\nLabel=a label that is longer\n")], CREATE),
        Scenario::new(
            "generic-swap",
            &[("10.conf", "Type=linux-generic\nFormat=swap\nLabel=x\n")],
            CREATE,
        ),
        Scenario::new(
            "copy-blocks",
            &[BLOCKS, ("20.conf", "Type=home\nCopyBlocks=%/odd\nSizeMaxBytes=1M\n")],
            CREATE,
        ),
        Scenario::new(
            "copy-blocks-bad",
            &[("20.conf", "Type=home\nCopyBlocks=%/key.pem\n")],
            CREATE,
        ),
        Scenario::new(
            "copy-blocks-missing",
            &[("20.conf", "Type=home\nCopyBlocks=%/nothing\n")],
            CREATE,
        ),
        Scenario::new(
            "symlinks-missing-parent",
            &[("20.conf", "Type=home\nFormat=ext4\nMakeSymlinks=/a/b:c\n")],
            CREATE,
        ),
        Scenario::new(
            "ext4-symlinks",
            &[(
                "20.conf",
                "Type=home\nFormat=ext4\nCopyFiles=/home:/\nMakeDirectories=/a/b\nMakeSymlinks=/a/l:../x\nMinimize=guess\n",
            )],
            CREATE,
        )
        .loose(),
        Scenario::new(
            "ext4-plain",
            &[("20.conf", "Type=root\nFormat=ext4\nCopyFiles=/\nExcludeFiles=/home\n")],
            CREATE,
        ),
        Scenario::new(
            "squashfs",
            &[("20.conf", "Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\n")],
            &["$D --copy-source=%/tree --empty=create --size=auto @/disk.raw"],
        )
        .loose(),
        Scenario::new(
            "squashfs-zstd",
            &[(
                "20.conf",
                "Type=root\nFormat=squashfs\nCopyFiles=/usr:/usr\nCopyFiles=/etc/fstab:/deep/down/fstab\nMakeDirectories=/a/b /var/tmp\n\
                 MakeSymlinks=/a/link:/usr/%o /lib:usr/lib\nCompression=zstd\nCompressionLevel=3\nMountPoint=/sysroot\nMinimize=best\n",
            )],
            &["$D --root=%/tree --empty=create --size=auto @/disk.raw"],
        )
        .loose(),
        Scenario::new(
            "erofs",
            &[(
                "20.conf",
                "Type=usr\nFormat=erofs\nCopyFiles=/usr:/\nExcludeFiles=/usr/bin/\nExcludeFilesTarget=/lib/os-release\nMinimize=best\n",
            )],
            &["$D --copy-source=%/tree --empty=create --size=auto @/disk.raw"],
        )
        .loose(),
        Scenario::new(
            "btrfs",
            &[(
                "20.conf",
                "Type=root\nFormat=btrfs\nCopyFiles=/:/\nMakeDirectories=/@ /home\nSubvolumes=/home /@:ro\nDefaultSubvolume=/home\n",
            )],
            &["$D --copy-source=%/tree --empty=create --size=400M @/disk.raw"],
        ),
        Scenario::new(
            "btrfs-minimized",
            &[("20.conf", "Type=root\nFormat=btrfs\nCopyFiles=/:/\nMinimize=best\n")],
            &["$D --copy-source=%/tree --empty=create --size=400M @/disk.raw"],
        )
        .loose(),
        Scenario::new(
            "xfs",
            &[("20.conf", "Type=srv\nFormat=xfs\nCopyFiles=/:/\nMakeSymlinks=/l:m\n")],
            &["$D --copy-source=%/tree --empty=create --size=400M @/disk.raw"],
        ),
        Scenario::new(
            "no-validatefs",
            &[
                ("20.conf", "Type=srv\nFormat=ext4\nAddValidateFS=no\n"),
                ("30.conf", "Type=home\nFormat=ext4\nMountPoint=/a\nMountPoint=/b\n"),
                ("40.conf", "Type=linux-generic\nFormat=ext4\n"),
                ("50.conf", "Type=var\nFormat=squashfs\nAddValidateFS=no\n"),
            ],
            &["$D --empty=create --size=400M @/disk.raw", "$D --exclude-partitions=var --empty=create --size=400M @/disk.raw"],
        ),
        Scenario::new(
            "siblings-excluded",
            &[
                ("10.conf", "Type=esp\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=40M\nFileSystemSectorSize=512\n"),
                ("20.conf", "Type=root\nFormat=ext4\nCopyFiles=/\n"),
                ("30.conf", "Type=home\nFormat=ext4\nCopyFiles=/home:/\n"),
                ("40.conf", "Type=var\nFormat=ext4\nCopyFiles=/var:/\n"),
            ],
            &["$D --copy-source=%/tree --empty=create --size=300M @/disk.raw"],
        ),
        Scenario::new(
            "missing-source",
            &[("20.conf", "Type=home\nFormat=ext4\nCopyFiles=/nothing:/x\n")],
            CREATE,
        ),
        Scenario::new(
            "override-fstype",
            &[
                ("10.conf", "Type=home\nFormat=ext4\n"),
                ("20.conf", "Type=srv\n"),
                ("30.conf", "Type=linux-generic\nFormat=vfat\n"),
            ],
            CREATE,
        )
        .with_environment(&[
            "SYSTEMD_REPART_OVERRIDE_FSTYPE=vfat",
            "SYSTEMD_REPART_OVERRIDE_FSTYPE_SRV=swap",
        ]),
        Scenario::new("mkfs-options", &[("10.conf", "Type=home\nFormat=ext4\n")], CREATE)
            .with_environment(&["SYSTEMD_REPART_MKFS_OPTIONS_EXT4=-m 2 -i 32768"]),
        Scenario::new(
            "mkfs-options-vfat",
            &[("10.conf", "Type=esp\nFormat=vfat\nSizeMinBytes=64M\nFileSystemSectorSize=512\n")],
            CREATE,
        )
        .with_environment(&["SYSTEMD_REPART_MKFS_OPTIONS_VFAT=-s 1"]),
    ]
}

fn tables() -> Vec<Scenario> {
    const CREATE: &[&str] = &["$D --empty=create --size=100M @/disk.raw"];
    vec![
        Scenario::new(
            "identities",
            &[
                ("10.conf", "Type=home\nUUID=null\nLabel=\n"),
                (
                    "20.conf",
                    "Type=srv\nUUID=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee\nLabel=grüße-%o-%%\n",
                ),
                ("30.conf", "Type=root\nLabel=%M_%A\n"),
                ("40.conf", "Type=root\n"),
                ("50.conf", "Type=root\n"),
                ("60.conf", "Type=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\n"),
            ],
            &["$D --root=%/tree --empty=create --size=100M @/disk.raw"],
        ),
        Scenario::new(
            "label-lengths",
            &[
                (
                    "10.conf",
                    "Type=home\nLabel=123456789012345678901234567890123456\n",
                ),
                (
                    "20.conf",
                    "Type=srv\nLabel=1234567890123456789012345678901234567\n",
                ),
                (
                    "30.conf",
                    "Type=var\nFormat=ext4\nLabel=äöüäöüäöüäöüäöüäöü\n",
                ),
                (
                    "40.conf",
                    "Type=esp\nFormat=vfat\nLabel=lower case äö.*\nFileSystemSectorSize=512\n",
                ),
            ],
            &["$D --empty=create --size=300M @/disk.raw"],
        ),
        Scenario::new(
            "format-empty",
            &[
                ("10.conf", "Type=root\nFormat=empty\nSizeMinBytes=1M\n"),
                (
                    "20.conf",
                    "Type=usr\nFormat=empty\nLabel=later\nNoAuto=no\n",
                ),
            ],
            CREATE,
        ),
        Scenario::new(
            "flags",
            &[
                ("10.conf", "Type=root\nFlags=0x10000000000001\n"),
                (
                    "20.conf",
                    "Type=home\nFlags=0x0300000000000000\nNoAuto=yes\nReadOnly=yes\n",
                ),
                ("30.conf", "Type=srv\nGrowFileSystem=no\n"),
                ("40.conf", "Type=esp\nNoAuto=yes\nReadOnly=yes\n"),
                (
                    "50.conf",
                    "Type=var\nFlags=0\nReadOnly=yes\nGrowFileSystem=yes\n",
                ),
                ("60.conf", "Type=tmp\nFlags=1\n"),
            ],
            CREATE,
        ),
        Scenario::new(
            "existing-table",
            &[SWAP, GENERIC],
            &[
                "!truncate -s 64M @/disk.raw && printf 'label: gpt\\nlabel-id: 01234567-89ab-cdef-0123-456789abcdef\\n\
                 start=4096, size=4096, type=0657fd6d-a4ab-43c4-84e5-0933c84b4f4f, uuid=11111111-89ab-cdef-0123-456789abcdef, name=old\\n\
                 start=20480, size=8192, type=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee, uuid=21111111-89ab-cdef-0123-456789abcdef\\n' | sfdisk -q @/disk.raw",
                "$D @/disk.raw",
                "$D --dry-run=no @/disk.raw",
            ],
        ),
        Scenario::new(
            "factory-reset",
            &[
                ("10.conf", "Type=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n"),
                ("20.conf", "Type=var\nFactoryReset=yes\nSizeMinBytes=10M\n"),
            ],
            &[
                "!truncate -s 64M @/disk.raw",
                "$D --can-factory-reset --empty=allow @/disk.raw",
                "$D --can-factory-reset @/disk.raw",
                "$D --dry-run=no --empty=allow @/disk.raw",
                "$D --can-factory-reset @/disk.raw",
                "$D --can-factory-reset --empty=force @/disk.raw",
                "$D --factory-reset=yes --empty=force --dry-run=no @/disk.raw",
                "$D --factory-reset=yes --dry-run=no @/disk.raw",
                "$D --factory-reset=yes --dry-run=no --defer-partitions-factory-reset=yes @/disk.raw",
                "$D --can-factory-reset @/disk.raw",
            ],
        ),
        Scenario::new(
            "include",
            &[ESP, SWAP, GENERIC],
            &["$D --empty=create --size=100M --include-partitions=swap,linux-generic @/disk.raw"],
        ),
        Scenario::new(
            "exclude",
            &[ESP, SWAP, GENERIC],
            &["$D --empty=create --size=100M --exclude-partitions=esp @/disk.raw"],
        ),
        Scenario::new(
            "include-and-exclude",
            &[SWAP],
            &[
                "$D --empty=create --size=100M --exclude-partitions=esp --include-partitions=swap @/disk.raw",
                "$D --empty=create --size=100M --include-partitions=nonsense @/disk.raw",
            ],
        ),
        Scenario::new(
            "architecture",
            &[
                ("10.conf", "Type=root\n"),
                ("20.conf", "Type=usr-x86-64\n"),
                GENERIC,
            ],
            &["$D --empty=create --size=100M --architecture=arm64 @/disk.raw"],
        ),
        Scenario::new(
            "defer",
            &[
                SWAP,
                GENERIC,
                ("50.conf", "Type=usr\nFormat=empty\nSizeMaxBytes=10M\n"),
            ],
            &[
                "$D --empty=create --size=100M --defer-partitions=swap --defer-partitions-empty=yes @/disk.raw",
                "$D --dry-run=no @/disk.raw",
            ],
        ),
        Scenario::new(
            "supplements",
            &[
                (
                    "10.conf",
                    "Type=esp\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=40M\nFileSystemSectorSize=512\n",
                ),
                (
                    "20.conf",
                    "Type=xbootldr\nFormat=vfat\nSupplementFor=10\nCopyFiles=/boot:/boot\nMakeDirectories=/more\nSizeMinBytes=45M\nSizeMaxBytes=60M\n",
                ),
            ],
            &["$D --copy-source=%/tree --empty=create --size=100M @/disk.raw"],
        ),
        Scenario::new(
            "copy-from",
            &[],
            &[
                "!truncate -s 64M @/one.raw && printf 'label: gpt\\nlabel-id: 01234567-89ab-cdef-0123-456789abcdef\\n\
                 start=4096, size=4096, type=0657fd6d-a4ab-43c4-84e5-0933c84b4f4f, uuid=11111111-89ab-cdef-0123-456789abcdef, name=old\\n\
                 start=20480, size=8192, type=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee, uuid=21111111-89ab-cdef-0123-456789abcdef, attrs=\"GUID:60\"\\n' | sfdisk -q @/one.raw",
                "!head -c 1M %/blocks | dd of=@/one.raw bs=1M seek=2 conv=notrunc status=none",
                "$D --empty=create --size=auto --copy-from=@/one.raw @/disk.raw",
                "!truncate -s 32M @/two.raw && printf 'label: gpt\\nlabel-id: 01234567-89ab-cdef-0123-456789abcdee\\n\
                 start=2048, size=4096, type=0657fd6d-a4ab-43c4-84e5-0933c84b4f4f, uuid=31111111-89ab-cdef-0123-456789abcdef\\n' | sfdisk -q @/two.raw",
                "$D --empty=create --size=auto --copy-from=@/one.raw --copy-from=@/two.raw @/both.raw",
                "$D --empty=create --size=auto --copy-from=@/one.raw --copy-from=@/one.raw @/twice.raw",
                "!rm @/twice.raw",
            ],
        ),
    ]
}

fn verity() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "verity",
            VERITY,
            &[
                "$D --empty=create --size=auto --split=yes @/disk.raw",
                "$D --dry-run=no @/disk.raw",
            ],
        ),
        Scenario::new(
            "verity-blocks",
            &[
                DATA,
                (
                    "20-verity.conf",
                    "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n\
                     VerityDataBlockSizeBytes=1024\nVerityHashBlockSizeBytes=512\n",
                ),
            ],
            &["$D --empty=create --size=auto @/disk.raw"],
        ),
        Scenario::new(
            "signed",
            SIGNED,
            &["$D --empty=create --size=auto --split=yes --private-key=%/key.pem --certificate=%/cert.pem @/disk.raw"],
        ),
        Scenario::new(
            "signed-without-key",
            SIGNED,
            &[
                "$D --empty=create --size=auto @/disk.raw",
                "$D --empty=create --size=auto --certificate=%/cert.pem @/disk.raw",
                "$D --empty=create --size=auto --private-key=%/key.pem @/disk.raw",
            ],
        ),
        Scenario::new(
            "join-signature",
            SIGNED,
            &[
                "$D --empty=create --size=auto --defer-partitions=root-verity-sig @/disk.raw",
                "!sfdisk -d @/disk.raw | sed -n 's/.*uuid=\\([^,]*\\).*/\\1/p' | tr -d '\\n-' | tr A-F a-f >@/hash; \
                 openssl smime -sign -nocerts -noattr -binary -in @/hash -inkey %/key.pem -signer %/cert.pem -outform der -out @/sig",
                "!echo \"$(cat @/hash):@/sig\" >@/joined",
                "$D --dry-run=no --certificate=%/cert.pem --join-signature=$(cat @/joined) @/disk.raw",
            ],
        ),
        Scenario::new(
            "sysext-without-key",
            &[],
            &["-S --copy-source=%/tree --offline=yes --json=short --seed=$S --exclude-partitions=root-verity-sig @/disk.raw"],
        )
        .loose(),
        Scenario::new(
            "confext",
            &[],
            &["-C -s %/tree --offline=yes --json=short --seed=$S --private-key=%/key.pem --certificate=%/cert.pem @/disk.raw"],
        )
        .loose(),
        Scenario::new(
            "portable",
            &[],
            &[
                "--make-ddi=portable -s %/tree --offline=yes --json=short --seed=$S --private-key=%/key.pem --certificate=%/cert.pem @/disk.raw",
                "-P -s %/tree --offline=yes --json=short --seed=$S @/unsigned.raw",
                "-P --offline=yes --json=short @/sourceless.raw",
            ],
        )
        .loose(),
    ]
}

fn beside() -> Vec<Scenario> {
    const FSTAB: &[(&str, &str)] = &[
        (
            "10-esp.conf",
            "Type=esp\nFormat=vfat\nSizeMinBytes=40M\nSizeMaxBytes=40M\nFileSystemSectorSize=512\nMountPoint=/boot\n",
        ),
        (
            "20-home.conf",
            "Type=home\nFormat=ext4\nMountPoint=/home:noatime\nMountPoint=/data\n",
        ),
        (
            "30-root.conf",
            "Type=root\nFormat=ext4\nMountPoint=/:\"a=b\"\n",
        ),
        ("40-swap.conf", "Type=swap\nMountPoint=/none\n"),
    ];
    vec![
        Scenario::new(
            "split",
            &[
                (
                    "10.conf",
                    "Type=linux-generic\nSizeMinBytes=1M\nSizeMaxBytes=1M\nSplitName=%t-%n-%U\n",
                ),
                ("20.conf", "Type=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M\n"),
                ("30.conf", "Type=home\nSizeMinBytes=1M\nSplitName=-\n"),
            ],
            &[
                "$D --empty=create --size=100M --split=yes @/disk.raw",
                "$D --split=yes --dry-run=no @/disk.raw",
                "!rm -f @/disk.*.raw",
                "$D --empty=create --size=100M --split=yes @/plain",
            ],
        ),
        Scenario::new(
            "split-same-name",
            &[SWAP, ("30.conf", "Type=swap\n")],
            &["$D --empty=create --size=100M --split=yes @/disk.raw"],
        ),
        Scenario::new(
            "fstab",
            FSTAB,
            &[
                "!mkdir @/etc && printf 'old line\\n' >@/etc/old",
                "$D --dry-run=yes --empty=create --size=200M --generate-fstab=@/etc/dry @/disk.raw",
                "!rm -f @/disk.raw @/etc/dry",
                "$D --empty=create --size=200M --generate-fstab=@/etc/fstab @/disk.raw",
                "!rm @/disk.raw",
                "$D --empty=create --size=200M --generate-fstab=@/etc/old @/disk.raw",
                "$D --empty=create --size=200M --generate-fstab=@/etc/old --append-fstab=auto @/disk.raw",
                "!rm @/disk.raw",
                "$D --empty=create --size=200M --generate-fstab=@/etc/old --append-fstab=auto @/disk.raw",
                "!cp @/etc/old @/etc/copy; rm @/disk.raw",
                "$D --empty=create --size=200M --generate-fstab=@/etc/copy --append-fstab=replace @/disk.raw",
                "$D --append-fstab=replace @/disk.raw",
                "$D --dry-run=no --generate-fstab=@/etc/again @/disk.raw",
            ],
        ),
        Scenario::new(
            "fstab-inside",
            FSTAB,
            &[
                "!cp -a %/tree @/tree",
                "$D --empty=create --size=200M --root=@/tree --generate-fstab=/etc/fstab --append-fstab=auto @/disk.raw",
            ],
        ),
        Scenario::new(
            "el-torito",
            &[ESP, GENERIC],
            &[
                "$D --copy-source=%/tree --empty=create --size=100M --el-torito=yes --el-torito-system=SYS --el-torito-volume=vol --el-torito-publisher=me @/disk.raw",
                "$D --empty=create --size=100M --el-torito=yes --el-torito-system=ÄÖÜ @/bad.raw",
                "$D --empty=create --size=100M --el-torito=yes --el-torito-volume=123456789012345678901234567890123 @/long.raw",
            ],
        ),
        Scenario::new(
            "el-torito-without-esp",
            &[GENERIC],
            &["$D --empty=create --size=100M --el-torito=yes @/disk.raw"],
        ),
    ]
}

fn definitions() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "drop-ins",
            &[
                ("10.conf", "Type=home\nSizeMaxBytes=10M\n"),
                ("10.conf.d/20.conf", "Label=dropped\n"),
                ("10.conf.d/10.conf", "Label=first\nSizeMaxBytes=20M\n"),
                ("20.conf", ""),
                ("20.conf.d/x.conf", "Label=none\n"),
                ("30.conf", "Type=swap\nNonsense=1\n"),
                ("note.txt", "Type=srv\n"),
            ],
            &["$D --empty=create --size=100M @/disk.raw"],
        ),
        Scenario::new(
            "shapes",
            &[SWAP, GENERIC],
            &[
                "$D --json=pretty --empty=create --size=64M @/disk.raw",
                "$D --json=off --pretty=no @/disk.raw",
                "$D --json=off --pretty=yes @/disk.raw",
                "$D --json=off --no-legend @/disk.raw",
                "$D --json=short --pretty=yes @/disk.raw",
                "--version",
                "--help",
            ],
        ),
        Scenario::new(
            "command-lines",
            &[SWAP],
            &[
                "$D @/disk.raw @/two.raw",
                "$D --nonsense @/disk.raw",
                "$D --dry-run @/disk.raw",
                "$D --dry-run=maybe @/disk.raw",
                "$D --size=12X --empty=create @/disk.raw",
                "$D --size=0 --empty=create @/disk.raw",
                "$D --size=-1 --empty=create @/disk.raw",
                "$D --empty=other @/disk.raw",
                "$D --empty= --size=64M @/disk.raw",
                "$D --json=xml @/disk.raw",
                "$D --seed=x @/disk.raw",
                "$D --sector-size=1000 @/disk.raw",
                "$D --sector-size=8192 @/disk.raw",
                "$D --grain-size=1000 @/disk.raw",
                "$D --grain-size=256 @/disk.raw",
                "$D --architecture=vax @/disk.raw",
                "$D --split=yes -",
                "$D --root=%/tree --image=%/blocks @/disk.raw",
                "$D --make-ddi=other @/disk.raw",
                "$D --append-fstab=other --generate-fstab=@/x @/disk.raw",
                "$D @/disk.raw --empty create --size 64M",
                "$D --dry-run=yes --empty=create --size=64M @/two.raw",
                "!rm -f @/two.raw",
                "$D --empty=create --dry-run=yes --size=64M @/two.raw",
                "!rm -f @/two.raw",
                "$D --empty=create --dry-run=yes --dry-r=no --size=64M @/two.raw",
                "$D --empty=create -n --size=64M @/three.raw",
                "!rm -f @/three.raw",
                "$D --empty=create -n --dry-run=no --size=64M @/three.raw",
                "$D --empty=create --dry-run=no -n --size=64M @/four.raw",
                "!rm -f @/four.raw",
                "$D --empty=create --seed=random --seed=$S --size=1M --size=64M @/five.raw",
                "$D --s=yes @/disk.raw",
                "$D --pretty= @/disk.raw",
                "$D --discard=yes --cow=auto --offline=auto @/disk.raw",
                "$D --cow=no --empty=create --size=64M @/six.raw",
                "--version extra",
            ],
        ),
        Scenario::new(
            "seed-from-root",
            &[("10-swap.conf", "Type=swap\nSizeMinBytes=1M\n")],
            &[
                "--definitions=@/repart.d --root=%/tree --offline=yes --json=short --empty=create --size=64M @/disk.raw",
            ],
        ),
        Scenario::new(
            "root-definitions",
            &[],
            &[
                "!mkdir -p @/tree/usr/lib/repart.d @/tree/etc/repart.d @/tree/run/repart.d && \
                 printf '[Partition]\\nType=home\\n' >@/tree/usr/lib/repart.d/10.conf && \
                 printf '[Partition]\\nType=srv\\n' >@/tree/etc/repart.d/10.conf && \
                 printf '[Partition]\\nType=swap\\n' >@/tree/usr/lib/repart.d/20.conf && \
                 ln -s /dev/null @/tree/run/repart.d/20.conf && \
                 printf '[Partition]\\nType=var\\n' >@/tree/usr/lib/repart.d/05.conf && \
                 ln -s ../../usr/lib/repart.d/05.conf @/tree/etc/repart.d/70.conf",
                "--root=@/tree --seed=$S --offline=yes --json=short --empty=create --size=100M @/disk.raw",
            ],
        ),
        Scenario::new(
            "makes-no-sense",
            &[("10.conf", "Type=home\nCopyBlocks=%/blocks\nFormat=ext4\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "swap-with-files",
            &[
                ("10.conf", "Type=swap\nMakeDirectories=/a\n"),
                ("20.conf", "Type=home\nFormat=swap\nCopyFiles=/\n"),
            ],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "verity-alone",
            &[("10.conf", "Type=root\nVerity=data\nVerityMatchKey=a\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "verity-two-keys",
            &[
                ("10.conf", "Type=root\nVerity=data\nVerityMatchKey=a\n"),
                (
                    "20.conf",
                    "Type=root-verity\nVerity=hash\nVerityMatchKey=b\n",
                ),
            ],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "supplement-unknown",
            &[("10.conf", "Type=root\nSupplementFor=nothing\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "min-above-max",
            &[("10.conf", "Type=root\nSizeMinBytes=20M\nSizeMaxBytes=10M\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "empty-populated",
            &[("10.conf", "Type=root\nFormat=empty\nMakeDirectories=/a\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "bad-type",
            &[("10.conf", "Type=nonsense\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "no-type",
            &[("10.conf", "Label=x\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "bad-size",
            &[("10.conf", "Type=home\nSizeMinBytes=1X\n")],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "warned",
            &[(
                "10.conf",
                "Type=home\nWeight=x\nPriority=y\nLabel=this label has far more than thirty-six characters\nUUID=zz\nFlags=q\n",
            )],
            &["$D --empty=create --size=64M @/disk.raw"],
        ),
        Scenario::new(
            "missing-program",
            &[("10.conf", "Type=home\nFormat=nilfs2\n")],
            &[
                "$D --empty=create --size=64M @/disk.raw",
                "$D --empty=create --dry-run=yes --size=64M @/disk.raw",
            ],
        ),
    ]
}
