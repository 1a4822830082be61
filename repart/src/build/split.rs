//! Split artifacts: every partition of the image as a file of its own (`--split=`).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blockdev::{BlockDevice, DeviceError};
use image_specs::partition::{Designator, VerityRole};
use image_specs::specifier::{SpecifierError, SplitValues};
use image_specs::units::{Bytes, Extent};

use super::job::Job;
use crate::definition::SplitName;
use crate::plan::{Plan, PlannedPartition};

/// A partition and the file that is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The partition's slot, from 0.
    pub slot: u32,
    /// The file.
    pub path: PathBuf,
    extent: Extent,
    trim: bool,
}

/// Why an artifact cannot be written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SplitError {
    #[error("SplitName={name} of {file} is not a valid file name", file = file.display())]
    Name { name: String, file: PathBuf },
    #[error("two partitions would be split into {}; give them different SplitName=", .0.display())]
    Duplicate(PathBuf),
    #[error("{} exists already; remove it, or set SplitName=- to leave that partition out", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Specifier(#[from] SpecifierError),
    #[error(transparent)]
    Read(#[from] DeviceError),
}

/// The artifacts of an image at `image`, in list order. Pure.
pub fn artifacts(job: &Job, plan: &Plan, image: &Path) -> Result<Vec<Artifact>, SplitError> {
    let mut seen = BTreeSet::new();
    let mut artifacts = Vec::new();
    for partition in plan.listed() {
        let Some(definition) = partition.definition.map(|at| &job.definitions()[at]) else {
            continue;
        };
        let Some(slot) = partition.slot else { continue };
        let template = match &definition.split_name {
            SplitName::None => continue,
            SplitName::Default => "%t",
            SplitName::Template(template) => template,
        };
        let name = values(partition, slot).expand(template)?;
        let wrong = || SplitError::Name {
            name: name.clone(),
            file: definition.origin.path.clone().unwrap_or_default(),
        };
        if name.is_empty() || name.contains(['/', '\0']) || name.len() > 200 {
            return Err(wrong());
        }
        let path = beside(image, &name);
        if !seen.insert(path.clone()) {
            return Err(SplitError::Duplicate(path));
        }
        let role = partition
            .kind
            .designator()
            .and_then(Designator::verity_role);
        let trim = role == Some(VerityRole::Signature);
        artifacts.push(Artifact {
            slot,
            path,
            extent: partition.extent(),
            trim,
        });
    }
    Ok(artifacts)
}

fn values(partition: &PlannedPartition, slot: u32) -> SplitValues {
    SplitValues {
        type_name: partition.kind.to_string(),
        type_uuid: partition.kind.guid(),
        uuid: partition.uuid,
        number: slot,
    }
}

/// Writes the artifacts, each under a temporary name until it is whole.
pub fn write(artifacts: &[Artifact], device: &dyn BlockDevice) -> Result<(), SplitError> {
    if let Some(artifact) = artifacts.iter().find(|artifact| artifact.path.exists()) {
        return Err(SplitError::Exists(artifact.path.clone()));
    }
    artifacts
        .iter()
        .try_for_each(|artifact| artifact.write(device))
}

impl Artifact {
    fn write(&self, device: &dyn BlockDevice) -> Result<(), SplitError> {
        let failed = |source| SplitError::Write {
            path: self.path.clone(),
            source,
        };
        let folder = self.path.parent().filter(|folder| *folder != Path::new(""));
        let file = tempfile::Builder::new()
            .prefix(".#ddi")
            .permissions(permissions())
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(failed)?;
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        while done < self.extent.size.get() {
            let left = usize::try_from(self.extent.size.get() - done).unwrap_or(usize::MAX);
            let length = left.min(buffer.len());
            let chunk = &mut buffer[..length];
            device.read_exact_at(chunk, self.extent.start.saturating_add(Bytes::new(done)))?;
            let used = match self.trim {
                true => chunk
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1),
                false => length,
            };
            // Runs of zeros stay holes.
            for (number, block) in chunk[..used].chunks(4096).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    let at = done + u64::try_from(number * 4096).unwrap_or(0);
                    file.as_file().write_all_at(block, at).map_err(failed)?;
                }
            }
            done += u64::try_from(length).unwrap_or(u64::MAX);
        }
        if !self.trim {
            file.as_file()
                .set_len(self.extent.size.get())
                .map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(&self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(SplitError::Exists(self.path.clone()))
            }
            Err(error) => Err(failed(error.error)),
        }
    }
}

fn permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// `DIR/NAME.raw` → `DIR/NAME.SPLIT.raw`; without `.raw`, `DIR/NAME.SPLIT`.
fn beside(image: &Path, split: &str) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(".raw") {
        Some(stem) => image.with_file_name(format!("{stem}.{split}.raw")),
        None => image.with_file_name(format!("{name}.{split}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_lie_beside_the_image() {
        for (image, path) in [
            ("/x/os.raw", "/x/os.esp.raw"),
            ("os", "os.esp"),
            ("a.img", "a.img.esp"),
        ] {
            assert_eq!(beside(Path::new(image), "esp"), Path::new(path));
        }
    }
}
