//! The fstab section that `--generate-fstab=` writes. Pure.
//!
//! The lines are those of systemd-repart, so that either tool replaces the other's section. One
//! difference is chosen: squashfs has no UUID of its own, so such a line names the partition's.

use uuid::Uuid;

use crate::definition::{Definition, Format, MountPoint};

const START: &str = "# Start section ↓ of automatically generated fstab by systemd-repart";
const END: &str = "# End section ↑ of automatically generated fstab by systemd-repart";

/// `--append-fstab=`: how an existing file is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Append {
    /// It must not exist.
    #[default]
    No,
    /// The section goes before what is there, in place of an earlier section.
    Auto,
    /// It is replaced.
    Replace,
}

/// A file system that may be mounted by the fstab.
#[derive(Clone, Debug)]
pub struct Mountable<'a> {
    /// What the partition was made from.
    pub definition: &'a Definition,
    /// UUID of the file system.
    pub file_system: Uuid,
    /// What `PARTUUID=` says of the partition, as far as it is known before the contents are.
    pub partition: Option<String>,
}

/// The file exists, and `--append-fstab=no` forbids to touch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it exists already; pass --append-fstab=auto to add to it or --append-fstab=replace to replace it"
)]
pub struct Exists;

/// The framed section for these file systems; `None` where none of them has a mount point.
pub fn section(mountables: &[Mountable<'_>]) -> Option<String> {
    let lines: Vec<String> = mountables
        .iter()
        .flat_map(|mountable| mountable.lines())
        .collect();
    (!lines.is_empty()).then(|| format!("{START}\n{}{END}\n", lines.concat()))
}

/// The new text of the file, from the section and what the file holds (`None`: it does not exist).
pub fn merge(section: &str, existing: Option<&str>, append: Append) -> Result<String, Exists> {
    match (existing, append) {
        (None, _) | (_, Append::Replace) => Ok(section.to_owned()),
        (Some(_), Append::No) => Err(Exists),
        (Some(text), Append::Auto) => Ok(format!("{section}{}", without_section(text))),
    }
}

/// The text less the lines from a start line to the next end line.
fn without_section(text: &str) -> String {
    let mut kept = String::new();
    let mut within = false;
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            START => within = true,
            END if within => within = false,
            _ if !within => kept.push_str(line),
            _ => {}
        }
    }
    // A section without an end is no section: nothing may be lost.
    if within { text.to_owned() } else { kept }
}

impl Mountable<'_> {
    fn lines(&self) -> Vec<String> {
        let Some(format) = &self.definition.format else {
            return Vec::new();
        };
        let point = |point: &MountPoint| self.line(format, point);
        self.definition.mount_points.iter().map(point).collect()
    }

    fn line(&self, format: &Format, point: &MountPoint) -> String {
        let mut options = self.base_options(format);
        if let Some(more) = point.options.as_deref().filter(|more| !more.is_empty()) {
            options.push(',');
            options.push_str(more);
        }
        let pass = if self.is_root() { 1 } else { 2 };
        let path = escape(&point.path);
        format!(
            "{} {path} {} {} 0 {pass}\n",
            self.what(format),
            format.name(),
            escape(&options)
        )
    }

    fn what(&self, format: &Format) -> String {
        match (format, &self.partition) {
            (Format::Vfat, _) => {
                let [a, b, c, d, ..] = *self.file_system.as_bytes();
                format!("UUID={a:02X}{b:02X}-{c:02X}{d:02X}")
            }
            // (A root hash that is still to come decides the UUIDs of a verity set.)
            (Format::Squashfs, Some(partition)) => format!("PARTUUID={partition}"),
            _ => format!("UUID={}", self.file_system),
        }
    }

    fn base_options(&self, format: &Format) -> String {
        use image_specs::partition::Designator::{Esp, Xbootldr};
        let boot = matches!(self.definition.kind.designator(), Some(Esp | Xbootldr));
        match format {
            Format::Vfat if boot => {
                "fmask=0177,dmask=0077,rw,nodev,nosuid,noexec,nosymfollow".to_owned()
            }
            Format::Btrfs | Format::F2fs | Format::Ext4 | Format::Vfat | Format::Xfs => {
                "discard,rw,nodev,suid,exec".to_owned()
            }
            _ => "rw,nodev,suid,exec".to_owned(),
        }
    }

    fn is_root(&self) -> bool {
        self.definition.kind.designator() == Some(image_specs::partition::Designator::Root)
    }
}

/// Octal escapes for what separates fields (fstab(5)).
fn escape(field: &str) -> String {
    field
        .replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
}

#[cfg(test)]
mod tests {
    use image_specs::arch::Architecture;
    use image_specs::partition::PartitionType;

    use super::*;

    #[test]
    fn an_old_section_is_replaced_and_the_rest_kept() {
        let old = format!("before\n{START}\nline\n{END}\nafter");
        let new = merge("S\n", Some(&old), Append::Auto).unwrap();
        assert_eq!(new, "S\nbefore\nafter");
        assert_eq!(merge("S\n", Some(&old), Append::Replace).unwrap(), "S\n");
        assert_eq!(merge("S\n", Some(&old), Append::No), Err(Exists));
        assert_eq!(merge("S\n", None, Append::No).unwrap(), "S\n");
    }

    #[test]
    fn a_section_without_end_loses_nothing() {
        let old = format!("before\n{START}\nline\n");
        assert_eq!(
            merge("S\n", Some(&old), Append::Auto).unwrap(),
            format!("S\n{old}")
        );
    }

    #[test]
    fn fields_are_escaped() {
        assert_eq!(escape("a b\\c"), "a\\040b\\134c");
    }

    #[test]
    fn squashfs_is_named_by_its_partition_once_that_has_a_name() {
        let kind = PartitionType::parse("root", Architecture::X86_64).unwrap();
        let mut definition = Definition::new(kind);
        definition.format = Some(Format::Squashfs);
        definition.mount_points = vec![MountPoint {
            path: "/".to_owned(),
            options: None,
        }];
        let line = |partition: Option<Uuid>| {
            let mountable = Mountable {
                definition: &definition,
                file_system: Uuid::from_u128(1),
                partition: partition.map(|uuid| uuid.to_string()),
            };
            section(&[mountable]).unwrap()
        };
        assert!(line(Some(Uuid::from_u128(2))).contains(
            "PARTUUID=00000000-0000-0000-0000-000000000002 / squashfs rw,nodev,suid,exec 0 1"
        ));
        assert!(line(None).contains("\nUUID=00000000-0000-0000-0000-000000000001 /"));
    }
}
