//! The token that signs each request: made once per lifetime, renewed before it ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::sas;
use jiff::Timestamp;

/// How long a token is good. Azure's CLI takes 10 minutes, its SDKs an hour.
const LIFETIME: Duration = Duration::from_secs(3600);

/// How long before its end a token is replaced.
const MARGIN: Duration = Duration::from_secs(600);

pub(super) struct TokenSource {
    connection: ServiceConnectionString,
    current: Mutex<Option<Token>>,
}

#[derive(Clone)]
pub(super) struct Token {
    text: String,
    expiry: Duration,
}

impl Token {
    /// The `Authorization` header's text: a secret.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it was made within a lifetime of this time, one way or the other.
    pub(super) fn is_of(&self, now: Timestamp) -> bool {
        let made = self.expiry.saturating_sub(LIFETIME);
        made.abs_diff(since_1970(now)) <= LIFETIME
    }
}

/// A clock before 1970 makes a token that the hub refuses.
fn since_1970(now: Timestamp) -> Duration {
    Duration::from_secs(now.as_second().try_into().unwrap_or_default())
}

impl TokenSource {
    pub(super) fn new(connection: ServiceConnectionString) -> Self {
        Self {
            connection,
            current: Mutex::new(None),
        }
    }

    /// A token that is good at this time.
    pub(super) fn token(&self, now: Timestamp) -> Token {
        self.token_at(since_1970(now))
    }

    fn token_at(&self, now: Duration) -> Token {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |token: &&Token| {
            let left = token.expiry.saturating_sub(now);
            // A token with more than a lifetime left was made before the clock was set back.
            (MARGIN..=LIFETIME).contains(&left)
        };
        if let Some(token) = current.as_ref().filter(good) {
            return token.clone();
        }
        let expiry = now + LIFETIME;
        let connection = &self.connection;
        let text = sas::sign(
            connection.host_name.as_str(),
            &connection.key,
            expiry.as_secs(),
            Some(&connection.policy),
        );
        let token = Token { text, expiry };
        *current = Some(token.clone());
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> TokenSource {
        TokenSource::new(
            "HostName=hub.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
                .parse()
                .unwrap(),
        )
    }

    #[test]
    fn the_token_is_the_known_one() {
        let token = source().token_at(Duration::from_secs(1_893_456_000 - 3600));
        assert_eq!(
            token.text,
            "SharedAccessSignature sr=hub.example.net&sig=JsaJO5gTLF8mah9LxN0bGUcqp1KDFGr998P4Kix6V8A%3D&se=1893456000&skn=iothubowner"
        );
    }

    #[test]
    fn a_token_is_kept_for_its_lifetime_and_no_longer() {
        let source = source();
        let at = |s: u64| source.token_at(Duration::from_secs(1_000_000 + s)).text;
        let first = at(0);
        assert_eq!(at(2_999), first);
        assert_ne!(at(3_001), first);
    }

    #[test]
    fn a_clock_that_is_set_back_gets_a_new_token() {
        let source = source();
        let first = source.token_at(Duration::from_secs(1_000_000)).text;
        assert_ne!(source.token_at(Duration::from_secs(900_000)).text, first);
    }
}
