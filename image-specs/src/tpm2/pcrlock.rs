//! The file of systemd-pcrlock: predicted PCR values, and the index of a TPM that holds their policy.
//!
//! PCRs with one value are one `PolicyPCR`; each PCR with several values is a `PolicyOR` over them, in
//! the order of the numbers. The index holds the resulting digest, and can be written anew: so sealed
//! secrets stay good when predictions change. Pure.

use serde_json::Value;

use super::json::{self, FieldError, Fields, MISSING};
use super::policy::MAX_BRANCHES;
use super::public::name;
use super::wire::Reader;
use super::{Bank, PcrSet, PolicyDigest};

/// The most bytes of a file.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;
const MAX_FIELD: usize = 4 * 1024;
const WRITTEN: u32 = 1 << 29;

/// A pcrlock policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pcrlock {
    /// The bank of the values.
    pub bank: Bank,
    /// The values that each PCR may have, sorted by PCR.
    pub predictions: Vec<Prediction>,
    /// The handle of the index.
    pub nv_index: u32,
    /// The index as the TPM software writes it down: tokens repeat it.
    pub nv_handle: Vec<u8>,
    /// The public area of the index.
    pub nv_public: Vec<u8>,
}

/// The values that one PCR may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The PCR.
    pub pcr: u8,
    /// At least one, at most 8, each once.
    pub values: Vec<Vec<u8>>,
}

/// One command of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `PolicyPCR` over these.
    Pcrs(PcrSet),
    /// `PolicyOR` over these.
    Or(Vec<PolicyDigest>),
}

/// The text is no pcrlock policy.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum PcrlockError {
    #[error("the pcrlock file has {0} bytes, at most 4 MiB are possible")]
    TooLarge(usize),
    #[error("the pcrlock file is no JSON text")]
    Json(#[from] serde_json::Error),
    #[error("the pcrlock file is no JSON object")]
    NoObject,
    #[error("the pcrlock file's {0}")]
    Field(#[from] FieldError),
    #[error("the pcrlock file's entry {0} has no PCR with 1 to 8 values of its bank")]
    Values(usize),
    #[error("the pcrlock file's \"nvPublic\" does not describe the index {0:#010x}")]
    Index(u32),
}

impl Pcrlock {
    /// Parses a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PcrlockError> {
        if bytes.len() > MAX_SIZE {
            return Err(PcrlockError::TooLarge(bytes.len()));
        }
        let Value::Object(map) = serde_json::from_slice(bytes)? else {
            return Err(PcrlockError::NoObject);
        };
        let get = Fields(&map);
        let missing = |name| FieldError(name, MISSING);
        let bank = get.bank("pcrBank")?.ok_or(missing("pcrBank"))?;
        let nv_index = get.number("nvIndex")?.ok_or(missing("nvIndex"))?;
        let bytes = |name| get.base64(name, MAX_FIELD)?.ok_or(missing(name));
        let nv_public = bytes("nvPublic")?;
        let nv_public = area(&nv_public, nv_index).ok_or(PcrlockError::Index(nv_index))?;
        let values = get.get("pcrValues").and_then(Value::as_array);
        let values = values.ok_or(FieldError("pcrValues", "no list"))?;
        Ok(Self {
            bank,
            predictions: predictions(values, bank)?,
            nv_index,
            nv_handle: bytes("nvHandle")?,
            nv_public,
        })
    }

    /// The index's name once it has been written, which is what policies have.
    pub fn nv_name(&self) -> Vec<u8> {
        let mut area = self.nv_public.clone();
        if let Some(bytes) = area.get_mut(6..10)
            && let Ok(array) = <[u8; 4]>::try_from(&*bytes)
        {
            bytes.copy_from_slice(&(u32::from_be_bytes(array) | WRITTEN).to_be_bytes());
        }
        name(&area)
    }

    /// The PCRs that have predictions.
    pub fn pcrs(&self) -> PcrSet {
        self.predictions.iter().map(|one| one.pcr).collect()
    }

    /// The commands of the policy, from an empty session on.
    pub fn steps(&self) -> Vec<Step> {
        self.walk().0
    }

    /// The digest that the index holds.
    pub fn digest(&self) -> PolicyDigest {
        self.walk().1
    }

    fn walk(&self) -> (Vec<Step>, PolicyDigest) {
        let mut digest = PolicyDigest::default();
        let mut steps = Vec::new();
        let (single, several): (Vec<_>, Vec<_>) = self
            .predictions
            .iter()
            .partition(|one| one.values.len() == 1);
        if !single.is_empty() {
            let set = single.iter().map(|one| one.pcr).collect();
            let values = single
                .iter()
                .flat_map(|one| one.values.iter().map(Vec::as_slice));
            digest = digest.pcrs(self.bank, set, values);
            steps.push(Step::Pcrs(set));
        }
        for one in several {
            let set = PcrSet::EMPTY.with(one.pcr);
            let branch = |value: &Vec<u8>| digest.pcrs(self.bank, set, [&value[..]]);
            let branches: Vec<_> = one.values.iter().map(branch).collect();
            digest = PolicyDigest::or(&branches);
            steps.extend([Step::Pcrs(set), Step::Or(branches)]);
        }
        (steps, digest)
    }
}

/// The public area, without the size before it, if it is of this index.
fn area(bytes: &[u8], index: u32) -> Option<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    let area = reader.sized().ok().filter(|_| reader.is_empty())?;
    let mut reader = Reader::new(area);
    let fits = reader.u32() == Ok(index) && reader.u16() == Ok(Bank::Sha256.algorithm());
    (fits && area.len() >= 14).then(|| area.to_vec())
}

fn predictions(list: &[Value], bank: Bank) -> Result<Vec<Prediction>, PcrlockError> {
    let mut all = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let one = prediction(item, bank).ok_or(PcrlockError::Values(index))?;
        if all.iter().any(|other: &Prediction| other.pcr == one.pcr) {
            return Err(PcrlockError::Values(index));
        }
        all.push(one);
    }
    all.sort_by_key(|one| one.pcr);
    Ok(all)
}

fn prediction(item: &Value, bank: Bank) -> Option<Prediction> {
    let pcr = u8::try_from(item.get("pcr")?.as_u64()?).ok()?;
    let mut values: Vec<Vec<u8>> = Vec::new();
    for value in item.get("values")?.as_array()?.iter().take(1024) {
        let value = json::unhex(value, bank.size()).filter(|value| value.len() == bank.size())?;
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let possible =
        PcrSet::EMPTY.with(pcr).contains(pcr) && (1..=MAX_BRANCHES).contains(&values.len());
    possible.then_some(Prediction { pcr, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file() -> Value {
        let index = [
            &[0, 46][..],
            &[1, 0x80, 0, 1, 0, 0x0b, 0, 2, 0, 0x2a, 0, 32],
            &[5; 32],
            &[0, 34],
        ];
        let zeros = "00".repeat(32);
        let ones = "11".repeat(32);
        json!({
            "pcrBank": "sha256",
            "pcrValues": [
                {"pcr": 7, "values": [zeros, ones]},
                {"pcr": 4, "values": [zeros]},
                {"pcr": 2, "values": [ones]}],
            "nvIndex": 0x0180_0001,
            "nvHandle": "AAAA",
            "nvPublic": json::base64(&index.concat()),
            "srkHandle": "AAAA", "pinPublic": "AAAA", "pinPrivate": "AAAA",
        })
    }

    fn parse(json: &Value) -> Result<Pcrlock, PcrlockError> {
        Pcrlock::parse(json.to_string().as_bytes())
    }

    #[test]
    fn single_values_come_first_and_alternatives_one_by_one() {
        let lock = parse(&file()).unwrap();
        let steps = lock.steps();
        assert_eq!(steps[0], Step::Pcrs(PcrSet::from_iter([2, 4])));
        assert_eq!(steps[1], Step::Pcrs(PcrSet::from_iter([7])));
        let Step::Or(branches) = &steps[2] else {
            panic!("{steps:?}")
        };
        assert_eq!((branches.len(), steps.len()), (2, 3));
        assert_eq!(lock.digest(), PolicyDigest::or(branches));
        assert_ne!(lock.nv_name(), name(&lock.nv_public));
    }

    #[test]
    fn what_no_tpm_can_check_is_refused() {
        let many: Vec<_> = (0..9).map(|byte: u8| hex::encode([byte; 32])).collect();
        for (field, value) in [
            ("pcrBank", json!("md5")),
            ("pcrBank", json!(null)),
            ("nvIndex", json!(7)),
            ("nvIndex", json!("7")),
            ("nvPublic", json!("AAAA")),
            ("nvHandle", json!("")),
            ("pcrValues", json!({})),
            ("pcrValues", json!([{"pcr": 24, "values": ["00"]}])),
            ("pcrValues", json!([{"pcr": 4, "values": []}])),
            ("pcrValues", json!([{"pcr": 4, "values": ["00"]}])),
            ("pcrValues", json!([{"pcr": 4, "values": many}])),
            (
                "pcrValues",
                json!([{"pcr": 4, "values": [many[0]]}, {"pcr": 4, "values": [many[0]]}]),
            ),
        ] {
            let mut json = file();
            json[field] = value.clone();
            assert!(parse(&json).is_err(), "{field}: {value}");
        }
    }
}
