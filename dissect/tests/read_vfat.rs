//! What the FAT reader shows is what Linux shows of the same file system (in a guest), or what mtools
//! have put into it. Needs dosfstools and mtools.
#![allow(missing_docs)]

mod reading;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use dissect::reader::vfat::{self, Vfat};
use filetree::{Kind, Tree};
use reading::{Image, Mounted, collect, compare, folder, load, run};

/// Options of mkfs.vfat and MiB.
const VERSIONS: &[(&str, u64)] = &[
    ("-F 12 -r 512", 4),
    ("-F 12 -S 4096 -f 1 -r 1024", 32),
    ("-F 16 -n LABEL -r 512", 32),
    ("-F 16 -s 1 -r 1024 -R 9", 20),
    ("-F 32 -n LABEL", 64),
    ("-F 32 -s 2 -f 1", 80),
    ("-F 32 -s 2 -S 1024", 150),
];

/// How systemd mounts it; the others are what Debian's kernel does anyway.
const OPTIONS: &str = "fmask=0177,dmask=0077,utf8,codepage=437,tz=UTC";

fn make(image: &Path, options: &str, mebibytes: u64) {
    let file = File::create(image).unwrap();
    file.set_len(mebibytes << 20).unwrap();
    let words = options.split_whitespace();
    let words: Vec<_> = words.chain([image.to_str().unwrap()]).collect();
    run("mkfs.vfat", &words);
}

fn open(image: &Path) -> Vfat {
    let (image, size) = Image::open(image);
    vfat::open(image, size).unwrap().unwrap()
}

#[test]
fn every_version_is_shown_as_by_the_kernel() {
    testimages::in_guest!(Uml);
    let folder = folder();
    let image = folder.path().join("image");
    for (options, size) in VERSIONS {
        make(&image, options, *size);
        let mounted = Mounted::new(&image, OPTIONS);
        fill(mounted.path());
        drop(mounted);
        change_code_page(&image);
        let mounted = Mounted::new(&image, &format!("ro,{OPTIONS}"));
        let wanted = collect(mounted.path());
        assert!(wanted.len() > 200);
        compare(options, &load(&open(&image)), &wanted);
    }
}

/// All that FAT can hold.
fn fill(folder: &Path) {
    for size in [0_u32, 1, 511, 512, 513, 4096, 65536, 300_000] {
        let bytes: Vec<u8> = (0..size)
            .map(|index| (index / 3).to_le_bytes()[0])
            .collect();
        fs::write(folder.join(format!("size{size}.bin")), bytes).unwrap();
    }
    for name in [
        "UPPER.TXT",
        "lower.txt",
        "base.TXT",
        "OTHER.txt",
        "Mixed.txt",
        "NOEXT",
        "lownoext",
        ".hidden",
        "two.dots.txt",
        "a long name with spaces.text",
        "ünïcödé",
        "ÄÖ.TXT",
        "日本語.txt",
        "💾 and 🗄",
        "plus+comma,.x",
        "tilde~1.txt",
    ] {
        fs::write(folder.join(name), name).unwrap();
    }
    fs::write(folder.join("x".repeat(255)), "longest").unwrap();
    let many = folder.join("many/levels/of/directories");
    fs::create_dir_all(&many).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    for number in 0..300 {
        fs::write(many.join(format!("a name that takes entries {number}")), "").unwrap();
    }
    for number in (0..300).filter(|number| number % 5 > 2) {
        fs::remove_file(many.join(format!("a name that takes entries {number}"))).unwrap();
    }
    pieces(folder);
    for number in 0..32 {
        fs::write(folder.join(format!("CPAGE{number:02}.AAA")), "").unwrap();
    }
    let script = "chmod 0400 size1.bin NOEXT; chmod 0500 empty
        touch -d @1234567890 size0.bin; touch -d @315532800 size1.bin; touch -d @4354732799 many
        touch -d '2024-02-29 23:59:59 UTC' Mixed.txt; touch -d '2100-03-01 UTC' lownoext";
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Two files whose clusters take turns.
fn pieces(folder: &Path) {
    let files = ["one", "two"].map(|name| File::create(folder.join(name)).unwrap());
    for number in 0_u32..20 {
        for file in &files {
            let bytes = [number.to_le_bytes()[0]; 17000];
            file.write_all_at(&bytes, u64::from(number) * 17000)
                .unwrap();
            file.sync_all().unwrap();
        }
    }
}

/// Gives some files short names of all the characters above ASCII, in both cases.
fn change_code_page(image: &Path) {
    let bytes = fs::read(image).unwrap();
    let file = File::options().write(true).open(image).unwrap();
    let mut changed = 0;
    for (index, entry) in bytes.chunks_exact(32).enumerate() {
        let Some(digits) = entry
            .strip_prefix(b"CPAGE")
            .filter(|rest| rest[2..6] == *b" AAA")
        else {
            continue;
        };
        let number = (digits[0] - b'0') * 10 + digits[1] - b'0';
        let mut name = [0_u8; 13];
        for (byte, index) in name[..8].iter_mut().zip(0..) {
            *byte = 0x80 + number % 16 * 8 + index;
        }
        let lower = number >= 16;
        name[8..11].copy_from_slice(if lower { b"LOW" } else { b"UPP" });
        name[11] = entry[11];
        name[12] = if lower { 0x18 } else { 0 };
        let at = u64::try_from(index * 32).unwrap();
        file.write_all_at(&name, at).unwrap();
        changed += 1;
    }
    assert_eq!(changed, 32);
}

#[test]
fn everyone_reads_what_mtools_have_written() {
    let folder = folder();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source);
    // mtools has another code page for short names, and no pairs of units.
    for name in ["ünïcödé", "ÄÖ.TXT", "💾 and 🗄"] {
        fs::remove_file(source.join(name)).unwrap();
    }
    let mut wanted = collect(&source);
    as_fat(&mut wanted);
    let image = folder.path().join("image");
    for (options, size) in VERSIONS {
        make(&image, options, *size);
        let copy = format!(
            "TZ=UTC LC_ALL=C.UTF-8 mcopy -smQi {} * .hidden ::",
            image.display()
        );
        let mut command = Command::new("sh");
        let output = command
            .args(["-ec", &copy])
            .current_dir(&source)
            .output()
            .unwrap();
        assert!(output.status.success(), "{options}: {output:?}");
        compare(options, &load(&open(&image)), &wanted);
    }
}

/// What mtools make of a tree: all files can be written.
fn as_fat(tree: &mut Tree) {
    for id in tree.ids() {
        let inode = tree.inode_mut(id);
        let metadata = &mut inode.metadata;
        metadata.mode = match inode.kind {
            Kind::Directory(_) => 0o700,
            _ => 0o600,
        };
        (metadata.uid, metadata.gid) = (0, 0);
        metadata.mtime.seconds -= metadata.mtime.seconds % 2;
        metadata.mtime.nanoseconds = 0;
    }
    tree.inode_mut(filetree::InodeId::ROOT).metadata.mtime = Default::default();
}
