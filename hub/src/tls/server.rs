//! The certificate that the hub presents, which can be replaced while it listens.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate of both listeners. Clones share it. Its `Debug` shows no key.
#[derive(Debug, Clone)]
pub(crate) struct ServerCertificate(Arc<Presented>);

#[derive(Debug)]
struct Presented {
    key: RwLock<Arc<CertifiedKey>>,
    not_after: AtomicI64,
}

impl ServerCertificate {
    /// Presents `chain`, which ends at `not_after` (seconds since 1970).
    ///
    /// # Errors
    ///
    /// When the key does not fit the certificate.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        not_after: i64,
    ) -> Result<Self, rustls::Error> {
        Ok(Self(Arc::new(Presented {
            key: RwLock::new(certified(chain, key)?),
            not_after: AtomicI64::new(not_after),
        })))
    }

    /// Presents another chain from the next handshake on.
    ///
    /// # Errors
    ///
    /// When the key does not fit the certificate; then the one before stays.
    pub(crate) fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        not_after: i64,
    ) -> Result<(), rustls::Error> {
        let key = certified(chain, key)?;
        *self.0.key.write().unwrap_or_else(PoisonError::into_inner) = key;
        self.0.not_after.store(not_after, Ordering::Relaxed);
        Ok(())
    }

    /// When the certificate ends, in seconds since 1970.
    pub(crate) fn not_after(&self) -> i64 {
        self.0.not_after.load(Ordering::Relaxed)
    }

    /// The certificate itself.
    pub(crate) fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.current().cert.first().cloned()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let key = self.0.key.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&key)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Whatever name was dialled: a client that wants another says so itself.
        Some(self.current())
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map(Arc::new)
}
