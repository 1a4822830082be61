//! Image policies: which partitions of an image may, must or must not be used, and how protected
//! (systemd.image-policy(7)).
//!
//! Invariant: what a policy says of a designator is independent of the order of its rules. Pure.

mod defaults;
mod flags;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::partition::Designator;

pub use flags::Flags;

/// A way to unlock an encrypted partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// A passphrase or recovery key that somebody types.
    Passphrase,
    /// A key from a file.
    KeyFile,
    /// The machine's TPM2 chip.
    Tpm2,
    /// A FIDO2 token.
    Fido2,
    /// A PKCS#11 token or smart card.
    Pkcs11,
}

impl Means {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Passphrase,
        Self::KeyFile,
        Self::Tpm2,
        Self::Fido2,
        Self::Pkcs11,
    ];

    /// The word of a policy for it.
    pub const fn flag(self) -> Flags {
        match self {
            Self::Passphrase => Flags::PASSPHRASE,
            Self::KeyFile => Flags::KEY_FILE,
            Self::Tpm2 => Flags::TPM2,
            Self::Fido2 => Flags::FIDO2,
            Self::Pkcs11 => Flags::PKCS11,
        }
    }
}

/// A policy: rules for some designators, and one for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePolicy {
    rules: BTreeMap<Designator, Flags>,
    default: Option<Flags>,
}

/// The text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A rule without `=`.
    #[error("{0:?} is not a policy rule; write designator=flag+flag, or one of *, -, ~ alone")]
    Syntax(String),
    /// What stands before `=` is nothing that a policy can speak of.
    #[error("{0:?} is not a partition that a policy can name; known are root, usr, home, esp …")]
    Designator(String),
    /// Not a word of the grammar.
    #[error(
        "{0:?} is not a policy flag; known are verity, signed, encrypted, unprotected, absent …"
    )]
    Flag(String),
    /// No policy goes by this name.
    #[error(
        "{0:?} is no policy's name; known are @sysext, @sysext-strict, @confext, @confext-strict, \
         @service, @container and @host"
    )]
    Name(String),
    /// Two rules for the same designator.
    #[error("the policy has two rules for {0}; keep one")]
    Duplicate(DesignatorOrDefault),
}

/// What a rule is about; only for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesignatorOrDefault(Option<Designator>);

/// An image does not obey.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy wants {designator} to be {wanted}, but it is {found}")]
pub struct Violation {
    /// Which partition.
    pub designator: Designator,
    /// What the policy allows.
    pub wanted: Flags,
    /// What the image has.
    pub found: Flags,
}

/// Two policies leave nothing allowed for a partition, not even its absence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policies contradict each other about {0}: no image can obey both")]
pub struct Contradiction(pub DesignatorOrDefault);

impl ImagePolicy {
    /// What is allowed for a designator, nothing left unsaid.
    pub fn effective(&self, designator: Designator) -> Flags {
        if let Some(flags) = self.rules.get(&designator) {
            return flags.normalized(designator);
        }
        self.derived(designator)
            .unwrap_or_else(|| self.default.unwrap_or(Flags::IGNORE))
            .normalized(designator)
    }

    /// The rule for an unlisted verity or signature partition that its data partition's rule implies.
    fn derived(&self, designator: Designator) -> Option<Flags> {
        use crate::partition::VerityRole;
        let wanted = match designator.verity_role()? {
            VerityRole::Data => return None,
            VerityRole::Hash => Flags::VERITY | Flags::SIGNED,
            VerityRole::Signature => Flags::SIGNED,
        };
        let data = designator.verity_sibling(VerityRole::Data)?;
        let flags = self.rules.get(&data)?.normalized(data);
        let inherited = Flags::IGNORE | Flags::READ_ONLY | Flags::GROWFS;
        flags
            .intersects(wanted)
            .then_some(Flags::UNPROTECTED | (flags & inherited))
    }

    /// Whether a partition of this designator may be used at all.
    pub fn may_use(&self, designator: Designator) -> bool {
        self.effective(designator).intersects(Flags::USED)
    }

    /// Whether an encrypted partition may be unlocked in this way.
    pub fn may_unlock(&self, designator: Designator, means: Means) -> bool {
        let flags = self.effective(designator);
        flags.intersects(Flags::ENCRYPTION) && flags.contains(means.flag())
    }

    /// The one file system that the policy prescribes, where it names exactly one.
    pub fn file_system(&self, designator: Designator) -> Option<&'static str> {
        (self.effective(designator) & Flags::FILE_SYSTEMS).file_system()
    }

    /// Checks how a partition was found: any of the ways in `found` will do.
    pub fn check(&self, designator: Designator, found: Flags) -> Result<(), Violation> {
        let wanted = self.effective(designator) & Flags::OPEN;
        wanted.intersects(found).then_some(()).ok_or(Violation {
            designator,
            wanted,
            found,
        })
    }

    /// Checks GPT attribute bits 60 and 59 of a partition that is there.
    pub fn check_gpt(
        &self,
        designator: Designator,
        read_only: bool,
        growfs: bool,
    ) -> Result<(), Violation> {
        let on_off = |set, on, off| if set { on } else { off };
        let found_ro = on_off(read_only, Flags::READ_ONLY_ON, Flags::READ_ONLY_OFF);
        let found_grow = on_off(growfs, Flags::GROWFS_ON, Flags::GROWFS_OFF);
        let effective = self.effective(designator);
        for (group, found) in [(Flags::READ_ONLY, found_ro), (Flags::GROWFS, found_grow)] {
            let wanted = effective & group;
            if !wanted.is_empty() && !wanted.intersects(found) {
                return Err(Violation {
                    designator,
                    wanted,
                    found,
                });
            }
        }
        Ok(())
    }

    /// What both policies allow.
    pub fn intersect(&self, other: &Self) -> Result<Self, Contradiction> {
        let fallback = |policy: &Self| policy.default.unwrap_or(Flags::IGNORE).extended();
        let default = common(fallback(self), fallback(other)).ok_or(Contradiction(DEFAULT))?;
        let rules = Designator::POLICY.into_iter().map(|designator| {
            common(self.effective(designator), other.effective(designator))
                .map(|flags| (designator, flags))
                .ok_or(Contradiction(DesignatorOrDefault(Some(designator))))
        });
        let mut policy = Self {
            rules: rules.collect::<Result<_, _>>()?,
            default: Some(default),
        };
        policy.drop_redundant();
        Ok(policy)
    }

    /// Forgets rules that say what would be so without them.
    fn drop_redundant(&mut self) {
        for designator in Designator::POLICY {
            let mut shorter = self.clone();
            shorter.rules.remove(&designator);
            if shorter.is_equivalent(self) {
                *self = shorter;
            }
        }
    }

    /// Whether the two allow the same, however they say it.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let fallback = |policy: &Self| policy.default.unwrap_or(Flags::IGNORE).extended();
        fallback(self) == fallback(other)
            && Designator::POLICY
                .into_iter()
                .all(|designator| self.effective(designator) == other.effective(designator))
    }
}

const DEFAULT: DesignatorOrDefault = DesignatorOrDefault(None);
/// What both sets of words allow, `None` where that is nothing.
fn common(a: Flags, b: Flags) -> Option<Flags> {
    let both = a & b;
    let file_systems = match (a & Flags::FILE_SYSTEMS, b & Flags::FILE_SYSTEMS) {
        (Flags::NONE, any) | (any, Flags::NONE) => any,
        (a, b) if a.intersects(b) => a & b,
        _ => return None,
    };
    // Without a means in common nothing can be unlocked.
    let both = match (a | b).intersects(Flags::MEANS) && !both.intersects(Flags::MEANS) {
        true => both.without(Flags::ENCRYPTION),
        false if !both.intersects(Flags::ENCRYPTION) => both.without(Flags::MEANS),
        false => both,
    };
    let uses = both & Flags::OPEN;
    let gpt_possible = uses == Flags::ABSENT
        || (both.intersects(Flags::READ_ONLY) && both.intersects(Flags::GROWFS));
    (!uses.is_empty() && gpt_possible).then(|| both.without(Flags::FILE_SYSTEMS) | file_systems)
}

impl FromStr for ImagePolicy {
    type Err = PolicyError;

    /// Parses rules, `*`, `-`, `~`, or the name of a policy behind an `@`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "*" => return Ok(Self::allow()),
            "" | "-" => return Ok(Self::ignore()),
            "~" => return Ok(Self::deny()),
            _ => {}
        }
        if let Some(name) = text.strip_prefix('@') {
            return Self::named(name).ok_or_else(|| PolicyError::Name(text.to_owned()));
        }
        let mut policy = Self::default();
        for rule in text.split(':') {
            let syntax = || PolicyError::Syntax(rule.to_owned());
            let (name, flags) = rule.split_once('=').ok_or_else(syntax)?;
            policy.add(name.trim(), flags)?;
        }
        Ok(policy)
    }
}

impl ImagePolicy {
    fn add(&mut self, name: &str, flags: &str) -> Result<(), PolicyError> {
        let (about, before) = match name {
            "" => (None, self.default),
            name => {
                let designator = Designator::from_policy_name(name)
                    .ok_or_else(|| PolicyError::Designator(name.to_owned()))?;
                (Some(designator), self.rules.get(&designator).copied())
            }
        };
        if before.is_some() {
            return Err(PolicyError::Duplicate(DesignatorOrDefault(about)));
        }
        let flags = flags.parse()?;
        match about {
            None => self.default = Some(flags),
            Some(designator) => {
                self.rules.insert(designator, flags);
            }
        }
        Ok(())
    }
}

impl fmt::Display for ImagePolicy {
    /// As short as systemd says it, with `*`, `-` and `~` where they mean the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (symbol, known) in [
            ("*", Self::allow()),
            ("-", Self::ignore()),
            ("~", Self::deny()),
        ] {
            if self.is_equivalent(&known) {
                return f.pad(symbol);
            }
        }
        let is_silence = |flags: &Flags| flags.extended() == Flags::IGNORE.extended();
        let rules = self
            .rules
            .iter()
            .map(|(designator, flags)| format!("{designator}={flags}"));
        let default = self.default.filter(|flags| !is_silence(flags));
        let default = default.map(|flags| format!("={flags}"));
        f.pad(&rules.chain(default).collect::<Vec<_>>().join(":"))
    }
}

impl fmt::Display for DesignatorOrDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(designator) => designator.fmt(f),
            None => f.pad("unlisted partitions"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(text: &str) -> ImagePolicy {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn prints_what_systemd_analyze_prints() {
        for (text, canonical) in [
            ("root=verity+signed", "root=verity+signed"),
            ("*", "*"),
            ("-", "-"),
            ("~", "~"),
            ("", "-"),
            ("root=", "root=-"),
            ("root=-", "root=-"),
            ("=", "*"),
            ("=-", "*"),
            ("=:root=verity", "root=verity:=-"),
            ("root=ignore", "-"),
            ("root=ignore:usr=verity", "root=ignore:usr=verity"),
            ("usr=verity:root=unprotected", "root=unprotected:usr=verity"),
            (
                "root=unprotected+absent+read-only-on+read-only-off",
                "root=unprotected+absent",
            ),
            (
                "root=unprotected+read-only-on+growfs-off",
                "root=unprotected+read-only-on+growfs-off",
            ),
            ("root=absent+read-only-on", "root=absent+read-only-on"),
            ("root=ext4+btrfs", "root=btrfs+ext4"),
            ("home=verity+signed+absent", "home=verity+signed+absent"),
            ("home=verity+unused+absent", "-"),
            ("=absent", "~"),
            ("=open", "*"),
            ("root=open:=open", "*"),
            ("root=absent:=absent", "~"),
            ("root=absent+growfs-on:=absent", "~"),
            ("=growfs-on+absent", "=absent+growfs-on"),
            ("root=unused+absent:=ignore", "-"),
            ("root=verity:=open", "root=verity:=open"),
            (
                "root=verity:=ignore+read-only-on+read-only-off",
                "root=verity",
            ),
            (
                "root=verity:=ignore+growfs-on",
                "root=verity:=ignore+growfs-on",
            ),
            ("root=verity:=ignore+ext4", "root=verity:=ignore+ext4"),
            (
                "root = verity : usr= signed + verity ",
                "root=verity:usr=verity+signed",
            ),
            ("=read-only-on", "=read-only-on"),
            ("=open+read-only-on+read-only-off", "*"),
            (
                "=open+btrfs+erofs+ext4+f2fs+squashfs+vfat+xfs",
                "=open+btrfs+erofs+ext4+f2fs+squashfs+vfat+xfs",
            ),
            ("root=open+verity", "root=open"),
            ("root=ignore+verity", "root=verity+unused+absent"),
            ("root=ignore+ext4", "root=ignore+ext4"),
            ("root=ignore:=absent", "root=ignore:=absent"),
            ("root=absent:=ignore", "root=absent"),
            (
                "root-verity=absent:root=verity",
                "root=verity:root-verity=absent",
            ),
            ("root=absent:=unused", "root=absent:=unused"),
        ] {
            let parsed = policy(text);
            assert_eq!(parsed.to_string(), canonical, "{text}");
            assert!(policy(canonical).is_equivalent(&parsed), "{text}");
        }
    }

    #[test]
    fn says_of_each_partition_what_systemd_says() {
        use Designator::{
            Esp, Home, Root, RootVerity, RootVeritySig, Usr, UsrVerity, UsrVeritySig,
        };
        for (text, designator, wanted) in [
            ("root=verity+signed", RootVerity, "unprotected"),
            ("root=verity+signed", RootVeritySig, "unprotected"),
            ("root=verity+signed", UsrVerity, "ignore"),
            ("root=signed+absent", RootVerity, "unprotected+absent"),
            ("root=open", RootVerity, "unprotected+unused+absent"),
            ("root=ext4", RootVerity, "unprotected+unused+absent"),
            ("root=ext4", Root, "open+ext4"),
            ("=ext4", RootVerity, "unprotected+unused+absent+ext4"),
            ("=verity", RootVerity, "-"),
            ("=verity", Root, "verity"),
            ("=verity", Home, "-"),
            ("=signed+absent", RootVeritySig, "absent"),
            ("root=-:=verity", RootVerity, "unprotected+unused+absent"),
            (
                "root=verity+read-only-on",
                RootVerity,
                "unprotected+read-only-on",
            ),
            (
                "root=verity+absent+growfs-on",
                RootVerity,
                "unprotected+absent+growfs-on",
            ),
            ("root=verity+absent", RootVeritySig, "ignore"),
            (
                "root=ignore+verity",
                RootVerity,
                "unprotected+unused+absent",
            ),
            ("root=verity:root-verity=absent", RootVerity, "absent"),
            (
                "usr-verity-sig=unprotected:usr=signed+absent",
                UsrVeritySig,
                "unprotected",
            ),
            ("root=absent+ext4+read-only-on", Root, "absent+ext4"),
            ("root-verity=verity+unprotected", RootVerity, "unprotected"),
            ("=encrypted+absent", RootVerity, "absent"),
            ("esp=encrypted+unprotected", Esp, "encrypted+unprotected"),
            (
                "*",
                Home,
                "encrypted+encryptedwithintegrity+unprotected+unused+absent",
            ),
            ("~", Usr, "absent"),
        ] {
            assert_eq!(
                policy(text).effective(designator).to_string(),
                wanted,
                "{text} {designator}"
            );
        }
    }

    #[test]
    fn random_policies_mean_what_systemd_says() {
        let vectors = include_str!("../../tests/vectors/policy.txt");
        for line in vectors.lines().filter(|line| !line.starts_with("# ")) {
            let [text, canonical, rows] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not three columns: {line:?}");
            };
            let parsed = policy(text);
            assert_eq!(parsed.to_string(), canonical, "{text}");
            for (designator, row) in Designator::POLICY.into_iter().zip(rows.split(' ')) {
                let mode = parsed.effective(designator) & Flags::OPEN;
                let wanted = row.split('/').next().unwrap_or("");
                assert_eq!(mode.to_string(), wanted, "{text}: {designator}");
            }
        }
    }

    #[test]
    fn default_policies_are_systemd_s() {
        let p = "verity+signed+encrypted+encryptedwithintegrity+unprotected+absent";
        let e = "encrypted+encryptedwithintegrity+unprotected+absent";
        let u = "unprotected+absent";
        let service = format!("root={p}:usr={p}:home={e}:srv={e}");
        for (found, wanted) in [
            (ImagePolicy::sysext(), format!("root={p}:usr={p}")),
            (
                ImagePolicy::sysext_strict(),
                "root=signed+absent:usr=signed+absent".into(),
            ),
            (ImagePolicy::confext(), format!("root={p}")),
            (ImagePolicy::confext_strict(), "root=signed+absent".into()),
            (ImagePolicy::service(), format!("{service}:tmp={e}:var={e}")),
            (
                ImagePolicy::container(),
                format!("{service}:esp={u}:xbootldr={u}:tmp={e}:var={e}"),
            ),
            (
                ImagePolicy::host(),
                format!("{service}:esp={u}:xbootldr={u}:swap={e}:tmp={e}:var={e}"),
            ),
        ] {
            assert_eq!(found.to_string(), wanted);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let duplicate = |about| PolicyError::Duplicate(DesignatorOrDefault(about));
        for (text, error) in [
            ("root", PolicyError::Syntax("root".into())),
            ("root=verity:", PolicyError::Syntax(String::new())),
            (":root=verity", PolicyError::Syntax(String::new())),
            ("**", PolicyError::Syntax("**".into())),
            (" -", PolicyError::Syntax(" -".into())),
            ("foo=verity", PolicyError::Designator("foo".into())),
            (
                "linux-generic=open",
                PolicyError::Designator("linux-generic".into()),
            ),
            ("root=foo", PolicyError::Flag("foo".into())),
            ("root=Verity", PolicyError::Flag("Verity".into())),
            ("root=verity++signed", PolicyError::Flag(String::new())),
            ("root=-+verity", PolicyError::Flag("-".into())),
            ("root=verity:root=verity", duplicate(Some(Designator::Root))),
            ("=:=", duplicate(None)),
        ] {
            assert_eq!(text.parse::<ImagePolicy>(), Err(error), "{text}");
        }
    }

    #[test]
    fn checks_what_was_found() {
        let strict = policy("root=signed+read-only-on:usr=ext4");
        assert!(
            strict
                .check(Designator::Root, Flags::SIGNED | Flags::UNPROTECTED)
                .is_ok()
        );
        let violation = strict.check(Designator::Root, Flags::ABSENT).unwrap_err();
        assert_eq!(
            violation.to_string(),
            "the policy wants root to be signed, but it is absent"
        );
        assert!(strict.check_gpt(Designator::Root, true, true).is_ok());
        assert!(strict.check_gpt(Designator::Root, false, true).is_err());
        assert!(strict.may_use(Designator::Root) && !strict.may_use(Designator::Home));
        assert_eq!(strict.file_system(Designator::Usr), Some("ext4"));
        assert_eq!(strict.file_system(Designator::Root), None);
        assert_eq!(policy("root=ext4+xfs").file_system(Designator::Root), None);
    }

    #[test]
    fn means_to_unlock_can_be_restricted() {
        use Means::{KeyFile, Passphrase, Tpm2};
        for (text, designator, allowed) in [
            ("*", Designator::Root, &Means::ALL[..]),
            ("root=encrypted", Designator::Root, &Means::ALL),
            ("root=encrypted-with-tpm2", Designator::Root, &[Tpm2]),
            (
                "root=encryptedwithintegrity+encrypted-with-tpm2+encrypted-with-passphrase",
                Designator::Root,
                &[Passphrase, Tpm2],
            ),
            ("=encrypted-with-key-file", Designator::Home, &[KeyFile]),
            ("root=unprotected", Designator::Root, &[]),
            ("=encrypted-with-tpm2", Designator::RootVerity, &[]),
        ] {
            let policy = policy(text);
            let may = |means: &Means| policy.may_unlock(designator, *means);
            let found: Vec<_> = Means::ALL.into_iter().filter(may).collect();
            assert_eq!(found, allowed, "{text}");
        }
        let tpm2 = policy("root=encrypted-with-tpm2");
        assert!(tpm2.check(Designator::Root, Flags::ENCRYPTED).is_ok());
        let plain = Flags::UNPROTECTED | Flags::ENCRYPTED_WITH_INTEGRITY;
        assert!(tpm2.check(Designator::Root, plain).is_err());
        assert_eq!(tpm2.to_string(), "root=encrypted-with-tpm2");
    }

    #[test]
    fn intersections_allow_what_both_allow() {
        for (a, b, both) in [
            ("*", "root=verity", "root=verity"),
            (
                "root=verity+signed",
                "root=signed+absent:=absent",
                "root=signed:=absent",
            ),
            (
                "root=verity+signed+unused",
                "root=signed+unused:=ignore",
                "root=signed+unused",
            ),
            ("=ignore", "~", "~"),
            ("root=ext4+xfs:=ignore", "root=xfs", "root=open+xfs"),
            ("root=ext4", "root=xfs", ""),
            ("root=read-only-on", "root=read-only-off", ""),
            ("*", "*", "*"),
            (
                "root=encrypted-with-tpm2+absent",
                "root=encrypted+encrypted-with-fido2+absent",
                "root=absent",
            ),
            ("root=encrypted-with-tpm2", "root=encrypted-with-fido2", ""),
            (
                "root=encrypted-with-tpm2+encrypted-with-fido2",
                "root=open",
                "root=encrypted+encrypted-with-tpm2+encrypted-with-fido2",
            ),
        ] {
            let found = policy(a)
                .intersect(&policy(b))
                .map(|policy| policy.to_string());
            assert_eq!(found.unwrap_or_default(), both, "{a} and {b}");
        }
    }

    fn any_policy() -> impl Strategy<Value = ImagePolicy> {
        let flags = (0u32..1 << 23).prop_map(Flags::any);
        let rules = prop::collection::btree_map(
            prop::sample::select(&Designator::POLICY[..]),
            flags.clone(),
            0..5,
        );
        (rules, prop::option::of(flags)).prop_map(|(rules, default)| ImagePolicy { rules, default })
    }

    proptest! {
        #[test]
        fn text_says_all(policy in any_policy()) {
            let text = policy.to_string();
            let again: ImagePolicy = text.parse().unwrap();
            prop_assert!(again.is_equivalent(&policy), "{} became {}", text, again);
            prop_assert_eq!(again.to_string(), text);
        }

        #[test]
        fn intersections_are_stricter(a in any_policy(), b in any_policy()) {
            if let Ok(both) = a.intersect(&b) {
                for designator in Designator::POLICY {
                    let uses = |policy: &ImagePolicy| policy.effective(designator) & Flags::OPEN;
                    let locked = !Means::ALL.into_iter().any(|means| {
                        a.may_unlock(designator, means) && b.may_unlock(designator, means)
                    });
                    let common = uses(&a) & uses(&b);
                    let common = if locked { common.without(Flags::ENCRYPTION) } else { common };
                    prop_assert_eq!(uses(&both), common);
                    for means in Means::ALL {
                        prop_assert!(!both.may_unlock(designator, means)
                            || (a.may_unlock(designator, means) && b.may_unlock(designator, means)));
                    }
                }
                prop_assert!(both.is_equivalent(&b.intersect(&a).unwrap()));
            }
            let same = a.intersect(&a);
            prop_assert!(same.is_err() || same.unwrap().is_equivalent(&a));
        }
    }
}
