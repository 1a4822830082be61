//! Images without the second copy of their table, and disks on which it is written anew.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{SEED, Scratch, repart, run};

/// What sfdisk complains of; it must be able to read the disk.
fn complaints(disk: &Path) -> String {
    let done = Command::new("sfdisk")
        .arg("--verify")
        .arg(disk)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match text(&done.stdout).contains("No errors detected") {
        true => text(&done.stderr),
        false => text(&done.stdout) + &text(&done.stderr),
    }
}

#[test]
fn an_image_that_was_written_to_a_larger_disk_gets_its_second_table() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[
        ("10.conf", "Type=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n"),
        ("20.conf", "Type=home\nSizeMinBytes=5M\nSizeMaxBytes=5M\n"),
    ]);
    let none = scratch.path("none");
    fs::create_dir(&none).unwrap();
    let none = format!("--definitions={}", none.display());
    for copy in ["keep", "cut"] {
        let image = scratch.path(&format!("{copy}.raw"));
        run(repart()
            .args(["--empty=create", "--size=24M", SEED, &definitions])
            .arg(format!("--table-copy={copy}"))
            .arg(&image));
        let size = fs::metadata(&image).unwrap().len();
        assert_eq!(size, if copy == "cut" { 16 << 20 } else { 24 << 20 });
        // As dd does it: the image, and what the disk has behind it.
        let disk = scratch.path(&format!("{copy}.disk"));
        fs::copy(&image, &disk).unwrap();
        let file = fs::File::options().write(true).open(&disk).unwrap();
        file.set_len(40 << 20).unwrap();
        assert_ne!(complaints(&disk), "");
        // Who does not ask for it changes nothing.
        let before = fs::read(&disk).unwrap();
        run(repart().args(["--dry-run=no", SEED, &none]).arg(&disk));
        assert!(fs::read(&disk).unwrap() == before);
        run(repart()
            .args(["--table-copy=restore", SEED, &none])
            .arg(&disk));
        assert!(fs::read(&disk).unwrap() == before);
        let restore = || {
            run(repart()
                .args(["--dry-run=no", "--table-copy=restore", SEED, &none])
                .arg(&disk))
        };
        restore();
        assert_eq!(complaints(&disk), "");
        let done = fs::read(&disk).unwrap();
        assert!(done != before);
        // Partitions, and all but the two copies of the table, are as they were.
        let tables = [512..34 * 512, (40 << 20) - 33 * 512..40 << 20];
        let differs = (0..done.len()).filter(|at| done[*at] != before[*at]);
        let guard = 446..462;
        for at in differs {
            let known = guard.contains(&at) || tables.iter().any(|range| range.contains(&at));
            assert!(known, "byte {at}");
        }
        restore();
        assert!(fs::read(&disk).unwrap() == done);
    }
}

#[test]
fn the_second_table_is_not_written_over_the_last_partition() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[("10.conf", "Type=root\nSizeMinBytes=10M\n")]);
    let none = scratch.path("none");
    fs::create_dir(&none).unwrap();
    let none = format!("--definitions={}", none.display());
    let image = scratch.path("cut.raw");
    run(repart()
        .args(["--empty=create", "--size=auto", "--table-copy=cut", SEED])
        .args([&definitions])
        .arg(&image));
    let size = fs::metadata(&image).unwrap().len();
    for more in [0, 512, 32 * 512] {
        let file = fs::File::options().write(true).open(&image).unwrap();
        file.set_len(size + more).unwrap();
        let before = fs::read(&image).unwrap();
        for extra in ["--table-copy=restore", "--empty=allow"] {
            let done = repart()
                .args(["--dry-run=no", extra, SEED, &none])
                .arg(&image)
                .output()
                .unwrap();
            let text = String::from_utf8(done.stderr).unwrap();
            let missing = format!("make it {} bytes larger at least", 33 * 512 - more);
            assert!(text.contains(&missing), "{text}");
            assert_eq!(done.status.code(), Some(1));
            assert!(fs::read(&image).unwrap() == before, "{more}, {extra}");
        }
    }
    // With just that much more it is written, and what it replaces is kept.
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.set_len(size + 33 * 512).unwrap();
    let before = fs::read(&image).unwrap();
    let kept = scratch.path("kept.table");
    run(repart()
        .args(["--dry-run=no", "--table-copy=restore", SEED, &none])
        .arg(format!("--backup-table={}", kept.display()))
        .arg(&image));
    assert_eq!(complaints(&image), "");
    let done = fs::read(&image).unwrap();
    let end = usize::try_from(size).unwrap();
    assert!(done[34 * 512..end] == before[34 * 512..end]);
    run(repart()
        .arg("--dry-run=no")
        .arg(format!("--restore={}", kept.display()))
        .arg(&image));
}

#[test]
fn a_cut_needs_a_new_image() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[("10.conf", "Type=root\n")]);
    let image = scratch.path("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let done = repart()
        .args(["--table-copy=cut", "--empty=force", &definitions])
        .arg(&image)
        .output()
        .unwrap();
    assert!(!done.status.success());
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(
        text.contains("--table-copy=cut is for new images"),
        "{text}"
    );
}
