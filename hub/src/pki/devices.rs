//! The authorities of device certificates, read from the files that the settings name.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{PkiError, provided};

/// Maximum number of certificates, the same as on Azure.
const MAX_AUTHORITIES: usize = 25;

/// Reads the CA certificates in `files`.
pub(crate) fn device_authorities(files: &[PathBuf]) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for path in files {
        for certificate in read(path)? {
            let is_authority = X509Certificate::from_der(&certificate)
                .is_ok_and(|(_, certificate)| certificate.is_ca());
            if !is_authority {
                let reason = "it holds a certificate that is not the certificate of an authority \
                              (basic constraint CA)";
                return Err(unusable(path, &reason));
            }
            roots
                .add(certificate)
                .map_err(|error| unusable(path, &error))?;
        }
    }
    if roots.len() > MAX_AUTHORITIES {
        return Err(PkiError::TooManyDeviceAuthorities {
            found: roots.len(),
            limit: MAX_AUTHORITIES,
        });
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let bytes = provided::read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(unusable(path, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, reason: &impl ToString) -> PkiError {
    PkiError::DeviceAuthority {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
