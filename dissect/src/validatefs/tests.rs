use super::*;

const HOME: &str = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";

fn taken(attribute: Attribute, value: &[u8]) -> Result<Constraints, ConstraintError> {
    let mut constraints = Constraints::default();
    constraints.take(attribute, value)?;
    Ok(constraints)
}

#[test]
fn texts_end_in_nul_or_at_the_end() {
    for (value, labels) in [
        (&b""[..], &[][..]),
        (b"a", &["a"]),
        (b"a\0", &["a"]),
        (b"a\0b", &["a", "b"]),
        (b"a\0b\0", &["a", "b"]),
        (b"\0", &[""]),
        (b"\0\0", &["", ""]),
        (b"a\0\0", &["a", ""]),
    ] {
        let found = taken(Attribute::Label, value).unwrap();
        assert_eq!(found.labels, labels, "{value:?}");
        assert_eq!(found.is_empty(), labels.is_empty());
    }
}

/// The answers of systemd-validatefs 262.1.
#[test]
fn what_makes_no_sense_is_refused() {
    for (attribute, good, bad) in [
        (
            Attribute::MountPoint,
            &["/", "/boot", "/a/b/"][..],
            &[
                &b"foo"[..],
                b"",
                b"./x",
                b"/a/../b",
                b"/a/./b",
                b"/a/.",
                b"/a//b",
                b"/\xff",
                b"/\n",
            ][..],
        ),
        (Attribute::Label, &["x", "ü"], &[b"\xff", b"one\n"]),
        (
            Attribute::Type,
            &[HOME, "933AC7E12EB44F13B8440E14E2AEF915"],
            &[
                b"home",
                b"",
                b"0fc63daf84834772 8e793d69d8477de4",
                b"{933ac7e1-2eb4-4f13-b844-0e14e2aef915}",
            ],
        ),
    ] {
        for text in good {
            assert!(
                !taken(attribute, text.as_bytes()).unwrap().is_empty(),
                "{text}"
            );
        }
        for text in bad {
            let error = taken(attribute, &[text, &b"\0"[..]].concat()).unwrap_err();
            assert!(error.to_string().starts_with(attribute.name()), "{error}");
        }
    }
}

#[test]
fn every_partition_must_be_one_that_is_listed() {
    let home: Uuid = HOME.parse().unwrap();
    let partition = |label: &str, kind| Partition {
        node: "/dev/sda1".into(),
        entry: Some((label.to_owned(), kind)),
    };
    let survey = |labels: &[&str], types: &[Uuid], partitions: &[Partition]| Survey {
        constraints: Constraints {
            mount_points: vec!["/a".into(), "/b".into()],
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            types: types.to_vec(),
        },
        place: "/b".into(),
        partitions: partitions.to_vec(),
    };
    let (one, two) = (partition("one", home), partition("two", Uuid::nil()));
    let none = Partition {
        node: "/dev/sda".into(),
        entry: None,
    };
    for (labels, types, partitions, wrong) in [
        (&[][..], &[][..], &[][..], None),
        (&["x", "one"], &[home], std::slice::from_ref(&one), None),
        (
            &["one"],
            &[],
            &[one.clone(), two.clone()],
            Some("labelled \"one\", but /dev/sda1 is labelled \"two\""),
        ),
        (
            &[],
            &[home],
            std::slice::from_ref(&two),
            Some("has type 00000000-0000-0000-0000-000000000000"),
        ),
        (&["one", "two"], &[], &[one.clone(), two.clone()], None),
        (&["one"], &[], &[none], Some("/dev/sda is none")),
    ] {
        let result = survey(labels, types, partitions).check();
        match wrong {
            None => assert_eq!(result, Ok(())),
            Some(text) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(text), "{error}");
            }
        }
    }
    let mut elsewhere = survey(&[], &[], &[]);
    elsewhere.place = "/c".into();
    let error = elsewhere.check().unwrap_err().to_string();
    assert!(
        error.ends_with("on /a or /b only, but is mounted on /c"),
        "{error}"
    );
}

#[test]
fn places_are_looked_for_below_the_root() {
    for (place, root, text) in [
        ("/proc/self", "/", "/proc/self is not a mount point"),
        ("/proc", "/nope", "/proc is not below the root /nope"),
        ("/nope", "/", "cannot examine /nope"),
        ("/proc/self/root/../..", "/proc", "cannot examine"),
    ] {
        let error = survey(Path::new(place), Path::new(root), &Sysfs::default());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(text), "{place}: {error}");
    }
    let proc = survey(Path::new("/proc"), Path::new("/"), &Sysfs::default()).unwrap();
    assert_eq!(proc.place, Path::new("/proc"));
    assert!(proc.constraints.is_empty());
    let proc = survey(Path::new("/proc/"), Path::new("/proc/"), &Sysfs::default()).unwrap();
    assert_eq!(proc.place, Path::new("/"));
}
