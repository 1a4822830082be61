//! What a TPM says where it refuses (TPM 2.0 Library part 2, 6.6).

use std::fmt;

/// A response code that is not success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResponseCode(pub(super) u32);

const FORMAT_ONE: u32 = 1 << 7;

const NAMES: &[(u32, &str)] = &[
    (0x100, "it has been started already"),
    (0x101, "it has failed and needs a reset"),
    (0x120, "it is disabled"),
    (0x128, "a PCR has changed meanwhile"),
    (0x12d, "it needs a reset"),
    (0x143, "it does not know this command"),
    (0x14c, "an index of this number is there already"),
    (0x901, "it has no place for one more object"),
    (0x902, "it has no place for one more object"),
    (0x903, "it has no place for one more session"),
    (0x904, "it has no place for one more session"),
    (0x921, "it is locked against guessing"),
    (0x922, "it asks for a later try"),
    (0x908, "it does something else now"),
    (0x909, "the command was cancelled"),
    (0x923, "it is short of space that keeps"),
    (0x084, "a value is out of range"),
    (0x08b, "there is no such handle"),
    (0x08e, "the authorization is wrong"),
    (0x083, "it does not know this algorithm or value"),
    (0x082, "attributes do not fit together"),
    (0x095, "a size is wrong"),
    (0x09b, "a signature is wrong"),
    (0x09d, "a policy does not hold"),
    (0x09f, "an integrity check fails"),
    (0x0a2, "the authorization is wrong"),
    (0x09c, "a key is wrong"),
    (0x0a6, "a curve is not supported"),
];

impl ResponseCode {
    pub(super) const INITIALIZED: Self = Self(0x100);
    pub(super) const PCR_CHANGED: Self = Self(0x128);
    pub(super) const LOCKOUT: Self = Self(0x921);
    pub(super) const RETRY: Self = Self(0x922);
    pub(super) const YIELDED: Self = Self(0x908);
    pub(super) const TESTING: Self = Self(0x90a);
    pub(super) const AUTH_FAIL: Self = Self(0x08e);
    pub(super) const BAD_AUTH: Self = Self(0x0a2);
    pub(super) const POLICY_FAIL: Self = Self(0x09d);
    pub(super) const HANDLE: Self = Self(0x08b);
    pub(super) const INTEGRITY: Self = Self(0x09f);
    pub(super) const VALUE: Self = Self(0x084);
    pub(super) const NV_DEFINED: Self = Self(0x14c);
    pub(super) const SIGNATURE: Self = Self(0x09b);

    /// The code without the number of the handle, session or parameter that it is about.
    pub(super) const fn kind(self) -> Self {
        if self.0 & FORMAT_ONE == 0 {
            self
        } else {
            Self(self.0 & 0xbf)
        }
    }

    /// Whether the same command may succeed if it is sent again.
    pub(super) fn again(self) -> bool {
        [Self::RETRY, Self::YIELDED, Self::TESTING].contains(&self)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind().0;
        match NAMES.iter().find(|(code, _)| *code == kind) {
            Some((_, text)) => write!(f, "{text} ({:#05x})", self.0),
            None => write!(f, "code {:#05x}", self.0),
        }
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseCode({:#05x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_without_the_place_that_they_are_about() {
        for (code, kind) in [
            (0x98e, ResponseCode::AUTH_FAIL),
            (0x9a2, ResponseCode::BAD_AUTH),
            (0x99d, ResponseCode::POLICY_FAIL),
            (0x1df, ResponseCode::INTEGRITY),
            (0x18b, ResponseCode::HANDLE),
            (0x921, ResponseCode::LOCKOUT),
            (0x128, ResponseCode::PCR_CHANGED),
        ] {
            assert_eq!(ResponseCode(code).kind(), kind, "{code:#x}");
        }
        let text = ResponseCode(0x99d).to_string();
        assert_eq!(text, "a policy does not hold (0x99d)");
        assert_eq!(ResponseCode(0x7f).to_string(), "code 0x07f");
    }
}
