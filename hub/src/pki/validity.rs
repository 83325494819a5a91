//! The validity period of a certificate.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// In seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Validity {
    /// The validity of a certificate; `None` if it cannot be parsed.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Why clients reject the certificate at `now`; `None` if it is valid.
    pub(crate) fn problem(self, now: i64) -> Option<String> {
        let time = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        if now < self.not_before {
            Some(format!(
                "not valid before {}, and the clock of this machine is at {}",
                time(self.not_before),
                time(now)
            ))
        } else if now > self.not_after {
            Some(format!("expired since {}", time(self.not_after)))
        } else {
            None
        }
    }
}
