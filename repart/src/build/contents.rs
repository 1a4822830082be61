//! What goes into a new file system: the tree that a definition's keys describe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use filetree::collect::{self, CollectError, Copy, Notice, Owner, Rules};
use filetree::{Content, Inode, Kind, Metadata, Name, Timestamp, Tree};
use image_specs::partition::Designator;
use image_specs::units::Bytes;

use super::job::Job;
use crate::definition::{Definition, Format};
use crate::plan::{Fate, Plan, PlannedPartition};

/// A file that is to be in images although it is written to its place only at the end.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Absolute path in the copy source.
    pub path: PathBuf,
    /// The text.
    pub text: String,
}

/// Collects the contents of the partition at `index` of the plan.
pub fn collect(
    job: &Job,
    plan: &Plan,
    index: usize,
    overlays: &[&Overlay],
) -> Result<(Tree, Vec<String>), CollectError> {
    let partition = &plan.partitions[index];
    let Some(definition) = partition.definition.map(|at| &job.definitions()[at]) else {
        return Ok((Tree::new(Metadata::default()), Vec::new()));
    };
    let definition = &with_supplement(job, plan, definition, partition.definition);
    let rules = rules(
        job,
        definition,
        validate_xattrs(plan, partition, definition),
    );
    let mut collected = collect::collect(&rules)?;
    for overlay in overlays {
        lay_over(&mut collected.tree, &rules, overlay);
    }
    let mut notices: Vec<String> = collected.notices.iter().map(Notice::to_string).collect();
    if definition.format == Some(Format::Vfat) {
        let left_out = collect::keep_only(&mut collected.tree, collect::Holds::FILES_ONLY);
        notices.extend(left_out.iter().map(Notice::to_string));
    }
    if definition.format == Some(Format::Squashfs) {
        notices.extend(without_foreign_xattrs(&mut collected.tree));
    }
    Ok((collected.tree, notices))
}

/// Takes out what squashfs has no name for, ACLs above all, as mksquashfs does.
fn without_foreign_xattrs(tree: &mut Tree) -> Option<String> {
    let mut files = 0;
    for id in tree.ids() {
        let xattrs = &mut tree.inode_mut(id).metadata.xattrs;
        let before = xattrs.len();
        xattrs.retain(|name, _| {
            [&b"user."[..], b"trusted.", b"security."]
                .iter()
                .any(|known| name.starts_with(known))
        });
        files += usize::from(xattrs.len() < before);
    }
    (files > 0).then(|| {
        format!("leaving out ACLs (or other system attributes) of {files} files, which squashfs cannot hold")
    })
}

/// The definition with what a merged supplement adds.
fn with_supplement(
    job: &Job,
    plan: &Plan,
    definition: &Definition,
    at: Option<usize>,
) -> Definition {
    let supplement = at.and_then(|at| job.wanted.supplement_of(at));
    let merged = plan.partitions.iter().any(|partition| {
        partition.definition.is_some()
            && partition.definition == supplement
            && matches!(partition.fate, Fate::Merged(_))
    });
    match at.filter(|_| merged).and_then(|at| job.wanted.merged(at)) {
        Some(merged) => merged,
        None => definition.clone(),
    }
}

fn rules(job: &Job, definition: &Definition, root_xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Rules {
    let populate = &definition.populate;
    let paths = |list: &[String]| list.iter().map(PathBuf::from).collect();
    let copy = |copy: &crate::definition::CopyFiles| Copy {
        source: PathBuf::from(&copy.source),
        target: PathBuf::from(&copy.target),
    };
    let time = |seconds| Timestamp {
        seconds,
        nanoseconds: 0,
    };
    Rules {
        base: job
            .copy_source
            .clone()
            .unwrap_or_else(|| PathBuf::from("/")),
        copies: populate.copy_files.iter().map(copy).collect(),
        exclude_sources: paths(&populate.exclude_sources),
        exclude_targets: paths(&populate.exclude_targets),
        mount_points: sibling_mount_points(job, definition),
        directories: paths(&populate.directories),
        symlinks: populate
            .symlinks
            .iter()
            .map(|link| (PathBuf::from(&link.path), link.target.clone().into()))
            .collect(),
        root_xattrs,
        owner: Owner::Keep,
        created: time(job.environment.time()),
        latest: job.environment.epoch.map(time),
    }
}

/// Where the other partitions of the set will be mounted, for a root partition.
fn sibling_mount_points(job: &Job, definition: &Definition) -> Vec<PathBuf> {
    if definition.kind.designator() != Some(Designator::Root) {
        return Vec::new();
    }
    let others = job
        .definitions()
        .iter()
        .filter_map(|other| other.kind.designator());
    let others = others.filter(|designator| *designator != Designator::Root);
    others
        .flat_map(|designator| designator.mount_points())
        .map(PathBuf::from)
        .collect()
}

/// The extended attributes by which a mount is checked against its partition.
fn validate_xattrs(
    plan: &Plan,
    partition: &PlannedPartition,
    definition: &Definition,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    if !definition.add_validate_fs {
        return BTreeMap::new();
    }
    let siblings = partition.verity;
    let family: Vec<&PlannedPartition> = [siblings.data, siblings.hash, siblings.signature]
        .into_iter()
        .flatten()
        .map(|index| &plan.partitions[index])
        .chain([partition])
        .collect();
    let labels = family.iter().map(|member| member.label.clone()).collect();
    let kinds = family
        .iter()
        .map(|member| member.kind.guid().to_string())
        .collect();
    let points = match definition.mount_points.as_slice() {
        [] => partition
            .kind
            .designator()
            .map_or(&[][..], Designator::mount_points)
            .iter()
            .map(|point| (*point).to_owned())
            .collect(),
        points => points.iter().map(|point| point.path.clone()).collect(),
    };
    [
        ("gpt_label", sorted(labels)),
        ("gpt_type_uuid", sorted(kinds)),
        // In the order of the definition, as systemd writes them.
        ("mount_point", points),
    ]
    .into_iter()
    .filter_map(|(name, values)| {
        Some((
            format!("user.validatefs.{name}").into_bytes(),
            joined(&values)?,
        ))
    })
    .collect()
}

/// Bytes of all files' data, less their holes.
pub(super) fn allocated(tree: &Tree) -> Bytes {
    let data = tree.ids().filter_map(|id| match &tree.inode(id).kind {
        Kind::File(content) => Some(content.data()),
        _ => None,
    });
    let sizes = data
        .flatten()
        .map(|range| Bytes::new(range.end.saturating_sub(range.start)));
    sizes.fold(Bytes::ZERO, Bytes::saturating_add)
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values.dedup();
    values
}

/// Each followed by a NUL; `None` for none.
fn joined(values: &[String]) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.bytes().chain([0]))
        .collect();
    (!bytes.is_empty()).then_some(bytes)
}

/// Puts the overlay's file wherever a copy rule would have brought it.
fn lay_over(tree: &mut Tree, rules: &Rules, overlay: &Overlay) {
    for copy in &rules.copies {
        let Ok(rest) = overlay.path.strip_prefix(&copy.source) else {
            continue;
        };
        let target = if rest == Path::new("") {
            copy.target.clone()
        } else {
            copy.target.join(rest)
        };
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            continue;
        };
        let folder = tree.lookup(folder.as_os_str().as_encoded_bytes());
        let (Some(folder), Ok(name)) = (folder, Name::new(name.as_encoded_bytes())) else {
            continue;
        };
        let metadata = Metadata {
            mode: 0o644,
            mtime: rules.created,
            ..Metadata::default()
        };
        let kind = Kind::File(Content::from_bytes(overlay.text.clone().into_bytes()));
        let file = tree.add(Inode { metadata, kind });
        tree.link(folder, name, file);
    }
}
