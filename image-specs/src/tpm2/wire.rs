//! The TCG's way to write numbers and sized bytes down. Pure.

/// The bytes end too early, or a size in them is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TPM structure ends too early")]
pub struct Short;

/// Reads a TPM structure from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins with the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next 16-bit number.
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next bytes, with their size in 16 bits before them (`TPM2B_…`).
    pub fn sized(&mut self) -> Result<&'a [u8], Short> {
        let size = self.u16()?;
        self.take(usize::from(size))
    }

    /// What is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// More bytes than a size in 16 bits can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are too many for a TPM structure")]
pub struct TooLong(usize);

/// Appends bytes with their size in 16 bits before them.
pub fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TooLong> {
    let size = u16::try_from(bytes.len()).map_err(|_| TooLong(bytes.len()))?;
    out.extend(size.to_be_bytes());
    out.extend(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        let mut out = Vec::new();
        put_sized(&mut out, b"abc").unwrap();
        let mut reader = Reader::new(&out);
        assert_eq!(reader.sized(), Ok(&b"abc"[..]));
        assert!(reader.is_empty());
        assert_eq!(Reader::new(&[0, 4, 1, 2, 3]).sized(), Err(Short));
        assert_eq!(Reader::new(&[0]).u16(), Err(Short));
        assert_eq!(put_sized(&mut out, &[0; 65536]), Err(TooLong(65536)));
    }
}
