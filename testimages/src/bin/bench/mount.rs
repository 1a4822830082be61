//! Mounting: loop device, dm-verity, mount and back, in a guest whose kernel has device-mapper.

use testimages::guest::{End, Guest};

use crate::measure::{Taken, check};
use crate::{Bench, Outcome, Row, SEED};

/// Rounds of mounting and unmounting.
const ROUNDS: u32 = 20;

/// `$1` is ddi, `$2` the peer's root, `$3` the image, `$4` the count of rounds. Prints the milliseconds
/// and the peak in KiB, first of ours, then of theirs.
const SCRIPT: &str = r#"
    cp "$3" "$TMPDIR/image.raw"
    mkdir -p "$2/mnt" "$TMPDIR/mnt"
    for name in dev proc sys; do mount --rbind "/$name" "$2/$name"; done
    mount --bind "$TMPDIR" "$2/mnt"
    now() { read -r up _ </proc/uptime; echo "${up%.*}${up#*.}0"; }
    rounds() {
        tool=$1; folder=$2
        start=$(now)
        for _ in $(seq "$count"); do
            $tool --mount --read-only "$folder/image.raw" "$folder/mnt"
            $tool --umount "$folder/mnt"
        done
        end=$(now)
        peak=$(time -q -f %M $tool --mount --read-only "$folder/image.raw" "$folder/mnt" 2>&1 | tail -n 1)
        $tool --umount "$folder/mnt"
        echo "TAKEN $((end - start)) $peak"
    }
    count=$4
    rounds "$1 dissect" "$TMPDIR"
    rounds "chroot $2 systemd-dissect" /mnt
"#;

impl Bench {
    pub(crate) fn mount(&mut self) -> Outcome<()> {
        let tree = self.scratch.join("small");
        if !tree.exists() {
            testimages::sample::system_tree(&tree, 40, crate::MIB)?;
        }
        let files = [
            (
                "10-root.conf",
                "Type=root\nFormat=erofs\nCopyFiles=/\nMinimize=best\nVerity=data\nVerityMatchKey=r\n"
                    .to_owned(),
            ),
            (
                "20-verity.conf",
                "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n".to_owned(),
            ),
        ];
        let definitions = self.definitions("mount", &files)?;
        let image = self.scratch.join("mount.raw");
        std::fs::remove_file(&image).ok();
        check(
            self.repart(false)
                .args(["--empty=create", "--size=auto", SEED])
                .arg(format!("--definitions={}", definitions.display()))
                .arg(format!("--copy-source={}", tree.display()))
                .arg(&image),
        )?;
        let rounds = ROUNDS.to_string();
        let path = |path: &std::path::Path| path.display().to_string();
        let command = [
            "sh".to_owned(),
            "-euc".to_owned(),
            SCRIPT.to_owned(),
            "sh".to_owned(),
            path(&self.ddi),
            path(&self.peer),
            path(&image),
            rounds,
        ];
        let outcome = Guest::Uml.run(&command);
        if outcome.end != End::Exited(0) {
            return Err(format!("in the guest: {:?}\n{}", outcome.end, outcome.output).into());
        }
        let mut taken = outcome.output.lines().filter_map(taken);
        let (ours, theirs) = (taken.next(), taken.next());
        self.add(Row {
            work: format!("loop, verity, mount, unmount, {ROUNDS} times"),
            against: "systemd-dissect, as root in UML",
            ours: ours.ok_or("the guest printed no figures")?,
            theirs: Some(theirs.ok_or("the guest printed no figures of systemd's")?),
            reach: ">= 1x",
            written: None,
        });
        Ok(())
    }
}

/// `TAKEN milliseconds KiB`.
fn taken(line: &str) -> Option<Taken> {
    let mut numbers = line.strip_prefix("TAKEN ")?.split(' ');
    let mut next = || numbers.next()?.parse::<f64>().ok();
    Some(Taken {
        seconds: next()? / 1000.0,
        peak_mib: next()? / 1024.0,
        written_mib: 0.0,
    })
}
