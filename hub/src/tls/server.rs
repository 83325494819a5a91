//! The server certificate, which can be replaced while the hub listens.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate of both listeners. Clones share it. `Debug` shows no key.
#[derive(Debug, Clone)]
pub(crate) struct ServerCertificate(Arc<Presented>);

#[derive(Debug)]
struct Presented {
    key: RwLock<Arc<CertifiedKey>>,
    not_after: AtomicI64,
}

impl ServerCertificate {
    /// Serves `chain`, which expires at `not_after` (seconds since 1970). Fails if the key does not
    /// match the certificate.
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

    /// Serves another chain from the next handshake on. If the key does not match the certificate,
    /// the current chain stays.
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

    /// When the certificate expires, in seconds since 1970.
    pub(crate) fn not_after(&self) -> i64 {
        self.0.not_after.load(Ordering::Relaxed)
    }

    /// The server certificate without its issuers.
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
        // The same certificate whatever host name the client sends; the client checks the name.
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
