//! How fast data is encrypted, beside `openssl speed` with as many processes as there are
//! processors: what the processors can do.
//!
//! Arguments: MiB to encrypt (4096), bytes of a sector (4096).

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::process::Command;
use std::thread;
use std::time::Instant;

use blockdev::io::{ReadAt, WriteAt};
use image_specs::luks_header::Segment;
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::VolumeKey;
use luks::bulk::{Cipher, copy};

/// Data that costs nothing to read and to write.
struct Nothing;

impl ReadAt for Nothing {
    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Ok(())
    }
}

impl WriteAt for Nothing {
    fn write_all_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mib: u64 = arguments.next().as_deref().unwrap_or("4096").parse()?;
    let sector: u64 = arguments.next().as_deref().unwrap_or("4096").parse()?;
    let segment = Segment {
        kind: "crypt".to_owned(),
        offset: Bytes::ZERO,
        size: None,
        cipher: "aes-xts-plain64".to_owned(),
        sector_size: SectorSize::new(sector).ok_or("no such sector size")?,
        iv_tweak: 0,
        integrity: None,
        flags: Vec::new(),
    };
    let cipher = Cipher::new(&VolumeKey::generate(64)?, &segment)?;
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let whole = [Extent::new(Bytes::ZERO, Bytes::mib(mib))];
    let start = Instant::now();
    copy(&cipher, &Nothing, &mut Nothing, &whole, threads)?;
    let ours = f64::from(u32::try_from(mib)?) / start.elapsed().as_secs_f64();
    let theirs = openssl(threads, sector)?;
    println!(
        "ours {ours:.0} MiB/s, openssl {theirs:.0} MiB/s with {threads} processes: {:.0} %",
        ours / theirs * 100.0
    );
    Ok(())
}

/// MiB a second of all processes together.
fn openssl(processes: NonZeroUsize, block: u64) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("openssl")
        .args(["speed", "-mr", "-seconds", "3", "-evp", "aes-256-xts"])
        .args([
            "-multi",
            &processes.to_string(),
            "-bytes",
            &block.to_string(),
        ])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().rev().find(|line| line.contains("XTS"));
    let speed = line.and_then(|line| line.rsplit(':').next());
    Ok(speed.ok_or("openssl tells no speed")?.parse::<f64>()? / 1_048_576.0)
}
