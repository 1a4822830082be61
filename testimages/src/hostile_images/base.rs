//! Sound images of one small tree, by the programs that make such file systems.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A folder with a small tree, and images of it.
#[derive(Debug)]
pub struct Base {
    folder: TempDir,
}

impl Base {
    /// Plants the tree: `dir/`, `dir/file`, `dir/second`, `big` (20 KB), `link`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/file"), b"first\n").unwrap();
        fs::write(tree.join("dir/second"), b"second\n").unwrap();
        let big: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        fs::write(tree.join("big"), big).unwrap();
        symlink("dir/file", tree.join("link")).unwrap();
        Self { folder }
    }

    /// The folder with the tree.
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// Runs a program with these words, of which `IMAGE` and `TREE` stand for the paths, on a file of
    /// `size` zeros (or none), and returns what is in the file then.
    pub fn make(&self, size: Option<usize>, program: &str, words: &[&str]) -> Vec<u8> {
        let image = self.folder.path().join("image");
        fs::remove_file(&image).ok();
        if let Some(size) = size {
            fs::write(&image, vec![0; size]).unwrap();
        }
        let mut command = Command::new(program);
        for word in words {
            match *word {
                "IMAGE" => command.arg(&image),
                "TREE" => command.arg(self.tree()),
                word => command.arg(word),
            };
        }
        // Debian keeps the mkfs programs where only root looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let output = command
            .env("MTOOLS_SKIP_CHECK", "1")
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; is its package installed?"));
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::read(&image).unwrap()
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::new()
    }
}
