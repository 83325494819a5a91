//! Verification of client certificates in the TLS handshake: a certificate is optional, and the
//! handshake's signature proves that the client has its key.
//!
//! The certificate itself is verified at CONNECT, when the device id is known; a device with a
//! token uses the same port without a certificate.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Maximum length of the chain that a device may send.
const MAX_CERTIFICATES: usize = 5;

/// Maximum size of the chain in bytes. It is kept as long as the connection, and what a client
/// sends before CONNECT is limited anyway.
const MAX_BYTES: usize = 6 * 1024;

/// Accepts any certificate whose key signed the handshake.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    pub(super) const fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Self-signed certificates are accepted too.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = intermediates
            .iter()
            .fold(end_entity.len(), |sum, certificate| sum + certificate.len());
        if intermediates.len() < MAX_CERTIFICATES && bytes <= MAX_BYTES {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_chains_that_are_too_long_or_too_large() {
        let verifier = AnyCertificate::new(
            rustls::crypto::ring::default_provider().signature_verification_algorithms,
        );
        let judge = |sizes: &[usize]| {
            let chain: Vec<_> = sizes
                .iter()
                .map(|size| CertificateDer::from(vec![0; *size]))
                .collect();
            verifier
                .verify_client_cert(&chain[0], &chain[1..], UnixTime::now())
                .is_ok()
        };
        assert!(judge(&[MAX_BYTES]));
        assert!(judge(&[1000; MAX_CERTIFICATES]));
        assert!(!judge(&[MAX_BYTES, 1]));
        assert!(!judge(&[1; MAX_CERTIFICATES + 1]));
    }
}
