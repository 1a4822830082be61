//! Comparing what two builds left: files, partition tables, contents of partitions.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockdev::copy::next_data;
use blockdev::table::{self, Label};
use blockdev::{Access, FileDevice};
use image_specs::gpt::Entry;
use image_specs::units::SectorSize;

use super::Outcome;

/// Bytes that are compared at a time.
const STEP: usize = 1 << 18;

/// Names of the files with a GUID partition table.
pub(crate) fn images(folder: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for (name, path) in files(folder)? {
        if has_table(&path)? {
            names.push(name);
        }
    }
    Ok(names)
}

/// Where two folders differ.
pub(crate) fn folders(ours: &Path, theirs: &Path, loose: bool) -> Outcome<Vec<String>> {
    let (ours, theirs) = (files(ours)?, files(theirs)?);
    let mut found = Vec::new();
    for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
        found.push(format!("  only we wrote {name}"));
    }
    for (name, theirs) in &theirs {
        let Some(ours) = ours.get(name) else {
            found.push(format!("  only systemd wrote {name}"));
            continue;
        };
        let differences = file(ours, theirs, loose)?;
        found.extend(
            differences
                .into_iter()
                .map(|line| format!("  {name}: {line}")),
        );
    }
    Ok(found)
}

/// Whether two files have the same bytes. What is a hole in both is not read.
pub(crate) fn same(ours: &Path, theirs: &Path) -> Outcome<bool> {
    let files = [fs::File::open(ours)?, fs::File::open(theirs)?];
    let size = files[0].metadata()?.len();
    if files[1].metadata()?.len() != size {
        return Ok(false);
    }
    let mut at = 0;
    let mut buffers = [vec![0; STEP], vec![0; STEP]];
    while at < size {
        let mut next = size;
        for file in &files {
            next = next.min(next_data(file, at, size)?.map_or(size, |data| data.start));
        }
        let length = usize::try_from(size - next).unwrap_or(usize::MAX).min(STEP);
        for (file, buffer) in files.iter().zip(&mut buffers) {
            file.read_exact_at(&mut buffer[..length], next)?;
        }
        if buffers[0][..length] != buffers[1][..length] {
            return Ok(false);
        }
        at = next + u64::try_from(length)?;
    }
    Ok(true)
}

/// Where two disks differ.
pub(crate) fn disks(ours: &Path, theirs: &Path) -> Outcome<Vec<String>> {
    file(ours, theirs, false)
}

/// Regular files, by path below the folder; the definitions are not among them.
fn files(folder: &Path) -> Outcome<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let path = entry.path();
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            match entry.file_type()? {
                kind if kind.is_dir() && name != "repart.d" => open.push(path),
                kind if kind.is_file() => {
                    found.insert(name, path);
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

fn has_table(path: &Path) -> Outcome<bool> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(8192).read_to_end(&mut start)?;
    Ok(start
        .chunks(512)
        .any(|sector| sector.starts_with(b"EFI PART")))
}

/// Bytes of the sectors that its table counts in.
fn sector_size(path: &Path) -> Outcome<u64> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(8192).read_to_end(&mut start)?;
    let has_header = |size: &u64| {
        let header = usize::try_from(*size).ok().and_then(|at| start.get(at..));
        header.is_some_and(|header| header.starts_with(b"EFI PART"))
    };
    let found = [512, 1024, 2048, 4096].into_iter().find(has_header);
    Ok(found.unwrap_or(512))
}

fn file(ours: &Path, theirs: &Path, loose: bool) -> Outcome<Vec<String>> {
    let (our_size, their_size) = (ours.metadata()?.len(), theirs.metadata()?.len());
    if our_size != their_size && !loose {
        return Ok(vec![format!("{our_size} bytes for {their_size}")]);
    }
    if our_size == their_size && same(ours, theirs)? {
        return Ok(Vec::new());
    }
    if has_table(ours)? && has_table(theirs)? {
        return tables(ours, theirs, loose);
    }
    if our_size < 8192 && their_size < 8192 && !loose {
        let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        return Ok(vec![format!("{:?} for {:?}", read(ours)?, read(theirs)?)]);
    }
    let whole = |path, size| Part {
        path,
        start: 0,
        size,
    };
    part(&whole(ours, our_size), &whole(theirs, their_size), loose)
}

/// A range of a file.
struct Part<'a> {
    path: &'a Path,
    start: u64,
    size: u64,
}

fn tables(ours: &Path, theirs: &Path, loose: bool) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    let (our_dump, their_dump) = (dump(ours)?, dump(theirs)?);
    if our_dump.len() != their_dump.len() {
        return Ok(vec![format!("{our_dump:#?} for {their_dump:#?}")]);
    }
    for (our_line, their_line) in our_dump.iter().zip(&their_dump) {
        if our_line != their_line && !loose {
            found.push(format!("{our_line} for {their_line}"));
        }
        let (Some(a), Some(b)) = (range(our_line), range(their_line)) else {
            continue;
        };
        let number = our_line.split(" : ").next().unwrap_or_default();
        let whole = |path, (start, size)| Part { path, start, size };
        for line in part(&whole(ours, a), &whole(theirs, b), loose)? {
            found.push(format!("partition {number}: {line}"));
        }
    }
    if found.is_empty() && !loose {
        found.extend(gaps(ours, theirs, &our_dump)?);
    }
    Ok(found)
}

/// The first MiB (tables, boot catalog) and the last sectors must be the same but for checksums, which
/// follow from the rest.
fn gaps(ours: &Path, theirs: &Path, dump: &[String]) -> Outcome<Vec<String>> {
    let first = dump
        .iter()
        .filter_map(|line| range(line))
        .map(|(start, _)| start)
        .min();
    let length = first.unwrap_or(20480).min(1 << 20);
    let read = |path: &Path| -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let (ours, theirs) = (read(ours)?, read(theirs)?);
    let differing: Vec<usize> = (0..ours.len().min(theirs.len()))
        .filter(|at| ours[*at] != theirs[*at])
        .collect();
    Ok(match differing.first() {
        None => Vec::new(),
        Some(first) => vec![format!(
            "{} bytes before the first partition, from {first} on: {:02x?} for {:02x?}",
            differing.len(),
            &ours[*first..(*first + 16).min(ours.len())],
            &theirs[*first..(*first + 16).min(theirs.len())]
        )],
    })
}

/// The lines of `sfdisk --dump`, with the image's own name left out.
fn dump(path: &Path) -> Outcome<Vec<String>> {
    let sector = sector_size(path)?;
    if sector != 512 {
        return listed(path, sector); // which sfdisk only sees on a device with such sectors
    }
    let output = Command::new("sfdisk").arg("--dump").arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    let name = path.to_string_lossy();
    Ok(text
        .lines()
        .filter(|line| !line.starts_with("device: "))
        .map(|line| match line.strip_prefix(&*name) {
            Some(rest) => format!("{rest} sector=512"),
            None => line.to_owned(),
        })
        .collect())
}

/// The same as our own reader sees it.
fn listed(path: &Path, sector: u64) -> Outcome<Vec<String>> {
    let size = SectorSize::new(sector).ok_or("no such sectors")?;
    let device = FileDevice::open(path, Access::ReadOnly, Some(size))?;
    let Label::Gpt(found) = table::read(&device)? else {
        return Err(format!("{}: no partition table", path.display()).into());
    };
    let line = |(slot, entry): (&u32, &Entry)| {
        format!(
            "{} : start= {}, size= {}, sector={sector} {entry:?}",
            slot + 1,
            entry.first.get(),
            entry.last.get() + 1 - entry.first.get()
        )
    };
    let mut lines = vec![format!("{} {:?}", found.table.disk_guid, found.other)];
    lines.extend(found.table.slots().iter().map(line));
    Ok(lines)
}

/// Start and size in bytes from a line of the dump.
fn range(line: &str) -> Option<(u64, u64)> {
    let number = |key: &str| {
        let rest = line.split_once(key)?.1.trim_start();
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..digits].parse::<u64>().ok()
    };
    let sector = number("sector=")?;
    Some((number("start=")? * sector, number("size=")? * sector))
}

fn part(ours: &Part<'_>, theirs: &Part<'_>, loose: bool) -> Outcome<Vec<String>> {
    if ours.size != theirs.size && !loose {
        return Ok(vec![format!("{} bytes for {}", ours.size, theirs.size)]);
    }
    let folder = tempfile::tempdir()?;
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    ours.cut(&a)?;
    theirs.cut(&b)?;
    if same(&a, &b)? {
        return Ok(Vec::new());
    }
    let (probed, their_probed) = (probe(&a)?, probe(&b)?);
    if probed != their_probed && !loose {
        return Ok(vec![format!("{probed:?} for {their_probed:?}")]);
    }
    match probed.get("TYPE").map(String::as_str) {
        Some("vfat") => {
            // docs/divergences.md: folders have the time of the source here.
            let unpack = "mcopy -s -p -m -i {} :: .; find . -type d -exec touch -d @0 '{}' +";
            listing(&a, &b, folder.path(), unpack)
        }
        Some(kind @ ("squashfs" | "erofs" | "ext4" | "btrfs" | "xfs")) => {
            // A log that was not replayed stays as it is.
            let options = match kind {
                "ext4" => "ro,loop,noload",
                "xfs" => "ro,loop,norecovery",
                _ => "ro,loop",
            };
            // docs/divergences.md: mke2fs gives no time to the root directory.
            let unpack = format!("mount -t {kind} -o {options} {{}} \"$PWD\" && cd \"$PWD\"");
            let mut found = listing(&a, &b, folder.path(), &unpack)?;
            found.retain(|line| kind != "ext4" || !line.contains(": . d"));
            Ok(found)
        }
        Some("crypto_LUKS") => volumes(&a, &b),
        // Hash trees and signatures follow from the data.
        _ if loose => Ok(Vec::new()),
        other => Ok(vec![format!("the bytes differ ({other:?})")]),
    }
}

impl Part<'_> {
    fn cut(&self, to: &Path) -> Outcome<()> {
        let script = r#"dd if="$0" of="$1" iflag=skip_bytes,count_bytes skip=$2 count=$3 bs=1M conv=sparse status=none && truncate -s $3 "$1""#;
        let status = Command::new("bash")
            .args(["-c", script])
            .arg(self.path)
            .arg(to)
            .args([self.start.to_string(), self.size.to_string()])
            .status()?;
        if !status.success() {
            return Err(format!("cannot cut {}", self.path.display()).into());
        }
        Ok(())
    }
}

/// Compares what can be compared of two encrypted volumes, whose keys are random: what their headers
/// say, and whether the empty passphrase opens them.
fn volumes(a: &Path, b: &Path) -> Outcome<Vec<String>> {
    let (ours, theirs) = (header(a)?, header(b)?);
    let differing = ours
        .iter()
        .zip(&theirs)
        .find(|(ours, theirs)| ours != theirs);
    Ok(match differing {
        Some((ours, theirs)) => vec![format!("{ours:?} for {theirs:?}")],
        None if ours.len() != theirs.len() => vec![format!("{ours:?} for {theirs:?}")],
        None => Vec::new(),
    })
}

/// The lines of a header that no random number is in, and whether the empty passphrase opens it.
fn header(volume: &Path) -> Outcome<Vec<String>> {
    const RANDOM: [&str; 6] = [
        "Epoch:",
        "Salt:",
        "Digest:",
        "Iterations:",
        "Threads:",
        "Memory:",
    ];
    let dump = Command::new("cryptsetup")
        .arg("luksDump")
        .arg(volume)
        .output()?;
    let text = String::from_utf8(dump.stdout)?;
    let is_hex = |line: &str| line.chars().all(|c| c == ' ' || c.is_ascii_hexdigit());
    // docs/divergences.md: the digest of a volume key is made otherwise.
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| *line != "Digests:");
    let kept =
        lines.filter(|line| !is_hex(line) && !RANDOM.iter().any(|key| line.starts_with(key)));
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    let opened = Command::new("cryptsetup")
        .args(["open", "--test-passphrase", "--key-file=/dev/null"])
        .arg(volume)
        .output()?;
    lines.push(format!("opens: {}", opened.status.success()));
    Ok(lines)
}

/// What blkid sees.
fn probe(path: &Path) -> Outcome<BTreeMap<String, String>> {
    let output = Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(path)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .filter(|(key, _)| !matches!(*key, "DEVNAME" | "FSSIZE" | "FSLASTBLOCK" | "UUID_SUB"))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Compares what a command unpacks into the current folder, or mounts there: names, modes, owners,
/// times, attributes, sums.
fn listing(a: &Path, b: &Path, folder: &Path, command: &str) -> Outcome<Vec<String>> {
    let list = |image: &Path, name: &str| -> Outcome<String> {
        let place = folder.join(name);
        fs::create_dir(&place)?;
        let unpack = command.replacen("{}", &image.to_string_lossy(), 1);
        let script = format!(
            "{{ {unpack}; }} >&2 || exit 1;\
             find . -path ./lost+found -prune -o -type d -printf '%p %M %U:%G %T@ %n\\n' \
                 -o -printf '%p %M %U:%G %T@ %l %s %n\\n' | sort; \
             find . -type f -exec sha256sum {{}} + | sort; \
             find . | sort | while read -r path; do getfattr -h -d -m - -e text \"$path\"; done | \
             sed /trusted.xfs:autofsck/d"
        );
        let output = Command::new("unshare")
            .args(["--mount", "bash", "-c", &script])
            .env("TZ", "UTC")
            .current_dir(&place)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{unpack}: {said}").into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (ours, theirs) = (list(a, "tree-a")?, list(b, "tree-b")?);
    let only = |whose: &'static str, some: &str, others: &str| -> Vec<String> {
        let missing = |line: &&str| !others.lines().any(|other| other == *line);
        let lines = some.lines().filter(missing);
        lines.map(|line| format!("only {whose}: {line}")).collect()
    };
    let mut differing = only("ours", &ours, &theirs);
    differing.extend(only("systemd's", &theirs, &ours));
    Ok(differing)
}
