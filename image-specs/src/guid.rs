//! GUIDs: their text forms, and the mixed-endian bytes that GPT stores. Pure.
//!
//! The value type is [`uuid::Uuid`], whose bytes are in textual order.

use uuid::{Builder, Uuid};

/// The text is no GUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID; write 32 hex digits, with or without dashes at 8-4-4-4-12")]
pub struct GuidError(pub String);

/// Parses 32 hex digits, plain or with dashes at 8-4-4-4-12, and nothing else.
pub fn parse(text: &str) -> Result<Uuid, GuidError> {
    let fail = || GuidError(text.to_owned());
    match text.len() {
        32 | 36 => Uuid::try_parse(text).map_err(|_| fail()),
        _ => Err(fail()),
    }
}

/// The 16 bytes of a GUID field in a partition table (UEFI 2.10, appendix A: first three fields little-endian).
pub fn to_gpt(guid: Uuid) -> [u8; 16] {
    guid.to_bytes_le()
}

/// Reads a GUID field of a partition table.
pub fn from_gpt(bytes: [u8; 16]) -> Uuid {
    Uuid::from_bytes_le(bytes)
}

/// Turns 16 hashed or random bytes into a version 4 UUID by setting its version and variant bits.
pub fn v4(bytes: [u8; 16]) -> Uuid {
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_forms_and_nothing_else() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        assert_eq!(parse(text).unwrap().to_string(), text);
        assert_eq!(parse(&text.replace('-', "")), parse(text));
        for bad in [
            "",
            "c12a7328",
            "{c12a7328-f81f-11d2-ba4b-00a0c93ec93b}",
            "urn:uuid:c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            "c12a7328f81f-11d2-ba4b-00a0c93ec93b-",
            "g12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gpt_bytes_swap_the_first_three_fields() {
        let esp = parse("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").unwrap();
        assert_eq!(
            to_gpt(esp)[..8],
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]
        );
        assert_eq!(from_gpt(to_gpt(esp)), esp);
    }
}
