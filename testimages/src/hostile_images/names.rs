//! Sound images with names and links that must not do harm.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::{Base, HostileImage, Verdict};

pub(super) fn cases(_: &Base) -> Vec<HostileImage> {
    let base = Base::new();
    let tree = base.tree();
    let named = |bytes: &[u8]| tree.join(OsStr::from_bytes(bytes));
    fs::write(named(b"new\nline"), b"x").unwrap();
    fs::write(named(b"\xff\xfe not UTF-8"), b"x").unwrap();
    fs::write(named(b"\x1b[31mred"), b"x").unwrap();
    fs::write(named(&[b'n'; 250]), b"x").unwrap();
    let mut deep = tree.clone();
    for _ in 0..15 {
        deep.push(OsStr::from_bytes(&[b'd'; 250]));
    }
    fs::create_dir_all(&deep).unwrap();
    symlink("/etc/passwd", tree.join("absolute")).unwrap();
    symlink("../../../../../../etc", tree.join("upwards")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();
    let image = |name: &str, bytes| HostileImage {
        name: format!("names: {name}"),
        bytes,
        verdict: Verdict::Read,
    };
    let squash = ["TREE", "IMAGE", "-quiet", "-no-progress"];
    vec![
        image("squashfs", base.make(None, "mksquashfs", &squash)),
        image("erofs", base.make(None, "mkfs.erofs", &["IMAGE", "TREE"])),
        image(
            "ext4",
            base.make(
                Some(2 << 20),
                "mke2fs",
                &["-q", "-t", "ext4", "-d", "TREE", "IMAGE"],
            ),
        ),
    ]
}
