//! Builds a hash tree and says how long it took: `hash_tree DATA HASH [THREADS]`.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::Instant;

use image_specs::units::Bytes;
use uuid::Uuid;
use veritysetup::{BlockSize, Params, Salt, tree};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(data), Some(hash)) = (args.next(), args.next()) else {
        return Err("usage: hash_tree DATA HASH [THREADS]".into());
    };
    let threads = match args.next() {
        Some(text) => text.parse()?,
        None => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let begin = Instant::now();
    let data = File::open(data)?;
    let size = Bytes::new(data.metadata()?.len());
    let sizes = (BlockSize::DEFAULT, BlockSize::DEFAULT);
    let params = Params::for_data(size, sizes, Salt::new([0; 32])?, Uuid::nil())?;
    let root = tree::build(&params, &data, &mut File::create(hash)?, threads)?;
    let seconds = begin.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{root}\n{seconds:.3} s")?;
    Ok(())
}
