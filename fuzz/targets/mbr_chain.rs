//! Tables with logical partitions: the data are the sectors of a disk that is as large as they are,
//! or as the first byte says. What is accepted is sound, and its bytes are read as the same table.
#![no_main]

use std::collections::BTreeMap;
use std::convert::Infallible;

use image_specs::mbr::{Chain, MAX_LINKS, Mbr, MbrError, MbrTable, walk};
use image_specs::units::{Bytes, Lba, SectorSize};
use libfuzzer_sys::fuzz_target;

const SECTOR: usize = 512;

fn read(
    sector: &dyn Fn(u64) -> Option<Vec<u8>>,
    size: Bytes,
) -> Option<Result<MbrTable, MbrError>> {
    let record = Mbr::parse(&sector(0)?)?;
    let chain = record.extended().next().map(|(_, extended)| {
        walk(extended.first, &mut |at: Lba| {
            let bytes = sector(at.get());
            Ok::<_, Infallible>(bytes.and_then(|bytes| Mbr::parse(&bytes)))
        })
        .unwrap_or_default()
    });
    let chain: Chain = chain.unwrap_or_default();
    assert!(chain.links.len() <= MAX_LINKS);
    Some(MbrTable::parse(&record, &chain, (SectorSize::S512, size)))
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, disk)) = data.split_first() else {
        return;
    };
    let mut sectors: Vec<Vec<u8>> = disk.chunks_exact(SECTOR).map(<[u8]>::to_vec).collect();
    if mode & 1 == 0 {
        for sector in &mut sectors {
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
        }
    }
    let at = |at: u64| sectors.get(usize::try_from(at).ok()?).cloned();
    let size = match mode & 2 {
        0 => Bytes::new(disk.len() as u64),
        _ => Bytes::new(1 << 41),
    };
    let Some(Ok(table)) = read(&at, size) else {
        return;
    };
    assert!(table.check(size).is_ok());
    let mut written = BTreeMap::new();
    for sector in table.sectors() {
        let old = at(sector.at.get()).unwrap_or(vec![0; SECTOR]);
        written.insert(sector.at.get(), sector.onto(&old));
    }
    let again = read(&|at| written.get(&at).cloned(), size);
    assert_eq!(again, Some(Ok(table)));
});
