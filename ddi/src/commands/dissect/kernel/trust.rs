//! Who may say that a root hash is signed: the kernel, and the certificates that are trusted here.

use std::fs;

use dissect::Rules;
use dissect::activate::Trust;
use image_specs::conf::boolean;

use crate::commands::dissect::{DissectArgs, environment, open};
use crate::exit::Failure;

/// The trust that options, environment and kernel command line make.
pub(super) fn trust(args: &DissectArgs, rules: &Rules) -> Result<Trust, Failure> {
    let signatures = environment::switch("SYSTEMD_DISSECT_VERITY_SIGNATURE")?;
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let userspace = signatures && rules.userspace_verity && allows_userspace(&line);
    Ok(Trust {
        kernel: signatures,
        userspace,
        certificates: match userspace {
            true => open::certificates(args)?,
            false => Vec::new(),
        },
    })
}

/// `systemd.allow_userspace_verity=` of the kernel command line; the last counts.
fn allows_userspace(line: &str) -> bool {
    let values = line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("systemd.allow_userspace_verity="));
    values
        .filter_map(|value| boolean(value).ok())
        .next_back()
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_command_line_can_forbid_it() {
        for (line, allowed) in [
            ("quiet", true),
            ("systemd.allow_userspace_verity=0 quiet\n", false),
            (
                "systemd.allow_userspace_verity=no systemd.allow_userspace_verity=1",
                true,
            ),
            ("rd.systemd.allow_userspace_verity=0", true),
            ("systemd.allow_userspace_verity=what", true),
        ] {
            assert_eq!(allows_userspace(line), allowed, "{line}");
        }
    }
}
