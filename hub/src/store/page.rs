//! Continuation tokens: the position at which a page ended, bound to its query. A position refers
//! to an order that never changes, so rows that are added or removed between two pages are neither
//! repeated nor skipped. Tokens are valid across builds and restarts of the hub.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};

/// Approximate size of a page in bytes of stored rows: a page that reaches it ends there. A twin
/// may have 100 KiB, and a whole page is held in memory.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Length of the digest in a token.
const DIGEST_BYTES: usize = 16;

/// One page of rows.
#[derive(Debug)]
pub(crate) struct Page<T, P = RowPosition> {
    pub(crate) rows: Vec<T>,
    /// Where the next page continues; `None` on the last page.
    pub(crate) next: Option<P>,
}

/// A position after a row: two numbers that define the order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowPosition(pub(crate) i64, pub(crate) i64);

/// A position after a group: its key, which defines the order of groups. Empty before the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupPosition(pub(crate) Vec<u8>);

/// Where a query continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continuation<P> {
    /// The position at which the previous page ended.
    pub(crate) after: P,
    /// The number of rows in all previous pages.
    pub(crate) delivered: u64,
}

/// The content of a token.
pub(crate) trait TokenPayload: Sized {
    /// Distinguishes the types of content.
    const KIND: u8;

    fn bytes(&self) -> Vec<u8>;

    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl TokenPayload for RowPosition {
    const KIND: u8 = 1;

    fn bytes(&self) -> Vec<u8> {
        [self.0.to_be_bytes(), self.1.to_be_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_first_chunk()?;
        let second = second.try_into().ok()?;
        Some(Self(i64::from_be_bytes(*first), i64::from_be_bytes(second)))
    }
}

impl TokenPayload for GroupPosition {
    const KIND: u8 = 2;

    fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.to_vec()))
    }
}

impl RowPosition {
    /// Before the first row.
    pub(crate) const START: Self = Self(i64::MIN, i64::MIN);

    /// The token for `list`.
    pub(crate) fn token(self, list: &str) -> String {
        let delivered = 0;
        Continuation {
            after: self,
            delivered,
        }
        .token(list)
    }

    /// Decodes a token of `list`; `None` if it is invalid or of another list.
    pub(crate) fn from_token(token: &str, list: &str) -> Option<Self> {
        Continuation::from_token(token, list).map(|continuation| continuation.after)
    }
}

impl<P: TokenPayload> Continuation<P> {
    /// The token for `query`.
    pub(crate) fn token(&self, query: &str) -> String {
        let mut bytes = vec![P::KIND];
        bytes.extend(self.delivered.to_be_bytes());
        bytes.extend(self.after.bytes());
        let mut token = digest(query, &bytes).to_vec();
        token.extend(bytes);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Decodes a token of `query`; `None` if it is invalid or of another query.
    pub(crate) fn from_token(token: &str, query: &str) -> Option<Self> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (found, bytes) = token.split_first_chunk::<DIGEST_BYTES>()?;
        let (kind, rest) = bytes.split_first()?;
        let (delivered, after) = rest.split_first_chunk()?;
        if *kind != P::KIND || *found != digest(query, bytes) {
            return None;
        }
        Some(Self {
            after: P::from_bytes(after)?,
            delivered: u64::from_be_bytes(*delivered),
        })
    }
}

/// Binds a token to its whole query. This is not a secret: a client that forges a token only reads
/// what the query would return to it anyway.
fn digest(query: &str, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let query = query.trim();
    let mut context = Context::new(&SHA256);
    context.update(b"doorfleet continuation 1\0");
    context.update(&(query.len() as u64).to_be_bytes());
    context.update(query.as_bytes());
    context.update(bytes);
    let digest = context.finish();
    std::array::from_fn(|index| digest.as_ref()[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_only_for_its_query() {
        let place = RowPosition(7, -1);
        let token = place.token("SELECT * FROM devices");
        let read = |token: &str, query| RowPosition::from_token(token, query);
        assert_eq!(read(&token, "SELECT * FROM devices "), Some(place));
        assert_eq!(read(&token, "SELECT * FROM devices.jobs"), None);
        let group = Continuation::<GroupPosition>::from_token(&token, "SELECT * FROM devices");
        assert_eq!(group, None);
        for bad in ["", "x", "????", &token[1..], &token[4..]] {
            assert_eq!(read(bad, "SELECT * FROM devices"), None, "{bad}");
        }
    }

    #[test]
    fn rejects_a_modified_token() {
        let continuation = Continuation {
            after: GroupPosition(vec![4, 97, 0, 0]),
            delivered: 300,
        };
        let token = continuation.token("q");
        assert_eq!(Continuation::from_token(&token, "q"), Some(continuation));
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(
                Continuation::<GroupPosition>::from_token(&changed, "q"),
                None
            );
        }
    }

    /// A client may be between two pages while the hub is upgraded.
    #[test]
    fn tokens_are_the_same_in_every_build() {
        assert_eq!(
            RowPosition(7, -1).token("SELECT * FROM devices"),
            "kPYyNMmQgKgyIm3AB8-whAEAAAAAAAAAAAAAAAAAAAAH__________8"
        );
    }
}
