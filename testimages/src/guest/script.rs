//! The shell script that a guest runs its command with.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::time::Duration;

use super::outcome::Marks;
use super::root::APPLETS;
use super::{SCRATCH, VARIABLE};

/// Folders of programs, some of which only root has in `PATH`.
pub(super) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// Lines that run `command` in the guest `name` with the environment and folder of this process.
/// What it prints stands between the lines of `marks`, which are alone with it on the console as
/// far as the kernel lets them be. A guest whose starter was killed ends itself soon after `limit`.
pub(super) fn command(name: &str, command: &[&OsStr], limit: Duration, marks: &Marks) -> String {
    let mut lines = environment();
    let folder = std::env::current_dir().expect("the current folder");
    let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
    let last = limit.as_secs() + 10;
    let Marks { begin, end } = marks;
    write!(
        lines,
        "export {VARIABLE}={name} TMPDIR={SCRATCH} PATH={SYSTEM_PATH}:\"$PATH\":{APPLETS}\n\
         (sleep {last}; busybox poweroff -f) >/dev/null &\n\
         cd {}\n\
         dmesg -n 1\n\
         echo '{begin}'\n\
         {} </dev/null 2>&1\n\
         status=$?\n\
         [ $status = 0 ] || log=$(dmesg | tail -n 60)\n\
         printf '\\n{end}%s\\n' $status\n\
         [ $status = 0 ] || printf 'The kernel log ends with:\\n%s\\n' \"$log\"\n",
        quote(folder.as_os_str()),
        words.join(" "),
    )
    .expect("text takes any text");
    lines
}

/// What is set here, as far as a shell can set it.
fn environment() -> String {
    let named = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let mut lines = String::new();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && named(name)
        {
            writeln!(lines, "export {name}={}", shell_words::quote(value))
                .expect("text takes any text");
        }
    }
    lines
}

fn quote(word: &OsStr) -> String {
    let word = word.to_str().expect("words for a guest are UTF-8");
    shell_words::quote(word).into_owned()
}
