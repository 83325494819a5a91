//! A server certificate with its key that the operator provides instead of one of the hub's own
//! authority.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use iothub_protocol::text_file::decode_pem;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{PkiError, ServerIdentity};

/// The files of a provided certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedCertificate {
    /// The certificate, followed by its intermediates, in PEM.
    pub certificate_file: PathBuf,
    /// Its key, in PEM; mode 0600.
    pub key_file: PathBuf,
}

impl ProvidedCertificate {
    /// Reads and checks both files.
    pub(crate) fn load(&self) -> Result<ServerIdentity, PkiError> {
        let Self {
            certificate_file,
            key_file,
        } = self;
        let pem = read(certificate_file)?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unusable(certificate_file, &error))?;
        let own = chain
            .first()
            .ok_or_else(|| unusable(certificate_file, &"it holds no certificate"))?;
        let (_, certificate) =
            X509Certificate::from_der(own).map_err(|error| unusable(certificate_file, &error))?;
        let not_after = certificate.validity().not_after.timestamp();
        check_mode(key_file)?;
        let key = PrivateKeyDer::from_pem_slice(&read(key_file)?)
            .map_err(|error| unusable(key_file, &error))?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
            .map_err(|error| unusable(key_file, &error))?;
        Ok(ServerIdentity {
            ca_file: certificate_file.clone(),
            issuers: chain[1..].to_vec(),
            chain,
            key,
            not_after,
        })
    }
}

/// Rejects a key that others can read.
fn check_mode(path: &Path) -> Result<(), PkiError> {
    match exposed_mode(path) {
        Ok(None) => Ok(()),
        Ok(Some(mode)) => Err(PkiError::KeyMode {
            path: path.to_owned(),
            mode,
        }),
        Err(source) => Err(PkiError::File {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// The mode of a file with a secret if others can read it. The files that systemd passes as
/// credentials are in a folder of the service's own, with an access list that shows up as a right
/// of the group.
pub(crate) fn exposed_mode(path: &Path) -> io::Result<Option<u32>> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|folder| path.starts_with(Path::new(&folder)));
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let is_private = mode & 0o077 == 0 || (credential && mode & 0o007 == 0);
    Ok((!is_private).then_some(mode))
}

/// Whether a certificate is one of an authority (`CA:TRUE`): rustls and others do not accept it
/// from a server.
pub(crate) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

/// What to do about a server certificate for which [`is_authority`] holds.
pub(crate) const AUTHORITY_AS_SERVER: &str = "it is the certificate of an authority (CA:TRUE), which clients do not accept from a server; \
     create it with `-addext basicConstraints=critical,CA:FALSE`";

/// Those of `names` (host names and addresses) that `certificate` is not valid for.
pub(crate) fn names_missing(certificate: &CertificateDer<'_>, names: &[String]) -> Vec<String> {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
        return names.to_vec();
    };
    let carried = |name: &String| {
        let server_name = name
            .parse::<IpAddr>()
            .map(|address| ServerName::IpAddress(address.into()))
            .or_else(|_| ServerName::try_from(name.as_str()));
        server_name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
    };
    names
        .iter()
        .filter(|name| !carried(name))
        .cloned()
        .collect()
}

/// Reads a PEM file of the operator.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    let text = fs::read(path).and_then(|bytes| decode_pem(bytes).map_err(io::Error::other));
    let text = text.map_err(|source| PkiError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(text.into_bytes())
}

fn unusable(path: &Path, reason: &impl ToString) -> PkiError {
    PkiError::Provided {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
