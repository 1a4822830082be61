//! What is planned for which image.

use std::collections::{BTreeMap, BTreeSet};

use image_specs::partition::Designator;
use image_specs::units::{Bytes, Extent, SectorSize};

use super::{Discard, MountOptions, PlanError, plan};
use crate::assign::{Dissected, Inside, Partition};
use crate::policy::Encryption;

fn image(partitions: &[(Designator, &str)]) -> Dissected {
    let one = |(index, (designator, kind)): (usize, &(Designator, &str))| {
        let partition = Partition {
            designator: *designator,
            number: u32::try_from(index + 1).ok(),
            extent: Extent::new(Bytes::mib(1), Bytes::mib(32)),
            uuid: None,
            label: None,
            architecture: None,
            attributes: 0,
            file_system: (!kind.is_empty()).then(|| (*kind).to_owned()),
            encryption: None,
            writable: !matches!(*kind, "erofs" | "squashfs"),
            grow: *designator == Designator::Home,
            inside: None,
        };
        (*designator, partition)
    };
    Dissected {
        path: "/image.raw".into(),
        size: Bytes::mib(512),
        sector_size: SectorSize::S512,
        uuid: None,
        single_file_system: false,
        table: None,
        partitions: partitions.iter().enumerate().map(one).collect(),
        passed_over: Vec::new(),
        unused: BTreeSet::new(),
        external_tree: false,
        verity: None,
    }
}

const ALL: [(Designator, &str); 9] = [
    (Designator::Esp, "vfat"),
    (Designator::Xbootldr, "vfat"),
    (Designator::Root, "ext4"),
    (Designator::Usr, "erofs"),
    (Designator::Home, "btrfs"),
    (Designator::Srv, "xfs"),
    (Designator::Tmp, "ext4"),
    (Designator::Var, "f2fs"),
    (Designator::Swap, "swap"),
];

fn shown(dissected: &Dissected, options: &MountOptions) -> String {
    plan(dissected, options).unwrap().to_string()
}

#[test]
fn writable_images() {
    let text = "\
root ext4 on / (rw,nodev,discard), check
usr erofs on /usr (ro,nodev)
home btrfs on /home (rw,nodev,discard), check, grow
srv xfs on /srv (rw,nodev,discard), check
var f2fs on /var (rw,nodev,discard), check
tmp ext4 on /var/tmp (rw,nosuid,nodev,discard), check
xbootldr vfat on /boot if missing or empty (rw,nosuid,nodev,noexec,nosymfollow,fmask=0177,dmask=0077,discard), check
esp vfat on /boot if there and empty or /efi if missing or empty (rw,nosuid,nodev,noexec,nosymfollow,fmask=0177,dmask=0077,discard), check
";
    assert_eq!(shown(&image(&ALL), &MountOptions::new()), text);
}

#[test]
fn read_only_ones_replay_no_journal_and_are_not_touched() {
    let mut options = MountOptions::new();
    options.read_only = true;
    let text = "\
root ext4 on / (ro,nodev,norecovery)
usr erofs on /usr (ro,nodev)
home btrfs on /home (ro,nodev,rescue=nologreplay)
srv xfs on /srv (ro,nodev,norecovery)
var f2fs on /var (ro,nodev)
tmp ext4 on /var/tmp (ro,nosuid,nodev,norecovery)
xbootldr vfat on /boot if missing or empty (ro,nosuid,nodev,noexec,nosymfollow,fmask=0177,dmask=0077)
esp vfat on /boot if there and empty or /efi if missing or empty (ro,nosuid,nodev,noexec,nosymfollow,fmask=0177,dmask=0077)
";
    assert_eq!(shown(&image(&ALL), &options), text);
}

#[test]
fn usr_alone_lies_on_memory() {
    let usr = image(&[(Designator::Usr, "squashfs")]);
    let mut options = MountOptions::new();
    let text = "- tmpfs on / (rw,nodev,mode=0755)\nusr squashfs on /usr (ro,nodev)\n";
    assert_eq!(shown(&usr, &options), text);
    options.usr_without_root = false;
    assert_eq!(plan(&usr, &options), Err(PlanError::NoRoot(true)));
    let none = image(&[(Designator::Home, "ext4")]);
    assert_eq!(plan(&none, &options), Err(PlanError::NoRoot(false)));
}

#[test]
fn blocks_are_given_back_as_asked() {
    let root = image(&[(Designator::Root, "ext4")]);
    for (discard, on_loop, given) in [
        (Discard::Disabled, true, false),
        (Discard::Loop, true, true),
        (Discard::Loop, false, false),
        (Discard::All, false, true),
        (Discard::Crypt, false, true),
    ] {
        let mut options = MountOptions::new();
        (options.discard, options.on_loop) = (discard, on_loop);
        let text = shown(&root, &options);
        assert_eq!(text.contains("discard"), given, "{discard:?} {on_loop}");
    }
}

#[test]
fn options_of_the_user_come_last_and_count() {
    let image = image(&[(Designator::Root, "ext4"), (Designator::Esp, "vfat")]);
    let mut options = MountOptions::new();
    options.check = false;
    options.extra = BTreeMap::from([
        (
            Designator::Root,
            "ro,noatime,x-systemd.a=b,data=journal,,nosuid".to_owned(),
        ),
        (Designator::Esp, "exec,symfollow,utf8".to_owned()),
    ]);
    options.owner_base = Some(65536);
    let text = "\
root ext4 on / (ro,nosuid,nodev,noatime,norecovery,data=journal), map owners
esp vfat on /boot if there and empty or /efi if missing or empty (rw,nosuid,nodev,fmask=0177,dmask=0077,uid=65536,gid=65536,discard,utf8)
";
    assert_eq!(shown(&image, &options), text);
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let options = MountOptions::new();
    let root = Designator::Root;
    for (kind, error) in [
        ("", PlanError::Unknown(root)),
        (
            "ntfs",
            PlanError::NotAllowed {
                designator: root,
                kind: "ntfs".to_owned(),
            },
        ),
    ] {
        assert_eq!(plan(&image(&[(root, kind)]), &options), Err(error));
    }
}

#[test]
fn encrypted_partitions_are_planned_as_what_is_inside() {
    let (options, home) = (MountOptions::new(), Designator::Home);
    let mut found = image(&[(Designator::Root, "ext4"), (home, "crypto_LUKS")]);
    let partition = found.partitions.get_mut(&home).unwrap();
    partition.encryption = Some(Encryption::Luks);
    let error = plan(&found, &options).unwrap_err();
    assert_eq!(error, PlanError::Encrypted(home));
    assert!(error.to_string().contains("has not been unlocked"));
    let first_look = MountOptions {
        locked: true,
        ..options.clone()
    };
    let line = |found: &Dissected, options| {
        let plan = plan(found, options)?;
        Ok::<_, PlanError>(plan.mounts[1].to_string())
    };
    let locked = "home crypto_LUKS on /home (rw,nodev), check, grow";
    assert_eq!(line(&found, &first_look).unwrap(), locked);
    for (kind, expected) in [
        (
            Some("ext4"),
            Ok("home ext4 on /home (rw,nodev,discard), check, grow"),
        ),
        (Some("erofs"), Ok("home erofs on /home (ro,nodev)")),
        (None, Err(PlanError::Unknown(home))),
        (
            Some("crypto_LUKS"),
            Err(PlanError::NotAllowed {
                designator: home,
                kind: "crypto_LUKS".to_owned(),
            }),
        ),
    ] {
        let partition = found.partitions.get_mut(&home).unwrap();
        partition.inside = Some(Inside {
            file_system: kind.map(str::to_owned),
            size: Bytes::mib(16),
        });
        for options in [&options, &first_look] {
            let shown = line(&found, options);
            assert_eq!(shown.as_deref(), expected.as_ref().copied(), "{kind:?}");
        }
    }
    let partition = found.partitions.get_mut(&home).unwrap();
    partition.inside.as_mut().unwrap().file_system = Some("ext4".to_owned());
    let mounts = plan(&found, &options).unwrap().mounts;
    assert_eq!(mounts[1].grow, Some(Bytes::mib(16)));
}
