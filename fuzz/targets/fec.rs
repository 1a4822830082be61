//! Parity: superblocks with areas that lie, and images with any damage. What is written is what was
//! there before the damage.
//!
//! Input: roots, the end of the hash device, a superblock; or an even number of bytes of damage.
#![no_main]

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use image_specs::units::Bytes;
use image_specs::verity::Superblock;
use libfuzzer_sys::fuzz_target;
use veritysetup::fec::{self, Layout, Place, Roots, Sources};
use veritysetup::{BlockSize, Params, RootHash, Salt, tree};

const BLOCK: usize = 512;

struct Image {
    params: Params,
    root: RootHash,
    layout: Layout,
    data: Vec<u8>,
    hash: Vec<u8>,
    parity: Vec<u8>,
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let data: Vec<u8> = (0..300 * BLOCK).map(|at| (at / 7 % 251) as u8).collect();
        let block = BlockSize::new(512).expect("a block");
        let size = Bytes::new(data.len() as u64);
        let params = Params::for_data(size, (block, block), Salt::default(), uuid::Uuid::nil());
        let params = params.expect("parameters");
        let (mut hash, mut parity) = (Vec::new(), Vec::new());
        let one = NonZeroUsize::MIN;
        let root = tree::build(&params, &data, &mut hash, one).expect("a tree");
        let layout = Layout::of_tree(&params, Roots::DEFAULT).expect("a layout");
        fec::encode(&layout, (&data, &hash), &mut parity, one).expect("parity");
        Image {
            params,
            root,
            layout,
            data,
            hash,
            parity,
        }
    })
}

/// Numbers that make no sense are refused, and others hang together.
fn layout(input: &[u8]) {
    let Some((head, superblock)) = input.split_first_chunk::<9>() else {
        return;
    };
    let (Ok(roots), Ok(Some(superblock))) =
        (Roots::new(head[0].into()), Superblock::parse(superblock))
    else {
        return;
    };
    let mut end = [0; 8];
    end.copy_from_slice(&head[1..]);
    let end = u64::from_le_bytes(end);
    let Ok(params) = Params::from_superblock(&superblock) else {
        return;
    };
    if let Ok(layout) = Layout::new(&params, roots, Bytes::new(end)) {
        assert!(layout.hash_end().get() <= end && layout.blocks() >= params.data_blocks);
        let words = 255 - u64::from(roots.get());
        let rounds = layout.blocks().div_ceil(words);
        let size = rounds * params.data_block.get() * u64::from(roots.get());
        assert_eq!(layout.size().get(), size);
    }
}

fn damage(edits: &[[u8; 4]]) {
    let good = image();
    let mut parts = [good.data.clone(), good.hash.clone(), good.parity.clone()];
    for [part, high, low, value] in edits {
        let bytes = &mut parts[usize::from(part % 3)];
        let at = usize::from(part / 3) << 16 | usize::from(*high) << 8 | usize::from(*low);
        let size = bytes.len();
        bytes[at % size] ^= value;
    }
    let [data, hash, parity] = &parts;
    let sources = Sources {
        params: &good.params,
        root: &good.root,
        layout: &good.layout,
        data,
        hash,
        parity,
    };
    let repaired = RefCell::new((data.clone(), hash.clone()));
    let outcome = fec::repair(&sources, NonZeroUsize::MIN, &mut |place, bytes| {
        let mut repaired = repaired.borrow_mut();
        let (target, before, offset) = match place {
            Place::Data(offset) => (&mut repaired.0, &good.data, offset as usize),
            Place::Hash(offset) => (&mut repaired.1, &good.hash, offset as usize),
            Place::Nowhere => panic!("zeros are not wrong"),
        };
        assert_eq!(bytes, &before[offset..offset + BLOCK]);
        target[offset..offset + BLOCK].copy_from_slice(bytes);
        Ok(())
    });
    let outcome = outcome.expect("all can be read");
    let repaired = repaired.into_inner();
    let tree = |bytes: &Vec<u8>| bytes[BLOCK..].to_vec();
    let whole = repaired.0 == good.data && tree(&repaired.1) == tree(&good.hash);
    assert_eq!(outcome.lost == 0, whole);
}

fuzz_target!(|input: &[u8]| {
    layout(input);
    let (edits, _) = input.as_chunks::<4>();
    damage(&edits[..edits.len().min(200)]);
});
