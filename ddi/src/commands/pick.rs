//! `ddi pick`, also reached as `systemd-vpick`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, ValueEnum};
use dissect::vpick::{self, Form, Inode, Picked};
use image_specs::arch::Architecture;
use image_specs::conf::boolean;
use image_specs::version::Version;
use image_specs::vpick::Filter;

use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;
use crate::verb::Run;

/// Pick the newest version from a `.v/` directory
///
/// A PATH that ends in NAME.SUFFIX.v/ stands for the best of the files NAME_VERSION.SUFFIX in it, where
/// --suffix= says what SUFFIX is; a PATH of the form DIR.v/NAME___.SUFFIX says both itself. Names may
/// go on with the architecture and boot counters: NAME_VERSION_ARCH+LEFT-DONE.SUFFIX. Best is what may
/// still be tried, then the newest, then what suits this machine. Any other PATH stands for itself.
/// Exits with 1 where nothing fits.
#[derive(Debug, clap::Args)]
pub(crate) struct PickArgs {
    /// Paths to pick for
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    /// Take PATH for the directory, and look for this name in it
    #[arg(short = 'B', long, value_name = "NAME", value_parser = name_part)]
    basename: Option<String>,
    /// Take only this version
    #[arg(short = 'V', value_name = "VERSION")]
    only: Option<Version>,
    /// Take only this architecture (also native, secondary, uname, auto)
    #[arg(short = 'A', value_name = "ARCH")]
    architecture: Option<String>,
    /// What names end in, as .raw
    #[arg(short = 'S', long, value_name = "SUFFIX", value_parser = name_part)]
    suffix: Option<String>,
    /// Take only this kind of inode: reg, dir, sock, fifo, blk, chr or lnk (can be repeated)
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kinds: Vec<String>,
    /// What to print
    #[arg(short = 'p', long, value_name = "WHAT", default_value = "path")]
    print: Print,
    /// Follow all links of the result and make it absolute (default: no)
    #[arg(long, value_name = "BOOL", default_value = "no", value_parser = boolean,
          action = ArgAction::Set)]
    resolve: bool,
}

/// `--print=`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Print {
    /// The path
    Path,
    /// Its last part
    Filename,
    /// The version
    Version,
    /// The kind of inode
    Type,
    /// The architecture
    Arch,
    /// The boot counters, as +LEFT-DONE
    Tries,
    /// All of these
    All,
}

impl Run for PickArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let kinds = kinds(&self.kinds)?;
        let form = Form {
            kinds: &kinds,
            suffix: self.suffix.as_deref().unwrap_or_default(),
        };
        let filter = self.filter()?;
        for path in &self.paths {
            let mut picked = self.pick(&absolute(path.as_ref())?, &form, &filter)?;
            if self.resolve {
                picked.path = resolve(&picked.path)?;
            }
            ui.print(&format!("{}\n", self.print.text(&picked)?))?;
        }
        Ok(Exit::Ok)
    }
}

impl PickArgs {
    fn filter(&self) -> Result<Filter, Failure> {
        let native = surroundings::architecture()?;
        let architecture = self.architecture.as_deref();
        Ok(Filter {
            native,
            architecture: architecture.map_or(Ok(None), |word| named(word, native))?,
            version: self.only.clone(),
        })
    }

    fn pick(&self, path: &Path, form: &Form<'_>, filter: &Filter) -> Result<Picked, Failure> {
        let picked = match &self.basename {
            Some(basename) => vpick::resolve_in(path, basename, form, filter)?,
            None => vpick::resolve(path, std::slice::from_ref(form), filter)?,
        };
        picked.ok_or_else(|| {
            Failure::message(format!(
                "nothing that {} stands for is there or passes the filters",
                path.display()
            ))
        })
    }
}

impl Print {
    fn text(self, picked: &Picked) -> Result<String, Failure> {
        let none = |what: &str| {
            let path = picked.path.display();
            Failure::message(format!("{path} was not picked by {what}"))
        };
        Ok(match self {
            Self::Path => with_slash(picked),
            Self::Filename => picked
                .path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .ok_or_else(|| Failure::message("/ has no file name"))?,
            Self::Version => version(picked).ok_or_else(|| none("version"))?,
            Self::Type => picked.kind.name().to_owned(),
            Self::Arch => arch(picked).ok_or_else(|| none("architecture"))?,
            Self::Tries => match picked.tries {
                Some(tries) => format!("+{}-{}", tries.left, tries.done),
                None => return Err(none("boot counters")),
            },
            Self::All => all(picked),
        })
    }
}

fn all(picked: &Picked) -> String {
    let absent = || "n/a".to_owned();
    let mut rows = vec![
        ("Path", picked.path.display().to_string()),
        ("Version", version(picked).unwrap_or_else(absent)),
        ("Type", picked.kind.name().to_owned()),
        ("Architecture", arch(picked).unwrap_or_else(absent)),
    ];
    if let Some(tries) = picked.tries {
        rows.push(("Tries left", tries.left.to_string()));
        rows.push(("Tries done", tries.done.to_string()));
    }
    let rows = rows
        .iter()
        .map(|(name, value)| format!("{name:>12}: {value}"));
    rows.collect::<Vec<_>>().join("\n")
}

fn version(picked: &Picked) -> Option<String> {
    picked.version.as_ref().map(ToString::to_string)
}

fn arch(picked: &Picked) -> Option<String> {
    picked.architecture.map(|arch| arch.to_string())
}

/// The path; directories end in a slash.
fn with_slash(picked: &Picked) -> String {
    let mut text = picked.path.display().to_string();
    if picked.kind == Inode::Directory && !text.ends_with('/') {
        text.push('/');
    }
    text
}

/// The architectures that words of the command line mean; `None` for any that suits.
fn named(word: &str, native: Architecture) -> Result<Option<Architecture>, Failure> {
    match word {
        "auto" => Ok(None),
        "native" | "uname" => Ok(Some(native)),
        "secondary" => native
            .secondary()
            .map(Some)
            .ok_or_else(|| Failure::message(format!("{native} has no secondary architecture"))),
        _ => Architecture::from_name(word).map(Some).ok_or_else(|| {
            Failure::message(format!("{word:?} is no architecture"))
                .with_hint("write it as systemd does: x86-64, arm64, …")
        }),
    }
}

/// The kinds that were named; an empty word forgets those before it.
fn kinds(words: &[String]) -> Result<Vec<Inode>, Failure> {
    let mut kinds = Vec::new();
    for word in words {
        match (word.as_str(), Inode::from_name(word)) {
            ("", _) => kinds.clear(),
            (_, Some(kind)) => kinds.push(kind),
            (_, None) => {
                let names = Inode::ALL.map(Inode::name).join(", ");
                return Err(Failure::message(format!("{word:?} is no type of inode"))
                    .with_hint(format!("write one of {names}")));
            }
        }
    }
    Ok(kinds)
}

/// Part of a file name.
fn name_part(text: &str) -> Result<String, String> {
    match text.contains('/') {
        true => Err("a file name has no slash in it".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The path from the root, otherwise as it was written.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir()
        .map_err(|error| Failure::message(format!("cannot tell the current directory: {error}")))?;
    Ok(here.join(path))
}

fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize()
        .map_err(|error| Failure::message(format!("cannot follow {}: {error}", path.display())))
}
