//! The units that set volumes up at boot: from tables and from the kernel's command line.
//!
//! The text is systemd's own, so that its targets and templates fit. Invariant: every path is relative
//! and without `..`, whatever the table says. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Table, Units, Volume, device_path, is_volume_name};
use crate::conf::boolean;

/// Unit files and links, by path below the generator's directory.
pub type Files = BTreeMap<String, Item>;

/// A unit file or a link to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A file with this text.
    File(String),
    /// A link to this path.
    Link(String),
}

/// What the kernel's command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    off: bool,
    no_table: bool,
    volumes: BTreeMap<String, Wanted>,
}

/// A volume of the command line, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    data: Option<String>,
    hash: Option<String>,
    root: Option<String>,
    options: Option<String>,
}

/// A volume of the command line cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SettingsError {
    #[error("the kernel's command line has {0:?}, which is no root hash in hex")]
    RootHash(String),
    #[error(
        "the kernel's command line tells of a verity volume {0} without a root hash; add {0}hash="
    )]
    NoRootHash(String),
    #[error(
        "the root hash of {0} on the kernel's command line is shorter than 32 digits, so that it names no partitions; \
         add systemd.verity_{0}_data= and systemd.verity_{0}_hash="
    )]
    NoDevices(String),
}

/// Where a table is, and who runs the volumes of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Which table.
    pub table: Table,
    /// Its path.
    pub path: &'a str,
}

impl Settings {
    /// Reads the words of a command line. In an initrd, those with `rd.` before them count as well.
    pub fn parse<'a>(
        words: impl Iterator<Item = &'a str>,
        initrd: bool,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for word in words {
            let word = match word.strip_prefix("rd.") {
                Some(word) if initrd => word,
                Some(_) => continue,
                None => word,
            };
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (word, None),
            };
            settings.take(&key.replace('-', "_"), value)?;
        }
        Ok(settings)
    }

    /// Whether no volumes are set up at all.
    pub const fn is_off(&self) -> bool {
        self.off
    }

    /// Whether the table counts.
    pub const fn reads_table(&self) -> bool {
        !self.no_table
    }

    fn take(&mut self, key: &str, value: Option<&str>) -> Result<(), SettingsError> {
        let switch = |before| value.map_or(Ok(true), boolean).unwrap_or(before);
        match (key, value) {
            ("systemd.verity", _) => self.off = !switch(!self.off),
            ("veritytab", _) => self.no_table = !switch(!self.no_table),
            ("roothash", Some(value)) => self.root_hash("root", value)?,
            ("usrhash", Some(value)) => self.root_hash("usr", value)?,
            (key, Some(value)) => self.part(key, value),
            _ => {}
        }
        Ok(())
    }

    fn root_hash(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        hex::decode(value).map_err(|_| SettingsError::RootHash(value.to_owned()))?;
        self.volume(name).root = Some(value.to_owned());
        Ok(())
    }

    /// `systemd.verity_root_data=` and its like.
    fn part(&mut self, key: &str, value: &str) {
        let Some(rest) = key.strip_prefix("systemd.verity_") else {
            return;
        };
        let split = rest.split_once('_');
        let Some((name @ ("root" | "usr"), part)) = split else {
            return;
        };
        let volume = self.volume(name);
        match part {
            "data" => volume.data = Some(device_path(value)),
            "hash" => volume.hash = Some(device_path(value)),
            "options" => volume.options = Some(value.to_owned()),
            _ => {}
        }
    }

    fn volume(&mut self, name: &str) -> &mut Wanted {
        self.volumes.entry(name.to_owned()).or_default()
    }

    /// Units for the volumes of the command line.
    pub fn units(&self, files: &mut Files) -> Result<(), SettingsError> {
        for (name, wanted) in self.volumes.iter().filter(|_| !self.off) {
            // Options alone are no volume.
            if wanted.root.is_none() && wanted.data.is_none() && wanted.hash.is_none() {
                continue;
            }
            let root = wanted.root.as_deref();
            let root = root.ok_or_else(|| SettingsError::NoRootHash(name.clone()))?;
            let digits: Vec<char> = root.to_ascii_lowercase().chars().collect();
            let named = |digits: Option<&[char]>| digits.and_then(partition);
            let first = named(digits.first_chunk::<32>().map(|chunk| &chunk[..]));
            let last = named(digits.last_chunk::<32>().map(|chunk| &chunk[..]));
            let none = || SettingsError::NoDevices(name.clone());
            let data = wanted.data.clone().or(first).ok_or_else(none)?;
            let hash = wanted.hash.clone().or(last).ok_or_else(none)?;
            let options = wanted.options.as_deref().unwrap_or_default();
            let mut text = head(Table::Verity, "/proc/cmdline");
            text += "Before=veritysetup.target\n";
            requirements(&mut text, &[&data, &hash], true);
            service(
                &mut text,
                Table::Verity,
                &[name, &data, &hash, root, options],
            );
            let unit = unit(Table::Verity, name);
            files.insert(unit.clone(), Item::File(text));
            files.insert(
                format!("veritysetup.target.requires/{unit}"),
                Item::Link(format!("../{unit}")),
            );
        }
        Ok(())
    }
}

/// The path of the partition whose UUID 32 digits of a root hash are.
fn partition(digits: &[char]) -> Option<String> {
    let text: String = digits.iter().collect();
    let uuid = uuid::Uuid::try_parse(&text).ok()?;
    Some(format!("/dev/disk/by-partuuid/{uuid}"))
}

impl Source<'_> {
    /// Units for a volume of the table.
    pub fn units(&self, volume: &Volume, files: &mut Files) {
        if !is_volume_name(&volume.name) {
            return;
        }
        let options = volume.options.as_ref().map(|(_, text)| text.as_str());
        let units = Units::parse(options.unwrap_or_default());
        let kind = kind(self.table);
        let place = if units.network {
            format!("remote-{kind}")
        } else {
            kind.to_owned()
        };
        let target = format!("{place}.target");
        let text = self.text(volume, units, &target, options);
        let unit = unit(self.table, &volume.name);
        files.insert(unit.clone(), Item::File(text));
        let link = Item::Link(format!("../{unit}"));
        if !units.no_auto {
            let how = if units.no_fail { "wants" } else { "requires" };
            files.insert(format!("{target}.{how}/{unit}"), link.clone());
        }
        let device = escape_path(&format!("/dev/mapper/{}", volume.name));
        files.insert(format!("{device}.device.requires/{unit}"), link);
    }

    fn text(&self, volume: &Volume, units: Units, target: &str, options: Option<&str>) -> String {
        let field = |number: usize| volume.fields.get(number).map_or("", String::as_str);
        let mut text = head(self.table, self.path);
        let first = device_path(field(0));
        let network = |text: &mut String| {
            *text += if units.network {
                "After=remote-fs-pre.target\n"
            } else {
                ""
            };
        };
        let awaited = |text: &mut String| {
            if !units.no_fail {
                *text += &format!("Before={target}\n");
            }
        };
        match self.table {
            Table::Verity => {
                let hash = device_path(field(1));
                network(&mut text);
                if !units.initrd {
                    text += "Conflicts=umount.target\nBefore=umount.target\n";
                }
                awaited(&mut text);
                requirements(&mut text, &[&first, &hash], false);
                let options = options.unwrap_or_default();
                let words = [&volume.name, &*first, &hash, field(2), options];
                service(&mut text, self.table, &words);
            }
            Table::Integrity => {
                if !units.initrd {
                    text += "Conflicts=umount.target\n";
                }
                requirements(&mut text, &[&first], false);
                if !units.initrd {
                    text += "Before=umount.target\n";
                }
                network(&mut text);
                awaited(&mut text);
                let key = match field(1) {
                    "" => "-",
                    key => key,
                };
                let words = [&volume.name, &*first, key, options.unwrap_or("-")];
                service(&mut text, self.table, &words);
            }
        }
        text
    }
}

const fn kind(table: Table) -> &'static str {
    match table {
        Table::Verity => "veritysetup",
        Table::Integrity => "integritysetup",
    }
}

fn unit(table: Table, name: &str) -> String {
    format!("systemd-{}@{}.service", kind(table), escape(name))
}

fn head(table: Table, source: &str) -> String {
    let kind = kind(table);
    let (what, tab) = match table {
        Table::Verity => ("Integrity Protection Setup", "veritytab"),
        Table::Integrity => ("Integrity Setup", "integritytab"),
    };
    format!(
        "# Automatically generated by systemd-{kind}-generator\n\n[Unit]\nDescription={what} for %I\n\
         Documentation=man:{tab}(5) man:systemd-{kind}-generator(8) man:systemd-{kind}@.service(8)\n\
         SourcePath={}\nDefaultDependencies=no\nIgnoreOnIsolate=true\n\
         After={kind}-pre.target systemd-udevd-kernel.socket systemd-udevd.service\n\
         Before=blockdev@dev-mapper-%i.target\nWants=blockdev@dev-mapper-%i.target\n",
        specifiers(source)
    )
}

/// What the devices of a volume need; files need a loop device.
fn requirements(text: &mut String, paths: &[&str], one_line: bool) {
    let device = |path: &str| path.starts_with("/dev/");
    if one_line && paths.iter().all(|path| device(path)) {
        let units: Vec<_> = paths
            .iter()
            .map(|path| format!("{}.device", escape_path(path)))
            .collect();
        let units = units.join(" ");
        *text += &format!("BindsTo={units}\nAfter={units}\n");
        return;
    }
    for path in paths {
        *text += &match device(path) {
            true => {
                let unit = escape_path(path);
                format!("BindsTo={unit}.device\nAfter={unit}.device\n")
            }
            false => format!("RequiresMountsFor={}\n", quoted_path(path)),
        };
    }
    if !paths.iter().all(|path| device(path)) {
        *text += "Wants=modprobe@loop.service\nAfter=modprobe@loop.service\n";
    }
}

fn service(text: &mut String, table: Table, words: &[&str]) {
    let kind = kind(table);
    let timeout = match table {
        Table::Verity => "",
        Table::Integrity => "TimeoutSec=infinity\n",
    };
    let program = format!("/usr/lib/systemd/systemd-{kind}");
    let quoted: Vec<_> = words.iter().map(|word| quote(word)).collect();
    let name = quoted.first().map_or("", String::as_str);
    *text += &format!(
        "\n[Service]\nType=oneshot\nRemainAfterExit=yes\n{timeout}ExecStart={program} attach {}\n\
         ExecStop={program} detach {name}\n",
        quoted.join(" ")
    );
}

/// A word of a command in a unit file.
fn quote(word: &str) -> String {
    let mut quoted = "'".to_owned();
    for letter in word.chars() {
        match letter {
            '\'' | '\\' => quoted.extend(['\\', letter]),
            '%' | '$' => quoted.extend([letter, letter]),
            letter if letter.is_control() => quoted.push(' '),
            letter => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

/// A path in a list of paths.
fn quoted_path(path: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@=,~#".contains(letter);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => quote(path).replace("$$", "$"),
    }
}

fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// A name within the name of a unit, as `systemd-escape` does it.
pub fn escape(name: &str) -> String {
    escape_bytes(name)
}

/// The name of a unit for a path, without its type: `/dev/sda1` is `dev-sda1`.
pub fn escape_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => "-".to_owned(),
        false => escape_bytes(&parts.join("/")),
    }
}

fn escape_bytes(text: &str) -> String {
    let mut name = String::new();
    for (at, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b":_.".contains(&byte);
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            _ if plain => name.push(char::from(byte)),
            _ => {
                // A String takes every text.
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(line: &str, table: Table) -> Files {
        let (volumes, errors) = table.parse(line.as_bytes());
        assert_eq!(errors, [], "{line}");
        let source = Source {
            table,
            path: "/etc/tab",
        };
        let mut files = Files::new();
        for volume in &volumes {
            source.units(volume, &mut files);
        }
        files
    }

    fn file<'a>(files: &'a Files, name: &str) -> &'a str {
        match files.get(name) {
            Some(Item::File(text)) => text,
            other => panic!("{name}: {other:?} in {files:?}"),
        }
    }

    #[test]
    fn options_decide_who_pulls_a_volume_in() {
        for (options, links, lines) in [
            (
                "",
                &["veritysetup.target.requires"][..],
                "Before=umount.target\nBefore=veritysetup.target\n",
            ),
            (
                "nofail",
                &["veritysetup.target.wants"],
                "Before=umount.target\nBindsTo",
            ),
            ("noauto", &[], "Before=veritysetup.target\n"),
            (
                "_netdev",
                &["remote-veritysetup.target.requires"],
                "After=remote-fs-pre.target\nConflicts=umount.target\nBefore=umount.target\nBefore=remote-veritysetup.target\n",
            ),
            (
                "x-initrd.attach",
                &["veritysetup.target.requires"],
                "%i.target\nBefore=veritysetup.target\n",
            ),
        ] {
            let files = units(&format!("v /dev/a /dev/b 00ff {options}"), Table::Verity);
            let unit = "systemd-veritysetup@v.service";
            let text = file(&files, unit);
            assert!(text.contains(lines), "{options}: {text}");
            let found: Vec<_> = files
                .keys()
                .filter(|path| path.contains(".target."))
                .collect();
            let expected: Vec<_> = links.iter().map(|link| format!("{link}/{unit}")).collect();
            assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{options}");
            assert!(files.contains_key(&format!("dev-mapper-v.device.requires/{unit}")));
        }
    }

    #[test]
    fn files_need_loop_devices() {
        let files = units("a-b /img/x%y /dev/b 00", Table::Verity);
        let text = file(&files, "systemd-veritysetup@a\\x2db.service");
        let lines = "RequiresMountsFor='/img/x%%y'\nBindsTo=dev-b.device\nAfter=dev-b.device\n\
                     Wants=modprobe@loop.service\nAfter=modprobe@loop.service\n";
        assert!(text.contains(lines), "{text}");
        assert!(
            text.contains("attach 'a-b' '/img/x%%y' '/dev/b' '00' ''\n"),
            "{text}"
        );
    }

    #[test]
    fn words_stay_words() {
        let files = units("v /dev/a'b /dev/$b 0\\0 o%", Table::Verity);
        let text = file(&files, "systemd-veritysetup@v.service");
        assert!(
            text.contains("attach 'v' '/dev/a\\'b' '/dev/$$b' '0\\\\0' 'o%%'\n"),
            "{text}"
        );
    }

    const ROOT: &str = "0011223344556677889900112233445500112233445566778899001122334466";

    #[test]
    fn the_command_line_names_volumes() {
        let line = format!("quiet roothash={ROOT} systemd.verity-root-options=nofail usrhash=00");
        let settings = Settings::parse(line.split(' '), true).unwrap();
        let mut files = Files::new();
        let error = settings.units(&mut files).unwrap_err();
        assert_eq!(error, SettingsError::NoDevices("usr".to_owned()));
        let text = file(&files, "systemd-veritysetup@root.service");
        let data = "/dev/disk/by-partuuid/00112233-4455-6677-8899-001122334455";
        let hash = "/dev/disk/by-partuuid/00112233-4455-6677-8899-001122334466";
        let words = format!("attach 'root' '{data}' '{hash}' '{ROOT}' 'nofail'\n");
        assert!(text.contains(&words), "{text}");
        assert!(text.contains("SourcePath=/proc/cmdline\n") && !text.contains("umount"));
    }

    #[test]
    fn what_makes_no_sense_or_is_off() {
        let parse = |line: &str, initrd| Settings::parse(line.split(' '), initrd);
        assert!(matches!(
            parse("roothash=zz", true),
            Err(SettingsError::RootHash(_))
        ));
        let none = parse("systemd.verity_root_data=/dev/q", true).unwrap();
        let error = none.units(&mut Files::new()).unwrap_err();
        assert_eq!(error, SettingsError::NoRootHash("root".to_owned()));
        for (line, initrd, off, table) in [
            ("systemd.verity=0", false, true, true),
            ("rd.systemd.verity=0", false, false, true),
            ("rd.systemd.verity=0", true, true, true),
            ("veritytab=0 systemd.verity=x", true, false, false),
            ("systemd.verity=0 systemd.verity", true, false, true),
        ] {
            let settings = parse(line, initrd).unwrap();
            assert_eq!(
                (settings.is_off(), settings.reads_table()),
                (off, table),
                "{line}"
            );
        }
    }

    #[test]
    fn names_of_units_are_as_with_systemd_escape() {
        for (path, name) in [
            ("/", "-"),
            ("", "-"),
            ("/dev/sda1", "dev-sda1"),
            ("/dev//disk/by-x/a b/", "dev-disk-by\\x2dx-a\\x20b"),
            ("/.hidden/.x", "\\x2ehidden-.x"),
            ("/\u{fc}\\", "\\xc3\\xbc\\x5c"),
            ("/a:b_c.d", "a:b_c.d"),
        ] {
            assert_eq!(escape_path(path), name);
        }
        assert_eq!(escape("a/b-c"), "a-b\\x2dc");
    }
}
