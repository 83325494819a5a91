//! How both listeners speak TLS: versions 1.2 and 1.3, ring's cryptography, one certificate, and a
//! question for the client's.

mod client;
mod server;

use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;

use client::AnyCertificate;
pub(crate) use server::ServerCertificate;

/// Settings for a listener that presents `certificate`, and asks for a client certificate without
/// insisting on one.
///
/// Sessions resume by tickets whose keys live in memory and rotate: when a whole fleet comes back
/// at once, that saves the hub a signature for each door, and it stores nothing for the doors that
/// stay away. A ticket brings back the client's certificate, which is judged anew.
///
/// # Errors
///
/// When there is no randomness for the keys of tickets.
pub(crate) fn server_config(
    certificate: ServerCertificate,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = AnyCertificate::new(provider.signature_verification_algorithms);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(certificate));
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// What the client showed of itself in the handshake, its own certificate first; nothing when it
/// has none.
pub(crate) fn peer_certificates(tls: &ServerConnection) -> Vec<CertificateDer<'static>> {
    let shown = tls.peer_certificates().unwrap_or_default();
    shown
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect()
}
