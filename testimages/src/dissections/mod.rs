//! Images to take apart, and options to do so, to compare with the newest systemd-dissect. Text only;
//! `peer_dissect` runs them.

mod cases;
mod images;

use std::fmt::Write as _;

/// Where the images are made below the root of the newest systemd.
pub const PLACE: &str = "/var/tmp/ddi-peer-dissect";

/// One run of both tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The image's file name.
    pub image: &'static str,
    /// Options, as a shell takes them; `$NAME` as in the recipes.
    pub options: &'static str,
    /// Variables of the environment, as a shell takes them.
    pub environment: &'static str,
}

/// The script that makes all images in the current folder.
pub fn recipe() -> String {
    let mut script = include_str!("prelude.sh").to_owned();
    script.push_str("inputs\n");
    for (name, recipe) in images::IMAGES {
        writeln!(script, "# {name}\n{recipe}").expect("text takes any text");
    }
    script
}

/// Every image shown, validated and listed as it is, then the matrix of policies, filters and other options.
pub fn cases() -> Vec<Case> {
    let plain = images::IMAGES.iter().flat_map(|(image, _)| {
        ["--json=short", "--validate", "--list", "--mtree"].map(|options| Case {
            image,
            options,
            environment: "",
        })
    });
    plain.chain(cases::cases()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_enough_images_and_each_case_has_one() {
        let names: BTreeSet<_> = images::IMAGES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), images::IMAGES.len());
        assert!(names.len() >= 60);
        assert!(cases().iter().all(|case| names.contains(case.image)));
    }
}
