//! Real kernels for tests: a test says in one line which guest it needs, and its body runs there.
//!
//! ```no_run
//! # #[allow(clippy::test_attr_in_doctest)]
//! #[test]
//! fn a_mapped_device_is_read() {
//!     testimages::in_guest!(Uml);
//!     // From here on as root of a kernel with device-mapper, one test to a boot.
//! }
//! ```
//!
//! Outside, [`in_guest!`](crate::in_guest) starts the running test executable again in the guest,
//! with this test alone, shows what it printed, and fails unless it passed there. Inside, it does
//! nothing. What the guests offer stands with [`Guest`].
//!
//! A guest that hangs is killed after a limit, a kernel that panics ends at once; both fail with the
//! console's text. No more guests run at once than there are processors.

pub mod appliance;
mod cpio;
mod disk;
mod efi_variables;
mod outcome;
mod process;
mod qemu;
mod root;
mod script;
mod secure_boot;
mod slot;
mod tpm;
mod uml;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use outcome::{End, Outcome};

/// Tells a process which guest it runs in.
const VARIABLE: &str = "DDI_GUEST";

/// Where the guest's scratch file system is mounted (ext4, some GiB); `TMPDIR` names it, too.
pub const SCRATCH: &str = "/run/ddi-test";

/// A kernel to run tests in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// User Mode Linux: a kernel as a process, two seconds to boot, as root or as an ordinary
    /// user.
    ///
    /// It has device-mapper (verity, crypt, integrity, linear, flakey, log-writes, snapshot), loop
    /// devices, vfat, squashfs, erofs, overlay, ext4, btrfs (no RAID 6), xfs, iso9660; no root hash
    /// signatures, error correction, fs-verity, TPM or UEFI, and no udev. One processor.
    ///
    /// Its root is the host's file tree with the rights of whoever runs the tests, so built
    /// programs and packages are where they are. That tree has neither extended attributes nor
    /// `fallocate`, and loop devices on it are slow: images belong into [`SCRATCH`].
    Uml,
    /// An emulated PC with Debian's cloud kernel, ten seconds to boot, as root or as an ordinary
    /// user.
    ///
    /// Besides what User Mode Linux has there are root hash signatures and error correction for
    /// dm-verity, and fs-verity. Two processors. With [`Machine::secure_boot`] there is a key whose
    /// root hash signatures it accepts, with [`Machine::tpm`] a TPM 2.0.
    ///
    /// Its root is in memory and holds the test executable, busybox, and what [`Machine::with`]
    /// hands over.
    Qemu,
}

impl Guest {
    /// The guest with `limit` as its longest life, from start to power-off.
    pub fn limit(self, limit: Duration) -> Machine {
        Machine {
            limit,
            ..Machine::from(self)
        }
    }

    /// The guest with these files in it; see [`Machine::with`].
    pub fn with<P: AsRef<Path>>(self, files: &[P]) -> Machine {
        Machine::from(self).with(files)
    }

    /// Runs `command` there; see [`Machine::run`].
    pub fn run<S: AsRef<OsStr>>(self, command: &[S]) -> Outcome {
        Machine::from(self).run(command)
    }

    /// Whether this process runs in such a guest.
    pub fn is_here(self) -> bool {
        std::env::var_os(VARIABLE).is_some_and(|name| name == self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Qemu => "qemu",
        }
    }

    fn default_limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Uml => 120,
            Self::Qemu => 300,
        })
    }
}

/// A guest and how it is to be started.
#[derive(Debug, Clone)]
pub struct Machine {
    guest: Guest,
    limit: Duration,
    files: Vec<PathBuf>,
    secure_boot: bool,
    tpm: bool,
}

impl From<Guest> for Machine {
    fn from(guest: Guest) -> Self {
        Self {
            guest,
            limit: guest.default_limit(),
            files: Vec::new(),
            secure_boot: false,
            tpm: false,
        }
    }
}

impl Machine {
    /// The longest life of the guest, from start to power-off.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Hands over programs (by name or path, with their libraries), files and folders. They lie in
    /// the guest where they lie here. User Mode Linux has them anyway.
    #[must_use]
    pub fn with<P: AsRef<Path>>(mut self, files: &[P]) -> Self {
        let files = files.iter().map(|path| path.as_ref().to_owned());
        self.files.extend(files);
        self
    }

    /// Starts through UEFI firmware with Secure Boot, a minute rather than ten seconds. The kernel
    /// trusts the certificate of [`trusted`] for root hash signatures, and is locked down. Only for
    /// [`Guest::Qemu`].
    ///
    /// # Panics
    ///
    /// If this is another guest.
    #[must_use]
    pub fn secure_boot(self) -> Self {
        assert_eq!(self.guest, Guest::Qemu, "only QEMU has firmware");
        Self {
            secure_boot: true,
            ..self
        }
    }

    /// Puts a new TPM 2.0 in. Only for [`Guest::Qemu`].
    ///
    /// # Panics
    ///
    /// If this is another guest.
    #[must_use]
    pub fn tpm(self) -> Self {
        assert_eq!(self.guest, Guest::Qemu, "only QEMU has a TPM");
        Self { tpm: true, ..self }
    }

    /// Boots the guest, runs `command` (program and arguments) as root in the current folder and
    /// with the current environment, and powers it off.
    ///
    /// Waits for its turn first. Panics, which fails the test, if the guest cannot be started at
    /// all: that is a missing package.
    pub fn run<S: AsRef<OsStr>>(&self, command: &[S]) -> Outcome {
        let command: Vec<&OsStr> = command.iter().map(AsRef::as_ref).collect();
        let _turn = slot::wait();
        match self.guest {
            Guest::Uml => uml::run(self, &command),
            Guest::Qemu => qemu::run(self, &command),
        }
    }

    /// Runs the test `name` (as `--list` shows it) of this executable, and it alone.
    pub fn run_test(&self, name: &str) -> Outcome {
        let executable = std::env::current_exe().expect("the path of this executable");
        let arguments = ["--exact", name, "--nocapture", "--test-threads=1"];
        let mut command = vec![executable.as_os_str()];
        command.extend(arguments.map(OsStr::new));
        self.run(&command)
    }
}

/// Whether the test in which `marker` is declared runs in its guest. If not, runs it there and
/// fails unless it passes. The work of [`in_guest!`](crate::in_guest).
pub fn within(machine: impl Into<Machine>, marker: &str) -> bool {
    let machine = machine.into();
    if machine.guest.is_here() {
        return true;
    }
    let outer = std::env::var(VARIABLE);
    assert!(outer.is_err(), "a guest cannot be started within {outer:?}");
    let outcome = machine.run_test(&test_name(marker));
    println!("{}", outcome.output);
    outcome.assert_test_passed();
    false
}

/// The key whose signatures the kernel of a guest with [`Machine::secure_boot`] accepts, and its
/// certificate (both PEM): where they lie here, be that in the guest or outside.
pub fn trusted() -> (PathBuf, PathBuf) {
    qemu::trusted()
}

/// `name` of `crate::name::marker`: what the test harness calls the function around the marker.
pub fn test_name(marker: &str) -> String {
    let path: Vec<&str> = marker.split("::").collect();
    match path.as_slice() {
        [_crate, name @ .., _marker] => name.join("::"),
        _ => String::new(),
    }
}

/// The first line of a test that needs a kernel of its own: `in_guest!(Uml)`, or an expression
/// like `in_guest!(Guest::Uml.limit(seconds))`.
#[macro_export]
macro_rules! in_guest {
    ($guest:ident) => {
        $crate::in_guest!($crate::guest::Guest::$guest)
    };
    ($machine:expr) => {
        fn here() {}
        if !$crate::guest::within($machine, std::any::type_name_of_val(&here)) {
            return;
        }
    };
}
