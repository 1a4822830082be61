//! Failures as errors of the interface, from the types of what failed. Pure.

use std::error::Error;
use std::io::{self, ErrorKind};

use image_specs::varlink::Fault;
use repart::build::session::SessionError;
use repart::build::target::TargetError;
use repart::plan::{ExitClass, PlanError};
use rustix::io::Errno;

use super::NAME;
use crate::exit::Failure;

/// Numbers with their names, for clients that know errors by them.
const NAMES: [(Errno, &str); 20] = [
    (Errno::ACCESS, "EACCES"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::BUSY, "EBUSY"),
    (Errno::EXIST, "EEXIST"),
    (Errno::FBIG, "EFBIG"),
    (Errno::INVAL, "EINVAL"),
    (Errno::IO, "EIO"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::LOOP, "ELOOP"),
    (Errno::MFILE, "EMFILE"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOENT, "ENOENT"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::NXIO, "ENXIO"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::PERM, "EPERM"),
    (Errno::ROFS, "EROFS"),
];

/// What a client is told of a run that failed.
pub(super) fn of(failure: &Failure) -> Fault {
    match failure.error.downcast_ref::<SessionError>() {
        Some(SessionError::Plan { source, .. }) => planned(source).unwrap_or_else(|| any(failure)),
        _ => any(failure),
    }
}

fn planned(error: &PlanError) -> Option<Fault> {
    let named = |name: &str| Fault::new(&format!("{NAME}.{name}"));
    match error {
        PlanError::NoSpace {
            minimal,
            emptied,
            wanted,
            current,
            ..
        } => {
            let sizes = |fault: Fault| {
                let fault = fault.with("minimalSizeBytes", minimal.get());
                fault.with("currentSizeBytes", current.get())
            };
            Some(match emptied > current {
                true => sizes(named("DiskTooSmall")),
                false => sizes(named("InsufficientFreeSpace")).with("needFreeBytes", wanted.get()),
            })
        }
        PlanError::CannotGrow { needed, .. } => {
            Some(named("InsufficientFreeSpace").with("needFreeBytes", needed.get()))
        }
        PlanError::Table(_) => Some(named("DiskTooSmall")),
        error if error.exit() == ExitClass::NotForUs => Some(named("ConflictingDiskLabelPresent")),
        _ => None,
    }
}

/// Everything else is an error number, as systemd has it, and words.
fn any(failure: &Failure) -> Fault {
    let number = number(failure.error.as_ref());
    let name = NAMES.iter().find(|(one, _)| *one == number);
    let mut fault = Fault::new("io.systemd.System")
        .with("origin", "linux")
        .with("errno", number.raw_os_error());
    if let Some((_, name)) = name {
        fault = fault.with("errnoName", *name);
    }
    fault.with("message", failure.chain().join(": "))
}

/// What the kernel said, if it is to blame; else that something was wrong with what was asked for.
fn number(error: &(dyn Error + 'static)) -> Errno {
    if let Some(SessionError::Target(TargetError::Missing(_))) = error.downcast_ref() {
        return Errno::NOENT;
    }
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<Errno>() {
            return *errno;
        }
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(of_io) {
            return errno;
        }
        next = error.source();
    }
    Errno::INVAL
}

fn of_io(error: &io::Error) -> Option<Errno> {
    let said = error.raw_os_error().map(Errno::from_raw_os_error);
    said.or(match error.kind() {
        ErrorKind::NotFound => Some(Errno::NOENT),
        ErrorKind::PermissionDenied => Some(Errno::ACCESS),
        ErrorKind::StorageFull => Some(Errno::NOSPC),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use image_specs::units::Bytes;

    use super::*;

    fn plan(source: PlanError) -> Failure {
        Failure::from(SessionError::Plan {
            disk: "/x".into(),
            source,
        })
    }

    fn no_space(emptied: u64) -> Failure {
        plan(PlanError::NoSpace {
            what: "a".to_owned(),
            needed: Bytes::new(1),
            largest: Bytes::new(2),
            missing: Bytes::new(3),
            minimal: Bytes::new(40),
            emptied: Bytes::new(emptied),
            wanted: Bytes::new(10),
            current: Bytes::new(20),
        })
    }

    #[test]
    fn failures_have_names_and_numbers() {
        let system = |errno: &str| format!("\"errnoName\":\"{errno}\"");
        let gone = TargetError::Missing("/x".into());
        for (failure, name, told) in [
            (
                no_space(20),
                "io.systemd.Repart.InsufficientFreeSpace",
                r#"{"minimalSizeBytes":40,"currentSizeBytes":20,"needFreeBytes":10}"#.to_owned(),
            ),
            (
                no_space(21),
                "io.systemd.Repart.DiskTooSmall",
                r#"{"minimalSizeBytes":40,"currentSizeBytes":20}"#.to_owned(),
            ),
            (
                plan(PlanError::NotEmpty),
                "io.systemd.Repart.ConflictingDiskLabelPresent",
                "{}".to_owned(),
            ),
            (
                plan(PlanError::Overlap {
                    first: 1,
                    second: 2,
                }),
                "io.systemd.System",
                system("EINVAL"),
            ),
            (
                Failure::from(SessionError::from(gone)),
                "io.systemd.System",
                system("ENOENT"),
            ),
            (
                Failure::from(io::Error::from(Errno::BUSY)),
                "io.systemd.System",
                system("EBUSY"),
            ),
            (
                Failure::message("so it is"),
                "io.systemd.System",
                "\"message\":\"so it is\"".to_owned(),
            ),
        ] {
            let fault = of(&failure);
            assert_eq!(fault.name, name);
            let text = serde_json::Value::from(fault.parameters).to_string();
            assert!(text.contains(&told), "{text}");
        }
    }
}
