//! `--list` and `--mtree`: the files of an image as text.

use std::io::Write;
use std::path::Path;

use filetree::mtree;

use super::DissectArgs;
use super::files::Files;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// `--list`: every path, directories with a slash behind.
pub(super) fn list(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Exit, Failure> {
    let tree = Files::open(args, ui, path)?.tree()?;
    let mut output = ui.output();
    for (path, id) in tree.walk().filter(|(path, _)| !path.is_empty()) {
        output.write_all(&path)?;
        let end: &[u8] = match tree.inode(id).entries() {
            Some(_) => b"/\n",
            None => b"\n",
        };
        output.write_all(end)?;
    }
    output.flush()?;
    Ok(Exit::Ok)
}

/// `--mtree`: every file with what describes it.
pub(super) fn mtree(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Exit, Failure> {
    let tree = Files::open(args, ui, path)?.tree()?;
    let mut output = ui.output();
    mtree::mtree(&tree, args.copying.mtree_hash.unwrap_or(true), &mut output)?;
    output.flush()?;
    Ok(Exit::Ok)
}
