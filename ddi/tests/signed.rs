//! Verity and signature are what the real tools accept, and a second run finds nothing to do.

mod common;

use std::fs;
use std::process::Command;

use common::{SEED, Scratch, cut, ddi, partitions, repart, run, unprivileged};

#[test]
fn a_signed_image_stands_up_to_the_real_tools() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let signing = scratch.signing();
    let definitions = scratch.definitions(&[
        ("00-esp.conf", "Type=esp\nFormat=vfat\nCopyFiles=/usr/bin:/EFI\nSizeMinBytes=64M\nSizeMaxBytes=64M\n"),
        ("10-root.conf", "Type=root\nFormat=squashfs\nCopyFiles=/\nVerity=data\nVerityMatchKey=r\nMinimize=best\n"),
        ("20-verity.conf", "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n"),
        ("30-sig.conf", "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n"),
    ]);
    let image = scratch.path("image.raw");
    let mut build = repart();
    build
        .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
        .args(&signing)
        .arg(&image);
    let built = partitions(&mut unprivileged(&build));

    let root_hash = built[1]["roothash"].as_str().unwrap().to_owned();
    assert_eq!(
        built[1]["uuid"].as_str().unwrap().replace('-', ""),
        root_hash[..32]
    );
    assert_eq!(
        built[2]["uuid"].as_str().unwrap().replace('-', ""),
        root_hash[32..]
    );

    let [data, hash, signature] = ["data", "hash", "signature"].map(|name| scratch.path(name));
    for (partition, path) in built[1..].iter().zip([&data, &hash, &signature]) {
        cut(&image, partition, path);
    }
    run(Command::new("veritysetup")
        .arg("verify")
        .args([&data, &hash])
        .arg(&root_hash));

    let text = fs::read(&signature).unwrap();
    let text: Vec<u8> = text.into_iter().take_while(|byte| *byte != 0).collect();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["rootHash"], root_hash.as_str());
    let (base64, der) = (scratch.path("sig.base64"), scratch.path("sig.der"));
    fs::write(&base64, json["signature"].as_str().unwrap()).unwrap();
    run(Command::new("openssl")
        .args(["base64", "-d", "-A", "-in"])
        .arg(&base64)
        .arg("-out")
        .arg(&der));
    let content = scratch.path("content");
    fs::write(&content, &root_hash).unwrap();
    let certificate = scratch.path("certificate.pem");
    run(Command::new("openssl")
        .args([
            "cms",
            "-verify",
            "-binary",
            "-inform",
            "DER",
            "-noverify",
            "-in",
        ])
        .arg(&der)
        .arg("-content")
        .arg(&content)
        .arg("-certfile")
        .arg(&certificate));

    let before = fs::read(&image).unwrap();
    let mut again = repart();
    again
        .args(["--dry-run=no", SEED, &definitions, &source])
        .args(&signing)
        .arg(&image);
    let second = partitions(&mut again);
    assert!(
        second
            .iter()
            .all(|partition| partition["activity"] == "unchanged"),
        "{second:?}"
    );
    assert!(
        fs::read(&image).unwrap() == before,
        "the second run changed the image"
    );

    let shown = run(ddi().arg("dissect").arg(&image));
    assert!(shown.contains("root-verity-sig"), "{shown}");
}

/// A policy that wants a signature is kept without a mount, too.
#[test]
fn files_that_must_be_signed_are_read_only_with_the_signers_certificate() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let signing = scratch.signing();
    let root =
        "Type=root\nFormat=erofs\nCopyFiles=/\nVerity=data\nVerityMatchKey=r\nMinimize=best\n";
    let hash = "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n";
    let signature = "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n";
    let build = |name: &str, files: &[(&str, &str)]| {
        let definitions = scratch.definitions(files);
        let image = scratch.path(name);
        run(repart()
            .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
            .args(&signing)
            .arg(&image));
        fs::remove_dir_all(scratch.path("repart.d")).unwrap();
        image
    };
    let unsigned = build("unsigned.raw", &[("1.conf", root), ("2.conf", hash)]);
    let signed = build(
        "signed.raw",
        &[("1.conf", root), ("2.conf", hash), ("3.conf", signature)],
    );
    let stranger = Scratch::new();
    stranger.signing();
    let list = |image, scratch: Option<&Scratch>| {
        let mut command = ddi();
        command
            .args(["dissect", "--list", "--image-policy=root=signed+absent"])
            .arg(image);
        let certificate = scratch.map(|scratch| scratch.path("certificate.pem"));
        command.args(certificate.map(|path| format!("--certificate={}", path.display())));
        command
    };
    assert!(run(&mut list(&signed, Some(&scratch))).contains("usr/bin/tool"));
    for (image, certificate, words) in [
        (&signed, None, "no signature is accepted"),
        (&signed, Some(&stranger), "given certificates"),
        (&unsigned, Some(&scratch), "signed"),
    ] {
        let output = list(image, certificate).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty() && said.contains(words), "{said}");
    }
}
