//! Verity sets of a signed image whose parts do not belong together.
//!
//! The image is made by whoever asks, with root, root-verity and root-verity-sig as its first three
//! partitions.

use super::{HostileImage, Verdict, case, put};
use Verdict::{Invalid, Read, Refused};

const SECTOR: usize = 512;
const ENTRY: usize = 128;
/// Where the entries of a table of 128 lie.
const ENTRIES: usize = 2 * SECTOR;

/// The sets, made from a sound one.
pub fn sets(signed: &[u8]) -> Vec<HostileImage> {
    let mut cases = table(signed);
    cases.extend(data(signed));
    cases.extend(signature(signed));
    cases
}

/// Where a partition begins and ends, in bytes.
fn extent(image: &[u8], index: usize) -> (usize, usize) {
    let at = ENTRIES + index * ENTRY;
    let lba = |at: usize| {
        let bytes: [u8; 8] = image[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    (lba(at + 32) * SECTOR, (lba(at + 40) + 1) * SECTOR)
}

/// Changes entries of the table, in both copies, with their checksums.
fn retable(image: &mut [u8], change: impl Fn(&mut [u8])) {
    let end = image.len();
    for (header, entries) in [(SECTOR, ENTRIES), (end - SECTOR, end - 33 * SECTOR)] {
        change(&mut image[entries..entries + 128 * ENTRY]);
        let sum = crc32fast::hash(&image[entries..entries + 128 * ENTRY]);
        put(image, header + 88, &sum.to_le_bytes());
        put(image, header + 16, &[0; 4]);
        let sum = crc32fast::hash(&image[header..header + 92]);
        put(image, header + 16, &sum.to_le_bytes());
    }
}

fn table(image: &[u8]) -> Vec<HostileImage> {
    let set = |what: &str, change: &dyn Fn(&mut [u8]), verdict| {
        case("set", what, image, |image| retable(image, change), verdict)
    };
    let swap = |entries: &mut [u8]| {
        let (data, hash) = entries.split_at_mut(ENTRY);
        data[16..32].swap_with_slice(&mut hash[16..32]);
    };
    let remove = |index: usize| {
        move |entries: &mut [u8]| {
            entries[index * ENTRY..(index + 1) * ENTRY].fill(0);
        }
    };
    let twin = |entries: &mut [u8]| {
        let uuid: [u8; 16] = entries[16..32].try_into().unwrap();
        put(entries, ENTRY + 16, &uuid);
    };
    let overlap = |entries: &mut [u8]| {
        let first: [u8; 8] = entries[32..40].try_into().unwrap();
        put(entries, ENTRY + 32, &first);
    };
    let other = |entries: &mut [u8]| entries[16..32].fill(7);
    let long = |entries: &mut [u8]| put(entries, 40, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let backwards = |entries: &mut [u8]| put(entries, 40, &[1, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        set("UUIDs of data and hash swapped", &swap, Invalid("asks for")),
        set(
            "no data",
            &remove(0),
            Refused("there is a root-verity partition, but no root partition that it belongs to"),
        ),
        set(
            "no hash",
            &remove(1),
            Refused(
                "there is a root-verity-sig partition, but no root-verity partition that it belongs to",
            ),
        ),
        set("one UUID for two partitions", &twin, Invalid("UUID")),
        set(
            "partitions that overlap",
            &overlap,
            Refused("the hash tree has no verity superblock"),
        ),
        set("data with another UUID", &other, Invalid("asks for")),
        set(
            "partition that ends beyond the disk",
            &long,
            Refused("there is a root-verity partition, but no root partition that it belongs to"),
        ),
        set(
            "partition that ends before it begins",
            &backwards,
            Refused("there is a root-verity partition, but no root partition that it belongs to"),
        ),
    ]
}

fn data(image: &[u8]) -> Vec<HostileImage> {
    let (data, data_end) = extent(image, 0);
    let (hash, _) = extent(image, 1);
    let flip = |what: &str, place: usize, verdict| {
        case("set", what, image, |image| image[place] ^= 1, verdict)
    };
    let at = |what: &str, place: usize, bytes: &[u8], verdict| {
        case(
            "set",
            what,
            image,
            |image| put(image, place, bytes),
            verdict,
        )
    };
    vec![
        flip(
            "flipped bit in the first data block",
            data + 1024 + 20,
            Refused("is corrupted"),
        ),
        flip(
            "flipped bit in the last data block",
            data_end - 1,
            Refused("is corrupted"),
        ),
        flip(
            "flipped bit in the top of the tree",
            hash + 4096 + 5,
            Refused("is corrupted"),
        ),
        flip(
            "flipped bit in the salt",
            hash + 90,
            Refused("the data or tree is not that of root hash"),
        ),
        flip(
            "flipped bit in the hash superblock's magic",
            hash,
            Refused("the hash tree has no verity superblock"),
        ),
        at(
            "hash superblock with 2^63 data blocks",
            hash + 72,
            &(1u64 << 63).to_le_bytes(),
            Refused("more than a disk can have"),
        ),
        at(
            "hash superblock with no data blocks",
            hash + 72,
            &[0; 8],
            Refused("there is no data to hash; a verity data partition needs at least one block"),
        ),
        at(
            "hash superblock with data blocks of 3 bytes",
            hash + 64,
            &[3, 0, 0, 0],
            Refused(
                "the verity superblock has blocks of 3 bytes, not a power of two from 512 to 524288",
            ),
        ),
        at(
            "hash superblock with blocks of 2^31 bytes",
            hash + 68,
            &(1u32 << 31).to_le_bytes(),
            Refused(
                "the verity superblock has blocks of 2147483648 bytes, not a power of two from 512 to 524288",
            ),
        ),
        at(
            "hash superblock with an unknown algorithm",
            hash + 32,
            b"md42\0\0",
            Refused("is not a known hash"),
        ),
        at(
            "hash superblock with a salt of 65535 bytes",
            hash + 80,
            &[0xff; 2],
            Refused("the verity superblock has a salt of 65535 bytes, at most 256 are possible"),
        ),
        flip(
            "flipped bit behind the signature's text",
            extent(image, 2).1 - 1,
            Refused("goes on after a NUL byte"),
        ),
    ]
}

fn signature(image: &[u8]) -> Vec<HostileImage> {
    let (start, end) = extent(image, 2);
    let text_end = start
        + image[start..end]
            .iter()
            .position(|byte| *byte == 0)
            .unwrap();
    let fill = |what: &str, text: &[u8], verdict| {
        let change = |image: &mut Vec<u8>| {
            image[start..end].fill(0);
            let length = text.len().min(end - start);
            put(image, start, &text[..length]);
        };
        case("set", what, image, change, verdict)
    };
    let good = image[start..text_end].to_vec();
    let digit = {
        let mut text = good.clone();
        let at = super::find(&text, b"\"rootHash\":\"") + 12;
        text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        text
    };
    vec![
        fill(
            "signature partition of zeros",
            b"",
            Refused("the verity signature is no JSON text"),
        ),
        fill(
            "signature's text cut in half",
            &good[..good.len() / 2],
            Refused("the verity signature is no JSON text"),
        ),
        fill(
            "signature's text is a number",
            b"7",
            Refused("the verity signature is no JSON object"),
        ),
        fill(
            "root hash that is no hex",
            br#"{"rootHash":"zz","signature":""}"#,
            Refused(
                "the verity signature has a \"rootHash\" that is not an even number of hex digits of a sensible length",
            ),
        ),
        fill(
            "signature of 10000 brackets",
            &[b'['; 10_000],
            Refused("the verity signature is no JSON text"),
        ),
        fill(
            "root hash of another image",
            &digit,
            Refused("the data or tree is not that of root hash"),
        ),
        fill("the same again", &good, Read),
    ]
}
