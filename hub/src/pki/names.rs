//! The names that the server certificate covers: those that people and doors may connect to.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::Validity;

/// The host name, its aliases, `localhost` and the addresses, without duplicates.
#[derive(Debug, Clone)]
pub(crate) struct CertificateNames {
    common_name: String,
    subjects: BTreeSet<String>,
}

impl CertificateNames {
    /// `name` and `aliases` are DNS names or addresses as text.
    pub(crate) fn new(name: &str, aliases: Vec<String>, addresses: &[IpAddr]) -> Self {
        let mut subjects: BTreeSet<String> = aliases
            .into_iter()
            .map(|alias| alias.to_ascii_lowercase())
            .collect();
        subjects.insert(name.to_ascii_lowercase());
        subjects.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        subjects.extend(addresses.iter().map(ToString::to_string));
        Self {
            common_name: name.to_owned(),
            subjects,
        }
    }

    /// The host name for the certificate's subject, truncated to the permitted length.
    pub(crate) fn common_name(&self) -> String {
        // X.520 allows 64 characters.
        self.common_name.chars().take(64).collect()
    }

    /// All names, as `CertificateParams::new` takes them.
    pub(crate) fn subjects(&self) -> Vec<String> {
        self.subjects.iter().cloned().collect()
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, separator) in self
            .subjects
            .iter()
            .zip(std::iter::once("").chain(std::iter::repeat(", ")))
        {
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

/// A certificate chain, its key, and when the certificate expires (seconds since 1970).
pub(super) type Usable = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, i64);

/// The stored certificate, if it matches its key, was issued by `issuer`, covers all `names`, and
/// is valid from `needed.not_before` or earlier until after `needed.not_after`.
pub(super) fn usable(
    certificate_pem: &str,
    key_pem: &str,
    issuer: &Issuer<'_, KeyPair>,
    names: &CertificateNames,
    needed: Validity,
) -> Option<Usable> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let key = KeyPair::from_pem(key_pem).ok()?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return None;
    }
    let authority =
        certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref(),
                _ => None,
            });
    if authority?.0 != rcgen::CertificateParams::default().key_identifier(issuer.key()) {
        return None;
    }
    let mut missing = names.subjects.clone();
    for name in &certificate
        .subject_alternative_name()
        .ok()??
        .value
        .general_names
    {
        match name {
            GeneralName::DNSName(name) => missing.remove(&name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => {
                address(bytes).is_some_and(|address| missing.remove(&address.to_string()))
            }
            _ => false,
        };
    }
    let validity = Validity::of(chain.first()?)?;
    let lasts = validity.not_before <= needed.not_before && validity.not_after > needed.not_after;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).ok()?;
    (missing.is_empty() && lasts).then(|| (chain.clone(), key, validity.not_after))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The addresses of this machine's interfaces that a door could connect to: all but loopback and
/// link-local ones.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot list this machine's addresses; the certificate will not cover them"
            );
            return Vec::new();
        }
    };
    let addresses: BTreeSet<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address
                .as_sockaddr_in()
                .map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| {
                address
                    .as_sockaddr_in6()
                    .map(|address| IpAddr::V6(address.ip()))
            })
        })
        .filter(|address| !address.is_loopback() && !is_link_local(address))
        .collect();
    addresses.into_iter().collect()
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The host name of this machine, or `localhost` if it is not valid in a certificate.
#[must_use]
pub fn default_host_name() -> String {
    let named = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    named
        .filter(|name| is_host_name(name))
        .unwrap_or_else(|| "localhost".into())
}

/// Whether `name` is a valid host name: labels of letters, digits, `-` and `_`, separated by dots.
pub(crate) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !name.is_empty() && name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_case_insensitive_and_unique() {
        let names = CertificateNames::new("Hub.Example", vec!["hub.example".into()], &[]);
        assert_eq!(names.to_string(), "127.0.0.1, ::1, hub.example, localhost");
    }

    #[test]
    fn validates_host_names() {
        for good in ["hub", "hub-1.lan", "a_b.example"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "", "-hub", "hub.", "hub..lan", "hub lan", "hub:8883", "h\u{fc}b",
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
