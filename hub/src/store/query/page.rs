//! Continuation tokens: where a page ended, and of which query. They hold a place in an order that never changes, so rows that come and go
//! between two pages are neither repeated nor skipped.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// One page of rows, and where the next begins.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The rows.
    pub(crate) rows: Vec<T>,
    /// Where to go on; `None` on the last page.
    pub(crate) next: Option<Place>,
}

impl<T> Page<T> {
    /// From up to one row more than the page is to have.
    pub(super) fn cut(mut rows: Vec<T>, limit: u32, place: impl Fn(&T) -> Place) -> Self {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(place);
        Self { rows, next }
    }
}

/// A place after a row: two numbers that order rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) i64, pub(crate) i64);

impl Place {
    /// Before the first row.
    pub(crate) const START: Self = Self(i64::MIN, i64::MIN);

    /// The token for `query`.
    pub(crate) fn token(self, query: &str) -> String {
        let bytes: Vec<u8> = [
            self.0.to_be_bytes(),
            self.1.to_be_bytes(),
            fingerprint(query).to_be_bytes(),
        ]
        .concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token says, if it is one of `query`.
    pub(crate) fn from_token(token: &str, query: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let bytes: [u8; 24] = bytes.try_into().ok()?;
        let number = |from: usize| -> [u8; 8] { std::array::from_fn(|index| bytes[from + index]) };
        let place = Self(i64::from_be_bytes(number(0)), i64::from_be_bytes(number(8)));
        (u64::from_be_bytes(number(16)) == fingerprint(query)).then_some(place)
    }
}

/// Tells queries apart; not a secret. A hub of another version may compute another one, and then asks for the first page again.
fn fingerprint(query: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    query.trim().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_query_alone() {
        let place = Place(7, -1);
        let token = place.token("SELECT * FROM devices");
        assert_eq!(
            Place::from_token(&token, "SELECT * FROM devices "),
            Some(place)
        );
        assert_eq!(
            Place::from_token(&token, "SELECT * FROM devices.jobs"),
            None
        );
        for bad in ["", "x", "????", &token[1..]] {
            assert_eq!(
                Place::from_token(bad, "SELECT * FROM devices"),
                None,
                "{bad}"
            );
        }
    }
}
