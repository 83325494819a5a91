//! Continuation tokens: where a page ended, and of which query. They hold a place in an order that
//! never changes, so rows that come and go between two pages are neither repeated nor skipped. They
//! mean the same to every build of the hub, and after a restart.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};

/// Bytes of stored rows in a page, about: the page that reaches it ends there. A twin may have 100
/// KiB, and a page is held whole.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// How much of a digest stands in a token.
const DIGEST_BYTES: usize = 16;

/// One page of rows, and where the next begins.
#[derive(Debug)]
pub(crate) struct Page<T, P = Place> {
    /// The rows.
    pub(crate) rows: Vec<T>,
    /// Where to go on; `None` on the last page.
    pub(crate) next: Option<P>,
}

/// A place after a row: two numbers that order rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) i64, pub(crate) i64);

/// A place after a group: its key, which orders groups. Empty before the first one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupPlace(pub(crate) Vec<u8>);

/// Where a query goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continuation<P> {
    /// What the page before ended with.
    pub(crate) after: P,
    /// Rows of all pages before.
    pub(crate) delivered: u64,
}

/// What a token may hold.
pub(crate) trait Token: Sized {
    /// What tells its bytes from another's.
    const KIND: u8;

    /// Its bytes.
    fn bytes(&self) -> Vec<u8>;

    /// From its bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Token for Place {
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

impl Token for GroupPlace {
    const KIND: u8 = 2;

    fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.to_vec()))
    }
}

impl Place {
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

    /// What a token says, if it is one of `list`.
    pub(crate) fn from_token(token: &str, list: &str) -> Option<Self> {
        Continuation::from_token(token, list).map(|continuation| continuation.after)
    }
}

impl<P: Token> Continuation<P> {
    /// The token for `query`.
    pub(crate) fn token(&self, query: &str) -> String {
        let mut bytes = vec![P::KIND];
        bytes.extend(self.delivered.to_be_bytes());
        bytes.extend(self.after.bytes());
        let mut token = digest(query, &bytes).to_vec();
        token.extend(bytes);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What a token says, if it is one of `query`.
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

/// Tells tokens of this query, whole, from all others. It is no secret: who makes up a token reads
/// what the query shows him anyway.
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
    fn a_token_is_good_for_its_query_alone() {
        let place = Place(7, -1);
        let token = place.token("SELECT * FROM devices");
        let read = |token: &str, query| Place::from_token(token, query);
        assert_eq!(read(&token, "SELECT * FROM devices "), Some(place));
        assert_eq!(read(&token, "SELECT * FROM devices.jobs"), None);
        let group = Continuation::<GroupPlace>::from_token(&token, "SELECT * FROM devices");
        assert_eq!(group, None);
        for bad in ["", "x", "????", &token[1..], &token[4..]] {
            assert_eq!(read(bad, "SELECT * FROM devices"), None, "{bad}");
        }
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        let continuation = Continuation {
            after: GroupPlace(vec![4, 97, 0, 0]),
            delivered: 300,
        };
        let token = continuation.token("q");
        assert_eq!(Continuation::from_token(&token, "q"), Some(continuation));
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(Continuation::<GroupPlace>::from_token(&changed, "q"), None);
        }
    }

    /// A client may be between two pages while the hub is replaced by a newer one.
    #[test]
    fn tokens_are_the_same_in_every_build() {
        assert_eq!(
            Place(7, -1).token("SELECT * FROM devices"),
            "kPYyNMmQgKgyIm3AB8-whAEAAAAAAAAAAAAAAAAAAAAH__________8"
        );
    }
}
