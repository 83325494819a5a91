//! Authentication of devices by certificate (IoT Hub developer guide, "Authenticate identities with
//! X.509 certificates").
//!
//! The handshake has proved that the peer holds the key of the first certificate; this module
//! checks that the certificate belongs to the device.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use iothub_protocol::id::DeviceId;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// The certificates that a device sent in the handshake: its own first, then its intermediates.
pub(crate) type Chain = [CertificateDer<'static>];

/// The authorities whose devices may connect. Clones share them, and they can be replaced while the
/// hub runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceAuthorities(Arc<RwLock<Option<Arc<dyn ClientCertVerifier>>>>);

/// Why a certificate was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum CertificateError {
    #[error("the device sent none in the TLS handshake")]
    Missing,
    #[error("it cannot be parsed")]
    Unreadable,
    #[error("its SHA-256 thumbprint {shown} is not registered")]
    Thumbprint { shown: String },
    #[error("it is only valid from {from} to {until}")]
    Time { from: String, until: String },
    #[error("it was not issued by an authority in `device_ca_files`: {0}")]
    Authority(String),
    #[error("its common name is not the device id")]
    CommonName,
}

impl DeviceAuthorities {
    pub(crate) fn replace(&self, roots: RootCertStore) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = (!roots.is_empty()).then(|| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("there are roots, and no revocation lists that could be wrong")
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }

    fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Checks a certificate by its thumbprint, SHA-1 or SHA-256 in hexadecimal. Returns its expiry in
/// seconds since 1970.
pub(super) fn check_thumbprint(
    chain: &Chain,
    registered: [Option<&str>; 2],
    now_unix_s: u64,
) -> Result<u64, CertificateError> {
    let own = chain.first().ok_or(CertificateError::Missing)?;
    let sha256 = thumbprint(&SHA256, own);
    let shown = [&sha256, &thumbprint(&SHA1_FOR_LEGACY_USE_ONLY, own)];
    let known = registered.into_iter().flatten().any(|registered| {
        shown
            .iter()
            .any(|shown| shown.eq_ignore_ascii_case(registered))
    });
    if !known {
        return Err(CertificateError::Thumbprint { shown: sha256 });
    }
    valid_until(&parse(own)?, now_unix_s)
}

/// Checks that a certificate was issued by one of `authorities` for `device`. Returns its expiry in
/// seconds since 1970.
pub(super) fn check_chain(
    chain: &Chain,
    device: &DeviceId,
    authorities: &DeviceAuthorities,
    now_unix_s: u64,
) -> Result<u64, CertificateError> {
    let (own, between) = chain.split_first().ok_or(CertificateError::Missing)?;
    let certificate = parse(own)?;
    let until = valid_until(&certificate, now_unix_s)?;
    let authority = |reason: String| CertificateError::Authority(reason);
    let verifier = authorities
        .verifier()
        .ok_or_else(|| authority("none is configured".to_owned()))?;
    verifier
        .verify_client_cert(
            own,
            between,
            UnixTime::since_unix_epoch(Duration::from_secs(now_unix_s)),
        )
        .map_err(|error| authority(error.to_string()))?;
    let mut names = certificate.subject().iter_common_name();
    let named = names
        .next()
        .and_then(|name| name.as_str().ok())
        .is_some_and(|name| name == device.as_str());
    if named && names.next().is_none() {
        Ok(until)
    } else {
        Err(CertificateError::CommonName)
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Unreadable),
    }
}

fn valid_until(
    certificate: &X509Certificate<'_>,
    now_unix_s: u64,
) -> Result<u64, CertificateError> {
    let validity = certificate.validity();
    let seconds = |time: &x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let (from, until) = (seconds(&validity.not_before), seconds(&validity.not_after));
    if (from..=until).contains(&now_unix_s) {
        Ok(until)
    } else {
        Err(CertificateError::Time {
            from: validity.not_before.to_string(),
            until: validity.not_after.to_string(),
        })
    }
}

fn thumbprint(algorithm: &'static Algorithm, certificate: &CertificateDer<'_>) -> String {
    digest(algorithm, certificate)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

#[cfg(test)]
mod tests;
