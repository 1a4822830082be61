//! The values of specifiers, read from the running system and from a root directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image_specs::arch::Architecture;
use image_specs::release::Release;
use image_specs::specifier::Values;

use super::LoadError;
use super::directory::Root;

/// Finds out what specifiers stand for: os-release, machine ID and host name of `root`, the rest of
/// the running system. `environment` gives the directories for temporary files.
///
/// # Errors
/// Where `root` cannot be opened; what is missing inside of it has no value.
pub fn values(
    root: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<Values, LoadError> {
    let inside = Root::open(root)?;
    let read = |path: &str| {
        let text = inside.read(Path::new(path)).ok()?;
        Some(String::from_utf8(text).ok()?.trim().to_owned())
    };
    let release = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"));
    let release = parse(release);
    let field = |name: &str| release.field(name).map(str::to_owned);
    let system = rustix::system::uname();
    let machine = system.machine().to_string_lossy();
    let info = parse(read("/etc/machine-info"));
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let temporary = |default: &str| {
        let mut names = ["TMPDIR", "TEMP", "TMP"].into_iter();
        let set = names.find_map(|name| environment.get(name).filter(|path| path.starts_with('/')));
        Some(set.cloned().unwrap_or_else(|| default.to_owned()))
    };
    Ok(Values {
        architecture: Architecture::from_uname(&machine).map(|arch| arch.name().to_owned()),
        image_version: field("IMAGE_VERSION"),
        boot_id: boot_id.map(|id| id.trim().replace('-', "")),
        build_id: field("BUILD_ID"),
        host_name: Some(system.nodename().to_string_lossy().into_owned()),
        machine_id: read("/etc/machine-id").filter(|id| id.len() == 32),
        image_id: field("IMAGE_ID"),
        os_id: field("ID"),
        pretty_host_name: info.field("PRETTY_HOSTNAME").map(str::to_owned),
        kernel_release: Some(system.release().to_string_lossy().into_owned()),
        os_version: field("VERSION_ID"),
        variant_id: field("VARIANT_ID"),
        tmp: temporary("/tmp"),
        var_tmp: temporary("/var/tmp"),
    })
}

/// A damaged file says nothing.
fn parse(text: Option<String>) -> Release {
    Release::parse(text.unwrap_or_default().as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_the_root() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc")).unwrap();
        fs::write(
            folder.path().join("etc/os-release"),
            "# x\nID=foo\nID='b r'\nVERSION_ID=\"1\"\n",
        )
        .unwrap();
        fs::write(
            folder.path().join("etc/machine-id"),
            format!("{}\n", "a".repeat(32)),
        )
        .unwrap();
        let environment = BTreeMap::from([("TMP".to_owned(), "/t".to_owned())]);
        let values = values(Some(folder.path()), &environment).unwrap();
        assert_eq!(
            values.expand("%o|%w|%W|%m|%T|%V").unwrap(),
            format!("b r|1||{}|/t|/t", "a".repeat(32))
        );
        assert!(values.expand("%a%b%v%H%l%q").is_ok());
    }
}
