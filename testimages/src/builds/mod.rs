//! Runs of repart to compare with those of the newest systemd-repart: definitions, commands and what
//! lies beside them. Text only; `peer_builds` runs them.

mod layouts;
mod table;

/// The seed that every run passes as `--seed=`, by `$D`.
pub const SEED: &str = "11111111-2222-3333-4444-555555555555";

/// One set of definitions and the commands to run with it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Names the folder it runs in.
    pub name: &'static str,
    /// Definition files and drop-ins below `repart.d`: path and text; an empty text stands for a link
    /// to `/dev/null`.
    pub files: &'static [(&'static str, &'static str)],
    /// Commands, in order. `@` is the folder of the scenario, `%` that of the shared inputs, `$D` the
    /// options for the definitions, the seed and JSON. One that begins with `!` is for a shell, others
    /// are arguments of repart.
    pub steps: &'static [&'static str],
    /// Environment of repart, as `NAME=value`.
    pub environment: &'static [&'static str],
    /// Whether sizes come from what mkfs programs make of the content, which differ by version.
    pub loose: bool,
}

impl Scenario {
    const fn new(
        name: &'static str,
        files: &'static [(&'static str, &'static str)],
        steps: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            files,
            steps,
            environment: &[],
            loose: false,
        }
    }

    const fn with_environment(mut self, environment: &'static [&'static str]) -> Self {
        self.environment = environment;
        self
    }

    const fn loose(mut self) -> Self {
        self.loose = true;
        self
    }
}

/// All of them.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = table::table();
    all.extend(layouts::layouts());
    all
}

/// A shell script that makes the shared inputs in the current folder.
pub const INPUTS: &str = r#"set -eu
umask 022
mkdir -p tree/usr/bin tree/usr/lib/extension-release.d tree/etc/extension-release.d tree/efi/EFI/BOOT
mkdir -p tree/etc/systemd tree/home/lennart tree/var/log tree/srv tree/opt/x tree/boot tree/run
printf 'ID=debian\nIMAGE_ID=ddi\nIMAGE_VERSION=7\nVERSION_ID=13\nBUILD_ID=b1\n' >tree/etc/os-release
printf '11112222333344445555666677778888\n' >tree/etc/machine-id
ln -sf ../../etc/os-release tree/usr/lib/os-release
printf 'ID=_any\n' >tree/usr/lib/extension-release.d/extension-release.disk
printf 'ID=_any\n' >tree/etc/extension-release.d/extension-release.disk
seq 1 20000 >tree/usr/bin/numbers
seq 1 300 >tree/efi/EFI/BOOT/BOOTX64.EFI
printf x >tree/efi/short
printf 'a long name' >"tree/efi/A rather long Name.with dots.txt"
printf '/dev/x /old ext4 defaults 0 0\n' >tree/etc/fstab
printf secret >tree/home/lennart/secret
printf log >tree/var/log/log
printf run >tree/run/gone
seq 1 600000 | head -c 3145728 >blocks
seq 1 90000 | head -c 66048 >odd
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=peer -days 3650 2>/dev/null
find tree -exec touch -h -d @1600000000 {} +
"#;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_commands_name_an_image() {
        let all = scenarios();
        let names: BTreeSet<_> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|scenario| !scenario.steps.is_empty()));
    }
}
