//! Loop devices, partitions and mounts with the real kernel: as root. As an ordinary user all of it
//! is refused, and that is looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockdev::loopdev::{self, LoopDevice, LoopFailure, LoopOptions, LoopReference};
use blockdev::mount::{self, Attributes, MountError, NewFileSystem, Tree};
use blockdev::partitions::{self, PartitionFailure, Wanted};
use blockdev::{grow, mountinfo};
use image_specs::units::{Bytes, Extent, SectorSize};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn image(folder: &Path, size: u64) -> (PathBuf, File) {
    let path = folder.join("image.raw");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.set_len(size).unwrap();
    (path, file)
}

fn attach(file: &File) -> LoopDevice {
    LoopDevice::attach(file, &LoopOptions::new(SectorSize::S512)).unwrap()
}

/// Whether nothing is bound to the file. Other tests that look for their own devices open ours for a
/// moment, and the kernel unbinds them when that ends.
fn is_free(file: &File) -> bool {
    let free = || loopdev::devices_of(file).unwrap().is_empty();
    (0..200).any(|_| {
        let found = free();
        if !found {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        found
    })
}

fn mkfs(kind: &str, path: &Path) {
    let mut command = Command::new(format!("mkfs.{kind}"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let done = command.arg("-q").arg(path).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn ordinary_users_are_told() {
    if is_root() {
        return; // root may do all of it: see the other tests
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = image(folder.path(), 1 << 20);
    let error = LoopDevice::attach(&file, &LoopOptions::new(SectorSize::S512)).unwrap_err();
    let told = matches!(error.why, LoopFailure::Denied(_) | LoopFailure::Missing);
    assert!(told, "{error:?}");
}

#[test]
fn a_hundred_devices_leave_nothing() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = image(folder.path(), 4 << 20);
    for cycle in 0..100 {
        let mut options = LoopOptions::new(SectorSize::S512);
        options.read_only = cycle % 2 == 0;
        options.reference = Some(LoopReference::new("hundred").unwrap());
        let device = LoopDevice::attach(&file, &options).unwrap();
        let status = device.status().unwrap();
        assert_eq!(status.reference, b"hundred");
        assert_eq!(status.read_only, options.read_only);
        assert!(status.autoclear && status.scan_partitions);
        let found = loopdev::devices_of(&file).unwrap();
        assert_eq!(found, [device.node().to_owned()]);
        match cycle % 3 {
            0 => device.close().unwrap(),
            _ => drop(device),
        }
        assert!(is_free(&file));
    }
}

#[test]
fn many_at_once_each_get_their_own() {
    if !is_root() {
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let folder = tempfile::tempdir().unwrap();
                let (_, file) = image(folder.path(), 1 << 20);
                for _ in 0..10 {
                    let device = attach(&file);
                    let found = loopdev::devices_of(&file).unwrap();
                    assert!(found.iter().any(|node| node == device.node()));
                }
            });
        }
    });
}

#[test]
fn a_released_device_stays_until_it_is_closed() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = image(folder.path(), 1 << 20);
    let mut options = LoopOptions::new(SectorSize::new(4096).unwrap());
    options.offset = Bytes::new(4096);
    options.size_limit = Some(Bytes::new(8192));
    let device = LoopDevice::attach(&file, &options).unwrap();
    let node = device.release().unwrap();
    let device = LoopDevice::open(&node).unwrap();
    let status = device.status().unwrap();
    assert!(!status.autoclear);
    assert_eq!((status.offset.get(), status.size_limit.get()), (4096, 8192));
    drop(device);
    let found = loopdev::devices_of(&file).unwrap();
    assert_eq!(found, std::slice::from_ref(&node));
    LoopDevice::open(&node).unwrap().close().unwrap();
    assert!(is_free(&file));
}

#[test]
fn partitions_are_as_they_are_wanted() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = image(folder.path(), 8 << 20);
    let device = attach(&file);
    let part = |number, start, size| Wanted {
        number,
        extent: Extent::new(Bytes::mib(start), Bytes::mib(size)),
    };
    let ensure = |wanted: &[Wanted]| partitions::ensure(device.file(), device.node(), wanted);
    let both = [part(1, 1, 1), part(7, 2, 4)];
    let nodes = ensure(&both).unwrap();
    assert_eq!(nodes[1], partitions::node(device.node(), 7));
    let size = |node: &Path| File::open(node).unwrap().seek(SeekFrom::End(0)).unwrap();
    assert_eq!(size(&nodes[1]), 4 << 20);
    assert_eq!(ensure(&both).unwrap(), nodes, "again");
    ensure(&[part(7, 2, 2)]).unwrap();
    assert_eq!(size(&nodes[1]), 2 << 20, "other bounds");
    let error = ensure(&[part(2, 3, 4)]).unwrap_err();
    assert!(matches!(error.why, PartitionFailure::Overlap), "{error:?}");
    drop(device);
    assert!(!nodes[1].exists());
}

#[test]
fn trees_have_no_place_until_they_get_one() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = image(folder.path(), 16 << 20);
    mkfs("ext4", &path);
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    let device = attach(&file);
    let node = device.node().to_owned();
    let in_namespace = || {
        let tree = Tree::new(&NewFileSystem {
            kind: "ext4",
            source: Some(&node),
            options: &["discard".to_owned()],
            read_only: false,
            attributes: Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOSYMFOLLOW,
        })
        .unwrap();
        drop(device); // the mount is its user now
        assert!(!mount::is_mount_point(&place).unwrap());
        tree.attach_at(&place).unwrap();
        attributes_are_those(&place, &node);
        fs::create_dir(place.join("sub")).unwrap();
        std::os::unix::fs::symlink("/etc", place.join("out")).unwrap();
        assert!(tree.open_directory(Path::new("sub")).is_ok());
        assert!(
            tree.open_directory(Path::new("out")).is_err(),
            "not our /etc"
        );
        let copy = Tree::copy_of(tree.as_fd()).unwrap();
        let read_only = Attributes::MOUNT_ATTR_RDONLY;
        copy.change(read_only, Attributes::empty()).unwrap();
        drop(tree);
        mount::unmount_all(&place).unwrap();
        assert!(!mount::is_mount_point(&place).unwrap());
        copy.attach_at(&place).unwrap();
        assert!(fs::write(place.join("x"), "x").is_err(), "read only");
    };
    mount::in_own_namespace(in_namespace).unwrap();
    let seen = mount::is_mount_point(&place).unwrap();
    assert!(!seen, "only in its own namespace");
    assert!(is_free(&file));
}

fn attributes_are_those(place: &Path, node: &Path) {
    let mounts = mountinfo::below(place).unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0].source, node);
    let options: Vec<&str> = mounts[0].options.split(',').collect();
    assert!(options.contains(&"nodev") && options.contains(&"nosymfollow"));
    assert!(mounts[0].super_options.contains("discard"));
}

#[test]
fn growing_fills_the_device() {
    if !is_root() {
        return;
    }
    for (kind, size) in [("ext4", 16), ("btrfs", 128), ("xfs", 320)] {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = image(folder.path(), size << 20);
        mkfs(kind, &path);
        file.set_len(size << 21).unwrap();
        let place = folder.path().join("place");
        fs::create_dir(&place).unwrap();
        let device = attach(&file);
        let in_namespace = || {
            let tree = Tree::new(&NewFileSystem {
                kind,
                source: Some(device.node()),
                options: &[],
                read_only: false,
                attributes: Attributes::empty(),
            });
            tree.unwrap().attach_at(&place).unwrap();
            grows(&place, kind, Bytes::mib(size * 2));
        };
        mount::in_own_namespace(in_namespace).unwrap();
    }
}

fn grows(place: &Path, kind: &str, size: Bytes) {
    let root = File::open(place).unwrap();
    let blocks = || rustix::fs::fstatvfs(&root).unwrap().f_blocks;
    let before = blocks();
    match grow::grow(&root, kind, size) {
        Ok(grown) => {
            assert_eq!(grown, grow::Growth::Grown, "{kind}");
            assert!(blocks() > before + before / 2, "{kind}");
            grow::grow(&root, kind, size).expect("a second time");
        }
        Err(error) => {
            assert_eq!((kind, may_use_resources()), ("ext4", false), "{error}");
        }
    }
}

/// Whether we have `CAP_SYS_RESOURCE`, which ext4 asks for, and which root in a container may lack.
fn may_use_resources() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    set & 1 << 24 != 0
}

#[test]
fn refusals_say_what_the_file_system_says() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = image(folder.path(), 16 << 20);
    mkfs("ext4", &path);
    let device = attach(&file);
    let options = ["no-such-option=1".to_owned()];
    let mut wanted = NewFileSystem {
        kind: "ext4",
        source: Some(device.node()),
        options: &options,
        read_only: true,
        attributes: Attributes::empty(),
    };
    let error = Tree::new(&wanted).unwrap_err();
    assert!(matches!(error, MountError::Option { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
    wanted.options = &[];
    wanted.kind = "squashfs";
    let error = Tree::new(&wanted).unwrap_err();
    assert!(matches!(error, MountError::FileSystem { .. }), "{error:?}");
    println!("{error}");
    wanted.kind = "no-such-fs";
    let error = Tree::new(&wanted).unwrap_err();
    assert!(matches!(error, MountError::UnknownKind(_)), "{error:?}");
}
