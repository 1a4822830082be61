//! What is printed of a tree, line by line as veritysetup does it.

use std::path::Path;

use veritysetup::fec::Layout;
use veritysetup::{Levels, Params, RootHash};

use crate::exit::{Exit, Failure};

/// What is known of a tree.
pub(super) struct Header<'a> {
    pub(super) path: &'a Path,
    pub(super) params: &'a Params,
    pub(super) root: Option<&'a RootHash>,
    pub(super) parity: Option<&'a Layout>,
    /// Whether parity lies on the hash device.
    pub(super) parity_with_tree: bool,
    /// Where the parity begins.
    pub(super) parity_offset: u64,
}

impl Header<'_> {
    pub(super) fn text(&self) -> Result<String, Failure> {
        let params = self.params;
        let levels = Levels::new(params)?;
        let size = levels.hash_size().get();
        let block = params.hash_block.get();
        let tree = size / block - levels.first_block();
        let uuid = params.superblock.map(|uuid| uuid.to_string());
        let mut text = format!("VERITY header information for {}.\n", self.path.display());
        text += &line("UUID:", &uuid.unwrap_or_default());
        text += &line("Hash type:", &params.hash_type.number().to_string());
        text += &line("Data blocks:", &params.data_blocks.to_string());
        text += &line("Data block size:", &bytes(params.data_block.get()));
        text += &line("Hash blocks:", &tree.to_string());
        text += &line("Hash block size:", &bytes(block));
        text += &line("Hash algorithm:", params.algorithm.name());
        if let Some(layout) = self.parity {
            let blocks = layout.size().get() / block;
            text += &left("FEC RS roots:", &layout.roots().get().to_string());
            text += &left("FEC blocks:", &blocks.to_string());
        }
        text += &line("Salt:", &params.salt.to_string());
        if let Some(root) = self.root {
            text += &left("Root hash:", &root.to_string());
        }
        let parity = self.parity.map(|layout| layout.size().get());
        if params.hash_offset.is_zero() {
            let behind = parity.filter(|_| self.parity_with_tree).unwrap_or(0);
            text += &line("Hash device size:", &bytes(size + behind));
        }
        if let Some(size) = parity.filter(|_| self.parity_offset == 0) {
            text += &line("FEC device size:", &bytes(size));
        }
        Ok(text)
    }
}

fn line(label: &str, value: &str) -> String {
    format!("{label:<16} \t{value}\n")
}

/// Some values begin a column further left.
fn left(label: &str, value: &str) -> String {
    format!("{label:<16}\t{value}\n")
}

fn bytes(count: u64) -> String {
    format!("{count} [bytes]")
}

/// The last line of `--verbose`.
pub(super) fn ending(exit: Exit) -> String {
    let (code, why) = match exit {
        Exit::Ok => return "Command successful.".to_owned(),
        Exit::Refused => (-2, "no permission or bad passphrase"),
        Exit::NoDevice => (-4, "wrong device or file specified"),
        Exit::InUse => (-5, "device already exists or device is busy"),
        _ => (-1, "wrong or missing parameters"),
    };
    format!("Command failed with code {code} ({why}).")
}
