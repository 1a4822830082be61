//! Hash trees with parameters of their own, and root hashes that several have signed.

mod common;

use std::fs;
use std::process::Command;

use common::{SEED, Scratch, cut, ddi, fails, partitions, repart, run};

const ROOT: &str =
    "Type=root\nFormat=erofs\nCopyFiles=/\nVerity=data\nVerityMatchKey=r\nMinimize=best\n";

#[test]
fn trees_of_every_kind_are_what_veritysetup_expects() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    for (name, keys, option) in [
        (
            "sha512",
            "VerityHashAlgorithm=sha512\nVeritySalt=00ff\n",
            "00ff",
        ),
        ("type0", "VerityHashType=0\n", ""),
        (
            "sha384",
            "VerityHashAlgorithm=sha384\nVeritySalt=-\nVerityHashBlockSizeBytes=1024\n",
            "-",
        ),
    ] {
        let hash =
            format!("Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n{keys}");
        let definitions = scratch.definitions(&[("10-root.conf", ROOT), ("20-hash.conf", &hash)]);
        let image = scratch.path(name);
        let built = partitions(
            repart()
                .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
                .arg(&image),
        );
        let (data, tree) = (scratch.path("data"), scratch.path("hash"));
        cut(&image, &built[0], &data);
        cut(&image, &built[1], &tree);
        let root_hash = built[0]["roothash"].as_str().unwrap();
        run(Command::new("veritysetup")
            .arg("verify")
            .args([&data, &tree])
            .arg(root_hash));
        let shown = run(Command::new("veritysetup").arg("dump").arg(&tree));
        assert!(shown.contains(option), "{name}: {shown}");
        run(ddi()
            .args(["dissect", "--verify-data"])
            .arg(format!("--root-hash={root_hash}"))
            .arg(&image));
    }
}

#[test]
fn each_of_several_signers_is_enough() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let signing = scratch.signing();
    let second = Scratch::new();
    let second_signing = second.signing();
    let stranger = Scratch::new();
    stranger.signing();
    let definitions = scratch.definitions(&[
        ("10-root.conf", ROOT),
        (
            "20-hash.conf",
            "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n",
        ),
        (
            "30-sig.conf",
            "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n",
        ),
    ]);
    let image = scratch.path("image.raw");
    let build = |options: &[&String]| {
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
            .args(options)
            .arg(&image);
        command
    };
    let [key, certificate] = &signing;
    let [key_two, certificate_two] = &second_signing;
    for (options, words) in [
        (vec![key, key_two, certificate], "needs its certificate"),
        (
            vec![key, certificate, certificate_two],
            "has no --private-key=",
        ),
        (
            vec![key, key_two, certificate_two, certificate],
            "does not belong to certificate",
        ),
    ] {
        let said = fails(&mut build(&options), 1);
        assert!(said.contains(words), "{said}");
        assert!(!image.exists());
    }

    let built = partitions(&mut build(&[key, certificate, key_two, certificate_two]));
    let signature = scratch.path("signature");
    cut(&image, &built[2], &signature);
    let text = fs::read(&signature).unwrap();
    let text: Vec<u8> = text.into_iter().take_while(|byte| *byte != 0).collect();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["signatures"].as_array().unwrap().len(), 1);
    assert_ne!(json["signature"], json["signatures"][0]["signature"]);
    let read = |scratch: &Scratch| {
        let certificate = scratch.path("certificate.pem");
        let mut command = ddi();
        command
            .args(["dissect", "--list", "--image-policy=root=signed+absent"])
            .arg(format!("--certificate={}", certificate.display()))
            .arg(&image);
        command
    };
    run(&mut read(&scratch));
    run(&mut read(&second));
    fails(&mut read(&stranger), 1);
}
