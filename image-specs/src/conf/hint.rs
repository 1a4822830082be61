//! "Did you mean": the known name that is nearest to a misspelt one. Pure.

/// The name that is meant by a misspelt `wrong`, if one is near enough to be worth a hint.
pub fn closest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 64; // nothing that is known comes near this
    if wrong.len() > LONGEST {
        return None;
    }
    let wrong = wrong.to_ascii_lowercase();
    let near = |name: &&'a str| (distance(&wrong, &name.to_ascii_lowercase()), *name);
    let (steps, name) = known.iter().map(near).min_by_key(|(steps, _)| *steps)?;
    (steps <= 1 + name.len() / 5).then_some(name)
}

/// The number of letters to insert, delete or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        row[0] = line + 1;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_hinted() {
        let known = ["Type", "SizeMinBytes", "SizeMaxBytes", "CopyFiles"];
        for (wrong, hint) in [
            ("type", Some("Type")),
            ("Typ", Some("Type")),
            ("SizeMinByte", Some("SizeMinBytes")),
            ("SizeMin", None),
            ("CopyFile", Some("CopyFiles")),
            ("Copyfiles", Some("CopyFiles")),
            ("Nonsense", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, &known), hint, "{wrong}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
