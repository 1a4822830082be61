//! Whether an extension fits a host (UAPI.4, systemd-sysext(8)). Pure.

use super::Release;
use crate::arch::Architecture;

/// What kind of extension an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// For `/usr` and `/opt`.
    Sysext,
    /// For `/etc`.
    Confext,
}

/// What an extension may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A running system.
    System,
    /// An initrd.
    Initrd,
    /// A portable service.
    Portable,
}

/// What an extension has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The host's `os-release`.
    pub release: &'a Release,
    /// What the host's kernel runs on.
    pub architecture: Architecture,
    /// Where the extension would go; `None` skips the question.
    pub scope: Option<Scope>,
}

/// Why an extension does not fit. Two values are the extension's and the host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// There is no field at all.
    #[error("its extension-release file says nothing")]
    Empty,
    /// It is not meant for such a place.
    #[error("it is for {extension:?}, not for {}", host.name())]
    Scope {
        /// The words of the scope field.
        extension: String,
        /// Where it would go.
        host: Scope,
    },
    /// It is built for another machine.
    #[error("ARCHITECTURE={extension} does not run on {host}")]
    Architecture {
        /// The field.
        extension: String,
        /// The host's.
        host: Architecture,
    },
    /// It does not say for which system it is.
    #[error("its extension-release file has no ID=")]
    NoId,
    /// The host does not say which system it is.
    #[error("the host's os-release file has no ID=")]
    NoHostId,
    /// It is for another system.
    #[error("ID={extension} is neither the host's ID={host} nor in its ID_LIKE={like:?}")]
    Id {
        /// The extension's.
        extension: String,
        /// The host's.
        host: String,
        /// The systems that the host says it is like.
        like: String,
    },
    /// It is for another level of the system's interfaces.
    #[error("{key}={extension} is not the host's {key}={host}")]
    Level {
        /// The field's name.
        key: &'static str,
        /// The extension's.
        extension: String,
        /// The host's.
        host: String,
    },
    /// It is for another version of the system, or for none in particular.
    #[error("VERSION_ID={} is not the host's VERSION_ID={host}", extension.as_deref().unwrap_or(""))]
    Version {
        /// The extension's.
        extension: Option<String>,
        /// The host's.
        host: String,
    },
}

impl Class {
    /// The folder of its release files, relative to the root.
    pub const fn release_directory(self) -> &'static str {
        match self {
            Self::Sysext => "usr/lib/extension-release.d",
            Self::Confext => "etc/extension-release.d",
        }
    }

    const fn level_key(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_LEVEL",
            Self::Confext => "CONFEXT_LEVEL",
        }
    }

    const fn scope_key(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_SCOPE",
            Self::Confext => "CONFEXT_SCOPE",
        }
    }

    /// Whether an extension is meant for `scope`.
    pub fn has_scope(self, extension: &Release, scope: Scope) -> bool {
        self.scopes(extension)
            .split_whitespace()
            .any(|word| word == scope.name())
    }

    /// The words for what an extension may be attached to.
    pub fn scopes(self, extension: &Release) -> &str {
        extension
            .field(self.scope_key())
            .unwrap_or("system portable")
    }

    /// Checks that an extension fits a host; the first rule that fails is told.
    pub fn check(self, extension: &Release, host: &Host<'_>) -> Result<(), Mismatch> {
        if extension.is_empty() {
            return Err(Mismatch::Empty);
        }
        self.check_scope(extension, host)?;
        check_architecture(extension, host)?;
        match check_id(extension, host.release)? {
            Identity::Any => Ok(()),
            Identity::Same => self.check_version(extension, host.release),
        }
    }

    fn check_scope(self, extension: &Release, host: &Host<'_>) -> Result<(), Mismatch> {
        match host.scope {
            Some(scope) if !self.has_scope(extension, scope) => Err(Mismatch::Scope {
                extension: self.scopes(extension).to_owned(),
                host: scope,
            }),
            _ => Ok(()),
        }
    }

    /// Levels decide where both sides have one, else versions. A host with neither is a rolling one.
    fn check_version(self, extension: &Release, host: &Release) -> Result<(), Mismatch> {
        let key = self.level_key();
        if let (Some(theirs), Some(ours)) = (extension.field(key), host.field(key)) {
            return (theirs == ours)
                .then_some(())
                .ok_or_else(|| Mismatch::Level {
                    key,
                    extension: theirs.to_owned(),
                    host: ours.to_owned(),
                });
        }
        match (extension.field("VERSION_ID"), host.field("VERSION_ID")) {
            (theirs, Some(ours)) if theirs != Some(ours) => Err(Mismatch::Version {
                extension: theirs.map(str::to_owned),
                host: ours.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn check_architecture(extension: &Release, host: &Host<'_>) -> Result<(), Mismatch> {
    match extension.field("ARCHITECTURE") {
        None | Some("_any") => Ok(()),
        Some(name) if name == host.architecture.name() => Ok(()),
        Some(name) => Err(Mismatch::Architecture {
            extension: name.to_owned(),
            host: host.architecture,
        }),
    }
}

enum Identity {
    /// It fits any system, of any version.
    Any,
    Same,
}

fn check_id(extension: &Release, host: &Release) -> Result<Identity, Mismatch> {
    let ours = host.field("ID").ok_or(Mismatch::NoHostId)?;
    let like = host.field("ID_LIKE").unwrap_or("");
    match extension.field("ID").ok_or(Mismatch::NoId)? {
        "_any" => Ok(Identity::Any),
        theirs if theirs == ours || like.split_whitespace().any(|word| word == theirs) => {
            Ok(Identity::Same)
        }
        theirs => Err(Mismatch::Id {
            extension: theirs.to_owned(),
            host: ours.to_owned(),
            like: like.to_owned(),
        }),
    }
}

impl Scope {
    /// The word in scope fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Initrd => "initrd",
            Self::Portable => "portable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn extensions_fit_by_the_rules() {
        let debian = "ID=debian\nVERSION_ID=12\n";
        let rolling = "ID=arch\nID_LIKE=\"foo bar\"\n";
        let level = "ID=x\nVERSION_ID=12\nSYSEXT_LEVEL=2\nCONFEXT_LEVEL=7\n";
        let level_only = "ID=x\nSYSEXT_LEVEL=2\n";
        for (host, extension, answer) in [
            (debian, "ID=debian\nVERSION_ID=12", ""),
            (debian, "ID=_any", ""),
            (debian, "", "its extension-release file says nothing"),
            (
                debian,
                "VERSION_ID=12",
                "its extension-release file has no ID=",
            ),
            (
                debian,
                "ID=debian\nVERSION_ID=11",
                "VERSION_ID=11 is not the host's VERSION_ID=12",
            ),
            (
                debian,
                "ID=debian",
                "VERSION_ID= is not the host's VERSION_ID=12",
            ),
            (
                debian,
                "ID=arch\nVERSION_ID=12",
                "ID=arch is neither the host's ID=debian nor in its ID_LIKE=\"\"",
            ),
            (rolling, "ID=arch\nVERSION_ID=1", ""),
            (rolling, "ID=bar", ""),
            (
                rolling,
                "ID=foo bar",
                "ID=foo bar is neither the host's ID=arch nor in its ID_LIKE=\"foo bar\"",
            ),
            (level, "ID=x\nSYSEXT_LEVEL=2\nVERSION_ID=11", ""),
            (
                level,
                "ID=x\nSYSEXT_LEVEL=1\nVERSION_ID=12",
                "SYSEXT_LEVEL=1 is not the host's SYSEXT_LEVEL=2",
            ),
            (level, "ID=x\nCONFEXT_LEVEL=2\nVERSION_ID=12", ""),
            (level_only, "ID=x\nVERSION_ID=3", ""),
            (debian, "ID=_any\nARCHITECTURE=x86-64", ""),
            (debian, "ID=_any\nARCHITECTURE=_any", ""),
            (
                debian,
                "ID=_any\nARCHITECTURE=arm64",
                "ARCHITECTURE=arm64 does not run on x86-64",
            ),
            (
                debian,
                "ID=_any\nSYSEXT_SCOPE=portable",
                "it is for \"portable\", not for system",
            ),
            (debian, "ID=_any\nSYSEXT_SCOPE=\"initrd system\"", ""),
            ("NAME=x", "ID=_any", "the host's os-release file has no ID="),
        ] {
            let host = Host {
                release: &release(host),
                architecture: Architecture::X86_64,
                scope: Some(Scope::System),
            };
            let found = Class::Sysext.check(&release(extension), &host);
            let found = found.map_or_else(|mismatch| mismatch.to_string(), |()| String::new());
            assert_eq!(found, answer, "{extension:?} on {:?}", host.release);
        }
    }

    #[test]
    fn each_class_and_scope_has_its_words() {
        let silent = release("ID=_any");
        assert!(Class::Sysext.has_scope(&silent, Scope::System));
        assert!(Class::Confext.has_scope(&silent, Scope::Portable));
        assert!(!Class::Confext.has_scope(&silent, Scope::Initrd));
        let host = Host {
            release: &release("ID=x"),
            architecture: Architecture::Arm64,
            scope: None,
        };
        let initrd = release("ID=x\nSYSEXT_SCOPE=initrd");
        assert_eq!(Class::Sysext.check(&initrd, &host), Ok(()));
    }
}
