//! How both listeners speak TLS: versions 1.2 and 1.3, ring's cryptography, one certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Settings for a listener that presents `chain`.
///
/// Sessions resume by tickets whose keys live in memory and rotate: when a whole fleet comes back at once, that saves the hub a signature for
/// each door, and it stores nothing for the doors that stay away.
///
/// # Errors
///
/// When the key does not fit the certificate.
pub(crate) fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
