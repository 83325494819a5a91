//! What a TLS handshake asks of devices: a certificate if they have one, and the signature that
//! shows they hold its key.
//!
//! Whose certificate it is, and whether it is good now, is judged at CONNECT: only there is it
//! known which device speaks, and a device with a token shows no certificate on the same port.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Certificates that a device may show: its own and those between it and its authority.
const MAX_CERTIFICATES: usize = 5;

/// Their bytes together. They are kept as long as the connection, and what comes before CONNECT is
/// bounded anyway.
const MAX_BYTES: usize = 6 * 1024;

/// Takes any certificate whose key signed the handshake.
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
        // Self-signed certificates are welcome too.
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
    fn chains_are_bounded_in_number_and_size() {
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
