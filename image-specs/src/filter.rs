//! Image filters: which of several partitions for the same purpose to use, by their GPT labels
//! (systemd.image-filter(7)), and the glob matching that they need.
//!
//! Invariant: matching takes no more than pattern length times text length steps. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::partition::{Designator, VerityRole};

/// Globs for the labels of some designators; partitions of others all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFilter(BTreeMap<Designator, String>);

/// The text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A rule that is not a designator, one `=` and a glob.
    #[error("{0:?} is not a filter rule; write designator=glob and join rules with a colon")]
    Syntax(String),
    /// A quote without its end, or a backslash with nothing behind.
    #[error("{0:?} ends within a quote or an escape")]
    Unfinished(String),
    /// What stands before `=` is nothing that a filter can speak of.
    #[error("{0:?} is not a partition that a filter can name; known are root, usr, home, esp …")]
    Designator(String),
    /// Two rules for the same designator.
    #[error("the filter has two rules for {0}; keep one")]
    Duplicate(Designator),
}

impl ImageFilter {
    /// Whether a partition with this label may be used; a missing label is the empty one. Verity
    /// partitions that no rule names go by that of their data partition.
    pub fn matches(&self, designator: Designator, label: &str) -> bool {
        let data = designator.verity_sibling(VerityRole::Data);
        let rule = self.0.get(&designator);
        rule.or_else(|| self.0.get(&data?))
            .is_none_or(|pattern| glob_matches(pattern, label))
    }

    /// Whether every partition passes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for ImageFilter {
    type Err = FilterError;

    /// Parses rules; quotes and backslashes work as in systemd's lists, once for the rules and once
    /// more within a rule.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut filter = Self::default();
        if text.is_empty() {
            return Ok(filter);
        }
        for rule in split_unquoted(text, ':')? {
            let mut words = split_unquoted(&rule, '=')?;
            if words.len() == 3 && words[2].is_empty() {
                words.pop(); // systemd does not mind a trailing `=`
            }
            let [name, glob] =
                <[String; 2]>::try_from(words).map_err(|_| FilterError::Syntax(rule))?;
            let designator =
                Designator::from_policy_name(&name).ok_or(FilterError::Designator(name))?;
            if filter.0.insert(designator, glob).is_some() {
                return Err(FilterError::Duplicate(designator));
            }
        }
        Ok(filter)
    }
}

impl fmt::Display for ImageFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = |(designator, glob): (&Designator, &String)| {
            escape(&format!("{designator}={}", escape(glob, '=')), ':')
        };
        f.pad(&self.0.iter().map(rule).collect::<Vec<_>>().join(":"))
    }
}

/// Splits at `separator`, which quotes and backslashes protect; both are taken away.
fn split_unquoted(text: &str, separator: char) -> Result<Vec<String>, FilterError> {
    let unfinished = || FilterError::Unfinished(text.to_owned());
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.push(letters.next().ok_or_else(unfinished)?),
            _ if Some(letter) == quote => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if letter == separator && quote.is_none() => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    quote.is_none().then_some(words).ok_or_else(unfinished)
}

fn escape(text: &str, separator: char) -> String {
    let special = |letter| matches!(letter, '\\' | '"' | '\'') || letter == separator;
    let escaped = |letter| special(letter).then_some('\\').into_iter().chain([letter]);
    text.chars().flat_map(escaped).collect()
}

/// Whether all of `text` matches a shell glob: `*`, `?` and `[…]` with ranges, classes and `!` or `^`.
///
/// As fnmatch(3) with `FNM_NOESCAPE` does it in the C locale: a backslash is a letter like others,
/// neither `/` nor a leading dot is special, and a `[` that is never closed stands for itself. Letters
/// are bytes: an `ü` takes two `?`.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.bytes().map(char::from).collect();
    let text: Vec<char> = text.bytes().map(char::from).collect();
    let (mut p, mut t) = (0, 0);
    let mut retry = None; // where the last `*` began to match, to let it match one more letter
    while t < text.len() {
        match match_one(&pattern[p..], text[t]) {
            One::Star => {
                p += 1;
                retry = Some((p, t));
            }
            One::Matched(length) => (p, t) = (p + length, t + 1),
            One::Failed => match retry {
                Some((star, start)) => {
                    (p, t) = (star, start + 1);
                    retry = Some((star, start + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

enum One {
    Star,
    /// The letter matches this many of the pattern.
    Matched(usize),
    Failed,
}

fn match_one(pattern: &[char], letter: char) -> One {
    let matched = |yes: bool, length| {
        if yes {
            One::Matched(length)
        } else {
            One::Failed
        }
    };
    match pattern {
        [] => One::Failed,
        ['*', ..] => One::Star,
        ['?', ..] => One::Matched(1),
        ['[', rest @ ..] => match bracket(rest, letter) {
            Some((yes, length)) => matched(yes, length + 1),
            None => matched(letter == '[', 1),
        },
        [literal, ..] => matched(*literal == letter, 1),
    }
}

/// Matches what follows a `[`: whether it has the letter, and its length with the `]`; `None` where
/// there is no end.
fn bracket(pattern: &[char], letter: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.first(), Some('!' | '^'));
    let first = usize::from(negated);
    let mut at = first;
    let mut found = false;
    loop {
        match *pattern.get(at..)? {
            [] => return None,
            [']', ..] if at > first => return Some((found != negated, at + 1)),
            ['[', ':', ref rest @ ..] if class_at(rest).is_some() => {
                let Class(name, holds) = class_at(rest)?;
                found |= holds(letter);
                at += 2 + name.len();
            }
            [_, '-'] => return Some((false, at)), // a range without its end matches nothing
            [low, '-', high, ..] if high != ']' => {
                found |= (low..=high).contains(&letter);
                at += 3;
            }
            [single, ..] => {
                found |= single == letter;
                at += 1;
            }
        }
    }
}

/// A named class of letters, with the `:]` that ends it.
struct Class(&'static str, fn(char) -> bool);

const CLASSES: [Class; 12] = [
    Class("alnum:]", |c| c.is_ascii_alphanumeric()),
    Class("alpha:]", |c| c.is_ascii_alphabetic()),
    Class("blank:]", |c| matches!(c, ' ' | '\t')),
    Class("cntrl:]", |c| c.is_ascii_control()),
    Class("digit:]", |c| c.is_ascii_digit()),
    Class("graph:]", |c| c.is_ascii_graphic()),
    Class("lower:]", |c| c.is_ascii_lowercase()),
    Class("print:]", |c| c.is_ascii_graphic() || c == ' '),
    Class("punct:]", |c| c.is_ascii_punctuation()),
    Class("space:]", |c| c.is_ascii_whitespace() || c == '\x0b'),
    Class("upper:]", |c| c.is_ascii_uppercase()),
    Class("xdigit:]", |c| c.is_ascii_hexdigit()),
];

/// The class that the pattern begins with.
fn class_at(pattern: &[char]) -> Option<&'static Class> {
    CLASSES.iter().find(|Class(name, _)| {
        let begin = pattern.iter().take(name.len()).copied();
        name.chars().eq(begin)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs_match_as_fnmatch_does() {
        for line in include_str!("../tests/vectors/glob.txt").lines() {
            if line.starts_with("# ") {
                continue;
            }
            let [pattern, text, answer] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not three columns: {line:?}");
            };
            assert_eq!(glob_matches(pattern, text), answer == "yes", "{line}");
        }
    }

    #[test]
    fn long_globs_end_soon() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!glob_matches(&pattern, &"a".repeat(2000)));
    }

    #[test]
    fn filters_parse_as_systemd_parses_them() {
        for (text, label, passes) in [
            ("root=*", "abc", true),
            ("root=*:usr=", "abc", true),
            ("", "abc", true),
            ("root=[", "abc", false),
            ("root=a*b*c*d*e", "abc", false),
            ("root-verity=x y", "abc", true),
            ("root=ABC", "abc", false),
            ("root= abc", "abc", false),
            ("root=abc ", "abc", false),
            ("root=a\\bc", "abc", true),
            ("root=a\\\\bc", "abc", true),
            ("root=??c", "abc", true),
            ("root=gr?n", "grün", false),
            ("root=gr??n", "grün", true),
            ("root=gr[ü]?n", "grün", true),
            ("root=\"abc\"", "abc", true),
            ("root='abc'", "abc", true),
            ("root=\"a:b\"", "a:b", true),
            ("root=ab[c]", "abc", true),
            ("root=[[\\:alpha\\:]]bc", "abc", true),
            ("root\\=abc", "abc", true),
            ("ro\\\\ot=abc", "abc", true),
            ("root=abc=", "abc", true),
            ("root=", "abc", false),
            ("root=", "", true),
            ("root=a\\\\\\\\bc", "abc", false),
            ("root=a\\\\\\\\bc", "a\\bc", true),
        ] {
            let filter: ImageFilter = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                filter.matches(Designator::Root, label),
                passes,
                "{text} {label}"
            );
            assert_eq!(filter.to_string().parse(), Ok(filter), "{text}");
        }
    }

    #[test]
    fn verity_partitions_go_by_their_data() {
        let filter: ImageFilter = "root=a*:usr-verity=b".parse().unwrap();
        for (designator, label, passes) in [
            (Designator::RootVerity, "a1", true),
            (Designator::RootVeritySig, "b", false),
            (Designator::UsrVerity, "b", true),
            (Designator::UsrVerity, "a", false),
            (Designator::UsrVeritySig, "a", true),
            (Designator::Usr, "c", true),
        ] {
            assert_eq!(filter.matches(designator, label), passes, "{designator}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let syntax = |rule: &str| FilterError::Syntax(rule.into());
        let designator = |name: &str| FilterError::Designator(name.into());
        for (text, error) in [
            ("root", syntax("root")),
            (":", syntax("")),
            ("root=x:", syntax("")),
            ("root=a=b", syntax("root=a=b")),
            ("root==abc", syntax("root==abc")),
            ("root=a\\=bc", syntax("root=a=bc")),
            ("root=[[:alpha:]]bc", syntax("alpha")),
            ("*", syntax("*")),
            (" root=x", designator(" root")),
            ("root = x", designator("root ")),
            ("=x", designator("")),
            ("foo=x", designator("foo")),
            ("linux-generic=x", designator("linux-generic")),
            ("root=abc\\", FilterError::Unfinished("root=abc\\".into())),
            ("root='abc", FilterError::Unfinished("root='abc".into())),
            ("root=a:root=b", FilterError::Duplicate(Designator::Root)),
        ] {
            assert_eq!(text.parse::<ImageFilter>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_says_all(glob in "[a:=\"'\\\\*]{0,8}", other in ".{0,5}") {
            let filter = ImageFilter([(Designator::Root, glob), (Designator::Var, other)].into());
            prop_assert_eq!(filter.to_string().parse(), Ok(filter));
        }
    }
}
