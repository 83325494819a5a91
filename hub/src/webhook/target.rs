//! The receiver of a webhook: its address, and a request signed as Standard Webhooks describes
//! (standardwebhooks.com, version 1).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use iothub_protocol::text_file::{decode, decode_pem};
use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{StatusCode, Url};
use ring::hmac;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::WebhookSettings;
use crate::pki;

/// How long a receiver may take for the whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Length of a secret in bytes (Standard Webhooks, "Signature scheme").
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// Where events are sent, and the key that signs them.
pub struct Target {
    name: String,
    url: Url,
    key: hmac::Key,
    http: reqwest::Client,
}

/// Why a webhook of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    #[error("webhook `{name}`: {key} is `{value}`; expected {expected}")]
    Setting {
        name: String,
        key: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("there are two webhooks `{0}`; expected each name once")]
    Duplicate(String),
    #[error("webhook `{name}`: cannot read {key} {}", .path.display())]
    Read {
        name: String,
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "webhook `{name}`: secret_file {} has mode {mode:04o}; expected 0600: chmod 600 it",
        .path.display()
    )]
    Mode {
        name: String,
        path: PathBuf,
        mode: u32,
    },
    /// The content is not in the message: it is a secret.
    #[error(
        "webhook `{name}`: secret_file {} is invalid; expected whsec_ and 24 to 64 random bytes in \
         base64, as from: echo \"whsec_$(openssl rand -base64 32)\"",
        .path.display()
    )]
    Secret { name: String, path: PathBuf },
    #[error("webhook `{name}`: ca_file {} holds no certificate: {reason}", .path.display())]
    Ca {
        name: String,
        path: PathBuf,
        reason: String,
    },
    #[error("webhook `{name}`: there is no certificate of an authority to trust; set ca_file")]
    NoRoots { name: String },
    #[error("webhook `{name}`: cannot use TLS")]
    Tls { name: String, source: rustls::Error },
    #[error("webhook `{name}`: cannot create the HTTP client")]
    Http {
        name: String,
        source: reqwest::Error,
    },
}

/// Why a receiver did not take an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Any status but 2xx.
    #[error("the receiver answered {status}")]
    Refused {
        status: StatusCode,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
    },
    /// Without the address, which may carry a secret.
    #[error("the receiver cannot be reached: {0}")]
    Transport(String),
}

impl SendError {
    /// Whether the receiver calls this event invalid. Other statuses are faults of its settings.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status.as_u16(), 400 | 413 | 422),
            Self::Transport(_) => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Transport(_) => None,
        }
    }
}

impl Target {
    /// Reads the secret and the certificates of a webhook; connects to nothing.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is open to others, or is invalid.
    pub fn load(settings: &WebhookSettings) -> Result<Self, WebhookError> {
        let name = settings.name.clone();
        let url = settings.parsed_url()?;
        let key = secret(settings)?;
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(settings)?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("door-hub/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            // A proxy would connect to its own loopback.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|source| WebhookError::Http {
            name: name.clone(),
            source,
        })?;
        Ok(Self {
            name,
            url,
            key,
            http,
        })
    }

    /// The name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends one JSON document. `id` is the same for each attempt.
    ///
    /// # Errors
    ///
    /// When the receiver does not answer 2xx within 10 s.
    pub async fn send(&self, id: &str, now: Timestamp, body: &[u8]) -> Result<(), SendError> {
        let timestamp = now.as_second().to_string();
        let signature = signature(&self.key, id, &timestamp, body);
        let sent = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body.to_vec())
            .send()
            .await;
        let response = sent.map_err(|error| {
            let error = anyhow::Error::from(error.without_url());
            SendError::Transport(format!("{error:#}"))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let seconds = response.headers().get(RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Err(SendError::Refused {
            status,
            retry_after: seconds.map(Duration::from_secs),
        })
    }
}

/// `v1,` and the HMAC-SHA256 of id, timestamp and body.
fn signature(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

fn secret(settings: &WebhookSettings) -> Result<hmac::Key, WebhookError> {
    let (name, path) = (settings.name.clone(), settings.secret_file.clone());
    match pki::exposed_mode(&path) {
        Ok(None) => {}
        Ok(Some(mode)) => return Err(WebhookError::Mode { name, path, mode }),
        Err(source) => {
            return Err(WebhookError::Read {
                name,
                key: "secret_file",
                path,
                source,
            });
        }
    }
    let bytes = read(settings, "secret_file", &path)?;
    let secret = decode(bytes).ok().and_then(|text| {
        let encoded = text.trim().strip_prefix(SECRET_PREFIX)?.to_owned();
        BASE64_STANDARD.decode(encoded).ok()
    });
    match secret.filter(|secret| SECRET_BYTES.contains(&secret.len())) {
        Some(secret) => Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
        None => Err(WebhookError::Secret { name, path }),
    }
}

/// Trusts the certificates of `ca_file`, or the system's roots without it.
fn tls(settings: &WebhookSettings) -> Result<ClientConfig, WebhookError> {
    let name = || settings.name.clone();
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => {
            let invalid = |reason: String| WebhookError::Ca {
                name: name(),
                path: path.clone(),
                reason,
            };
            let pem = decode_pem(read(settings, "ca_file", path)?);
            let pem = pem.map_err(|error| invalid(error.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|error| invalid(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(invalid("it has no PEM block CERTIFICATE".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() && !settings.parsed_url().is_ok_and(|url| is_loopback(&url)) {
                return Err(WebhookError::NoRoots { name: name() });
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| WebhookError::Tls {
            name: name(),
            source,
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn read(
    settings: &WebhookSettings,
    key: &'static str,
    path: &Path,
) -> Result<Vec<u8>, WebhookError> {
    fs::read(path).map_err(|source| WebhookError::Read {
        name: settings.name.clone(),
        key,
        path: path.to_owned(),
        source,
    })
}

/// Whether the address is one of this machine, where TLS is not needed.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Standard Webhooks, version 1, "Signature scheme".
    #[test]
    fn signs_as_the_specification_does() {
        let secret = BASE64_STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_an_event_that_the_receiver_calls_invalid_is_skipped() {
        let refused = |status: u16| SendError::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
        };
        for (status, permanent) in [
            (400, true),
            (413, true),
            (422, true),
            (401, false),
            (405, false),
            (415, false),
            (404, false),
            (410, false),
            (429, false),
            (302, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(refused(status).is_permanent(), permanent, "{status}");
        }
    }
}
