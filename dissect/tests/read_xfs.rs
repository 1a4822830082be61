//! What the XFS reader shows is what the kernel shows of the same file system. Needs root,
//! xfsprogs, attr and acl.
#![allow(missing_docs)]

mod reading;

use std::fs::File;
use std::path::Path;

use dissect::reader::xfs::{self, Xfs};
use reading::{Image, Mounted, collect, compare, fill_as_root, folder, is_root, load, run};

/// Options of mkfs.xfs and MiB.
const VERSIONS: &[(&str, u64)] = &[
    ("", 300),
    (
        "-m bigtime=0,inobtcount=0,reflink=0 -i size=512,nrext64=0",
        300,
    ),
    ("-m bigtime=1,rmapbt=1 -i size=2048,nrext64=1", 300),
    ("-b size=1024 -n size=4096 -i size=512", 300),
    ("-b size=1024 -n size=65536", 300),
    ("-n size=65536", 300),
    ("-b size=2048 -d agcount=7 -i sparse=0", 600),
    (
        "-m uuid=8a5f1d0e-21b7-4c60-9d3a-5f1c0b7e9a11 -s size=4096",
        300,
    ),
];

/// Version 4, which few kernels know by now.
const OLD: &[(&str, u64)] = &[
    ("-m crc=0,finobt=0,reflink=0,rmapbt=0 -n ftype=0", 300),
    (
        "-m crc=0,finobt=0,reflink=0,rmapbt=0 -n ftype=1 -i size=256,attr=2",
        300,
    ),
];

fn make(image: &Path, options: &str, mebibytes: u64) {
    let file = File::create(image).unwrap();
    file.set_len(mebibytes << 20).unwrap();
    let words = ["-q", "-f"].into_iter().chain(options.split_whitespace());
    let words: Vec<_> = words.chain([image.to_str().unwrap()]).collect();
    run("mkfs.xfs", &words);
}

fn open(image: &Path) -> Xfs {
    let (image, size) = Image::open(image);
    xfs::open(image, size).unwrap().unwrap()
}

#[test]
fn every_version_is_shown_as_by_the_kernel() {
    if !is_root() {
        return eprintln!("mounting needs root");
    }
    compare_all(VERSIONS);
}

#[test]
fn version_4_is_shown_as_by_the_kernel() {
    testimages::in_guest!(Uml);
    compare_all(OLD);
}

fn compare_all(versions: &[(&str, u64)]) {
    let folder = folder();
    let image = folder.path().join("image");
    for (options, size) in versions {
        make(&image, options, *size);
        let mounted = Mounted::new(&image, "rw,nouuid");
        fill_as_root(mounted.path());
        many_attributes(mounted.path());
        drop(mounted);
        let mounted = Mounted::new(&image, "ro,nouuid,norecovery");
        let wanted = collect(mounted.path());
        compare(options, &load(&open(&image)), &wanted);
    }
}

/// So many that they need a tree.
fn many_attributes(folder: &Path) {
    let mut list = String::from("# file: far\n");
    for number in 0..200 {
        let value = format!("{number}").repeat(60);
        list.push_str(&format!("user.number{number}=\"{value}\"\n"));
    }
    let path = folder.with_extension("attributes");
    std::fs::write(&path, list).unwrap();
    let restore = format!(
        "cd {} && setfattr --restore={}",
        folder.display(),
        path.display()
    );
    run("sh", &["-c", &restore]);
}
