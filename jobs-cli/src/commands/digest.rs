//! SHA-256 in hexadecimal digits: of plans and of weeks.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Characters of a digest that are printed.
const SHOWN_LEN: usize = 12;

pub(super) fn digest(bytes: &[u8]) -> String {
    let mut digest = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

/// The part of a digest that is printed.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..SHOWN_LEN).unwrap_or(digest)
}
