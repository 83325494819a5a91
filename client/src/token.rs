//! The SAS token that signs requests: issued once per lifetime, renewed before it expires.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::sas;
use jiff::Timestamp;

/// Validity of a token. Azure's CLI uses 10 minutes, its SDKs an hour.
const LIFETIME: Duration = Duration::from_secs(3600);

/// How long before its expiry a token is renewed.
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
    /// Value of the `Authorization` header; a secret.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it was issued at most a lifetime before or after this time.
    pub(super) fn is_issued_near(&self, now: Timestamp) -> bool {
        let issued = self.expiry.saturating_sub(LIFETIME);
        issued.abs_diff(unix_time(now)) <= LIFETIME
    }
}

/// Seconds since 1970; 0 for a clock before 1970, whose token the hub refuses.
fn unix_time(now: Timestamp) -> Duration {
    Duration::from_secs(now.as_second().try_into().unwrap_or_default())
}

impl TokenSource {
    pub(super) fn new(connection: ServiceConnectionString) -> Self {
        Self {
            connection,
            current: Mutex::new(None),
        }
    }

    pub(super) fn policy(&self) -> &str {
        self.connection.policy.as_str()
    }

    /// A token that is valid at this time.
    pub(super) fn token(&self, now: Timestamp) -> Token {
        self.token_at(unix_time(now))
    }

    fn token_at(&self, now: Duration) -> Token {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_valid = |token: &&Token| {
            let left = token.expiry.saturating_sub(now);
            // A token with more than a lifetime left was issued before the clock was set back.
            (MARGIN..=LIFETIME).contains(&left)
        };
        if let Some(token) = current.as_ref().filter(is_valid) {
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
            "HostName=hub.example.net;SharedAccessKeyName=iothubowner;\
             SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
                .parse()
                .unwrap(),
        )
    }

    #[test]
    fn a_token_matches_the_reference() {
        let token = source().token_at(Duration::from_secs(1_893_456_000 - 3600));
        assert_eq!(
            token.text,
            "SharedAccessSignature sr=hub.example.net\
             &sig=JsaJO5gTLF8mah9LxN0bGUcqp1KDFGr998P4Kix6V8A%3D&se=1893456000&skn=iothubowner"
        );
    }

    #[test]
    fn a_token_is_reused_until_10_min_before_its_end() {
        let source = source();
        let at = |s: u64| source.token_at(Duration::from_secs(1_000_000 + s)).text;
        let first = at(0);
        assert_eq!(at(2_999), first);
        assert_ne!(at(3_001), first);
    }

    #[test]
    fn setting_the_clock_back_renews_the_token() {
        let source = source();
        let first = source.token_at(Duration::from_secs(1_000_000)).text;
        assert_ne!(source.token_at(Duration::from_secs(900_000)).text, first);
    }
}
