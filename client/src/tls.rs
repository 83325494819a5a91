//! TLS configuration of the client: ring as the explicit provider, instead of the process default;
//! the system's roots and the CA of the context.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::error::BuildError;

/// Trusts the system's roots and the certificates in `ca_pem`.
pub(super) fn config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, BuildError> {
    let mut roots = RootCertStore::empty();
    // Unreadable roots of the system are skipped, as long as there is one to trust.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = ca_pem {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.map_err(BuildError::CaPem)?)
                .map_err(BuildError::CaCertificate)?;
        }
        if roots.len() == before {
            return Err(BuildError::CaEmpty);
        }
    }
    if roots.is_empty() {
        return Err(BuildError::NoRoots);
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(BuildError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_an_error() {
        assert!(matches!(config(Some(b"hello")), Err(BuildError::CaEmpty)));
        let key = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            config(Some(key)),
            Err(BuildError::CaCertificate(_))
        ));
        let torn = b"-----BEGIN CERTIFICATE-----\nAA";
        assert!(matches!(config(Some(torn)), Err(BuildError::CaPem(_))));
    }
}
