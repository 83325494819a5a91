//! TLS settings of both listeners: versions 1.2 and 1.3, ring as the crypto provider, one server
//! certificate, an optional client certificate.

mod client;
mod server;

use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;

use client::AnyCertificate;
pub(crate) use server::ServerCertificate;

/// Settings for a listener that serves `certificate` and requests a client certificate without
/// requiring one.
///
/// Sessions resume by tickets whose keys live in memory and rotate: when a whole fleet reconnects,
/// that saves the hub a signature for each door, without state for absent doors. A ticket carries
/// the client's certificate, which is verified again at CONNECT.
///
/// Fails if the system provides no randomness for the ticket keys.
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

/// The certificates that the client sent in the handshake, its own first; empty if it sent none.
pub(crate) fn peer_certificates(tls: &ServerConnection) -> Vec<CertificateDer<'static>> {
    let shown = tls.peer_certificates().unwrap_or_default();
    shown
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect()
}
