//! The commands with their options and arguments, as a table.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::Action;

/// A command's option.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) id: &'static str,
    pub(super) long: Option<&'static str>,
    pub(super) short: Option<char>,
    pub(super) help: &'static str,
    /// The arguments that it takes, for messages.
    pub(super) takes: &'static str,
    pub(super) parse: fn(&mut Words) -> Option<Action>,
}

/// Words that are handed out one by one.
pub(super) struct Words(pub(super) std::vec::IntoIter<OsString>);

pub(super) const IMAGE: &str = "IMAGE";

/// The command after which everything is an argument.
pub(super) const WITH: &str = "with";

/// Every command.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        id: "list",
        long: Some("list"),
        short: Some('l'),
        help: "List all files and directories of the image",
        takes: IMAGE,
        parse: |words| {
            Some(Action::List {
                image: words.path()?,
            })
        },
    },
    Command {
        id: "mtree",
        long: Some("mtree"),
        short: None,
        help: "Print an mtree manifest of the image's files",
        takes: IMAGE,
        parse: |words| {
            Some(Action::Mtree {
                image: words.path()?,
            })
        },
    },
    Command {
        id: "copy-from",
        long: Some("copy-from"),
        short: Some('x'),
        help: "Copy a file or directory from the image: IMAGE PATH [TARGET]",
        takes: "IMAGE PATH [TARGET]",
        parse: |words| {
            Some(Action::CopyFrom {
                image: words.path()?,
                source: words.path()?,
                target: words.stream(),
            })
        },
    },
    Command {
        id: "copy-to",
        long: Some("copy-to"),
        short: Some('a'),
        help: "Copy a file or directory into the image: IMAGE [SOURCE] PATH",
        takes: "IMAGE [SOURCE] PATH",
        parse: |words| {
            let image = words.path()?;
            let first = words.path()?;
            Some(match words.path() {
                None => Action::CopyTo {
                    image,
                    source: None,
                    target: first,
                },
                Some(target) => Action::CopyTo {
                    image,
                    source: Some(first).filter(|source| source != OsStr::new("-")),
                    target,
                },
            })
        },
    },
    Command {
        id: "cat",
        long: Some("cat"),
        short: None,
        help: "Print a file of the image: IMAGE PATH",
        takes: "IMAGE PATH",
        parse: |words| {
            Some(Action::Cat {
                image: words.path()?,
                path: words.path()?,
            })
        },
    },
    Command {
        id: "make-archive",
        long: Some("make-archive"),
        short: None,
        help: "Make a tar archive of the image's files: IMAGE [TARGET]",
        takes: "IMAGE [TARGET]",
        parse: |words| {
            Some(Action::MakeArchive {
                image: words.path()?,
                target: words.stream(),
            })
        },
    },
    Command {
        id: "validate",
        long: Some("validate"),
        short: None,
        help: "Only say whether the image is sound: exit with 0 and print OK, or fail",
        takes: IMAGE,
        parse: |words| {
            Some(Action::Validate {
                image: words.path()?,
            })
        },
    },
    Command {
        id: "mount",
        long: Some("mount"),
        short: Some('m'),
        help: "Mount the image to a directory: IMAGE PATH",
        takes: "IMAGE PATH",
        parse: |words| {
            Some(Action::Mount {
                image: words.path()?,
                directory: words.path()?,
                make: false,
            })
        },
    },
    Command {
        id: "mount-mkdir",
        long: None,
        short: Some('M'),
        help: "Shortcut for --mount --mkdir",
        takes: "IMAGE PATH",
        parse: |words| {
            Some(Action::Mount {
                image: words.path()?,
                directory: words.path()?,
                make: true,
            })
        },
    },
    Command {
        id: "umount",
        long: Some("umount"),
        short: Some('u'),
        help: "Unmount the image from a directory: PATH",
        takes: "PATH",
        parse: |words| {
            Some(Action::Umount {
                directory: words.path()?,
                remove: false,
            })
        },
    },
    Command {
        id: "umount-rmdir",
        long: None,
        short: Some('U'),
        help: "Shortcut for --umount --rmdir",
        takes: "PATH",
        parse: |words| {
            Some(Action::Umount {
                directory: words.path()?,
                remove: true,
            })
        },
    },
    Command {
        id: "attach",
        long: Some("attach"),
        short: None,
        help: "Attach the image to a loop device",
        takes: IMAGE,
        parse: |words| {
            Some(Action::Attach {
                image: words.path()?,
            })
        },
    },
    Command {
        id: "detach",
        long: Some("detach"),
        short: None,
        help: "Detach an image from its loop device: PATH",
        takes: "PATH",
        parse: |words| {
            Some(Action::Detach {
                path: words.path()?,
            })
        },
    },
    Command {
        id: WITH,
        long: Some(WITH),
        short: None,
        help: "Mount the image, run a command in it, unmount: IMAGE [COMMAND…]",
        takes: "IMAGE [COMMAND…]",
        parse: |words| {
            Some(Action::With {
                image: words.path()?,
                command: words.rest(),
            })
        },
    },
    Command {
        id: "discover",
        long: Some("discover"),
        short: None,
        help: "List the images in the directories made for them",
        takes: "no argument",
        parse: |_| Some(Action::Discover),
    },
    Command {
        id: "shift",
        long: Some("shift"),
        short: None,
        help: "Shift the owners of all files to another range: IMAGE UIDBASE",
        takes: "IMAGE UIDBASE",
        parse: |words| {
            Some(Action::Shift {
                image: words.path()?,
                base: words.next()?,
            })
        },
    },
];

pub(super) static SHOW: Command = Command {
    id: "show",
    long: None,
    short: None,
    help: "",
    takes: IMAGE,
    parse: |words| {
        Some(Action::Show {
            image: words.path()?,
        })
    },
};

pub(super) static DIFF: Command = Command {
    id: "diff",
    long: None,
    short: None,
    help: "",
    takes: "diff IMAGE IMAGE",
    parse: |words| {
        words.next()?;
        Some(Action::Diff {
            old: words.path()?,
            new: words.path()?,
        })
    },
};

impl Words {
    pub(super) fn next(&mut self) -> Option<OsString> {
        self.0.next()
    }

    fn path(&mut self) -> Option<PathBuf> {
        self.next().map(PathBuf::from)
    }

    /// A path that may be missing or `-`.
    fn stream(&mut self) -> Option<PathBuf> {
        self.path().filter(|path| path != OsStr::new("-"))
    }

    fn rest(&mut self) -> Vec<OsString> {
        self.0.by_ref().collect()
    }
}
