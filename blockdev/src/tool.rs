//! The external programs that may be started: one closed list, each found before work begins.
//!
//! A program gets a clean environment: `LC_ALL=C`, `TZ=UTC`, the `PATH` it was searched in, and what
//! the caller gives. Nothing else of ours reaches it, so its output does not depend on the user.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// Where programs of the system lie, whatever the user's `PATH` says.
const FIXED: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// How much of each output stream is kept.
const MAX_OUTPUT: usize = 1024 * 1024;

/// A program that may be started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
#[non_exhaustive]
pub enum Tool {
    MkfsExt2,
    MkfsExt3,
    MkfsExt4,
    Debugfs,
    Resize2fs,
    MkfsBtrfs,
    MkfsXfs,
    XfsDb,
    MkfsErofs,
    MkfsF2fs,
    SloadF2fs,
    Openssl,
    Fsck,
    /// `mkfs.NAME` of a file system that is not known here.
    OtherMkfs(FormatName),
}

/// The name of a file system format, fit to follow `mkfs.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatName(String);

/// The directories to search, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath(Vec<PathBuf>);

/// A program that was found.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    search: SearchPath,
}

/// A program with its arguments, not yet started.
#[derive(Debug)]
#[must_use]
pub struct Run {
    program: Program,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    input: Input,
    folder: Option<PathBuf>,
    accepted: Vec<i32>,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(File),
}

/// What a program that succeeded has said: at most 1 MiB of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A program is missing or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// It is not installed.
    #[error("{tool} is needed but not installed{}", hint(packages))]
    Missing {
        /// The program's name.
        tool: String,
        /// Where it comes from, if that is known.
        packages: Option<Packages>,
    },
    /// It could not be started, or not be talked to.
    #[error("cannot run {command}")]
    Io {
        /// The whole command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It said that it failed.
    #[error("{command} failed: {status}{}", said(stderr))]
    Failed {
        /// The whole command line.
        command: String,
        /// The exit status or signal.
        status: ExitStatus,
        /// What it wrote to standard error, else to standard output.
        stderr: String,
    },
}

/// The packages that bring a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub struct Packages {
    pub debian: &'static str,
    pub fedora: &'static str,
}

impl FormatName {
    /// Takes a name that can be part of a file name and no option.
    pub fn new(name: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let good = !name.is_empty() && name.len() <= 64 && name.bytes().all(fine);
        good.then(|| Self(name.to_owned()))
    }
}

impl Tool {
    /// The program that makes file systems of this format; `None` where `format` is no name for one.
    pub fn mkfs(format: &str) -> Option<Self> {
        Some(match format {
            "ext2" => Self::MkfsExt2,
            "ext3" => Self::MkfsExt3,
            "ext4" => Self::MkfsExt4,
            "btrfs" => Self::MkfsBtrfs,
            "xfs" => Self::MkfsXfs,
            "erofs" => Self::MkfsErofs,
            "f2fs" => Self::MkfsF2fs,
            other => Self::OtherMkfs(FormatName::new(other)?),
        })
    }

    /// The program's file name.
    pub fn name(&self) -> String {
        let name = match self {
            Self::MkfsExt2 => "mkfs.ext2",
            Self::MkfsExt3 => "mkfs.ext3",
            Self::MkfsExt4 => "mkfs.ext4",
            Self::Debugfs => "debugfs",
            Self::Resize2fs => "resize2fs",
            Self::MkfsBtrfs => "mkfs.btrfs",
            Self::MkfsXfs => "mkfs.xfs",
            Self::XfsDb => "xfs_db",
            Self::MkfsErofs => "mkfs.erofs",
            Self::MkfsF2fs => "mkfs.f2fs",
            Self::SloadF2fs => "sload.f2fs",
            Self::Openssl => "openssl",
            Self::Fsck => "fsck",
            Self::OtherMkfs(FormatName(format)) => return format!("mkfs.{format}"),
        };
        name.to_owned()
    }

    /// The packages that bring it, where they are known.
    pub fn packages(&self) -> Option<Packages> {
        let (debian, fedora) = match self {
            Self::MkfsExt2 | Self::MkfsExt3 | Self::MkfsExt4 | Self::Debugfs | Self::Resize2fs => {
                ("e2fsprogs", "e2fsprogs")
            }
            Self::MkfsBtrfs => ("btrfs-progs", "btrfs-progs"),
            Self::MkfsXfs | Self::XfsDb => ("xfsprogs", "xfsprogs"),
            Self::MkfsErofs => ("erofs-utils", "erofs-utils"),
            Self::MkfsF2fs | Self::SloadF2fs => ("f2fs-tools", "f2fs-tools"),
            Self::Openssl => ("openssl", "openssl"),
            Self::Fsck => ("util-linux", "util-linux"),
            Self::OtherMkfs(FormatName(format)) => match format.as_str() {
                "exfat" => ("exfatprogs", "exfatprogs"),
                "ntfs" => ("ntfs-3g", "ntfsprogs"),
                "bcachefs" => ("bcachefs-tools", "bcachefs-tools"),
                "minix" | "cramfs" | "bfs" => ("util-linux", "util-linux"),
                _ => return None,
            },
        };
        Some(Packages { debian, fedora })
    }

    /// Finds the program, or says which package to install.
    pub fn require(&self, search: &SearchPath) -> Result<Program, ToolError> {
        let name = self.name();
        let places = search.0.iter().map(|folder| folder.join(&name));
        let path = places.into_iter().find(|path| is_executable(path));
        path.map(|path| Program {
            path,
            search: search.clone(),
        })
        .ok_or_else(|| ToolError::Missing {
            tool: name,
            packages: self.packages(),
        })
    }
}

impl SearchPath {
    /// The absolute directories of a `PATH` (`None` for none), then the system's own.
    pub fn new(path: Option<&OsStr>) -> Self {
        let given = path.into_iter().flat_map(std::env::split_paths);
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in given.chain(FIXED.map(PathBuf::from)) {
            if folder.is_absolute() && !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self(folders)
    }

    fn join(&self) -> OsString {
        let mut joined = OsString::new();
        for folder in &self.0 {
            if !joined.is_empty() {
                joined.push(":");
            }
            joined.push(folder);
        }
        joined
    }
}

impl Program {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a command line.
    pub fn run(&self) -> Run {
        Run {
            program: self.clone(),
            arguments: Vec::new(),
            variables: Vec::new(),
            input: Input::Nothing,
            folder: None,
            accepted: vec![0],
        }
    }
}

impl Run {
    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(self, arguments: I) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let variable = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.variables.push(variable);
        self
    }

    /// Runs it in this directory.
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Gives it these bytes to read; without, it reads nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Gives it this file to read.
    pub fn stdin_file(mut self, file: File) -> Self {
        self.input = Input::File(file);
        self
    }

    /// Takes these exit statuses for success, too.
    pub fn accept(mut self, statuses: &[i32]) -> Self {
        self.accepted.extend(statuses);
        self
    }

    /// The command line as one would type it.
    pub fn command_line(&self) -> String {
        let mut line = quote(self.program.path.as_os_str());
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&quote(argument));
        }
        line
    }

    /// Runs the program to its end.
    pub fn output(mut self) -> Result<Output, ToolError> {
        let command = self.command_line();
        let failed = |source| ToolError::Io {
            command: command.clone(),
            source,
        };
        tracing::debug!(%command, "running");
        let input = std::mem::replace(&mut self.input, Input::Nothing);
        let (stdin, bytes) = match input {
            Input::Nothing => (Stdio::null(), None),
            Input::File(file) => (file.into(), None),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
        };
        let child = self.command().stdin(stdin).spawn().map_err(failed)?;
        let (status, output) = converse(child, bytes).map_err(failed)?;
        if status
            .code()
            .is_some_and(|code| self.accepted.contains(&code))
        {
            return Ok(output);
        }
        let said = match output.stderr.trim_ascii().is_empty() {
            true => output.stdout,
            false => output.stderr,
        };
        Err(ToolError::Failed {
            command,
            status,
            stderr: String::from_utf8_lossy(said.trim_ascii()).into_owned(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PATH", self.program.search.join())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

/// Feeds the child and collects what it says, all at once so that no pipe fills up.
fn converse(mut child: Child, input: Option<Vec<u8>>) -> io::Result<(ExitStatus, Output)> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (stdout, stderr) = thread::scope(|scope| {
        let feeder = stdin.zip(input).map(|(mut pipe, bytes)| {
            // A program that stops reading says why in its own words.
            scope.spawn(move || drop(pipe.write_all(&bytes)))
        });
        let errors = scope.spawn(move || collect(stderr));
        let stdout = collect(stdout);
        drop(feeder);
        let stderr = errors.join().unwrap_or_else(|_| Ok(Vec::new()));
        (stdout, stderr)
    });
    let status = child.wait()?;
    let output = Output {
        stdout: stdout?,
        stderr: stderr?,
    };
    Ok((status, output))
}

/// Reads to the end and keeps the first part.
fn collect(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        let limit = u64::try_from(MAX_OUTPUT).unwrap_or(u64::MAX);
        pipe.by_ref().take(limit).read_to_end(&mut kept)?;
        io::copy(&mut pipe, &mut io::sink())?;
    }
    Ok(kept)
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn quote(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn hint(packages: &Option<Packages>) -> String {
    match packages {
        Some(Packages { debian, fedora }) if debian == fedora => {
            format!("; install the package {debian}")
        }
        Some(Packages { debian, fedora }) => {
            format!("; install the package {debian} (Fedora: {fedora})")
        }
        None => String::new(),
    }
}

fn said(stderr: &str) -> String {
    match stderr.is_empty() {
        true => String::new(),
        false => format!("\n{stderr}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// One test at a time: a script cannot start while a child of another test, just forked, still
    /// has it open for writing.
    static FORKING: Mutex<()> = Mutex::new(());

    struct Script(
        #[expect(dead_code)] tempfile::TempDir,
        #[expect(dead_code)] MutexGuard<'static, ()>,
    );

    /// A folder with a script that is found as `openssl`.
    fn scripted(script: &str) -> (Script, Program) {
        let alone = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openssl");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let search = SearchPath::new(Some(folder.path().as_os_str()));
        let program = Tool::Openssl.require(&search).unwrap();
        assert_eq!(program.path(), path);
        (Script(folder, alone), program)
    }

    #[test]
    fn the_environment_is_clean() {
        let (_script, program) = scripted("env | cut -d= -f1 | sort");
        let output = program.run().env("X", "1").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // dash adds PWD.
        assert_eq!(text, "LC_ALL\nPATH\nPWD\nTZ\nX\n");
    }

    #[test]
    fn failures_carry_command_status_and_words() {
        let (_script, program) = scripted("echo bad key >&2; exit 3");
        let error = program.run().arg("a b").arg("it's").output().unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/openssl 'a b' 'it'\\''s' failed: exit status: 3\nbad key"),
            "{text}"
        );
        assert!(program.run().accept(&[3]).output().is_ok());
    }

    #[test]
    fn much_input_and_output_do_not_block() {
        let (script, program) = scripted("cat; cat /dev/zero | head -c 3000000 >&2");
        let input = vec![b'x'; 3_000_000];
        let output = program.run().stdin(input.clone()).output().unwrap();
        assert_eq!(output.stdout, input[..MAX_OUTPUT]);
        assert_eq!(output.stderr.len(), MAX_OUTPUT);
        drop(script);
        let (_script, deaf) = scripted("exit 0");
        deaf.run().stdin(input).output().unwrap();
    }

    #[test]
    fn missing_tools_name_their_package() {
        let nowhere = SearchPath(vec![PathBuf::from("/nonexistent")]);
        for (format, message) in [
            (
                "xfs",
                "mkfs.xfs is needed but not installed; install the package xfsprogs",
            ),
            (
                "ntfs",
                "mkfs.ntfs is needed but not installed; install the package ntfs-3g (Fedora: ntfsprogs)",
            ),
            ("weird", "mkfs.weird is needed but not installed"),
        ] {
            let error = Tool::mkfs(format).unwrap().require(&nowhere).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        for bad in ["", "a/b", "a b", "a\0"] {
            assert_eq!(Tool::mkfs(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn relative_directories_are_not_searched() {
        let search = SearchPath::new(Some(OsStr::new("bin::/opt/x:/usr/bin")));
        assert_eq!(
            search.0[..2],
            [PathBuf::from("/opt/x"), PathBuf::from("/usr/bin")]
        );
        assert_eq!(search.0.len(), 1 + FIXED.len());
    }
}
