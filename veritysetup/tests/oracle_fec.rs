//! Hundreds of parameter sets, from a seeded list, against the `veritysetup` program: the same bytes
//! of superblock, tree and parity, and each accepts those of the other.
#![allow(missing_docs)]

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_specs::units::Bytes;
use uuid::Uuid;
use veritysetup::fec::{self, Layout, Roots};
use veritysetup::{BlockSize, HashAlgorithm, HashType, Levels, Params, Salt, tree, verify};

const SETS: u64 = 240;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap()]
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[derive(Debug)]
struct Case {
    params: Params,
    roots: Option<Roots>,
    /// Where parity is in its file.
    offset: u64,
    /// Whether parity lies behind the tree.
    together: bool,
}

fn case(numbers: &mut Numbers) -> Case {
    let size = numbers.of(&[512, 1024, 2048, 4096, 4096, 4096, 8192]);
    let other = numbers.of(&[512, 1024, 4096]);
    let protected = numbers.below(5) > 0;
    let salt = numbers.of(&[0, 1, 32, 32, 256]);
    let params = Params {
        hash_type: numbers.of(&[HashType::Normal, HashType::Normal, HashType::ChromeOs]),
        algorithm: match numbers.below(2) {
            0 => HashAlgorithm::Sha256,
            _ => numbers.of(&HashAlgorithm::ALL),
        },
        data_block: BlockSize::new(size).unwrap(),
        hash_block: BlockSize::new(if protected { size } else { other }).unwrap(),
        data_blocks: match numbers.below(4) {
            0 => 1 + numbers.below(4),
            1 => 1 + numbers.below(70),
            _ => 1 + numbers.below(600),
        },
        salt: Salt::new(numbers.bytes(salt)).unwrap(),
        superblock: (numbers.below(5) > 0).then(|| Uuid::from_u128(u128::from(numbers.next()) + 1)),
        hash_offset: Bytes::new(numbers.of(&[0, 0, 0, 512, 4096, 16384])),
    };
    Case {
        roots: protected.then(|| Roots::new(numbers.of(&[2, 2, 2, 3, 8, 24])).unwrap()),
        offset: size * numbers.of(&[0, 0, 1, 7]),
        // Without a superblock, veritysetup places a tree at an odd offset before it, and then parity
        // too far in front.
        together: numbers.below(6) == 0
            && (params.superblock.is_some() || params.hash_offset.is_multiple_of(size)),
        params,
    }
}

struct Files {
    data: PathBuf,
    hash: PathBuf,
    parity: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str, together: bool) -> Self {
        let path = |end: &str| folder.join(format!("{name}.{end}"));
        Self {
            data: folder.join("data"),
            hash: path("hash"),
            parity: path(if together { "hash" } else { "parity" }),
        }
    }

    fn read(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        (fs::read(&self.hash).unwrap(), fs::read(&self.parity).ok())
    }
}

impl Case {
    /// Where parity begins.
    fn parity_offset(&self) -> u64 {
        let tree = Levels::new(&self.params).unwrap().hash_size().get();
        match self.together {
            true => tree + self.offset,
            false => self.offset,
        }
    }

    fn options(&self, files: &Files, format: bool) -> Vec<String> {
        let params = &self.params;
        let mut options = vec![
            format!("--hash={}", params.algorithm),
            format!("--format={}", params.hash_type.number()),
            format!("--data-block-size={}", params.data_block.get()),
            format!("--hash-block-size={}", params.hash_block.get()),
            format!("--data-blocks={}", params.data_blocks),
            format!("--hash-offset={}", params.hash_offset.get()),
            format!("--salt={}", params.salt),
        ];
        match params.superblock {
            Some(uuid) if format => options.push(format!("--uuid={uuid}")),
            Some(_) => {}
            None => options.push("--no-superblock".to_owned()),
        }
        if let Some(roots) = self.roots {
            options.push(format!("--fec-device={}", files.parity.display()));
            options.push(format!("--fec-roots={}", roots.get()));
            options.push(format!("--fec-offset={}", self.parity_offset()));
        }
        options
    }

    fn run(&self, action: &str, files: &Files, root: Option<&str>) -> String {
        let mut command = Command::new("veritysetup");
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(self.options(files, action == "format"))
            .args([
                action.as_ref(),
                files.data.as_os_str(),
                files.hash.as_os_str(),
            ])
            .args(root);
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{action} {self:?}: {errors}");
        // It may find damage that parity repairs and call that success. Of large blocks it warns.
        let fine = |line: &str| line.starts_with("WARNING: Kernel cannot activate");
        assert!(errors.lines().all(fine), "{action} {self:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn layout(&self, roots: Roots) -> Layout {
        match self.together {
            true => Layout::new(&self.params, roots, Bytes::new(self.parity_offset())),
            false => Layout::of_tree(&self.params, roots),
        }
        .unwrap()
    }

    fn build(&self, files: &Files, threads: NonZeroUsize) -> String {
        let data = File::open(&files.data).unwrap();
        let create = |path: &Path| {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .create(true)
                .open(path)
                .unwrap()
        };
        let mut hash = create(&files.hash);
        let root = tree::build(&self.params, &data, &mut hash, threads).unwrap();
        if let Some(roots) = self.roots {
            let layout = self.layout(roots);
            let mut bytes = Vec::new();
            fec::encode(&layout, (&data, &hash), &mut bytes, threads).unwrap();
            assert_eq!(bytes.len(), usize::try_from(layout.size().get()).unwrap());
            let parity = create(&files.parity);
            std::os::unix::fs::FileExt::write_all_at(&parity, &bytes, self.parity_offset())
                .unwrap();
        }
        verify::verify(&self.params, &data, &hash, &root, threads).unwrap();
        root.to_string()
    }
}

#[test]
fn many_random_sets_are_those_of_veritysetup() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(0x5eed_0000_0000_0004);
    for index in 0..SETS {
        let case = case(&mut numbers);
        let threads = NonZeroUsize::new(1 + usize::try_from(index % 3).unwrap()).unwrap();
        let ours = Files::new(folder.path(), "ours", case.together);
        let theirs = Files::new(folder.path(), "theirs", case.together);
        for files in [&ours, &theirs] {
            let _ = fs::remove_file(&files.hash);
            let _ = fs::remove_file(&files.parity);
            if case.together {
                // veritysetup cannot read a gap in front of parity that is not there yet.
                let file = File::create_new(&files.hash).unwrap();
                file.set_len(case.parity_offset()).unwrap();
            }
        }
        let size = case.params.data_blocks * case.params.data_block.get();
        fs::write(&ours.data, numbers.bytes(size)).unwrap();
        let said = case.run("format", &theirs, None);
        let root = case.build(&ours, threads);
        assert!(said.contains(&root), "{case:?}: {said}");
        assert!(ours.read() == theirs.read(), "{case:?}");
        case.run("verify", &ours, Some(&root));
    }
}
