//! Unlocking LUKS partitions of an image: which means are tried, and the keys that they give.

mod attempts;

pub use attempts::{Attempt, NoWay, Offer, Token, attempts};
