//! Variables in a flash image of UEFI firmware, written without the firmware.
//!
//! The image is a firmware volume (UEFI Platform Initialization Specification, volume 3) that holds
//! one store of authenticated variables, laid out as edk2's `AuthenticatedVariableFormat.h` has it.
//! New variables go behind those that are there. Pure.

/// `gEfiAuthenticatedVariableGuid`, which begins the store.
const STORE: [u8; 16] = guid(0xaaf3_2c78, 0x947b, 0x439a, 0xa180_2e14_4ec3_7792);
/// Bytes of the store's header: GUID, size, format, state, reserved.
const STORE_HEADER: usize = 16 + 4 + 1 + 1 + 6;
/// Bytes of a variable's header.
const HEADER: usize = 60;
/// What a variable's header begins with.
const START: [u8; 2] = [0xaa, 0x55];
/// "Added": the state of a variable that is valid.
const ADDED: u8 = 0x3f;

/// `EFI_CERT_X509_GUID`: a list of signatures that holds certificates.
const X509: [u8; 16] = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, 0x87b5_ab15_5c2b_f072);
/// Who owns the certificates: nobody asks.
const OWNER: [u8; 16] = guid(0x1111_1111, 0x2222, 0x3333, 0x4444_1234_5678_9abc);

/// A place that holds certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    name: &'static str,
    vendor: [u8; 16],
    attributes: u32,
}

/// Non-volatile, for boot services alone.
const BOOT: u32 = 0b11;
/// Non-volatile, for boot and runtime services, changed only with a signature.
const AUTHENTICATED: u32 = 0x27;
const GLOBAL: [u8; 16] = guid(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);

/// The owner of the platform. With it, Secure Boot is on.
pub(super) const PLATFORM_KEY: Place = Place {
    name: "PK",
    vendor: GLOBAL,
    attributes: AUTHENTICATED,
};
/// Who may change what boots.
pub(super) const KEY_EXCHANGE_KEY: Place = Place {
    name: "KEK",
    vendor: GLOBAL,
    attributes: AUTHENTICATED,
};
/// Whose programs boot.
pub(super) const ALLOWED: Place = Place {
    name: "db",
    vendor: guid(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f),
    attributes: AUTHENTICATED,
};
/// Whom the machine's owner trusts: shim hands this to the kernel's `.machine` keyring.
pub(super) const MACHINE_OWNER: Place = Place {
    name: "MokList",
    vendor: guid(0x605d_ab50, 0xe046, 0x4300, 0xabb6_3dd8_10dd_8b23),
    attributes: BOOT,
};

/// Why an image cannot take variables.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// No store where the volume's header says.
    NoStore,
    /// What is there does not end within the store.
    Damaged,
    /// Not enough room.
    Full,
}

/// Puts one certificate (DER) into each place of the firmware volume `image`.
pub(super) fn enroll(image: &mut [u8], certificates: &[(Place, &[u8])]) -> Result<(), Unfit> {
    let store = usize::from(number(image, 48).ok_or(Unfit::NoStore)?);
    if image.get(store..store + STORE.len()) != Some(&STORE) {
        return Err(Unfit::NoStore);
    }
    let mut at = end_of_variables(image, store + STORE_HEADER)?;
    for (place, certificate) in certificates {
        let bytes = variable(place, &signature_list(certificate));
        let room = image.get_mut(at..at + bytes.len()).ok_or(Unfit::Full)?;
        if room.iter().any(|byte| *byte != 0xff) {
            return Err(Unfit::Full);
        }
        room.copy_from_slice(&bytes);
        at += bytes.len();
    }
    Ok(())
}

fn end_of_variables(image: &[u8], mut at: usize) -> Result<usize, Unfit> {
    while image.get(at..at + START.len()) == Some(&START) {
        let size = |field: usize| number32(image, at + field).ok_or(Unfit::Damaged);
        let end = at.checked_add(HEADER + size(36)? + size(40)?);
        at = end.ok_or(Unfit::Damaged)?.next_multiple_of(4);
    }
    Ok(at)
}

/// A variable as it is stored: header, name, value, up to the next multiple of four.
fn variable(place: &Place, value: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = place
        .name
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut bytes = Vec::from(START);
    bytes.extend([ADDED, 0]);
    bytes.extend(place.attributes.to_le_bytes());
    bytes.extend([0; 8]); // count of changes
    bytes.extend([0xe4, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // first of January 2020
    bytes.extend([0; 4]); // index of a key
    bytes.extend(length(name.len()));
    bytes.extend(length(value.len()));
    bytes.extend(place.vendor);
    bytes.extend(name);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0xff);
    bytes
}

/// An `EFI_SIGNATURE_LIST` of one certificate.
fn signature_list(certificate: &[u8]) -> Vec<u8> {
    let one = OWNER.len() + certificate.len();
    let mut bytes = Vec::from(X509);
    bytes.extend(length(16 + 3 * 4 + one));
    bytes.extend(length(0)); // no header of its own
    bytes.extend(length(one));
    bytes.extend(OWNER);
    bytes.extend(certificate);
    bytes
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes)
        .expect("a certificate is small")
        .to_le_bytes()
}

fn number(image: &[u8], at: usize) -> Option<u16> {
    let bytes = image.get(at..at + 2)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn number32(image: &[u8], at: usize) -> Option<usize> {
    let bytes = image.get(at..at + 4)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

/// A GUID as UEFI stores it: the first three fields little-endian.
const fn guid(first: u32, second: u16, third: u16, rest: u64) -> [u8; 16] {
    let [a, b, c, d] = first.to_le_bytes();
    let [e, f] = second.to_le_bytes();
    let [g, h] = third.to_le_bytes();
    let [i, j, k, l, m, n, o, p] = rest.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(room: usize) -> Vec<u8> {
        let mut image = vec![0; 72];
        image[48] = 72;
        image.extend(STORE);
        image.extend([0; STORE_HEADER - 16]);
        image.resize(image.len() + room, 0xff);
        image
    }

    #[test]
    fn variables_follow_each_other() {
        let mut image = empty(600);
        let one: (Place, &[u8]) = (PLATFORM_KEY, &[1; 5]);
        enroll(&mut image, &[one]).unwrap();
        let first = image.clone();
        enroll(&mut image, &[(MACHINE_OWNER, &[2; 6])]).unwrap();
        // 60 bytes of header, "PK" and a nul, a list of 16 + 12 + 16 + 5, padded.
        let second = 72 + STORE_HEADER + (60 + 6 + 49_usize).next_multiple_of(4);
        assert_eq!(first[..second], image[..second]);
        assert_eq!(image[second..second + 4], [0xaa, 0x55, 0x3f, 0]);
        let name = second + HEADER;
        assert_eq!(&image[name..name + 6], b"M\0o\0k\0");
        let mut both = empty(600);
        enroll(&mut both, &[one, (MACHINE_OWNER, &[2; 6])]).unwrap();
        assert_eq!(both, image);
    }

    #[test]
    fn unfit_images_are_refused() {
        let mut long = empty(600);
        enroll(&mut long, &[(PLATFORM_KEY, &[1; 5])]).unwrap();
        long[72 + STORE_HEADER + 40..][..4].fill(0xff);
        let mut used = empty(600);
        used[72 + STORE_HEADER + 100] = 0;
        let cases = [
            (Vec::new(), Unfit::NoStore),
            (vec![0; 600], Unfit::NoStore),
            (empty(60), Unfit::Full),
            (used, Unfit::Full),
            (long, Unfit::Full),
        ];
        for (mut image, error) in cases {
            let one: (Place, &[u8]) = (ALLOWED, &[1; 5]);
            assert_eq!(enroll(&mut image, &[one]), Err(error));
        }
    }
}
