//! Command lines and what they ask for.

use super::*;

fn parse(line: &str) -> Result<Action, String> {
    let command = Chosen::augment_args(clap::Command::new("dissect"));
    let line = ["dissect"].into_iter().chain(line.split_whitespace());
    let matches = command.args_override_self(true).try_get_matches_from(line);
    let chosen = Chosen::from_arg_matches(&matches.map_err(|error| error.to_string())?);
    let chosen = chosen.map_err(|error| error.to_string())?;
    chosen.action().map_err(|failure| failure.to_string())
}

#[test]
fn the_last_command_counts() {
    let image = || PathBuf::from("i");
    let cases = [
        ("i", Action::Show { image: image() }),
        ("--list i", Action::List { image: image() }),
        ("i -l", Action::List { image: image() }),
        ("--list --mtree i", Action::Mtree { image: image() }),
        ("--mtree i --list", Action::List { image: image() }),
        ("--list --mtree --list i", Action::List { image: image() }),
        ("-x i --validate", Action::Validate { image: image() }),
        ("--discover", Action::Discover),
        (
            "diff i j",
            Action::Diff {
                old: image(),
                new: "j".into(),
            },
        ),
        (
            "diff",
            Action::Show {
                image: "diff".into(),
            },
        ),
        (
            "--copy-from i /a -",
            Action::CopyFrom {
                image: image(),
                source: "/a".into(),
                target: None,
            },
        ),
        (
            "-x i /a b",
            Action::CopyFrom {
                image: image(),
                source: "/a".into(),
                target: Some("b".into()),
            },
        ),
        (
            "-a i /a",
            Action::CopyTo {
                image: image(),
                source: None,
                target: "/a".into(),
            },
        ),
        (
            "-a i b /a",
            Action::CopyTo {
                image: image(),
                source: Some("b".into()),
                target: "/a".into(),
            },
        ),
        (
            "-M i d",
            Action::Mount {
                image: image(),
                directory: "d".into(),
                make: true,
            },
        ),
    ];
    for (line, action) in cases {
        assert_eq!(parse(line), Ok(action), "{line}");
    }
}

#[test]
fn nothing_after_with_is_an_option() {
    for (line, command) in [
        ("--with i", &[][..]),
        ("--with i ls -l", &["ls", "-l"]),
        ("i --with ls --mtree --with", &["ls", "--mtree", "--with"]),
        ("--list --with i -- x", &["--", "x"]),
    ] {
        let expected = Action::With {
            image: "i".into(),
            command: command.iter().map(OsString::from).collect(),
        };
        assert_eq!(parse(line), Ok(expected), "{line}");
    }
    // As in systemd-dissect.
    let image = Action::With {
        image: "-r".into(),
        command: vec!["i".into()],
    };
    assert_eq!(parse("--with -r i"), Ok(image));
}

#[test]
fn too_many_and_too_few_arguments_are_refused() {
    for (line, says) in [
        ("", "needs more arguments"),
        ("--list", "--list needs more arguments"),
        ("--list i j", "j is one argument too many"),
        ("--discover i", "i is one argument too many"),
        ("-x i", "--copy-from needs more arguments"),
        ("-M i", "-M needs more arguments"),
        ("--copy-from i a b c", "c is one argument too many"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(says), "{line}: {error}");
    }
}
