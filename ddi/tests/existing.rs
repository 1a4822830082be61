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

#[test]
fn a_reset_that_leaves_makes_nothing_and_the_next_run_does() {
    let scratch = Scratch::new();
    let keys = format!("{HOME}FactoryReset=yes\n");
    let (code, _, error) = run(&scratch, &keys, &["--empty=create", "--size=64M"]);
    assert_eq!(code, 0, "{error}");
    let partitions = || {
        let listed = run(&scratch, &keys, &["--pretty=no", "--json=short"]).1;
        let rows: Value = serde_json::from_str(&listed).unwrap();
        let rows = rows.as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["activity"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(partitions(), ["unchanged"]);
    assert_eq!(run(&scratch, &keys, &["--can-factory-reset"]).0, 0);
    let (code, _, error) = run(&scratch, &keys, &["--factory-reset=leave", "--dry-run=no"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(run(&scratch, &keys, &["--can-factory-reset"]).0, 1);
    assert_eq!(partitions(), ["create"]);
    let (code, _, error) = run(&scratch, &keys, &["--dry-run=no"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(partitions(), ["unchanged"]);
    let (code, _, error) = run(&scratch, &keys, &["--factory-reset=maybe"]);
    assert_eq!(code, 1);
    assert!(error.contains("write yes, no or leave"), "{error}");
}

#[test]
fn a_disk_grows_without_definitions() {
    let scratch = Scratch::new();
    let (code, _, error) = run(&scratch, HOME, &["--empty=create", "--size=64M"]);
    assert_eq!(code, 0, "{error}");
    let grow = |write: &str| {
        let disk = scratch.path("disk.raw");
        let mut command = repart();
        command.args(["--auto-definitions", "--json=short", "--pretty=no", write]);
        let output = command.arg(disk).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = &rows[0];
        (
            row["old_size"].as_u64().unwrap(),
            row["raw_size"].as_u64().unwrap(),
        )
    };
    let (old, new) = grow("--dry-run=no");
    assert_eq!(old, 10 << 20);
    assert!(new > 60 << 20, "{new}");
    assert_eq!(grow("--dry-run=no"), (new, new));
}

#[test]
fn definitions_and_the_seed_come_from_credentials() {
    let scratch = Scratch::new();
    let credentials = scratch.path("credentials");
    let root = scratch.path("root");
    fs::create_dir_all(&credentials).unwrap();
    fs::create_dir_all(root.join("etc/repart.d")).unwrap();
    fs::write(
        root.join("etc/repart.d/20-srv.conf"),
        "[Partition]\nType=srv\n",
    )
    .unwrap();
    fs::write(
        credentials.join("repart.d.20-srv"),
        "[Partition]\nType=var\n",
    )
    .unwrap();
    let home = "[Partition]\nType=home\nSizeMaxBytes=50%ram\n";
    fs::write(credentials.join("repart.d.10-home.conf"), home).unwrap();
    fs::write(
        credentials.join("repart.seed"),
        "11111111-2222-3333-4444-555555555555\n",
    )
    .unwrap();
    let build = |name: &str| {
        let mut command = repart();
        command
            .args([
                "--empty=create",
                "--size=200M",
                "--json=short",
                "--memory=64M",
                "--dry-run=no",
            ])
            .arg(format!("--root={}", root.display()))
            .arg(scratch.path(name))
            .env("CREDENTIALS_DIRECTORY", &credentials);
        command.output().unwrap()
    };
    let output = build("disk.raw");
    assert!(output.status.success(), "{output:?}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let types: Vec<_> = rows
        .iter()
        .map(|row| row["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["home", "srv"]);
    assert_eq!(rows[0]["uuid"], "16c99888-9efa-4ebd-9d37-94134e8aea4d");
    assert_eq!(rows[0]["raw_size"], 32 << 20);
    fs::write(credentials.join("repart.seed"), "none").unwrap();
    let output = build("other.raw");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("credential repart.seed is no seed"),
        "{error}"
    );
}

#[test]
fn the_kernels_command_line_turns_runs_off_but_not_builds() {
    let marks = ["/run/systemd/container", "/run/host/container-manager"];
    let container = marks.iter().any(|mark| fs::exists(mark).unwrap());
    let on = |line: &str, options: &[&str]| {
        let mut command = repart();
        command.args(options).env("SYSTEMD_PROC_CMDLINE", line);
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), error)
    };
    let nothing = ["--disk=serial=none-has-this"];
    if !container {
        // Without a device it is the machine's own disk, of which a dry run is asked here.
        let (code, error) = on("quiet ddi.repart=no", &[]);
        assert_eq!(code, 0, "{error}");
        assert!(error.contains("nothing is done"), "{error}");
        let (code, error) = on("ddi.repart=maybe", &[]);
        assert_eq!(code, 1);
        assert!(error.contains("known are yes and no"), "{error}");
    }
    assert_eq!(on("quiet ddi.repart=no", &nothing).0, 1, "another disk");
    // A run that is given its image is none of the machine's.
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[("10-x.conf", HOME)]);
    let disk = scratch.path("disk.raw").display().to_string();
    let build = ["--empty=create", "--size=64M", SEED, &definitions, &disk];
    let (code, error) = on("ddi.repart=no ddi.repart.seed=x", &build);
    assert_eq!(code, 0, "{error}");
    assert_eq!(fs::metadata(&disk).unwrap().len(), 64 << 20);
}
