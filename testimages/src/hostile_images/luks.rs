//! LUKS2 headers that promise what they do not keep.

use sha2::{Digest, Sha256};

use super::{Base, HostileImage, Verdict, case, find, put};
use Verdict::Refused;

const HEADER: usize = 16384;

pub(super) fn cases(base: &Base) -> Vec<HostileImage> {
    let key = base.tree().with_file_name("key");
    std::fs::write(&key, b"pass").unwrap();
    let key = key.display().to_string();
    let words = [
        "luksFormat",
        "--disable-locks",
        "--type",
        "luks2",
        "-q",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "IMAGE",
        &key,
    ];
    let image = base.make(Some(17 << 20), "cryptsetup", &words);
    let replace = |from: &'static [u8], to: &'static [u8]| {
        move |image: &mut Vec<u8>| {
            // Both copies of the header: an old one must not stand for the new.
            for start in [0, HEADER] {
                let text = start + 4096..start + HEADER;
                while let Some(at) = image[text.clone()]
                    .windows(from.len())
                    .position(|at| at == from)
                {
                    put(image, text.start + at, to);
                }
                seal(image, start);
            }
        }
    };
    let size = |image: &mut Vec<u8>| {
        put(image, 8, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        put(
            image,
            HEADER + 8,
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        );
    };
    let flip = |image: &mut Vec<u8>| {
        let at = find(image, b"keyslots");
        image[at] ^= 1;
        image[HEADER + at] ^= 1;
    };
    let cipher = replace(b"aes-xts-plain64", b"cipher_null-ecb");
    vec![
        case(
            "luks",
            "null cipher",
            &image,
            cipher,
            Refused("nothing would be encrypted"),
        ),
        case(
            "luks",
            "header of 2^63 bytes",
            &image,
            size,
            Refused("does not exist"),
        ),
        case(
            "luks",
            "flipped bit in both headers",
            &image,
            flip,
            Refused("both copies of the LUKS header are damaged"),
        ),
        case(
            "luks",
            "cut in the header",
            &image,
            |image| image.truncate(5000),
            Refused("the LUKS header is cut off after 5000 bytes"),
        ),
    ]
}

/// Makes the checksum of a header right again.
fn seal(image: &mut [u8], start: usize) {
    put(image, start + 448, &[0; 64]);
    let sum = Sha256::digest(&image[start..start + HEADER]);
    put(image, start + 448, &sum);
}
