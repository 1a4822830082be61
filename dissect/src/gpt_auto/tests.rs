//! The units are those that systemd-gpt-auto-generator 262.1 wrote on a disk like [`disk`].

use std::collections::BTreeSet;

use image_specs::units::{Bytes, Extent, SectorSize};

use super::units::{Folder, Item};
use super::*;

const ESP: &str = "11111111-1111-4111-8111-111111111111";

fn partition(designator: Designator, number: u32, kind: &str) -> Partition {
    let digits = number.to_string().repeat(4);
    let uuid = format!("{0}{0}-{0}-4{1}-8{1}-{0}{0}{0}", digits, &digits[1..]);
    Partition {
        designator,
        number: Some(number),
        extent: Extent::new(Bytes::mib(number.into()), Bytes::mib(1)),
        uuid: uuid.parse().ok(),
        label: None,
        architecture: None,
        attributes: 0,
        file_system: Some(kind.to_owned()),
        encryption: None,
        writable: true,
        grow: false,
        inside: None,
    }
}

/// ESP, XBOOTLDR, root, home, srv, temporary files, swap; changed as the test wants.
fn disk(change: &dyn Fn(&mut BTreeMap<Designator, Partition>)) -> Disk {
    let partitions = [
        partition(Designator::Esp, 1, "vfat"),
        partition(Designator::Xbootldr, 2, "vfat"),
        partition(Designator::Root, 3, "ext4"),
        partition(Designator::Home, 4, "ext4"),
        partition(Designator::Srv, 5, "ext4"),
        partition(Designator::Tmp, 6, "ext4"),
        partition(Designator::Swap, 7, "swap"),
    ];
    let mut partitions = partitions
        .into_iter()
        .map(|partition| (partition.designator, partition))
        .collect();
    change(&mut partitions);
    Disk {
        dissected: Dissected {
            path: "/dev/sda".into(),
            size: Bytes::mib(16),
            sector_size: SectorSize::S512,
            uuid: None,
            single_file_system: false,
            table: None,
            partitions,
            passed_over: Vec::new(),
            unused: BTreeSet::new(),
            verity: None,
            external_tree: false,
        },
        names: Names::Sequence(7),
    }
}

fn facts(initrd: bool, loader: Option<&str>) -> Facts {
    let free = ["/boot", "/efi", "/home", "/srv", "/var/tmp"];
    let places = free.map(|place| (place, Place::Free));
    let mut places = BTreeMap::from(places);
    places.insert("/var", Place::Populated);
    Facts {
        initrd,
        efi: loader.is_some(),
        loader_partition: loader.and_then(|uuid| uuid.parse().ok()),
        places,
        checkers: ["btrfs", "ext4", "f2fs", "vfat", "xfs"]
            .map(str::to_owned)
            .into(),
        ..Facts::default()
    }
}

/// A recorded tree: `PATH -> TARGET`, or `=== PATH` and the file's lines.
fn recorded(text: &str) -> BTreeMap<String, Item> {
    let mut items: BTreeMap<String, Item> = BTreeMap::new();
    let mut open = None;
    for line in text.lines() {
        if let Some((path, target)) = line.split_once(" -> ") {
            items.insert(path.to_owned(), Item::Link(target.to_owned()));
        } else if let Some(path) = line.strip_prefix("=== ") {
            items.insert(path.to_owned(), Item::File(String::new()));
            open = Some(path);
        } else if let Some(Item::File(text)) = open.and_then(|path| items.get_mut(path)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    items
}

fn written(plan: &Plan) -> BTreeMap<String, Item> {
    let items = plan.files.iter().map(|(folder, path, item)| {
        let folder = match folder {
            Folder::Normal => "./n/",
            Folder::Late => "./l/",
        };
        (format!("{folder}{path}"), item.clone())
    });
    items.collect()
}

fn compare(name: &str, plan: &Plan, text: &str) {
    let (written, recorded) = (written(plan), recorded(text));
    for (path, item) in &recorded {
        assert_eq!(written.get(path), Some(item), "{name}: {path}");
    }
    let more = written.keys().find(|path| !recorded.contains_key(*path));
    assert_eq!(more, None, "{name}");
}

macro_rules! recorded {
    ($name:literal) => {
        ($name, include_str!(concat!("recorded/", $name, ".txt")))
    };
}

#[test]
fn an_initrd_gets_the_units_of_systemd() {
    let plain = facts(true, None);
    let efi = facts(true, Some(ESP));
    for ((name, text), line, facts) in [
        (recorded!("initrd-auto"), "root=gpt-auto", &plain),
        (
            recorded!("initrd-usr-ext4"),
            "root=dissect-force mount.usr=dissect mount.usrfstype=ext4 rw rootfstype=btrfs rootflags=a rootflags=b",
            &plain,
        ),
        (
            recorded!("initrd-usr-erofs"),
            "mount.usr=dissect mount.usrfstype=erofs mount.usrflags=x",
            &plain,
        ),
        (
            recorded!("initrd-measured"),
            "root=gpt-auto mount.usr=dissect systemd.tpm2_measured_os=1",
            &plain,
        ),
        (
            recorded!("initrd-factory-reset"),
            "root=gpt-auto-force systemd.factory_reset=1 rootfstype=xfs ro",
            &plain,
        ),
        (recorded!("initrd-efi"), "", &efi),
        (recorded!("initrd-efi-other-root"), "root=/dev/sda", &efi),
        (
            recorded!("initrd-squashfs"),
            "root=dissect rootfstype=squashfs",
            &plain,
        ),
        (
            recorded!("initrd-uncommon"),
            "root=gpt-auto rootfstype=ext2",
            &plain,
        ),
    ] {
        let settings = Settings::parse(line).unwrap();
        compare(name, &plan(&settings, facts, None, &Pins::default()), text);
    }
}

fn encrypt(partitions: &mut BTreeMap<Designator, Partition>) {
    for designator in [Designator::Home, Designator::Swap] {
        let partition = partitions.get_mut(&designator).unwrap();
        partition.file_system = Some("crypto_LUKS".to_owned());
    }
    partitions.get_mut(&Designator::Root).unwrap().writable = false;
    let var = partition(Designator::Var, 8, "crypto_LUKS");
    partitions.insert(Designator::Var, var);
}

fn flags(partitions: &mut BTreeMap<Designator, Partition>) {
    partitions.get_mut(&Designator::Root).unwrap().grow = true;
    partitions.get_mut(&Designator::Srv).unwrap().grow = true;
    partitions.get_mut(&Designator::Home).unwrap().writable = false;
    partitions.remove(&Designator::Xbootldr);
}

#[test]
fn a_host_gets_the_units_of_systemd() {
    let as_is = disk(&|_| {});
    let encrypted = disk(&encrypt);
    let read_only = disk(&|partitions| {
        encrypt(partitions);
        partitions.get_mut(&Designator::Home).unwrap().writable = false;
    });
    let flags = disk(&flags);
    let plain = facts(false, None);
    let place = |place, state| {
        let mut facts = plain.clone();
        facts.places.remove(place);
        facts.places.extend(state);
        facts
    };
    let no_var_tmp = Facts {
        places: place("/var/tmp", Some(("/var", Place::Free))).places,
        ..plain.clone()
    };
    let full_boot = place("/boot", Some(("/boot", Place::Populated)));
    let no_boot = place("/boot", None);
    let other = facts(false, Some("99999999-1111-4111-8111-111111111111"));
    let efi = facts(false, Some(ESP));
    for ((name, text), line, facts, disk) in [
        (recorded!("host-plain"), "", &plain, &as_is),
        (
            recorded!("host-efi"),
            "root=gpt-auto rootflags=x",
            &efi,
            &as_is,
        ),
        (recorded!("host-efi-other-disk"), "rw", &other, &as_is),
        (recorded!("host-encrypted"), "", &plain, &encrypted),
        (
            recorded!("host-measured"),
            "systemd.tpm2_measured_os=1 systemd.swap=no",
            &plain,
            &encrypted,
        ),
        (
            recorded!("host-encrypted-read-only"),
            "mount.usr=dissect",
            &plain,
            &read_only,
        ),
        (
            recorded!("host-var"),
            "systemd.tpm2_measured_os=1",
            &no_var_tmp,
            &encrypted,
        ),
        (recorded!("host-flags"), "", &plain, &flags),
        (recorded!("host-boot-populated"), "", &full_boot, &flags),
        (recorded!("host-no-boot"), "", &no_boot, &flags),
        (recorded!("host-off"), "systemd.gpt_auto=no", &efi, &as_is),
    ] {
        let settings = Settings::parse(line).unwrap();
        compare(
            name,
            &plan(&settings, facts, Some(disk), &Pins::default()),
            text,
        );
    }
}

fn on_host(line: &str, disk: &Disk, pins: &str) -> Plan {
    let settings = Settings::parse(line).unwrap();
    let pins = Pins::parse(pins).unwrap();
    plan(&settings, &facts(false, None), Some(disk), &pins)
}

#[test]
fn partitions_with_other_uuids_are_refused() {
    let disk = disk(&|_| {});
    let home = "44444444-4444-4444-8444-444444444444";
    let fine = on_host("", &disk, &format!("home={home}\nvar={home}"));
    assert_eq!(fine.refused, []);
    assert_eq!(written(&fine), written(&on_host("", &disk, "")));
    let pins = format!(
        "home={home}\nsrv={home}\nroot={home}\nesp={home}\nxbootldr={home}\nswap={home}\ntmp={home}"
    );
    let plan = on_host("", &disk, &pins);
    assert_eq!(plan.refused.len(), 6);
    let home: Vec<String> = written(&plan).into_keys().collect();
    assert!(home.iter().all(|path| path.contains("home")), "{home:?}");
    assert!(!home.is_empty());
    let text = plan.refused[0].to_string();
    assert!(
        text.contains("root partition has the UUID 33333333"),
        "{text}"
    );
}

#[test]
fn an_image_is_attached_to_a_loop_device() {
    let mut disk = disk(&|_| {});
    disk.names = Names::Loop {
        file: "/images/a disk.raw".into(),
        reference: "a".into(),
    };
    let items = written(&on_host("", &disk, ""));
    let Some(Item::File(home)) = items.get("./l/home.mount") else {
        panic!("{items:?}");
    };
    assert!(
        home.contains("What=/dev/disk/by-loop-ref/a-part4\n"),
        "{home}"
    );
    let link = "./l/local-fs-pre.target.wants/systemd-loop@images-a\\x20disk.raw.service";
    let template = "/usr/lib/systemd/system/systemd-loop@.service".to_owned();
    assert_eq!(items.get(link), Some(&Item::Link(template)));
    let nothing = written(&on_host("systemd.gpt_auto=0", &disk, ""));
    assert!(nothing.is_empty());
    let node = Names::Node("/dev/nvme0n1".into());
    assert_eq!(node.partition(2), "/dev/nvme0n1p2");
}

#[test]
fn what_is_left_out_is_said() {
    let disk = disk(&|partitions| {
        let home = partitions.get_mut(&Designator::Home).unwrap();
        home.file_system = Some("ext2".to_owned());
    });
    let settings = Settings::default();
    let mut facts = facts(false, None);
    facts.fstab = Fstab {
        swap: true,
        boot: true,
        sources: Vec::new(),
    };
    facts.places.insert("/srv", Place::NoDirectory);
    facts.places.insert("/var/tmp", Place::Populated);
    let plan = plan(&settings, &facts, Some(&disk), &Pins::default());
    for words in [
        "fstab has swap",
        "below /boot or /efi",
        "holds ext2",
        "/srv is no",
        "/var/tmp has",
    ] {
        assert!(
            plan.notes.iter().any(|note| note.contains(words)),
            "{words}: {:?}",
            plan.notes
        );
    }
    let paths: Vec<String> = written(&plan).into_keys().collect();
    let mounts = paths.iter().filter(|path| path.contains("mount"));
    assert!(
        mounts.into_iter().all(|path| path.contains("remount")),
        "{paths:?}"
    );
}

#[test]
fn an_esp_that_fstab_names_is_left_to_it() {
    for (source, left) in [
        ("PARTUUID=11111111-1111-4111-8111-111111111111", true),
        (
            "/dev/disk/by-partuuid/11111111-1111-4111-8111-111111111111",
            true,
        ),
        ("/dev/disk/by-diskseq/7-part1", true),
        ("PARTUUID=22222222-2222-4222-8222-222222222222", false),
    ] {
        let mut facts = facts(false, None);
        facts.fstab.sources.push(source.to_owned());
        let plan = plan(
            &Settings::default(),
            &facts,
            Some(&disk(&|_| {})),
            &Pins::default(),
        );
        assert_eq!(
            written(&plan).contains_key("./l/efi.mount"),
            !left,
            "{source}"
        );
    }
}
