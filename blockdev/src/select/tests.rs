//! Terms in tables, choices among made-up disks, and the survey of a made-up `/sys`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use image_specs::units::Bytes;

use super::*;
use crate::sysfs::Sysfs;

const TABLE: &str = "6c08bd44-fed4-4c4e-915a-d1b245eb89de";
const ESP: &str = "0e6ff6ff-e4a2-4f3c-9d7b-1e0a9d6f3b11";

fn disk(name: &str, size: Bytes, bus: Bus) -> Candidate {
    Candidate {
        node: Path::new("/dev").join(name),
        links: vec![PathBuf::from(format!("/dev/disk/by-id/id-{name}"))],
        size,
        bus,
        removable: false,
        read_only: false,
        model: Some("ACME Rocket".to_owned()),
        serials: vec![format!("S{name}"), "COMMON".to_owned()],
        ids: vec![format!("naa.{name}")],
        identity: Identity::default(),
    }
}

fn disks() -> Vec<Candidate> {
    let gib = |count: u64| Bytes::mib(count * 1024);
    let mut disks = vec![
        disk("nvme0n1", gib(512), Bus::Nvme),
        disk("sda", gib(64), Bus::Ata),
        disk("sdb", gib(32), Bus::Usb),
        disk("sdc", gib(64), Bus::Ata),
        disk("sr0", Bytes::ZERO, Bus::Ata),
        disk("dm-0", gib(500), Bus::Mapper),
        disk("sdd", gib(8), Bus::Ata),
    ];
    disks[0].identity = Identity {
        table: Some(TABLE.to_owned()),
        partitions: vec![ESP.to_owned()],
    };
    disks[2].removable = true;
    disks[3].model = Some("Other".to_owned());
    disks[4].removable = true;
    disks[6].read_only = true;
    disks
}

fn chosen(selector: &str) -> Result<String, SelectError> {
    let selector: Selector = selector.parse().unwrap();
    let disks = disks();
    let disk = selector.choose(&disks, Some(ESP))?;
    Ok(disk.node.file_name().unwrap().to_str().unwrap().to_owned())
}

#[test]
fn one_disk_is_chosen() {
    for (selector, expected) in [
        ("serial=Ssda", "sda"),
        ("serial=S*a", "sda"),
        ("serial=*vm*", "nvme0n1"),
        ("id=naa.sdc", "sdc"),
        ("wwid=id-sda", "sda"),
        ("id=*-nvme*", "nvme0n1"),
        ("bus=nvme", "nvme0n1"),
        ("bus=nvme|virtio", "nvme0n1"),
        ("size>=65G", "nvme0n1"),
        ("size>64G", "nvme0n1"),
        ("size=100G..1T", "nvme0n1"),
        ("size<=64G,model=ACME*", "sda"),
        ("size=64G, model=ACME Rocket", "sda"),
        ("path=/dev/sdc", "sdc"),
        ("path=/dev/disk/by-id/id-sdb", "sdb"),
        ("removable=yes", "sdb"),
        ("bus=usb,removable=yes", "sdb"),
        ("serial=Ssdb", "sdb"),
        ("bus=dm", "dm-0"),
        ("id=naa.dm-0", "dm-0"),
        ("boot", "nvme0n1"),
        ("boot,bus=nvme", "nvme0n1"),
        ("uuid=6C08BD44-fed4-4c4e-915a-d1b245eb89de", "nvme0n1"),
    ] {
        assert_eq!(chosen(selector), Ok(expected.to_owned()), "{selector}");
    }
}

#[test]
fn none_fits_and_each_disk_says_why() {
    let why = |selector: &str, name: &str| {
        let Err(SelectError::None { disks, .. }) = chosen(selector) else {
            panic!("{selector} fits");
        };
        assert_eq!(disks.len(), 7, "{selector}: every disk is listed");
        let one = disks
            .iter()
            .find(|one| one.disk.node.ends_with(name))
            .unwrap();
        let texts: Vec<String> = one.why.iter().map(ToString::to_string).collect();
        texts.join("; ")
    };
    for (selector, name, expected) in [
        ("bus=usb", "sdb", "removable (removable=yes permits it)"),
        ("bus=usb", "sda", "not bus=usb, but ata"),
        (
            "serial=nobody",
            "sda",
            "not serial=nobody, but Ssda or COMMON",
        ),
        (
            "size<1G",
            "sr0",
            "no medium; removable (removable=yes permits it)",
        ),
        ("size>=1T", "nvme0n1", "not size>=1T, but 512G"),
        ("size>=400G,bus=ata", "dm-0", "not bus=ata, but dm"),
        ("size=500G", "dm-0", "virtual (bus=dm permits it)"),
        ("path=/dev/sdd", "sdd", "read-only"),
        ("id=sd", "sda", "not id=sd, but naa.sda"),
        (
            "uuid=1234abcd",
            "nvme0n1",
            &format!("not uuid=1234abcd, but {TABLE}"),
        ),
        ("uuid=1234abcd", "sda", "not uuid=1234abcd"),
        ("boot,bus=ata", "sda", "not boot"),
    ] {
        assert_eq!(why(selector, name), expected, "{selector}");
    }
}

#[test]
fn several_are_refused_and_listed() {
    for (selector, expected) in [
        ("bus=ata", vec!["/dev/sda", "/dev/sdc"]),
        (
            "serial=COMMON,size>=60G,bus=ata",
            vec!["/dev/sda", "/dev/sdc"],
        ),
        ("serial=S*", vec!["/dev/nvme0n1", "/dev/sda", "/dev/sdc"]),
    ] {
        let Err(error) = chosen(selector) else {
            panic!("{selector}");
        };
        let text = error.to_string();
        let SelectError::Several { disks, .. } = error else {
            panic!("{selector}: {text}");
        };
        let nodes: Vec<&str> = disks.iter().filter_map(|disk| disk.node.to_str()).collect();
        assert_eq!(nodes, expected, "{selector}");
        assert!(nodes.iter().all(|node| text.contains(node)), "{text}");
    }
    let text = chosen("bus=ata").unwrap_err().to_string();
    assert_eq!(
        text,
        "\"bus=ata\" fits several disks: /dev/sda (64G, ata, ACME Rocket, serial Ssda), /dev/sdc (64G, ata, Other, serial Ssdc); name one of them, for instance by serial=, id= or path="
    );
}

#[test]
fn boot_needs_a_boot_loader_that_told() {
    let boot: Selector = "boot".parse().unwrap();
    assert!(boot.needs_tables());
    let error = boot.choose(&disks(), None).unwrap_err();
    assert_eq!(error, SelectError::NoBootPartition);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, expected) in [
        ("", "it is empty; "),
        ("bus=ata,", "it is empty; "),
        ("sda", "\"sda\" is no term; "),
        ("serial>=1", "\"serial>=1\" is no term; "),
        ("color=red", "\"color=red\" is no term; "),
        ("serial=", "\"serial=\" has no value"),
        ("bus=", "\"bus=\" has no value"),
        ("bus=pata", "\"pata\" is no bus; there are nvme, usb, ata, "),
        ("size=", "\"size=\" is no size, "),
        ("size>=big", "\"size>=big\" is no size, "),
        ("size=2G..1G", "\"size=2G..1G\" is no size, "),
        ("size>1G..2G", "\"size>1G..2G\" is no size, "),
        ("size<0", "\"size<0\" is no size, "),
        ("size!1", "\"size!1\" is no term; "),
        ("uuid=12", "\"12\" is no UUID of a partition table"),
        ("removable=perhaps", "\"perhaps\" is neither yes nor no"),
        ("boot=1", "\"boot=1\" is no term; "),
    ] {
        let error = text.parse::<Selector>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn controllers_are_told_by_the_place_in_sys() {
    for (directory, expected) in [
        (
            "pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1",
            Bus::Nvme,
        ),
        ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", Bus::Nvme),
        (
            "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb",
            Bus::Usb,
        ),
        (
            "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
            Bus::Ata,
        ),
        ("pci0000:00/0000:00:04.0/virtio1/block/vda", Bus::Virtio),
        (
            "pci0000:00/0000:00:05.0/virtio2/host2/target2:0:0/2:0:0:0/block/sda",
            Bus::Virtio,
        ),
        (
            "pci0000:00/0000:01:00.0/host1/target1:2:0/1:2:0:0/block/sda",
            Bus::Scsi,
        ),
        (
            "platform/soc/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
            Bus::Mmc,
        ),
        ("vbd-768/block/xvda", Bus::Xen),
        ("virtual/block/loop0", Bus::Loop),
        ("virtual/block/dm-3", Bus::Mapper),
        ("virtual/block/md127", Bus::Md),
        ("virtual/block/zram0", Bus::Ram),
        ("virtual/block/nbd0", Bus::Nbd),
        ("platform/uml-blkdev.0/block/ubda", Bus::Other),
    ] {
        let directory = Path::new("/sys/devices").join(directory);
        assert_eq!(Bus::of(&directory), expected, "{directory:?}");
    }
}

/// A machine with a SATA disk, a USB stick and an NVMe disk whose paths are hidden.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = root.path().join("sys").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let link = |name: &str, target: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    };
    let sata = "devices/ata1/host0/0:0:0:0";
    let usb = "devices/usb1/1-2";
    let nvme = "devices/virtual/nvme-subsystem/nvme-subsys0";
    for (directory, name, size) in [
        (format!("{sata}/block"), "sda", "134217728"),
        (format!("{usb}/host1/1:0:0:0/block"), "sdb", "0"),
        (nvme.to_owned(), "nvme0n1", "2048"),
        (nvme.to_owned(), "nvme0c0n1", "2048"),
    ] {
        put(&format!("{directory}/{name}/size"), size.as_bytes());
        put(
            &format!("{directory}/{name}/uevent"),
            format!("DEVNAME={name}\n").as_bytes(),
        );
        let target = root.path().join("sys").join(&directory).join(name);
        link(&format!("sys/class/block/{name}"), target.to_str().unwrap());
    }
    put(&format!("{sata}/vendor"), b"ATA     \n");
    put(&format!("{sata}/model"), b"Rocket 9000     \n");
    put(&format!("{sata}/wwid"), b"naa.5000c500a1b2c3d4\n");
    put(&format!("{sata}/vpd_pg80"), b"\0\x80\0\x0a  WD-12345");
    link(&format!("sys/{sata}/block/sda/device"), "../..");
    put(&format!("{usb}/idVendor"), b"1234\n");
    put(&format!("{usb}/serial"), b"STICK7\n");
    put(&format!("{usb}/host1/1:0:0:0/block/sdb/removable"), b"1\n");
    put(&format!("{nvme}/nvme0n1/wwid"), b"eui.0025385b71b0a1c2\n");
    put(&format!("{nvme}/nvme0n1/ro"), b"1\n");
    put(&format!("{nvme}/nvme0c0n1/hidden"), b"1\n");
    link("dev/disk/by-id/ata-Rocket_WD-12345", "../../sda");
    link("dev/disk/by-id/ata-Rocket_WD-12345-part1", "../../sda1");
    link("dev/first", "sda");
    root
}

#[test]
fn disks_are_surveyed() {
    let root = machine();
    let dev = root.path().join("dev");
    let mut looked = Vec::new();
    let mut look = |node: &Path| {
        looked.push(node.to_owned());
        Identity {
            table: Some(TABLE.to_owned()),
            partitions: Vec::new(),
        }
    };
    let disks = survey(&Sysfs::new(root.path().join("sys")), &dev, &mut look).unwrap();
    assert_eq!(looked, [Path::new("/dev/nvme0n1"), Path::new("/dev/sda")]);
    let [nvme, sata, usb] = &disks[..] else {
        panic!("{disks:?}");
    };
    assert_eq!(
        *sata,
        Candidate {
            node: PathBuf::from("/dev/sda"),
            links: vec![
                dev.join("disk/by-id/ata-Rocket_WD-12345"),
                dev.join("first")
            ],
            size: Bytes::mib(65536),
            bus: Bus::Ata,
            removable: false,
            read_only: false,
            model: Some("Rocket 9000".to_owned()),
            serials: vec!["WD-12345".to_owned()],
            ids: vec!["naa.5000c500a1b2c3d4".to_owned()],
            identity: nvme.identity.clone(),
        }
    );
    assert_eq!(
        (usb.bus, usb.removable, &usb.serials[..]),
        (Bus::Usb, true, &["STICK7".to_owned()][..])
    );
    assert_eq!((nvme.bus, nvme.read_only), (Bus::Nvme, true));
    assert_eq!(nvme.ids, ["eui.0025385b71b0a1c2"]);
}
