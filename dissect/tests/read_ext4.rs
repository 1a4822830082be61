//! What the ext4 reader shows is what the kernel shows of the same file system (as root), or what the
//! file system was made from (as anyone). Needs e2fsprogs, attr and acl.
#![allow(missing_docs)]

mod reading;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dissect::reader::ext4::{self, Ext4};
use filetree::Tree;
use reading::{
    Image, Mounted, collect, compare, compare_but_for_holes, fill, fill_as_root, folder, is_root,
    load, run,
};

/// Options of mke2fs and MiB.
const VERSIONS: &[(&str, u64)] = &[
    ("-t ext2 -b 1024", 64),
    ("-t ext2 -b 4096 -I 128 -O none", 64),
    ("-r 0 -b 1024", 64),
    ("-t ext3 -b 2048", 64),
    ("-t ext3 -b 1024 -I 512 -O ^dir_index,^filetype", 64),
    ("-t ext4", 64),
    ("-t ext4 -b 1024", 64),
    ("-t ext4 -b 2048 -I 128", 64),
    ("-t ext4 -b 4096 -I 4096", 128),
    ("-t ext4 -b 1024 -O meta_bg,^resize_inode -g 256", 64),
    (
        "-t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit,^flex_bg -g 1024",
        200,
    ),
    (
        "-t ext4 -b 1024 -O sparse_super2,^sparse_super,^resize_inode -g 1024",
        64,
    ),
    (
        "-t ext4 -b 1024 -O ^sparse_super,^flex_bg,^resize_inode -g 2048",
        64,
    ),
    ("-t ext4 -O inline_data", 64),
    ("-t ext4 -b 1024 -I 1024 -O inline_data", 64),
    ("-t ext4 -O ea_inode", 64),
    ("-t ext4 -O ea_inode,inline_data,^metadata_csum", 64),
    ("-t ext4 -O bigalloc -C 65536", 300),
    ("-t ext4 -b 1024 -O bigalloc -C 16384", 100),
    ("-t ext4 -O large_dir,^huge_file", 64),
    ("-t ext4 -O ^metadata_csum,uninit_bg,^64bit", 64),
    ("-t ext4 -O ^metadata_csum,^extents,^64bit", 64),
    (
        "-t ext4 -O metadata_csum_seed -U 8a5f1d0e-21b7-4c60-9d3a-5f1c0b7e9a11",
        64,
    ),
    ("-t ext4 -O encrypt,verity", 64),
    ("-t ext4 -O orphan_file,mmp -E lazy_itable_init=1", 64),
    (
        "-t ext4 -O ^has_journal,stable_inodes -E packed_meta_blocks=1",
        64,
    ),
    (
        "-t ext4 -O ^extra_isize,^dir_nlink,^large_file,^huge_file",
        64,
    ),
];

/// The same, which not every kernel can mount.
const RARE: &[(&str, u64)] = &[
    ("-t ext4 -O quota,project", 64),
    ("-t ext4 -O casefold -E encoding=utf8", 64),
    ("-t ext4 -b 8192", 64),
    ("-t ext4 -b 65536", 300),
    (
        "-t ext4 -b 65536 -O inline_data,ea_inode,bigalloc -C 262144",
        600,
    ),
];

fn make(image: &Path, options: &str, mebibytes: u64) {
    let file = File::create(image).unwrap();
    file.set_len(mebibytes << 20).unwrap();
    let image = image.to_str().unwrap();
    let words = ["-q", "-F"].into_iter().chain(options.split_whitespace());
    let words: Vec<_> = words.chain(["-N", "8000", image]).collect();
    run("mke2fs", &words);
}

fn open(image: &Path) -> Ext4 {
    let (image, size) = Image::open(image);
    ext4::open(image, size).unwrap().unwrap()
}

#[test]
fn every_version_is_shown_as_by_the_kernel() {
    if !is_root() {
        return eprintln!("mounting needs root");
    }
    let folder = folder();
    let image = folder.path().join("image");
    for (options, size) in VERSIONS {
        make(&image, options, *size);
        let mounted = Mounted::new(&image, "rw,nobarrier");
        fill_as_root(mounted.path());
        drop(mounted);
        let mounted = Mounted::new(&image, "ro");
        let wanted = collect(mounted.path());
        compare(options, &load(&open(&image)), &wanted);
    }
}

/// mke2fs leaves out the parts of a second. It has the files of a folder in it, but for its own
/// directory.
#[test]
fn everyone_reads_what_mke2fs_has_written() {
    let folder = folder();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source);
    fs::create_dir(source.join("lost+found")).unwrap();
    fs::set_permissions(source.join("lost+found"), Permissions::from_mode(0o700)).unwrap();
    let mut wanted = collect(&source);
    let image = folder.path().join("image");
    for (options, size) in RARE.iter().chain(VERSIONS.iter().step_by(3)) {
        let filled = format!("{options} -d {}", source.display());
        make(&image, &filled, *size);
        let found = load(&open(&image));
        take_over(&mut wanted, &found);
        compare_but_for_holes(options, &found, &wanted);
    }
}

/// What the file system has from mke2fs, not from the folder.
fn take_over(wanted: &mut Tree, found: &Tree) {
    for id in wanted.ids() {
        wanted.inode_mut(id).metadata.mtime.nanoseconds = 0;
    }
    for path in [&b""[..], b"lost+found"] {
        let (to, from) = (wanted.lookup(path).unwrap(), found.lookup(path).unwrap());
        wanted.inode_mut(to).metadata = found.inode(from).metadata.clone();
    }
}
