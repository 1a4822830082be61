//! UUIDs that follow from a seed, so that the same definitions give the same image.
//!
//! The derivations are those of systemd-repart: HMAC-SHA256 with the seed (or a partition's UUID) as
//! key, cut to 16 bytes with the version 4 bits set. Pure.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::guid;

/// The secret-less key from which an image's UUIDs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(Uuid);

impl Seed {
    /// Takes the seed's 16 bytes in textual order.
    pub const fn new(seed: Uuid) -> Self {
        Self(seed)
    }

    /// The seed as given.
    pub const fn get(self) -> Uuid {
        self.0
    }

    /// The disk's UUID.
    pub fn disk(self) -> Uuid {
        derive(self.0, &[b"disk-uuid"])
    }

    /// The UUID of the partition that `earlier` others of its type precede in list order.
    pub fn partition(self, kind: Uuid, earlier: u64) -> Uuid {
        match earlier {
            0 => derive(self.0, &[kind.as_bytes()]),
            _ => derive(self.0, &[kind.as_bytes(), &earlier.to_le_bytes()]),
        }
    }

    /// The UUID in the superblock of every verity hash partition of the image.
    pub fn verity_superblock(self) -> Uuid {
        derive(self.0, &[b"verity-uuid"])
    }

    /// The salt of the dm-integrity device in the partition that was given `partition`. (Ours: systemd
    /// makes no such partitions.)
    pub fn integrity_salt(self, partition: Uuid) -> [u8; 16] {
        let digest = hmac(self.0, &[b"integrity-salt", partition.as_bytes()]);
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        salt
    }

    /// The salt of every verity hash tree of the image.
    pub fn verity_salt(self) -> [u8; 32] {
        hmac(self.0, &[b"verity-salt"])
    }
}

/// The UUID of the file system in the partition that was given `partition` (before a root hash
/// replaces it).
pub fn file_system(partition: Uuid) -> Uuid {
    derive(partition, &[b"file-system-uuid"])
}

/// The UUID of the LUKS2 header in that partition.
pub fn luks(partition: Uuid) -> Uuid {
    derive(partition, &[b"luks-uuid"])
}

/// The UUIDs that a root hash gives to its data partition (first half) and hash partition (last
/// half); `None` where the hash is shorter than 16 bytes.
pub fn verity_pair(root_hash: &[u8]) -> Option<(Uuid, Uuid)> {
    let data = root_hash.first_chunk::<16>()?;
    let hash = root_hash.last_chunk::<16>()?;
    Some((Uuid::from_bytes(*data), Uuid::from_bytes(*hash)))
}

/// The UUID that a `/var/` partition must have to be mounted on the machine `machine_id`.
pub fn var_partition(machine_id: Uuid, var_type: Uuid) -> Uuid {
    derive(machine_id, &[var_type.as_bytes()])
}

fn derive(key: Uuid, message: &[&[u8]]) -> Uuid {
    let digest = hmac(key, message);
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    guid::v4(head)
}

fn hmac(key: Uuid, message: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(text: &str) -> Uuid {
        guid::parse(text).unwrap()
    }

    /// Vectors observed with systemd 262.1.
    #[test]
    fn derivations_are_those_of_systemd() {
        let seed = Seed::new(uuid("11111111-2222-3333-4444-555555555555"));
        let root = uuid("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
        let home = uuid("933ac7e1-2eb4-4f13-b844-0e14e2aef915");
        let swap = uuid("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
        let root_partition = seed.partition(root, 0);
        let swap_partition = seed.partition(swap, 0);
        for (made, expected) in [
            (seed.disk(), "029f4951-90d3-4059-b93b-d358015a0a3b"),
            (root_partition, "6c08bd44-fed4-4c4e-915a-d1b245eb89de"),
            (
                file_system(root_partition),
                "7bfd409b-b67f-4466-9e33-95510bf538f1",
            ),
            (
                seed.partition(root, 1),
                "c938db28-a4b6-4968-8190-0379d3949b75",
            ),
            (
                seed.partition(home, 0),
                "16c99888-9efa-4ebd-9d37-94134e8aea4d",
            ),
            (swap_partition, "99f62f2f-14e7-40e3-8f13-857d7856bfe9"),
            (
                file_system(swap_partition),
                "dab19906-d93f-471c-9ccf-d761df1da04b",
            ),
            (
                seed.verity_superblock(),
                "8055b167-809b-4e12-9f0c-a100b44438a9",
            ),
        ] {
            assert_eq!(made.to_string(), expected);
        }
        assert_eq!(
            hex::encode(seed.verity_salt()),
            "860f08c6a5ec51f0b5d608187cbd374c16ba09b312ee6ece89bc87527654eddf"
        );
    }

    #[test]
    fn salts_of_integrity_devices_differ() {
        let one = Seed::new(uuid("11111111-2222-3333-4444-555555555555"));
        let other = Seed::new(Uuid::nil());
        let partition = one.disk();
        assert_eq!(one.integrity_salt(partition), one.integrity_salt(partition));
        assert_ne!(
            one.integrity_salt(partition),
            one.integrity_salt(Uuid::nil())
        );
        assert_ne!(
            one.integrity_salt(partition),
            other.integrity_salt(partition)
        );
    }

    #[test]
    fn a_root_hash_names_its_partitions() {
        let hash: Vec<u8> = (0..32).collect();
        let (data, tree) = verity_pair(&hash).unwrap();
        assert_eq!(data.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(tree.to_string(), "10111213-1415-1617-1819-1a1b1c1d1e1f");
        assert_eq!(verity_pair(&hash[..15]), None);
    }
}
