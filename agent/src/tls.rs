//! TLS to the hub: rustls with ring, the system's roots plus the configured CA, and a clock with a
//! lower bound.
//!
//! A Pi has no battery clock and may boot years in the past, where every certificate is "not valid
//! yet". Certificates are therefore validated at the latest of: the system time, the last saved
//! time, the build date of this program. Once the system time is trusted the saved one no longer
//! counts: it may have been saved while a clock was years ahead. All agents of a process that trust
//! the same CA share one configuration.
//!
//! Why: docs/decisions/0020-one-tls-provider.md.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iothub_protocol::text_file::decode_pem;
use jiff::Timestamp;
use log::warn;
use rustls::crypto::ring;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::config::CertificateFiles;
use crate::files::read_text;

/// Build time of this program, in seconds since 1970: a correct clock never shows less.
const BUILT_UNIX_S: u64 = match u64::from_str_radix(env!("DOOR_AGENT_BUILT_UNIX_S"), 10) {
    Ok(seconds) => seconds,
    Err(_) => panic!("the build script sets seconds since 1970"),
};

/// From this time before its end on, people are reminded of a certificate.
const CERTIFICATE_NOTICE_S: i64 = 30 * 86_400;

/// Why no TLS configuration could be created.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{}: cannot read the hub's CA certificate", path.display())]
    FileContents {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The CA file contains no usable certificate.
    #[error("{}: {problem}, expected one or more CA certificates in PEM", path.display())]
    Certificate { path: PathBuf, problem: String },
    /// A file of the device's certificate is unusable.
    #[error("{}: {problem}", path.display())]
    Identity {
        path: PathBuf,
        /// What is wrong, and what was expected. Nothing of a key is repeated.
        problem: String,
    },
    /// Neither a CA file nor system roots: nothing could be trusted.
    #[error("hub.ca_file is not set and the system has no root certificates: expected one of them")]
    NoRoots,
    /// rustls refused the protocol versions.
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
}

/// Wall time with a lower bound, shared by tokens and certificate checks.
#[derive(Debug, Clone)]
pub struct FlooredClock {
    floor_unix_s: Arc<AtomicU64>,
    trusted: Arc<AtomicBool>,
}

impl Default for FlooredClock {
    fn default() -> Self {
        Self {
            floor_unix_s: Arc::new(AtomicU64::new(BUILT_UNIX_S)),
            trusted: Arc::default(),
        }
    }
}

impl FlooredClock {
    /// Raises the floor to a time saved by an earlier start.
    pub fn raise_floor(&self, unix_s: u64) {
        self.floor_unix_s.fetch_max(unix_s, Ordering::Relaxed);
    }

    /// Sets whether the system time is trusted.
    pub fn set_trusted(&self, trusted: bool) {
        self.trusted.store(trusted, Ordering::Relaxed);
    }

    /// Seconds since 1970, never below the floor.
    #[must_use]
    pub fn unix_s(&self) -> u64 {
        let system = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.effective(system)
    }

    /// The time to use when the system time is `system`.
    fn effective(&self, system: u64) -> u64 {
        if self.trusted.load(Ordering::Relaxed) {
            system.max(BUILT_UNIX_S)
        } else {
            system.max(self.floor_unix_s.load(Ordering::Relaxed))
        }
    }
}

impl TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.unix_s(),
        )))
    }
}

/// How much of a certificate's time is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateAge {
    Ended,
    /// Within 30 days.
    EndsSoon,
    Valid,
}

impl CertificateAge {
    /// Judges a certificate that ends at `end`.
    #[must_use]
    pub fn of(end: Timestamp, now: Timestamp) -> Self {
        match end.as_second() - now.as_second() {
            ..0 => Self::Ended,
            0..CERTIFICATE_NOTICE_S => Self::EndsSoon,
            _ => Self::Valid,
        }
    }
}

/// When the certificate of a device ends.
///
/// # Errors
/// When the file cannot be read, or holds no certificate.
pub fn certificate_end(files: &CertificateFiles) -> Result<Timestamp, TlsError> {
    let path = &files.certificate;
    let pem = read_identity_file(path, "certificate")?;
    let invalid = |error: &dyn std::fmt::Display| identity_error(path, format!("invalid: {error}"));
    let own = read_chain(path, pem.as_bytes())?.swap_remove(0);
    let (_, own) = X509Certificate::from_der(&own).map_err(|error| invalid(&error))?;
    let end = Timestamp::from_second(own.validity().not_after.timestamp());
    end.map_err(|error| invalid(&error))
}

/// Input of a configuration: content of the CA file and of the certificate file, and the hash of
/// the key file, so that no copy of the key stays in memory.
type FileContents = (String, Option<(String, u64)>);

/// The TLS configurations of a process, one per CA and certificate.
#[derive(Debug, Default)]
pub struct TlsCache {
    clock: FlooredClock,
    /// The system's roots, loaded on first use.
    system_roots: OnceLock<RootCertStore>,
    /// By content of the files, so that a replaced file is noticed and equal files share one.
    /// Locked only during a look-up.
    configs: Mutex<HashMap<FileContents, Arc<ClientConfig>>>,
}

impl TlsCache {
    /// The clock used to validate certificates and to sign tokens.
    #[must_use]
    pub fn clock(&self) -> &FlooredClock {
        &self.clock
    }

    /// The configuration that trusts the system's roots and `ca_file`, and presents a certificate
    /// if there is one.
    ///
    /// # Errors
    /// When a file cannot be read or has invalid content, or nothing at all would be trusted.
    pub fn client_config(
        &self,
        ca_file: Option<&Path>,
        certificate: Option<&CertificateFiles>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let pem = match ca_file {
            Some(path) => read_text(path, decode_pem).map_err(|source| TlsError::FileContents {
                path: path.to_path_buf(),
                source,
            })?,
            None => String::new(),
        };
        let identity = certificate.map(|files| {
            let chain = read_identity_file(&files.certificate, "certificate")?;
            Ok::<_, TlsError>((chain, read_identity_file(&files.key, "key")?))
        });
        let identity = identity.transpose()?;
        let hashed = identity.as_ref().map(|(chain, key)| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            (chain.clone(), hasher.finish())
        });
        let read = (pem, hashed);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&read) {
            return Ok(Arc::clone(config));
        }
        let mut roots = self.system_roots.get_or_init(system_roots).clone();
        if let Some(path) = ca_file {
            add_certificates(&mut roots, path, read.0.as_bytes())?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let config = ClientConfig::builder_with_details(
            Arc::new(ring::default_provider()),
            Arc::new(self.clock.clone()),
        )
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
        let config = match (certificate, &identity) {
            (Some(files), Some((chain, key))) => {
                let (chain, key) = parse_identity(files, chain, key)?;
                config.with_client_auth_cert(chain, key).map_err(|error| {
                    identity_error(&files.key, format!("not the certificate's key: {error}"))
                })?
            }
            _ => config.with_no_client_auth(),
        };
        let config = Arc::new(config);
        configs.insert(read, Arc::clone(&config));
        Ok(config)
    }
}

fn identity_error(path: &Path, problem: String) -> TlsError {
    TlsError::Identity {
        path: path.to_path_buf(),
        problem,
    }
}

fn read_identity_file(path: &Path, what: &str) -> Result<String, TlsError> {
    let text = read_text(path, decode_pem);
    text.map_err(|error| identity_error(path, format!("cannot read the {what}: {error}")))
}

/// Parses the device's certificate chain and private key.
fn parse_identity(
    files: &CertificateFiles,
    chain: &str,
    key: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = read_chain(&files.certificate, chain.as_bytes())?;
    // Without the cause, which might repeat a part of the key.
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
        let problem = "no private key in it, expected one in PEM";
        identity_error(&files.key, problem.to_owned())
    })?;
    Ok((chain, key))
}

/// The certificates of a device's file, at least one.
fn read_chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| identity_error(path, format!("not PEM: {error}")))?;
    if chain.is_empty() {
        let problem = "no certificate in it, expected one in PEM";
        return Err(identity_error(path, problem.to_owned()));
    }
    Ok(chain)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!("skipped an unreadable system root certificate: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn add_certificates(roots: &mut RootCertStore, path: &Path, pem: &[u8]) -> Result<(), TlsError> {
    let refused = |problem: String| TlsError::Certificate {
        path: path.to_path_buf(),
        problem,
    };
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refused(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(refused("no certificate in it".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_shows_less_than_the_build_date_or_the_saved_time() {
        let clock = FlooredClock::default();
        assert!(clock.unix_s() >= BUILT_UNIX_S);
        clock.raise_floor(10_000_000_000);
        assert_eq!(clock.unix_s(), 10_000_000_000);
        clock.raise_floor(5);
        assert_eq!(clock.unix_s(), 10_000_000_000);
        assert_eq!(clock.effective(0), 10_000_000_000);
        assert_eq!(clock.effective(11_000_000_000), 11_000_000_000);
    }

    #[test]
    fn a_saved_time_years_ahead_is_ignored_once_the_clock_is_trusted() {
        let clock = FlooredClock::default();
        let (ahead, right) = (BUILT_UNIX_S + 300_000_000, BUILT_UNIX_S + 1000);
        clock.raise_floor(ahead);
        assert_eq!(clock.effective(right), ahead);
        clock.set_trusted(true);
        assert_eq!(clock.effective(right), right);
        assert_eq!(
            clock.effective(0),
            BUILT_UNIX_S,
            "the build date always counts"
        );
        clock.set_trusted(false);
        assert_eq!(clock.effective(0), ahead);
    }

    #[test]
    fn a_replaced_key_is_noticed_beside_an_unchanged_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("door.pem"),
            key: directory.path().join("door.key"),
        };
        let [key, other] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
        let parameters = rcgen::CertificateParams::new(["door".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        let cache = TlsCache::default();
        for (key, is_right) in [(&key, true), (&other, false), (&key, true)] {
            std::fs::write(&files.key, key.serialize_pem()).unwrap();
            let config = cache.client_config(None, Some(&files));
            assert_eq!(config.is_ok(), is_right, "{config:?}");
        }
        assert_eq!(cache.configs.lock().unwrap().len(), 1);
    }

    #[test]
    fn certificates_are_judged_by_the_time_that_is_left() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (left_s, expected) in [
            (-1, CertificateAge::Ended),
            (0, CertificateAge::EndsSoon),
            (CERTIFICATE_NOTICE_S - 1, CertificateAge::EndsSoon),
            (CERTIFICATE_NOTICE_S, CertificateAge::Valid),
        ] {
            let end = now + jiff::SignedDuration::from_secs(left_s);
            assert_eq!(CertificateAge::of(end, now), expected, "{left_s}");
        }
    }

    #[test]
    fn an_invalid_ca_file_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "not a certificate").unwrap();
        let error = TlsCache::default()
            .client_config(Some(&path), None)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{}: no certificate in it, expected one or more CA certificates in PEM",
                path.display()
            )
        );
        let missing = directory.path().join("missing.pem");
        let error = TlsCache::default()
            .client_config(Some(&missing), None)
            .unwrap_err();
        assert!(error.to_string().contains("missing.pem"), "{error}");
    }
}
