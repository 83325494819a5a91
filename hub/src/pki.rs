//! The hub's certificate authority and the server certificate that it issues, stored as PEM files
//! in the data folder.
//!
//! Doors and operators install `ca.pem` once; the hub issues a new server certificate when the
//! current one is close to its end or the hub's names change, and clients need no change. If the
//! operator provides a certificate ([`ProvidedCertificate`]), the hub only reads it.

mod devices;
mod names;
mod provided;
mod validity;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::SERVICE_CONNECTION_STRING;

pub(crate) use devices::device_authorities;
pub(crate) use names::CertificateNames;
pub(crate) use names::is_host_name;
pub use names::{default_host_name, local_addresses};
pub use provided::ProvidedCertificate;
pub(crate) use provided::{AUTHORITY_AS_SERVER, exposed_mode, is_authority, names_missing};
pub(crate) use validity::Validity;

/// Validity of the authority. Replacing it means a visit to every door.
const AUTHORITY_DAYS: i64 = 20 * 365;

/// Validity of a server certificate: just under the limit that clients enforce.
const SERVER_DAYS: i64 = 390;

/// A certificate that expires within this time is replaced: before two thirds of its validity.
const RENEW_DAYS: i64 = 140;

/// Certificates are valid from this long before their creation: the clock of a Pi without a battery
/// may be a little behind.
const BACKDATED_DAYS: i64 = 2;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// A time before this (1 January 2025) means that the clock is not set yet: a machine without a
/// battery clock has just started. A certificate that is not valid yet by such a clock is kept.
const EARLIEST_CLOCK: i64 = 1_735_689_600;

/// Why the hub has no server certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file of the authority or of the certificate cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file has the wrong content.
    #[error(
        "{} is not a usable {expected}; restore it, or remove ca.pem, ca.key, server.pem and \
         server.key to create a new authority",
        .path.display()
    )]
    Unusable {
        path: PathBuf,
        /// The expected content.
        expected: &'static str,
        source: rcgen::Error,
    },
    /// Only one of certificate and key exists. Creating a new authority would cut off every door
    /// that trusts the old one.
    #[error(
        "{} is missing, but its counterpart exists; restore it, or remove both to create a new \
         authority",
        .path.display()
    )]
    HalfMissing {
        /// The missing file.
        path: PathBuf,
    },
    /// A file of a provided certificate has the wrong content.
    #[error(
        "{} is not usable: {reason}; expected the server certificate (certificate_file) and its \
         key (key_file) in PEM",
        .path.display()
    )]
    Provided { path: PathBuf, reason: String },
    /// Others than its owner have access to a provided key.
    #[error("key_file: {} has mode {mode:04o}; expected 0600", .path.display())]
    KeyMode { path: PathBuf, mode: u32 },
    /// A file of `device_ca_files` has the wrong content.
    #[error(
        "device_ca_files: {} is not usable: {reason}; expected CA certificates in PEM",
        .path.display()
    )]
    DeviceAuthority { path: PathBuf, reason: String },
    /// More device authorities than IoT Hub allows.
    #[error("device_ca_files hold {found} certificates; expected at most {limit}")]
    TooManyDeviceAuthorities { found: usize, limit: usize },
    /// A certificate could not be created.
    #[error("cannot create a certificate for {names}")]
    Create {
        /// The names that it was to cover.
        names: String,
        source: rcgen::Error,
    },
}

/// The certificates and the key that the hub serves TLS with. Its `Debug` shows no key.
pub(crate) struct ServerIdentity {
    /// The file of the certificate that clients trust: `ca.pem`, or the provided certificate.
    pub(crate) ca_file: PathBuf,
    /// The server certificate, followed by its intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// When the server certificate expires, in seconds since 1970.
    pub(crate) not_after: i64,
    /// The issuers: the hub's authority, or the other certificates of the provided file.
    pub(crate) issuers: Vec<CertificateDer<'static>>,
}

impl ServerIdentity {
    /// The validity of each certificate with its name in messages; the server certificate is first.
    pub(crate) fn validities(&self) -> Vec<(String, Validity)> {
        let server = self.chain.first().into_iter();
        let server = server.map(|own| ("server certificate".to_owned(), own));
        let issuers = self.issuers.iter().map(|certificate| {
            let name = format!("authority in {}", self.ca_file.display());
            (name, certificate)
        });
        server
            .chain(issuers)
            .filter_map(|(name, certificate)| Some((name, Validity::of(certificate)?)))
            .collect()
    }
}

/// Creates or loads the authority in `directory`, and a server certificate that covers `names`, is
/// valid and does not expire soon. The authority is never replaced.
pub(crate) fn load_or_create(
    directory: &Path,
    names: &CertificateNames,
    now: Timestamp,
) -> Result<ServerIdentity, PkiError> {
    let ca_file = directory.join("ca.pem");
    let issuer = authority(&ca_file, &directory.join("ca.key"), names, now)?;
    let certificate_file = directory.join("server.pem");
    let key_file = directory.join("server.key");
    let pem = read(&ca_file)?.unwrap_or_default();
    let issuers = CertificateDer::pem_slice_iter(pem.as_bytes());
    let issuers: Vec<_> = issuers.filter_map(Result::ok).collect();
    let needed = Validity {
        not_before: match now.as_second() {
            ..EARLIEST_CLOCK => i64::MAX,
            now => now,
        },
        not_after: now.as_second() + RENEW_DAYS * DAY_SECONDS,
    };
    if let (Some(certificate), Some(key)) = (read(&certificate_file)?, read(&key_file)?) {
        if let Some(usable) = names::usable(&certificate, &key, &issuer, names, needed) {
            let (chain, key, not_after) = usable;
            return Ok(ServerIdentity {
                ca_file,
                chain,
                key,
                not_after,
                issuers,
            });
        }
    }
    let make = |source| PkiError::Create {
        names: names.to_string(),
        source,
    };
    let key = KeyPair::generate().map_err(make)?;
    let mut parameters = CertificateParams::new(names.subjects()).map_err(make)?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, names.common_name());
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    set_validity(&mut parameters, now, SERVER_DAYS);
    let not_after = parameters.not_after.unix_timestamp();
    let certificate = parameters.signed_by(&key, &issuer).map_err(make)?;
    // If the hub is killed between the two writes, they do not match, and the next start creates
    // new ones.
    write(&key_file, &key.serialize_pem(), 0o600)?;
    write(&certificate_file, &certificate.pem(), 0o644)?;
    tracing::info!(%names, days = SERVER_DAYS, "created a server certificate");
    Ok(ServerIdentity {
        ca_file,
        chain: vec![certificate.into()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        not_after,
        issuers,
    })
}

fn authority(
    certificate_file: &Path,
    key_file: &Path,
    names: &CertificateNames,
    now: Timestamp,
) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let unusable_key = |source| PkiError::Unusable {
        path: key_file.to_owned(),
        expected: "private key",
        source,
    };
    // If the hub is killed between the two writes, the next start creates the certificate for that
    // key.
    match (read(certificate_file)?, read(key_file)?) {
        (Some(certificate), Some(key)) => {
            let key = KeyPair::from_pem(&key).map_err(unusable_key)?;
            Issuer::from_ca_cert_pem(&certificate, key).map_err(|source| PkiError::Unusable {
                path: certificate_file.to_owned(),
                expected: "CA certificate",
                source,
            })
        }
        (None, None) => {
            let key = KeyPair::generate().map_err(authority_error)?;
            write(key_file, &key.serialize_pem(), 0o600)?;
            make_authority(certificate_file, key, names, now)
        }
        (None, Some(key)) if is_first_start_interrupted(certificate_file) => {
            let key = KeyPair::from_pem(&key).map_err(unusable_key)?;
            make_authority(certificate_file, key, names, now)
        }
        (None, Some(_)) => Err(PkiError::HalfMissing {
            path: certificate_file.to_owned(),
        }),
        (Some(_), None) => Err(PkiError::HalfMissing {
            path: key_file.to_owned(),
        }),
    }
}

/// Whether a first start was interrupted after it had created the authority's key: none of the
/// later files exists.
pub(crate) fn is_first_start_interrupted(certificate_file: &Path) -> bool {
    let later = [
        "ca.pem",
        "server.key",
        "server.pem",
        SERVICE_CONNECTION_STRING,
    ];
    certificate_file.with_file_name("ca.key").exists()
        && !later
            .iter()
            .any(|name| certificate_file.with_file_name(name).exists())
}

fn authority_error(source: rcgen::Error) -> PkiError {
    PkiError::Create {
        names: "the hub's authority".into(),
        source,
    }
}

fn make_authority(
    certificate_file: &Path,
    key: KeyPair,
    names: &CertificateNames,
    now: Timestamp,
) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(
        DnType::CommonName,
        format!("door-hub authority of {}", names.common_name()),
    );
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut parameters, now, AUTHORITY_DAYS);
    let certificate = parameters.self_signed(&key).map_err(authority_error)?;
    write(certificate_file, &certificate.pem(), 0o644)?;
    tracing::info!(file = %certificate_file.display(), "created a certificate authority");
    Ok(Issuer::new(parameters, key))
}

fn set_validity(parameters: &mut CertificateParams, now: Timestamp, days: i64) {
    let day = |offset: i64| {
        let seconds = now.as_second().saturating_add(offset * DAY_SECONDS);
        let date = Timestamp::from_second(seconds)
            .unwrap_or(now)
            .to_zoned_datetime(TimeZone::UTC)
            .date();
        let part = |value: i8| u8::try_from(value).expect("months and days are positive");
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    parameters.not_before = day(-BACKDATED_DAYS);
    parameters.not_after = day(days);
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    write_file(path, text, mode).map_err(|source| PkiError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Writes a file atomically, with `mode` from its first byte on.
pub(crate) fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // One that a killed hub left may have another mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    crate::data::sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(host: &str, more: &[&str]) -> CertificateNames {
        CertificateNames::new(
            host,
            more.iter().map(ToString::to_string).collect(),
            &["192.0.2.7".parse().unwrap()],
        )
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_second_start_reuses_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_create(
            folder.path(),
            &names("hub", &[]),
            at("2026-01-01T00:00:00Z"),
        )
        .unwrap();
        let again = load_or_create(
            folder.path(),
            &names("hub", &[]),
            at("2026-06-01T00:00:00Z"),
        )
        .unwrap();
        assert_eq!(first.chain, again.chain);
        assert_eq!(first.key.secret_der(), again.key.secret_der());
    }

    /// Each row: the files that are left, and whether the next start continues with the authority's
    /// key.
    #[test]
    fn continues_an_interrupted_first_start_and_never_replaces_an_authority_in_use() {
        let files: [(&[&str], bool); 8] = [
            (&["ca.key"], true),
            (&["ca.key", "ca.pem"], true),
            (&["ca.key", "ca.pem", "server.key"], true),
            (&["ca.key", "server.key"], false),
            (&["ca.key", "server.pem"], false),
            (&["ca.key", SERVICE_CONNECTION_STRING], false),
            (&["ca.pem"], false),
            (&["ca.pem", "server.key", "server.pem"], false),
        ];
        for (left, goes_on) in files {
            let folder = tempfile::tempdir().unwrap();
            let load = || load_or_create(folder.path(), &names("hub", &[]), Timestamp::now());
            load().unwrap();
            fs::write(folder.path().join(SERVICE_CONNECTION_STRING), "").unwrap();
            for entry in fs::read_dir(folder.path()).unwrap() {
                let entry = entry.unwrap();
                if !left.iter().any(|name| entry.file_name() == *name) {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
            let key = || fs::read(folder.path().join("ca.key")).ok();
            let before = key();
            let loaded = load();
            assert_eq!(key(), before, "{left:?}");
            match loaded {
                Ok(first) if goes_on => assert_eq!(load().unwrap().chain, first.chain, "{left:?}"),
                Err(PkiError::HalfMissing { .. }) if !goes_on => {}
                other => panic!("{left:?}: {:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn renews_the_certificate_before_two_thirds_of_its_validity_with_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let start = at("2026-01-01T00:00:00Z");
        let load = |now| load_or_create(folder.path(), &names("hub", &[]), now).unwrap();
        let first = load(start);
        let authority = fs::read_to_string(&first.ca_file).unwrap();
        let life = first.not_after - start.as_second();
        let after = |seconds| Timestamp::from_second(start.as_second() + seconds).unwrap();
        assert_eq!(load(after(life / 2)).chain, first.chain);
        let later = load(after(life * 2 / 3));
        assert_ne!(first.chain, later.chain);
        assert!(later.not_after > first.not_after);
        assert_eq!(fs::read_to_string(&later.ca_file).unwrap(), authority);
    }

    /// Each row, in days after the authority was created: when the server certificate was created,
    /// when the hub checks it, and whether it creates another.
    #[test]
    fn replaces_a_not_yet_valid_server_certificate_but_never_the_authority() {
        for (authority, created, looks, replaced) in [
            (0, 0, 0, false),
            (0, 0, 200, false),
            // The clock was ahead once, in some rows at the very first start.
            (0, 300, 0, true),
            (0, 3, 0, true),
            (300, 300, 0, true),
            (0, 9000, 0, true),
            // The clock is a little behind: certificates are valid from two days before creation.
            (0, 1, 0, false),
            (0, 0, -1, false),
            (0, 0, -3, true),
            // The clock is not set yet.
            (0, 0, -20_000, false),
            (300, 300, -20_000, false),
        ] {
            let case = format!("{authority} {created} {looks}");
            let folder = tempfile::tempdir().unwrap();
            let day = |days: i64| {
                let first = at("2026-01-01T00:00:00Z").as_second();
                Timestamp::from_second(first + days * DAY_SECONDS).unwrap()
            };
            let load = |days| load_or_create(folder.path(), &names("hub", &[]), day(days)).unwrap();
            let first = load(authority);
            let files =
                || ["ca.pem", "ca.key"].map(|file| fs::read(folder.path().join(file)).unwrap());
            let own = files();
            for file in ["server.pem", "server.key"] {
                fs::remove_file(folder.path().join(file)).unwrap();
            }
            let before = load(created);
            let after = load(looks);
            assert_eq!(after.chain != before.chain, replaced, "{case}");
            assert_eq!(files(), own, "{case}");
            assert_eq!(after.issuers, first.issuers, "{case}");
            let validities = after.validities();
            assert_eq!(validities.len(), 2, "{case}");
            let now = day(looks).as_second();
            if now >= EARLIEST_CLOCK {
                assert_eq!(validities[0].1.problem(now), None, "{case}");
            }
            // The authority's validity is checked too.
            let authority_is_good = looks >= authority - BACKDATED_DAYS;
            let problem = validities[1].1.problem(now);
            assert_eq!(problem.is_none(), authority_is_good, "{case}: {problem:?}");
        }
    }

    #[test]
    fn a_new_name_needs_a_new_certificate_but_fewer_addresses_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let now = at("2026-01-01T00:00:00Z");
        let first = load_or_create(folder.path(), &names("hub", &["hub.lan"]), now).unwrap();
        let fewer = load_or_create(folder.path(), &names("hub", &[]), now).unwrap();
        assert_eq!(first.chain, fewer.chain);
        let more = load_or_create(folder.path(), &names("hub", &["10.1.2.3"]), now).unwrap();
        assert_ne!(first.chain, more.chain);
    }

    #[test]
    fn a_certificate_of_another_authority_is_replaced() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = at("2026-01-01T00:00:00Z");
        let first = load_or_create(one.path(), &names("hub", &[]), now).unwrap();
        load_or_create(two.path(), &names("hub", &[]), now).unwrap();
        for file in ["ca.pem", "ca.key"] {
            fs::copy(two.path().join(file), one.path().join(file)).unwrap();
        }
        let again = load_or_create(one.path(), &names("hub", &[]), now).unwrap();
        assert_ne!(first.chain, again.chain);
    }

    #[test]
    fn a_key_that_does_not_match_is_replaced_with_its_certificate() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = at("2026-01-01T00:00:00Z");
        let first = load_or_create(one.path(), &names("hub", &[]), now).unwrap();
        load_or_create(two.path(), &names("hub", &[]), now).unwrap();
        fs::copy(two.path().join("server.key"), one.path().join("server.key")).unwrap();
        let again = load_or_create(one.path(), &names("hub", &[]), now).unwrap();
        assert_ne!(first.chain, again.chain);
    }

    #[test]
    fn a_missing_authority_key_is_an_error_and_the_authority_stays() {
        let folder = tempfile::tempdir().unwrap();
        let now = at("2026-01-01T00:00:00Z");
        let first = load_or_create(folder.path(), &names("hub", &[]), now).unwrap();
        let authority = fs::read_to_string(&first.ca_file).unwrap();
        fs::remove_file(folder.path().join("ca.key")).unwrap();
        let error = load_or_create(folder.path(), &names("hub", &[]), now)
            .err()
            .unwrap();
        assert!(error.to_string().contains("ca.key is missing"), "{error}");
        assert_eq!(fs::read_to_string(&first.ca_file).unwrap(), authority);
    }

    #[test]
    fn key_files_have_mode_0600() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        load_or_create(
            folder.path(),
            &names("hub", &[]),
            at("2026-01-01T00:00:00Z"),
        )
        .unwrap();
        for file in ["ca.key", "server.key"] {
            let mode = fs::metadata(folder.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
}
