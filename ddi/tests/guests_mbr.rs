//! Master boot records that repart makes and extends, as the kernel reads them.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{SEED, repart, run};
use testimages::guest::SCRATCH;

/// Number, first sector and sectors of each partition, the extended one left out: as sfdisk says.
fn listed(disk: &str) -> Vec<(u32, u64, u64)> {
    let verified = run(Command::new("sfdisk").args(["--verify", disk]));
    assert!(verified.contains("No errors detected"), "{verified}");
    let dump = run(Command::new("sfdisk").args(["--dump", disk]));
    let row = |line: &str| {
        let (node, rest) = line.split_once(" : ")?;
        let number = node
            .trim()
            .rsplit(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()?;
        let field = |name: &str| {
            let found = rest
                .split(',')
                .find_map(|one| one.trim().strip_prefix(name));
            found?.trim().parse::<u64>().ok()
        };
        let data = !rest.contains("type=f") && !rest.contains("type=5");
        data.then_some((number, field("start=")?, field("size=")?))
    };
    dump.lines().filter_map(row).collect()
}

/// The same as the kernel has it.
fn known(device: &str, rows: &[(u32, u64, u64)]) -> Vec<(u32, u64, u64)> {
    let name = device.trim_start_matches("/dev/");
    let field = |number: u32, field: &str| {
        let path = format!("/sys/block/{name}/{name}p{number}/{field}");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.trim().parse::<u64>().unwrap()
    };
    let all = rows.iter().map(|row| row.0);
    all.map(|number| (number, field(number, "start"), field(number, "size")))
        .collect()
}

#[test]
fn the_kernel_reads_what_was_made_and_extended() {
    testimages::in_guest!(Uml);
    let folder = Path::new(SCRATCH);
    let definitions = folder.join("repart.d");
    fs::create_dir(&definitions).unwrap();
    let lines = ["mbr:fat32", "swap", "root", "home", "mbr:linux"];
    for (number, kind) in lines.iter().enumerate() {
        let size = "SizeMinBytes=10M\nSizeMaxBytes=10M\n";
        let text = format!("[Partition]\nType={kind}\n{size}");
        fs::write(definitions.join(format!("{number}.conf")), text).unwrap();
    }
    let option = format!("--definitions={}", definitions.display());
    let image = folder.join("image.raw");
    let path = image.to_str().unwrap();
    run(repart()
        .args([
            "--empty=create",
            "--size=100M",
            "--label=mbr",
            SEED,
            &option,
        ])
        .arg(&image));
    let made = listed(path);
    assert_eq!(
        made.iter().map(|row| row.0).collect::<Vec<_>>(),
        [1, 2, 3, 5, 6]
    );

    // The disk is larger than the image, and there is more to make on it.
    run(Command::new("truncate").args(["--size=200M", path]));
    let device = run(Command::new("losetup").args(["--partscan", "--find", "--show", path]));
    let device = device.trim();
    assert_eq!(known(device, &made), made);
    fs::write(
        definitions.join("9.conf"),
        "[Partition]\nType=srv mbr:linux\n",
    )
    .unwrap();
    let extend = || run(repart().args(["--dry-run=no", SEED, &option]).arg(device));
    extend();
    let extended = listed(device);
    assert_eq!(extended[..5], made);
    assert_eq!(extended.len(), 6);
    assert!(extended[5].2 > 200_000, "{extended:?}");
    assert_eq!(known(device, &extended), extended);
    run(Command::new("blockdev").args(["--rereadpt", device]));
    assert_eq!(known(device, &extended), extended);
    let before = fs::read(&image).unwrap();
    extend();
    assert!(fs::read(&image).unwrap() == before);
}
