//! What the btrfs reader shows is what the kernel shows of the same file system (as root), or what the
//! file system was made from (as anyone). Needs btrfs-progs, attr, acl and xfsprogs.
#![allow(missing_docs)]

mod reading;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use dissect::reader::btrfs::{self, Btrfs};
use filetree::reader::{Follow, resolve};
use filetree::{Content, Kind, Reader, Tree};
use reading::{
    Image, Mounted, collect, compare, compare_but_for_holes, fill, fill_as_root, is_root, load, run,
};

/// Options of mkfs.btrfs, options of the mount that fills it, and MiB.
const VERSIONS: &[(&str, &str, u64)] = &[
    ("", "", 256),
    ("-n 4096 --csum xxhash", "max_inline=0", 256),
    ("-n 8192 --csum sha256", "", 256),
    ("-n 32768 --csum blake2", "nodatasum", 256),
    ("-n 65536", "max_inline=4095", 512),
    ("-M", "", 128),
    ("-M --csum sha256", "compress=zlib:9", 128),
    ("-O ^no-holes", "compress=lzo", 256),
    ("-O ^extref,^skinny-metadata", "", 256),
    ("-R ^free-space-tree", "nodatacow", 256),
    ("-R quota", "", 256),
    ("-m single -d single", "compress-force=zstd:15", 256),
    ("-m dup -d dup", "compress-force=lzo", 512),
    ("-n 4096", "compress-force=zlib", 256),
    (
        "-n 65536 -O ^no-holes",
        "compress=zstd,max_inline=4095",
        512,
    ),
    ("-O raid1c34,raid56", "autodefrag", 256),
];

/// The same, which not every kernel can mount.
const RARE: &[(&str, &str, u64)] = &[
    ("-s 16384", "", 256),
    ("-s 65536 -n 65536 --csum xxhash", "", 512),
];

/// What only a btrfs has.
const SCRIPT: &str = r#"
    set -e
    btrfs -q subvolume create sub; echo in >sub/file
    btrfs -q subvolume create sub/nested; echo deep >sub/nested/file; ln sub/file sub/hard
    btrfs -q subvolume snapshot sub snap; btrfs -q subvolume snapshot -r sub small/frozen
    echo changed >sub/file; echo new >sub/new; mkdir sub/dir; btrfs -q subvolume create sub/dir/deeper
    btrfs -q subvolume create doomed; echo x >doomed/x; btrfs -q subvolume snapshot doomed kept
    mv kept sub/moved; btrfs -q subvolume delete -c doomed
    seq 300000 >text; seq 500 >short; yes | head -c 2000 >inline; head -c 1000000 /dev/zero >zeros
    cp --reflink=always text clone; : >partial
    xfs_io -c "reflink text 8192 4096 40960" -c "reflink text 400000 262144 4096" partial 2>&1 || true
    xfs_io -c "reflink text 131072 65536 200704" partial >/dev/null
    dd if=/dev/urandom of=text bs=4096 seek=5 count=3 conv=notrunc 2>/dev/null
    dd if=/dev/urandom of=text bs=1 seek=70000 count=5000 conv=notrunc 2>/dev/null
    fallocate -l 300000 reserved; dd if=text of=reserved bs=4096 seek=3 count=2 conv=notrunc 2>/dev/null
    fallocate -p -o 40960 -l 81920 clone
    truncate -s 70001 zeros; truncate -s 3000 inline; truncate -s 9000 short
    : >nocow; chattr +C nocow; seq 10000 >nocow; mkdir packed; btrfs property set packed compression zstd
    seq 50000 >packed/inherits; seq 60000 >later; sync; btrfs -q filesystem defragment -czlib later
    for n in $(seq 300); do ln file4097 "many/another name of the same, which needs room $n" || break; done
    setfattr -n user.big -v "$(printf %03500d 3)" sub
    setfacl -m u:1000:rwx sub/new
"#;

fn make(image: &Path, options: &str, mebibytes: u64) {
    let file = File::create(image).unwrap();
    file.set_len(mebibytes << 20).unwrap();
    let words = ["-q", "-f"].into_iter().chain(options.split_whitespace());
    let words: Vec<_> = words.chain([image.to_str().unwrap()]).collect();
    run("mkfs.btrfs", &words);
}

fn script(folder: &Path, script: &str) {
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", script]).current_dir(folder).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn open(image: &Path) -> Btrfs {
    let (image, size) = Image::open(image);
    btrfs::open(image, size).unwrap().unwrap()
}

/// The kernel gives directories in the place of subvolumes the time of the day.
fn forget_times(wanted: &mut Tree, found: &Tree, paths: &[&str]) {
    for path in paths {
        let [to, from] = [&*wanted, found].map(|tree| tree.lookup(path.as_bytes()).unwrap());
        wanted.inode_mut(to).metadata.mtime = found.inode(from).metadata.mtime;
    }
}

#[test]
fn half_of_the_versions_are_shown_as_by_the_kernel() {
    let (half, _) = VERSIONS.split_at(VERSIONS.len() / 2);
    shown_as_by_the_kernel(half);
}

#[test]
fn the_other_versions_are_shown_as_by_the_kernel() {
    let (_, half) = VERSIONS.split_at(VERSIONS.len() / 2);
    shown_as_by_the_kernel(half);
}

fn shown_as_by_the_kernel(versions: &[(&str, &str, u64)]) {
    if !is_root() {
        return eprintln!("mounting needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    for (options, mount, size) in versions {
        make(&image, options, *size);
        let mounted = Mounted::new(&image, &format!("rw,{mount}"));
        fill_as_root(mounted.path());
        script(mounted.path(), SCRIPT);
        drop(mounted);
        let mounted = Mounted::new(&image, "ro");
        let mut wanted = collect(mounted.path());
        let reader = open(&image);
        let found = load(&reader);
        let stubs = ["snap/nested", "small/frozen/nested"];
        forget_times(&mut wanted, &found, &stubs);
        let what = format!("{options} {mount}");
        compare(&what, &found, &wanted);
        every_path_is_found(&reader, &found);
    }
}

/// By hash as well as by listing.
fn every_path_is_found(reader: &Btrfs, tree: &Tree) {
    for (path, id) in tree.walk() {
        if matches!(tree.inode(id).kind, Kind::Symlink(_)) {
            continue;
        }
        let found = resolve(reader, &path, Follow::No).unwrap();
        assert_eq!(found.inode.metadata, tree.inode(id).metadata);
    }
    for missing in [&b"nothing"[..], b".", b"", b"default"] {
        assert_eq!(reader.lookup(reader.root(), missing).unwrap(), None);
    }
}

/// The default subvolume is the root; what only the log has is not there, as it is not replayed.
#[test]
fn the_root_is_the_default_subvolume_without_the_log() {
    if !is_root() {
        return eprintln!("mounting needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, copy) = (folder.path().join("image"), folder.path().join("copy"));
    make(&image, "-n 4096", 256);
    let mounted = Mounted::new(&image, "rw");
    let fill = r#"
        set -e
        echo outside >outside; btrfs -q subvolume create a; mkdir a/b; btrfs -q subvolume create a/b/c
        for n in $(seq 10000); do echo $n >a/$n; done; echo c >a/b/c/in
        btrfs -q subvolume set-default a
        sync; sync; echo committed >a/file; sync
        echo logged >>a/file; echo logged >a/new; xfs_io -c fsync a/file -c fsync a/new
        cp --sparse=always ../image ../copy
    "#;
    script(mounted.path(), fill);
    drop(mounted);
    for (image, options, file) in [
        (&copy, "ro,rescue=nologreplay", &b"committed\n"[..]),
        (&image, "ro", b"committed\nlogged\n"),
    ] {
        let mounted = Mounted::new(image, options);
        let reader = open(image);
        let found = load(&reader);
        compare(options, &found, &collect(mounted.path()));
        let Kind::File(content) = &resolve(&reader, b"file", Follow::No).unwrap().inode.kind else {
            panic!("it is a file");
        };
        assert_eq!(read(content), file);
        assert_eq!(found.lookup(b"outside"), None);
    }
}

fn read(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
    content
        .open()
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    bytes
}

/// mkfs.btrfs leaves out the parts of a second and attributes of the root.
#[test]
fn everyone_reads_what_mkfs_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source);
    fs::remove_file(source.join("far")).unwrap();
    let mut wanted = collect(&source);
    let image = folder.path().join("image");
    for (options, _, size) in VERSIONS.iter().chain(RARE) {
        let filled = format!("{options} --rootdir {}", source.display());
        make(&image, &filled, *size);
        let found = load(&open(&image));
        take_over(&mut wanted, &found);
        compare_but_for_holes(options, &found, &wanted);
    }
}

/// What the file system has from mkfs.btrfs, not from the folder.
fn take_over(wanted: &mut Tree, found: &Tree) {
    for id in wanted.ids() {
        wanted.inode_mut(id).metadata.mtime.nanoseconds = 0;
    }
    let (to, from) = (wanted.lookup(b"").unwrap(), found.lookup(b"").unwrap());
    wanted.inode_mut(to).metadata = found.inode(from).metadata.clone();
}
