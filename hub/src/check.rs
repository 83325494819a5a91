//! Checks the settings and the data folder of a hub without changing anything, whether or not the
//! hub is running.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::HubConfig;
use crate::data::exposed_files;
use crate::live;
use crate::pki::{self, Validity};
use crate::store::{self, RecordedNumber};
use crate::webhook::Target;
use crate::{AFTER_DATABASE, DATABASE};

/// A certificate that expires within this time causes a warning.
const WARN_DAYS: i64 = 30;

const DAY_SECONDS: i64 = 24 * 60 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Good,
    /// The hub runs, but somebody should look at it.
    Warning,
    /// The hub does not start, or clients cannot use it.
    Fault,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub text: String,
}

/// Runs all checks.
#[must_use]
pub fn check(config: &HubConfig) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    findings.good(format!(
        "settings: {}, MQTT on {}, REST on {}",
        config.name, config.mqtt_address, config.https_address
    ));
    let running = data_folder(config, &mut findings);
    certificates(config, &mut findings);
    database(config, &mut findings);
    ports(config, running, &mut findings);
    webhooks(config, &mut findings);
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, text: String) {
        self.0.push(Finding { severity, text });
    }

    fn has_fault_about(&self, what: &str) -> bool {
        let of = |finding: &Finding| {
            finding.severity == Severity::Fault && finding.text.starts_with(what)
        };
        self.0.iter().any(of)
    }

    fn good(&mut self, text: String) {
        self.add(Severity::Good, text);
    }

    fn warning(&mut self, text: String) {
        self.add(Severity::Warning, text);
    }

    fn fault(&mut self, text: String) {
        self.add(Severity::Fault, text);
    }
}

/// Checks the folder and the modes of its files. Returns whether a hub is running on it.
fn data_folder(config: &HubConfig, findings: &mut Findings) -> bool {
    let folder = &config.data_directory;
    let shown = folder.display();
    let metadata = match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            findings.fault(format!("data folder: {shown} is a file"));
            return false;
        }
        Err(error) => {
            findings.warning(format!(
                "data folder: {shown} cannot be read ({error}); `door-hub init` creates it"
            ));
            return false;
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        findings.good(format!("data folder: {shown}"));
    } else {
        findings.warning(format!(
            "data folder: {shown} has mode {mode:04o}; expected 0700"
        ));
    }
    for (name, mode) in exposed_files(folder) {
        findings.fault(format!("modes: {name} has mode {mode:04o}; expected 0600"));
    }
    let running = is_running(folder);
    if running {
        findings.good("hub: running on this folder".to_owned());
    }
    running
}

/// Reads the files of the webhooks; connects to no receiver.
fn webhooks(config: &HubConfig, findings: &mut Findings) {
    for webhook in &config.webhooks {
        match Target::load(webhook) {
            Ok(target) => findings.good(format!("webhook: {}", target.name())),
            Err(error) => findings.fault(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

fn is_running(folder: &Path) -> bool {
    let lock = OpenOptions::new().write(true).open(folder.join("hub.lock"));
    lock.is_ok_and(|file: File| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

fn certificates(config: &HubConfig, findings: &mut Findings) {
    let folder = &config.data_directory;
    let server = match &config.certificate {
        Some(given) => match given.load() {
            Ok(identity) => {
                for certificate in &identity.issuers {
                    check_expiry("certificate above the server's", certificate, findings);
                }
                identity.chain.into_iter().next()
            }
            Err(error) => {
                findings.fault(format!("certificate: {error}"));
                None
            }
        },
        None => {
            own_certificate(folder, "ca.pem", "ca.key", findings);
            own_certificate(folder, "server.pem", "server.key", findings)
        }
    };
    if let Some(server) = server {
        let now = Timestamp::now().as_second();
        let validity = Validity::of(&server);
        if config.certificate.is_none() && validity.is_some_and(|own| now < own.not_before) {
            findings.warning(
                "server certificate: not valid yet; the hub replaces it when it starts, and within \
                 an hour if it is running"
                    .to_owned(),
            );
        } else {
            check_expiry("server certificate", &server, findings);
        }
        if pki::is_authority(&server) {
            let reason = pki::AUTHORITY_AS_SERVER;
            findings.warning(format!("server certificate: {reason}"));
        }
        let missing = pki::names_missing(&server, &live::names(config).subjects());
        let missing: Vec<_> = missing
            .into_iter()
            .filter(|name| !live::is_loopback(name))
            .collect();
        if missing.is_empty() {
            findings.good("server certificate: covers every name and address".to_owned());
        } else if config.certificate.is_some() {
            findings.warning(format!(
                "server certificate: does not cover {}",
                missing.join(", ")
            ));
        } else {
            findings.good(format!(
                "server certificate: the hub will issue a new one that also covers {}",
                missing.join(", ")
            ));
        }
    }
    match pki::device_authorities(&config.device_ca_files) {
        Ok(_) => {
            for path in &config.device_ca_files {
                let certificates = CertificateDer::pem_file_iter(path).into_iter().flatten();
                for certificate in certificates.flatten() {
                    check_expiry(&path.display().to_string(), &certificate, findings);
                }
            }
        }
        Err(error) => findings.fault(error.to_string()),
    }
}

/// Checks a pair that the hub has created; reports nothing for a pair that the next start creates.
fn own_certificate(
    folder: &Path,
    certificate: &str,
    key: &str,
    findings: &mut Findings,
) -> Option<CertificateDer<'static>> {
    let pair = pki::ProvidedCertificate {
        certificate_file: folder.join(certificate),
        key_file: folder.join(key),
    };
    let there = [&pair.certificate_file, &pair.key_file].map(|file| file.exists());
    // The next start creates what is missing.
    if there == [false; 2] || pki::is_first_start_interrupted(&pair.certificate_file) {
        return None;
    }
    if certificate == "server.pem" && there != [true; 2] {
        return None;
    }
    match pair.load() {
        Ok(identity) => {
            let own = identity.chain.into_iter().next()?;
            if certificate == "ca.pem" {
                check_expiry("authority", &own, findings);
            }
            Some(own)
        }
        Err(error) => {
            findings.fault(format!("{certificate}, {key}: {error}"));
            None
        }
    }
}

fn check_expiry(what: &str, certificate: &CertificateDer<'_>, findings: &mut Findings) {
    let Some(validity) = Validity::of(certificate) else {
        findings.fault(format!("{what}: cannot be read"));
        return;
    };
    let now = Timestamp::now().as_second();
    if let Some(problem) = validity.problem(now) {
        findings.fault(format!(
            "{what}: {problem}; check the clock, then the certificate"
        ));
        return;
    }
    let days = (validity.not_after - now) / DAY_SECONDS;
    let end = Timestamp::from_second(validity.not_after).unwrap_or(Timestamp::MAX);
    let text = format!("{what}: expires on {end}, in {days} days");
    match days {
        ..WARN_DAYS => findings.warning(text),
        _ => findings.good(text),
    }
}

fn database(config: &HubConfig, findings: &mut Findings) {
    let path = config.data_directory.join(DATABASE);
    if let Err(error) = store::check_for_loss(&path, &AFTER_DATABASE) {
        if error.is_loss() {
            findings.fault(format!("database: {error}"));
        }
    } else if store::recorded_number(&path) == RecordedNumber::Damaged {
        findings
            .warning("database: hub.group is damaged; the next start writes it again".to_owned());
    }
    if !path.exists() {
        return;
    }
    match store::faults(&path) {
        Ok(faults) if faults.is_empty() => damaged_rows(&path, findings),
        Ok(faults) => {
            for fault in faults {
                findings.fault(format!("database: {fault}"));
            }
            damaged_rows(&path, findings);
        }
        Err(error) => findings.fault(format!("database: {:#}", anyhow::Error::from(error))),
    }
}

/// Reports damaged rows: a running hub leaves them out and serves the others.
fn damaged_rows(path: &Path, findings: &mut Findings) {
    match store::damaged(path) {
        Ok(rows) if rows.is_empty() && !findings.has_fault_about("database") => {
            findings.good("database: intact".to_owned());
        }
        Ok(rows) => {
            for row in rows {
                findings.warning(format!("database: {row}"));
            }
        }
        Err(error) => findings.fault(format!("database: {:#}", anyhow::Error::from(error))),
    }
}

fn ports(config: &HubConfig, running: bool, findings: &mut Findings) {
    if running {
        return;
    }
    let both: [(&str, SocketAddr); 2] = [
        ("mqtt_port", config.mqtt_address),
        ("https_port", config.https_address),
    ];
    for (key, address) in both {
        match TcpListener::bind(address) {
            Ok(_) => findings.good(format!("{key}: {address} is free")),
            Err(error) => findings.fault(format!("{key}: cannot listen on {address}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: whether the operator provides the certificate, and the expected findings for
    /// certificates that were created by a clock 300 days ahead.
    #[test]
    fn reports_certificates_that_are_not_valid_yet() {
        for (is_given, expected) in [
            (
                false,
                [
                    (Severity::Fault, "authority: not valid before "),
                    (
                        Severity::Warning,
                        "server certificate: not valid yet; the hub replaces",
                    ),
                ]
                .as_slice(),
            ),
            (
                true,
                &[(Severity::Fault, "server certificate: not valid before ")],
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut config = HubConfig::loopback(folder.path().to_owned());
            let ahead = Timestamp::now().as_second() + 300 * DAY_SECONDS;
            live::certify(&config, Timestamp::from_second(ahead).unwrap()).unwrap();
            if is_given {
                config.certificate = Some(pki::ProvidedCertificate {
                    certificate_file: folder.path().join("server.pem"),
                    key_file: folder.path().join("server.key"),
                });
            }
            let mut findings = Findings(Vec::new());
            certificates(&config, &mut findings);
            for (severity, text) in expected {
                let is_there = |finding: &Finding| {
                    finding.severity == *severity && finding.text.starts_with(text)
                };
                assert!(findings.0.iter().any(is_there), "{text}: {:?}", findings.0);
            }
        }
    }

    #[test]
    fn warns_of_an_authority_as_server_certificate() {
        for is_ca in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let names = vec!["localhost".to_owned()];
            let mut parameters = rcgen::CertificateParams::new(names).unwrap();
            if is_ca {
                let any = rcgen::BasicConstraints::Unconstrained;
                parameters.is_ca = rcgen::IsCa::Ca(any);
            }
            let key = rcgen::KeyPair::generate().unwrap();
            let own = parameters.self_signed(&key).unwrap();
            let mut config = HubConfig::loopback(folder.path().to_owned());
            let given = pki::ProvidedCertificate {
                certificate_file: folder.path().join("given.pem"),
                key_file: folder.path().join("given.key"),
            };
            fs::write(&given.certificate_file, own.pem()).unwrap();
            fs::write(&given.key_file, key.serialize_pem()).unwrap();
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&given.key_file, private).unwrap();
            config.certificate = Some(given);
            let mut findings = Findings(Vec::new());
            certificates(&config, &mut findings);
            let warned = |finding: &Finding| {
                finding.severity == Severity::Warning && finding.text.contains("CA:TRUE")
            };
            let found = findings.0.iter().any(warned);
            assert_eq!(found, is_ca, "{:?}", findings.0);
        }
    }

    #[test]
    fn files_that_the_next_start_creates_are_not_a_fault() {
        for left in [&["ca.key"][..], &["ca.key", "ca.pem", "server.key"]] {
            let folder = tempfile::tempdir().unwrap();
            let config = HubConfig::loopback(folder.path().to_owned());
            live::certify(&config, Timestamp::now()).unwrap();
            for name in ["ca.pem", "server.pem", "server.key"] {
                if !left.contains(&name) {
                    fs::remove_file(folder.path().join(name)).unwrap();
                }
            }
            let mut findings = Findings(Vec::new());
            certificates(&config, &mut findings);
            let is_fault = |finding: &Finding| finding.severity == Severity::Fault;
            assert!(
                !findings.0.iter().any(is_fault),
                "{left:?}: {:?}",
                findings.0
            );
            live::certify(&config, Timestamp::now()).unwrap();
        }
    }
}
