//! `ddi gpt-auto-generator` on an image file. Its units are compared with systemd's in the library.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const UUID: &str = "11111111-2222-4333-8444-555555555555";

fn image(folder: &Path) -> String {
    let definitions = folder.join("repart.d");
    fs::create_dir(&definitions).unwrap();
    for (name, kind) in [("1", "home"), ("2", "srv"), ("3", "swap")] {
        let format = if kind == "swap" { "swap" } else { "vfat" };
        let text =
            format!("[Partition]\nType={kind}\nFormat={format}\nSizeMinBytes=10M\nUUID={UUID}\n");
        let text = text.replace("8444", &format!("844{name}"));
        fs::write(definitions.join(format!("{name}.conf")), text).unwrap();
    }
    let image = folder.join("disk.raw");
    let output = Command::new(env!("CARGO_BIN_EXE_ddi"))
        .args(["repart", "--empty=create", "--size=auto", "--dry-run=no"])
        .arg(format!("--definitions={}", definitions.display()))
        .arg(&image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    image.to_str().unwrap().to_owned()
}

fn run(folder: &Path, line: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ddi"))
        .arg("gpt-auto-generator")
        .args(arguments)
        .current_dir(folder)
        .env("SYSTEMD_PROC_CMDLINE", line)
        .env("SYSTEMD_IN_INITRD", "0")
        .env("CREDENTIALS_DIRECTORY", folder)
        .output()
        .unwrap()
}

#[test]
fn an_image_in_place_of_the_disk_gets_its_units() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = format!("ddi.gpt_auto_device={}", image(folder));
    let shown = run(folder, &line, &[]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{text}");
    for words in [
        "late/swap.target.wants/dev-disk-by\\x2dloop\\x2dref-disk.raw\\x2dpart3.swap -> ../",
        "/systemd-loop@",
        "[Swap]\nWhat=/dev/disk/by-loop-ref/disk.raw-part3\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for folder_name in ["n", "e", "l"] {
        fs::create_dir(folder.join(folder_name)).unwrap();
    }
    assert!(run(folder, &line, &["n", "e", "l"]).status.success());
    assert!(folder.join("l/swap.target.wants").is_dir());
    assert!(!run(folder, &line, &["n", "e"]).status.success());
}

#[test]
fn partitions_that_are_not_those_of_the_credential_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = format!("ddi.gpt_auto_device={}", image(folder));
    let pin = |text: &str| fs::write(folder.join("gpt-auto.partition-uuids"), text).unwrap();
    pin(&format!("swap={}\n", UUID.replace("8444", "8443")));
    let output = run(folder, &line, &[]);
    assert!(output.status.success() && output.stdout.windows(6).any(|at| at == b"[Swap]"));
    pin(&format!("swap={UUID}\n"));
    let output = run(folder, &line, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the swap partition has the UUID 11111111-2222-4333-8443"),
        "{said}"
    );
    assert!(!output.stdout.windows(6).any(|at| at == b"[Swap]"));
    pin("swap\n");
    assert_eq!(run(folder, &line, &[]).status.code(), Some(1));
}

#[test]
fn what_makes_no_sense_fails() {
    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join("a'b");
    fs::write(&strange, "").unwrap();
    let strange = format!("ddi.gpt_auto_device=\"{}\"", strange.display());
    for (line, words) in [
        (strange.as_str(), "a name of plain letters"),
        ("ddi.gpt_auto_device=/nope", "cannot find /nope"),
        ("ddi.gpt_auto_device=/dev/null", "cannot"),
        ("systemd.image_policy=bad", "systemd.image_policy=bad"),
    ] {
        let output = run(folder.path(), line, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
}
