//! What a file system is filled with, and how two descriptions of it are compared.
#![allow(dead_code)] // each test uses its part

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use filetree::collect::{self, Owner, Rules};
use filetree::{Content, Kind, Limits, ReadAt, Reader, Timestamp, Tree, mtree, reader};

/// An image file.
#[derive(Debug)]
pub(crate) struct Image(File);

impl ReadAt for Image {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

impl Image {
    pub(crate) fn open(path: &Path) -> (Arc<dyn ReadAt>, u64) {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        (Arc::new(Self(file)), size)
    }
}

/// A folder for images, in memory where that can be.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    // A guest has its own place for them.
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        return tempfile::tempdir_in(memory).unwrap();
    }
    tempfile::tempdir().unwrap()
}

pub(crate) fn load(reader: &dyn Reader) -> Tree {
    reader::load(reader, Limits::default()).unwrap()
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub(crate) fn is_root() -> bool {
    let user = run("id", &["-u"]).stdout;
    user == b"0\n"
}

/// A file system of an image that the kernel has mounted.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(image: &Path, options: &str) -> Self {
        let point = image.with_extension("mounted");
        fs::create_dir_all(&point).unwrap();
        let options = format!("loop,{options}");
        let paths = [image, &point].map(|path| path.to_str().unwrap());
        let arguments = ["-o", &options, paths[0], paths[1]];
        // Another process may take the loop device that was found to be free.
        for _ in 0..4 {
            let output = Command::new("mount").args(arguments).output().unwrap();
            if output.status.success() {
                return Self(point);
            }
        }
        run("mount", &arguments);
        Self(point)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.unwrap().success() || std::thread::panicking());
    }
}

/// Describes what is in a folder of the host.
pub(crate) fn collect(folder: &Path) -> Tree {
    let rules = Rules {
        base: folder.to_owned(),
        copies: vec![collect::Copy {
            source: PathBuf::from("/"),
            target: PathBuf::from("/"),
        }],
        exclude_sources: Vec::new(),
        exclude_targets: Vec::new(),
        mount_points: Vec::new(),
        directories: Vec::new(),
        symlinks: Vec::new(),
        root_xattrs: BTreeMap::new(),
        owner: Owner::Keep,
        created: Timestamp::default(),
        latest: None,
    };
    collect::collect(&rules).unwrap().tree
}

/// Fails if two trees differ in anything: names, links, metadata, data, holes.
pub(crate) fn compare(what: &str, found: &Tree, wanted: &Tree) {
    differ(what, &describe(found), &describe(wanted));
}

/// The same, but holes may be elsewhere.
pub(crate) fn compare_but_for_holes(what: &str, found: &Tree, wanted: &Tree) {
    let [found, wanted] = [found, wanted].map(|tree| {
        let lines = describe(tree).into_iter();
        let lines = lines.map(|(path, line)| (path, whole(&line)));
        lines.collect()
    });
    differ(what, &found, &wanted);
}

fn differ(what: &str, found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) {
    for (path, line) in wanted {
        let shown = found.get(path).map_or("missing", String::as_str);
        assert!(
            is_same(shown, line),
            "{what}: {path}\nis     {shown}\nwanted {line}"
        );
    }
    let more: Vec<_> = found
        .keys()
        .filter(|path| !wanted.contains_key(*path))
        .collect();
    assert!(more.is_empty(), "{what}: {more:?} are too many");
}

/// A file that the kernel says has no holes may have some that are allocated, but not written.
fn is_same(found: &str, wanted: &str) -> bool {
    found == wanted || (wanted.ends_with(" data=all") && whole(found) == whole(wanted))
}

fn whole(line: &str) -> String {
    line.split(" data=").take(1).collect()
}

fn describe(tree: &Tree) -> BTreeMap<String, String> {
    let mut text = Vec::new();
    mtree::mtree(tree, false, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut first = HashMap::new();
    let mut all = BTreeMap::new();
    for (line, (path, id)) in text.lines().zip(tree.walk()) {
        let (name, keys) = line.split_once(' ').unwrap();
        let inode = tree.inode(id);
        let metadata = &inode.metadata;
        let link = first.entry(id).or_insert_with(|| path.clone());
        let xattrs: Vec<_> = metadata
            .xattrs
            .iter()
            .map(|(name, value)| {
                let short = value.len() <= 40;
                let value = if short {
                    hex(value)
                } else {
                    format!("{}:{:x}", value.len(), sum(value))
                };
                format!("{}={value}", name.escape_ascii())
            })
            .collect();
        let mut line = format!(
            "{keys} bits={:o} mtime={:?} xattrs={xattrs:?} link={}",
            metadata.mode,
            metadata.mtime,
            link.escape_ascii()
        );
        if let Kind::File(content) = &inode.kind {
            let all = content.size() == 0 || content.data() == [0..content.size()];
            let pieces = format!("{:?}", content.data());
            let data = match content.data().len() {
                _ if all => "all".to_owned(),
                0..9 => pieces,
                count => format!("{count} pieces, {:x}", sum(pieces.as_bytes())),
            };
            line.push_str(&format!(" sum={}", content_sum(content)));
            line.push_str(&format!(" data={data}"));
        }
        all.insert(name.to_owned(), line);
    }
    all
}

/// Of all bytes, but in large files only of those that are not zero.
fn content_sum(content: &Content) -> String {
    if content.size() < 16 << 20 {
        return hex(&mtree::sha256(content).unwrap());
    }
    let open = content.open().unwrap();
    let mut all = 0;
    for range in content.data() {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        open.read_exact_at(&mut bytes, range.start).unwrap();
        let used = (range.start..).zip(bytes).filter(|(_, byte)| *byte != 0);
        all = used.fold(all, |all, (at, byte)| sum(&[byte]) ^ at ^ all << 1);
    }
    format!("{all:x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add((*byte).into())
    })
}

/// Fills a folder with what an ordinary user can make.
pub(crate) fn fill(folder: &Path) {
    for size in [
        0_u32, 1, 59, 60, 61, 156, 160, 400, 1023, 1024, 4096, 4097, 65537, 1_000_000,
    ] {
        let bytes: Vec<u8> = (0..size)
            .map(|index| (index * 7 / 3).to_le_bytes()[0])
            .collect();
        fs::write(folder.join(format!("file{size}")), bytes).unwrap();
    }
    sparse(folder);
    for length in [1, 59, 60, 61, 150, 1000] {
        let name = format!("link{length}");
        std::os::unix::fs::symlink("l".repeat(length), folder.join(name)).unwrap();
    }
    let many = folder.join("many");
    fs::create_dir_all(&many).unwrap();
    // Names are so long that an index of them has two levels where blocks are small.
    for number in 0..700 {
        let name = format!("entry {number} {}", "of many ".repeat(24));
        File::create(many.join(name)).unwrap();
    }
    for length in [1, 254, 255] {
        File::create(many.join(OsStr::from_bytes(&vec![0xfe; length]))).unwrap();
    }
    let name = OsStr::from_bytes(b"line\nbreak \"\\ \xc3\xa4");
    fs::create_dir_all(folder.join(name)).unwrap();
    for number in 0..40 {
        let below = folder.join("small").join(format!("d{number}"));
        fs::create_dir_all(below).unwrap();
    }
    fs::hard_link(folder.join("file60"), folder.join("small/d3/hard")).unwrap();
    fs::hard_link(folder.join("file60"), folder.join("small/hard")).unwrap();
}

/// Holes at the beginning and between; more pieces than an inode has room for.
fn sparse(folder: &Path) {
    let pieces = File::create(folder.join("pieces")).unwrap();
    for number in 0..700 {
        pieces
            .write_all_at(b"piece", 100_000 + number * 8192)
            .unwrap();
    }
    let far = File::create(folder.join("far")).unwrap();
    far.write_all_at(b"far", 300_000_000).unwrap();
}

/// The same and what only root makes. Not every format holds everything: it is the kernel that is
/// asked what there is.
pub(crate) fn fill_as_root(folder: &Path) {
    fill(folder);
    let script = r#"
        ln -P link60 "small/hard link"; truncate -s 9000000 pieces; truncate -s 5000 hole
        mkfifo fifo; mknod null c 1 3; mknod big b 259 70000; mknod sda b 8 0; mknod last c 255 255
        fallocate -o 20000 -l 200000 file400; fallocate -l 40000 unwritten
        fallocate --keep-size -o 100000 -l 100000 file1024
        chown 70000:100000 file1 fifo; chown -h 4294967294:65536 link60; chmod 6755 file1; chmod 1777 many
        chmod 0 file60
        setfattr -n user.small -v x file1; setfattr -n trusted.none file1; setfattr -n trusted.t -v t link60
        setfattr -n user.long -v "$(printf %0700d 7)" file1; setfattr -n security.mark -v label fifo
        setfattr -n user.dir -v d small; setfattr -n user.inode -v "$(printf %020000d 3)" file4096
        setfattr -n user.many -v "$(printf %03000d 3)" file4097; setfattr -n user.same -v "$(printf %0200d 7)" file59
        setfattr -n user.same -v "$(printf %0200d 7)" file60
        setcap cap_net_raw+ep file4096
        setfacl -m u:1000:r,g:70000:rw,m:r file4096; setfacl -d -m u:7:rwx small; setfacl -m g:3:r small/d1
        chattr +F -d folded 2>/dev/null; mkdir folded; chattr +F folded && touch folded/CaSe
        chattr -p 5 file1024; chattr +P small
        mkdir gone; for n in $(seq 500); do : >gone/"name $n"; done; rm -f gone/*[3-8]
        touch -h -d @1234567890.123456789 file1 link60; touch -d @-2000000000.5 file60
        touch -d @5000000000.999999999 file61; touch -d @-1 file156; touch -d @2147483648 small/d2
        touch -d @4294967296.000000001 many; touch -d @15000000000 file0
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(folder);
    command.output().unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap());
}
