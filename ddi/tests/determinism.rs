//! The same inputs give the same bytes: whatever the umask, time zone, user, folder order and path.

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::{SEED, Scratch, plant, repart, run, unprivileged};

#[test]
fn every_format_is_reproducible() {
    let scratch = Scratch::new();
    plant(&scratch.path("tree-a"));
    copy_in_another_order(&scratch.path("tree-a"), &scratch.path("tree-b"));
    for (format, kind, size) in [
        ("vfat", "esp", "SizeMinBytes=64M\nSizeMaxBytes=64M\n"),
        ("squashfs", "root", "Minimize=best\n"),
        ("erofs", "root", "Minimize=best\n"),
        ("ext4", "root", "Minimize=guess\n"),
        ("btrfs", "root", "SizeMinBytes=300M\nSizeMaxBytes=300M\n"),
        ("xfs", "root", "SizeMinBytes=400M\nSizeMaxBytes=400M\n"),
    ] {
        let keys = format!("Type={kind}\nFormat={format}\nCopyFiles=/\n{size}");
        let verity = [
            (
                "10-part.conf",
                format!("{keys}Verity=data\nVerityMatchKey=k\n"),
            ),
            (
                "20-hash.conf",
                "Type=root-verity\nVerity=hash\nVerityMatchKey=k\nSizeMinBytes=8M\nSizeMaxBytes=8M\n".to_owned(),
            ),
            ("30-swap.conf", "Type=swap\nSizeMaxBytes=16M\n".to_owned()),
        ];
        let files: Vec<(&str, &str)> = match kind {
            "root" => verity
                .iter()
                .map(|(name, keys)| (*name, keys.as_str()))
                .collect(),
            _ => vec![("10-part.conf", keys.as_str())],
        };
        let definitions = scratch.definitions(&files);
        let (first, second) = (scratch.path("first.raw"), scratch.path("second.raw"));
        let build = |tree: &str, image: &Path| {
            let mut command = repart();
            let source = format!("--copy-source={}", scratch.path(tree).display());
            command
                .args([
                    "--empty=create",
                    "--size=auto",
                    "--offline=yes",
                    SEED,
                    &definitions,
                    &source,
                ])
                .arg(image);
            command
        };
        run(&mut build("tree-a", &first));
        let mut other = build("tree-b", &second);
        other
            .env("TZ", "Pacific/Kiritimati")
            .env("LC_ALL", "de_DE.UTF-8");
        let mut other = unprivileged(&other);
        umask(&mut other);
        run(&mut other);
        run(Command::new("cmp").arg(&first).arg(&second));
        fs::remove_file(first).unwrap();
        fs::remove_file(second).unwrap();
        fs::remove_dir_all(scratch.path("repart.d")).unwrap();
    }
}

fn umask(command: &mut Command) {
    let inner: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(ToOwned::to_owned)
        .collect();
    let envs: Vec<_> = command
        .get_envs()
        .map(|(n, v)| (n.to_owned(), v.map(ToOwned::to_owned)))
        .collect();
    *command = Command::new("sh");
    command
        .arg0("sh")
        .arg("-c")
        .arg("umask 077; exec \"$@\"")
        .arg("sh")
        .args(inner);
    for (name, value) in envs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// The same tree, with its entries made in reverse order.
fn copy_in_another_order(from: &Path, to: &Path) {
    let script = format!(
        "cd '{}' && find . -depth -print0 | sort -zr | tar --no-recursion -S --xattrs --null -T - -c | tar --xattrs -p -x -C '{}'",
        from.display(),
        to.display()
    );
    fs::create_dir(to).unwrap();
    run(Command::new("sh").arg("-c").arg(script));
    run(Command::new("touch").arg("-r").arg(from).arg(to));
    run(Command::new("chmod").arg("--reference").arg(from).arg(to));
}
