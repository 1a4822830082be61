//! `ddi repart` on disks that have partitions already: keys that say what is to happen with them, and
//! `--check`.

mod common;

use std::fs;
use std::process::Output;

use common::{SEED, Scratch, repart};
use serde_json::Value;

const HOME: &str = "Type=home\nSizeMinBytes=10M\nSizeMaxBytes=10M\n";

/// Runs on `disk.raw` with these definitions and options: exit code, standard output, standard error.
fn run(scratch: &Scratch, keys: &str, options: &[&str]) -> (i32, String, String) {
    let definitions = scratch.definitions(&[("10-x.conf", keys)]);
    let mut command = repart();
    command.args([&definitions, SEED]).args(options);
    let Output {
        status,
        stdout,
        stderr,
    } = command.arg(scratch.path("disk.raw")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_second_partition_is_made_once_and_checked() {
    let scratch = Scratch::new();
    let disk = scratch.path("disk.raw");
    let (code, _, error) = run(&scratch, HOME, &["--empty=create", "--size=64M"]);
    assert_eq!(code, 0, "{error}");
    let built = fs::read(&disk).unwrap();

    let (code, out, error) = run(&scratch, HOME, &["--check"]);
    assert_eq!((code, out.as_str()), (0, ""), "{error}");
    assert!(error.contains("is as defined"), "{error}");

    // The seed gives the first home partition the same UUID, so another is asked for by its own.
    let new = format!("{HOME}IfExists=new\nUUID=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\n");
    let (code, out, _) = run(&scratch, &new, &["--check"]);
    assert_eq!(code, 1);
    assert!(
        out.ends_with("10-x.conf:2:1: there is no home partition\n"),
        "{out}"
    );
    let (_, out, _) = run(&scratch, &new, &["--check", "--json=short"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["asDefined"], false);
    assert_eq!(json["differences"][0]["what"], "missing");
    assert_eq!(json["differences"][0]["partno"], Value::Null);

    let absent = format!("{HOME}IfExists=fail\nIfMissing=ignore\n");
    let (code, out, _) = run(&scratch, &absent, &["--check"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("partition 1: there is a home partition, but must be none"),
        "{out}"
    );
    let (code, _, error) = run(&scratch, &absent, &["--dry-run=no"]);
    assert_eq!(code, 1);
    assert!(error.contains("IfExists=fail"), "{error}");
    assert!(
        fs::read(&disk).unwrap() == built,
        "a check or a refusal wrote"
    );

    let (code, _, error) = run(&scratch, &new, &["--dry-run=no"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(run(&scratch, &new, &["--check"]).0, 0);
    let changed = fs::read(&disk).unwrap();
    let (code, _, error) = run(&scratch, &new, &["--dry-run=no"]);
    assert_eq!(code, 0);
    assert!(error.contains("No changes."), "{error}");
    assert!(fs::read(&disk).unwrap() == changed);
}

#[test]
fn a_check_is_not_combined_with_what_changes() {
    let scratch = Scratch::new();
    fs::write(scratch.path("disk.raw"), vec![0; 1 << 20]).unwrap();
    for option in [
        "--dry-run=no",
        "--empty=force",
        "--size=auto",
        "--factory-reset=yes",
        "--split=yes",
    ] {
        let (code, _, error) = run(&scratch, HOME, &["--check", option]);
        assert_eq!(code, 1, "{option}");
        assert!(error.contains("cannot be used with"), "{option}: {error}");
    }
    let (code, out, _) = run(&scratch, HOME, &["--check"]);
    assert_eq!(
        (code, out.as_str()),
        (1, "there is no GUID partition table\n")
    );
    let (code, _, error) = run(
        &scratch,
        "Type=home\nIfExists=new\n",
        &["--check", "--seed=random"],
    );
    assert_eq!(code, 1, "{error}");
}
