//! Sets of definitions such as image builders and distributions use.

use super::Scenario;

pub(super) fn layouts() -> Vec<Scenario> {
    vec![
        // An ESP and one writable root, as image builders make where nothing is said.
        Scenario::new(
            "layout-disk",
            &[
                (
                    "00-esp.conf",
                    "Type=esp\nFormat=vfat\nCopyFiles=/efi:/\nCopyFiles=/boot:/\nSizeMinBytes=512M\nSizeMaxBytes=512M\n",
                ),
                ("10-root.conf", "Type=root\nFormat=ext4\nCopyFiles=/\nMinimize=guess\n"),
            ],
            &["$D --copy-source=%/tree --empty=create --size=auto --split=yes @/disk.raw"],
        )
        .loose(),
        // A/B slots, of which B is empty: usr with verity and signature, then what is made on first boot.
        Scenario::new(
            "layout-ab",
            AB,
            &[
                "$D --empty=create --size=auto --defer-partitions=swap,var --private-key=%/key.pem --certificate=%/cert.pem @/disk.raw",
                "$D --size=400M --dry-run=no @/disk.raw",
            ],
        ),
        // Encrypted with the empty passphrase, as a first boot does before a person sets one.
        Scenario::new(
            "layout-encrypted",
            &[
                ("10-tmp.conf", "Type=tmp\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=80M\nEncrypt=key-file\nEncryptKDF=minimal\n"),
                ("20-home.conf", "Type=home\nEncrypt=yes\nEncryptKDF=minimal\nVolumeLabel=vault\nDiscard=no\nSizeMinBytes=80M\n"),
                ("30-srv.conf", "Type=srv\nCopyBlocks=%/blocks\nEncrypt=key-file\nEncryptKDF=minimal\nFileSystemSectorSize=512\n"),
            ],
            &["$D --copy-source=%/tree --empty=create --size=auto @/disk.raw"],
        ),
        // The same on its own disk, without content: sizes come from weights.
        Scenario::new(
            "layout-weights",
            &[
                ("10-esp.conf", "Type=esp\nFormat=vfat\nSizeMinBytes=64M\nSizeMaxBytes=64M\nFileSystemSectorSize=512\n"),
                ("20-root.conf", "Type=root\nFormat=ext4\nWeight=500\nSizeMinBytes=32M\nSizeMaxBytes=100M\n"),
                ("30-home.conf", "Type=home\nFormat=ext4\nWeight=2000\nPaddingWeight=100\n"),
                ("40-var.conf", "Type=var\nFormat=ext4\nWeight=333\nPaddingMinBytes=1M\nFactoryReset=yes\n"),
                ("50-swap.conf", "Type=swap\nSizeMinBytes=64M\nSizeMaxBytes=64M\nPriority=1\n"),
            ],
            &[
                "$D --empty=create --size=200M @/disk.raw",
                "$D --size=1G --dry-run=no @/disk.raw",
                "$D --factory-reset=yes --dry-run=no @/disk.raw",
            ],
        ),
        // Root A with a link for root B, and home: the second root appears when the disk has room.
        Scenario::new(
            "layout-grown",
            &[
                ("50-root.conf", "Type=root\nSizeMinBytes=64M\nSizeMaxBytes=64M\n"),
                ("60-root-verity.conf", "Type=root-verity\nSizeMinBytes=8M\nSizeMaxBytes=8M\n"),
                ("70-root-b.conf", "Type=root\nSizeMinBytes=64M\nSizeMaxBytes=64M\nLabel=_empty\nPriority=1\n"),
                ("80-root-verity-b.conf", "Type=root-verity\nSizeMinBytes=8M\nSizeMaxBytes=8M\nLabel=_empty\nPriority=1\n"),
                ("90-home.conf", "Type=home\nWeight=1000\n"),
            ],
            &[
                "$D --empty=create --size=100M @/disk.raw",
                "$D --size=300M --dry-run=no @/disk.raw",
            ],
        ),
        // A cloud image on a larger disk: the table's end lies in the middle.
        Scenario::new(
            "layout-cloud",
            &[("50-root.conf", "Type=root\n")],
            &[
                "!truncate -s 64M @/disk.raw && printf 'label: gpt\\nlabel-id: 01234567-89ab-cdef-0123-456789abcdef\\n\
                 start=2048, size=2048, type=21686148-6449-6e6f-744e-656564454649, uuid=11111111-89ab-cdef-0123-456789abcdef\\n\
                 start=4096, size=20480, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=21111111-89ab-cdef-0123-456789abcdef\\n\
                 start=24576, size=40960, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, uuid=31111111-89ab-cdef-0123-456789abcdef, name=cloud\\n' | sfdisk -q @/disk.raw",
                "!truncate -s 128M @/disk.raw",
                "$D --dry-run=no @/disk.raw",
            ],
        ),
        // A portable installer: boot catalog, ESP, read-only root.
        Scenario::new(
            "layout-installer",
            &[
                ("10-esp.conf", "Type=esp\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=64M\nSizeMaxBytes=64M\nFileSystemSectorSize=512\n"),
                ("20-root.conf", "Type=root\nFormat=erofs\nCopyFiles=/\nMinimize=best\nVerity=data\nVerityMatchKey=root\nSplitName=root\n"),
                ("30-root-verity.conf", "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\nSplitName=verity\n"),
                ("40-root-sig.conf", "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=root\nSplitName=sig\n"),
            ],
            &[
                "$D --copy-source=%/tree --empty=create --size=auto --split=yes --el-torito=yes --private-key=%/key.pem --certificate=%/cert.pem @/disk.raw",
            ],
        )
        .loose(),
    ]
}

const AB: &[(&str, &str)] = &[
    (
        "00-esp.conf",
        "Type=esp\nFormat=vfat\nSizeMinBytes=64M\nSizeMaxBytes=64M\nFileSystemSectorSize=512\n",
    ),
    (
        "10-usr.conf",
        "Type=usr\nLabel=%M_%A\nCopyBlocks=%/blocks\nVerity=data\nVerityMatchKey=usr\nSizeMinBytes=16M\nSizeMaxBytes=16M\nSplitName=usr\n",
    ),
    (
        "11-usr-verity.conf",
        "Type=usr-verity\nLabel=%M_%A\nVerity=hash\nVerityMatchKey=usr\nSizeMinBytes=1M\nSizeMaxBytes=1M\n",
    ),
    (
        "12-usr-sig.conf",
        "Type=usr-verity-sig\nLabel=%M_%A\nVerity=signature\nVerityMatchKey=usr\n",
    ),
    (
        "20-usr-b.conf",
        "Type=usr\nLabel=_empty\nSizeMinBytes=16M\nSizeMaxBytes=16M\nReadOnly=yes\n",
    ),
    (
        "21-usr-verity-b.conf",
        "Type=usr-verity\nLabel=_empty\nSizeMinBytes=1M\nSizeMaxBytes=1M\nReadOnly=yes\n",
    ),
    (
        "22-usr-sig-b.conf",
        "Type=usr-verity-sig\nLabel=_empty\nReadOnly=yes\n",
    ),
    (
        "30-swap.conf",
        "Type=swap\nSizeMinBytes=32M\nSizeMaxBytes=64M\n",
    ),
    (
        "40-var.conf",
        "Type=var\nFormat=ext4\nFactoryReset=yes\nSizeMinBytes=64M\n",
    ),
];
