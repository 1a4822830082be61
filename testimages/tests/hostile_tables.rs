//! Broken partition tables: each is refused, or read with its faults named, and nothing is written.

use blockdev::BlockDevice;
use blockdev::MemoryDevice;
use blockdev::table::{self, Label, TableCopy};
use testimages::hostile::{Expected, Hostile, tables};

fn check(case: &Hostile) -> Result<(), String> {
    let disk = MemoryDevice::from_bytes(case.bytes.clone(), case.sector);
    let label = table::read(&disk);
    let holds = match (&case.expected, &label) {
        (Expected::Nothing, Ok(Label::None)) | (Expected::Foreign, Ok(Label::Foreign(_))) => true,
        (Expected::Damaged(text), Err(error)) => error.to_string().contains(text),
        (Expected::Backup, Ok(Label::Gpt(found))) => {
            found.copy == TableCopy::Backup && found.other.is_some()
        }
        (Expected::Primary(texts, other), Ok(Label::Gpt(found))) => {
            let findings = found.table.findings(disk.size());
            let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
            found.copy == TableCopy::Primary
                && found.other.is_some() == *other
                && said.len() == texts.len()
                && said
                    .iter()
                    .zip(*texts)
                    .all(|(said, text)| said.contains(text))
        }
        _ => false,
    };
    let found = label.map(|label| match label {
        Label::Gpt(found) => format!("{found:?}, {:?}", found.table.findings(disk.size())),
        other => format!("{other:?}"),
    });
    match holds && disk.log().is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{}: expected {:?}, but {found:?}",
            case.name, case.expected
        )),
    }
}

#[test]
fn every_broken_table_is_seen_for_what_it_is() {
    let cases = tables();
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} broken tables", cases.len());
}

/// What we read, sfdisk reads too, and the same of it; what we refuse, it sees no GPT in. Where we are
/// stricter on purpose, or where versions of libfdisk differ, the case is named here.
#[test]
fn sfdisk_agrees() {
    const STRICTER: [&str; 1] = ["revision 2"];
    const VERSIONS: [&str; 5] = [
        "entry size 1",
        "entry size 64",
        "entry size 129",
        "usable range over the entries",
        "headers at 5",
    ];
    for case in tables() {
        if STRICTER.contains(&case.name)
            || VERSIONS.contains(&case.name)
            || case.sector.get() != 512
        {
            continue;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &case.bytes).unwrap();
        let done = std::process::Command::new("sfdisk")
            .arg("--dump")
            .arg(file.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap();
        let theirs = String::from_utf8_lossy(&done.stdout).contains("label: gpt");
        let ours = matches!(case.expected, Expected::Primary(..) | Expected::Backup);
        assert_eq!(ours, theirs, "{}", case.name);
    }
}

/// Whatever is cut off or flipped, nothing panics.
#[test]
fn no_damage_panics() {
    for case in tables() {
        for length in (0..2048)
            .step_by(97)
            .chain([case.bytes.len().saturating_sub(1)])
        {
            let cut = case.bytes[..length.min(case.bytes.len())].to_vec();
            let _ = table::read(&MemoryDevice::from_bytes(cut, case.sector));
        }
        for at in (440..1600).step_by(7).filter(|at| *at < case.bytes.len()) {
            let mut bytes = case.bytes.clone();
            bytes[at] ^= 0x81;
            let disk = MemoryDevice::from_bytes(bytes, case.sector);
            if let Ok(Label::Gpt(found)) = table::read(&disk) {
                let _ = found.table.findings(disk.size());
                let _ = found.table.encode();
            }
        }
    }
}
