//! The parts of a running hub that change without a restart: its certificate, its host names, the
//! device authorities.
//!
//! SIGHUP reloads the settings; the certificate is checked every hour, because a hub may run for
//! years.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::auth::{DeviceAuthorities, HostNames};
use crate::config::HubConfig;
use crate::error::StartError;
use crate::metrics::CertificateTimes;
use crate::pki::{self, CertificateNames, PkiError, ServerIdentity, Validity, local_addresses};
use crate::tls::ServerCertificate;

/// Interval of the certificate check.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Checks per day; warnings are repeated once a day.
const CHECKS_PER_DAY: u32 = 24;

/// A provided certificate that expires within this time causes a warning. The hub's own is renewed
/// long before.
const WARN_DAYS: i64 = 30;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The reloadable parts. The listeners hold clones of the public ones.
pub(crate) struct ReloadableState {
    pub(crate) certificate: ServerCertificate,
    pub(crate) names: HostNames,
    pub(crate) authorities: DeviceAuthorities,
    config: Mutex<HubConfig>,
    /// The validity of the certificates, the server's first.
    validities: Mutex<Vec<(String, Validity)>>,
}

impl ReloadableState {
    /// Creates or loads the certificates. Also returns the CA file that clients trust.
    pub(crate) fn start(config: &HubConfig) -> Result<(Self, PathBuf), StartError> {
        let roots = pki::device_authorities(&config.device_ca_files)?;
        let (names, identity) = certify(config, Timestamp::now())?;
        let validities = identity.validities();
        let ServerIdentity {
            ca_file,
            chain,
            key,
            not_after,
            ..
        } = identity;
        let live = Self {
            certificate: ServerCertificate::new(chain, key, not_after)?,
            names: HostNames::new(names.subjects()),
            authorities: DeviceAuthorities::default(),
            config: Mutex::new(config.clone()),
            validities: Mutex::new(validities),
        };
        live.authorities.replace(roots);
        Ok((live, ca_file))
    }

    /// Applies other settings: all that can change at run time, or nothing on an error.
    pub(crate) fn reload(&self, config: HubConfig) -> Result<(), StartError> {
        config.check()?;
        let roots = pki::device_authorities(&config.device_ca_files)?;
        let now = Timestamp::now();
        let (names, identity) = certify(&config, now)?;
        let server = identity.chain.first().and_then(Validity::of);
        if let Some(problem) = server.and_then(|server| server.problem(now.as_second())) {
            let path = identity.ca_file;
            let reason = format!("the certificate is {problem}");
            return Err(PkiError::Provided { path, reason }.into());
        }
        let mut current = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        self.install(identity)?;
        self.names.replace(names.subjects());
        self.authorities.replace(roots);
        for key in current.needs_restart(&config) {
            tracing::warn!("`{key}` changed in the settings; restart the hub to apply it");
        }
        *current = config;
        drop(current);
        self.log_warnings();
        Ok(())
    }

    /// Renews the hub's own certificate in time and logs what the operator has to do, until `stop`.
    pub(crate) async fn run_maintenance(&self, stop: CancellationToken) {
        for check in (0..CHECKS_PER_DAY).cycle() {
            if let Err(error) = self.renew_if_needed(Timestamp::now()) {
                let error = anyhow::Error::from(error);
                tracing::error!("the server certificate cannot be renewed: {error:#}");
            }
            if check == 0 {
                self.log_warnings();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    }

    /// Issues a new certificate when the current one is close to its end, or when this machine has
    /// a new address.
    fn renew_if_needed(&self, now: Timestamp) -> Result<(), StartError> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if config.certificate.is_none() {
            let (names, identity) = certify(&config, now)?;
            if identity.not_after != self.certificate.not_after()
                || identity.chain.first() != self.certificate.leaf().as_ref()
            {
                tracing::warn!(%names, "serving a new server certificate");
            }
            self.install(identity)?;
            self.names.replace(names.subjects());
        }
        Ok(())
    }

    fn install(&self, identity: ServerIdentity) -> Result<(), StartError> {
        let validities = identity.validities();
        let ServerIdentity {
            chain,
            key,
            not_after,
            ..
        } = identity;
        self.certificate.replace(chain, key, not_after)?;
        *self.validities() = validities;
        Ok(())
    }

    fn validities(&self) -> MutexGuard<'_, Vec<(String, Validity)>> {
        self.validities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The validity of the certificates, for the metrics.
    pub(crate) fn certificate_times(&self) -> CertificateTimes {
        let validities = self.validities();
        let begins = validities.iter().map(|(_, validity)| validity.not_before);
        let issuers = validities.iter().skip(1);
        let not_after = self.certificate.not_after();
        CertificateTimes {
            not_before: begins.max().unwrap_or_default(),
            not_after,
            authority_not_after: issuers
                .map(|(_, validity)| validity.not_after)
                .min()
                .unwrap_or(not_after),
        }
    }

    /// The certificates that clients reject at `now`, each with the reason.
    fn invalid(&self, now: Timestamp) -> Vec<String> {
        let validities = self.validities();
        let problems = validities.iter().filter_map(|(name, validity)| {
            let problem = validity.problem(now.as_second())?;
            Some(format!("{name}: {problem}"))
        });
        problems.collect()
    }

    /// Logs what the operator has to do.
    fn log_warnings(&self) {
        let seconds = self.certificate.not_after() - Timestamp::now().as_second();
        let days = seconds / DAY_SECONDS;
        if days < WARN_DAYS {
            tracing::warn!(days, "the server certificate expires soon");
        }
        let leaf = self.certificate.leaf();
        if leaf.as_ref().is_some_and(pki::is_authority) {
            tracing::warn!("the server certificate: {}", pki::AUTHORITY_AS_SERVER);
        }
        for problem in self.invalid(Timestamp::now()) {
            tracing::warn!(
                "clients reject this certificate; check the clock, then the certificate: {problem}"
            );
        }
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let required = names(&config).subjects();
        let missing = leaf
            .map(|leaf| pki::names_missing(&leaf, &required))
            .unwrap_or_default();
        // No public authority issues certificates for loopback names.
        let missing: Vec<_> = missing
            .into_iter()
            .filter(|name| !is_loopback(name))
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            tracing::warn!(
                %missing,
                "the server certificate does not cover these names or addresses of the hub; \
                 clients that connect to them reject it"
            );
        }
    }
}

/// Loads the certificate that the settings ask for, and the host names of the hub.
pub(crate) fn certify(
    config: &HubConfig,
    now: Timestamp,
) -> Result<(CertificateNames, ServerIdentity), StartError> {
    let names = names(config);
    let identity = match &config.certificate {
        Some(given) => given.load()?,
        None => pki::load_or_create(&config.data_directory, &names, now)?,
    };
    Ok((names, identity))
}

pub(crate) fn is_loopback(name: &str) -> bool {
    ["localhost", "127.0.0.1", "::1"].contains(&name)
}

/// All host names and addresses that clients may connect to.
pub(crate) fn names(config: &HubConfig) -> CertificateNames {
    let listened = [config.mqtt_address.ip(), config.https_address.ip()];
    let addresses = if listened.iter().any(std::net::IpAddr::is_unspecified) {
        local_addresses()
    } else {
        listened.to_vec()
    };
    CertificateNames::new(&config.name, config.aliases.clone(), &addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_the_certificate_before_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let config = HubConfig::loopback(folder.path().to_owned());
        let (live, _) = ReloadableState::start(&config).unwrap();
        let mut ends = live.certificate.not_after();
        for year in 1..=3 {
            let day = 365 * year * DAY_SECONDS;
            let now = Timestamp::now().as_second() + day;
            live.renew_if_needed(Timestamp::from_second(now).unwrap())
                .unwrap();
            assert!(live.certificate.not_after() > ends.max(now));
            ends = live.certificate.not_after();
        }
    }

    /// The clock is 300 days ahead for an hour, while the hub runs or at its start, then correct.
    #[test]
    fn replaces_a_not_yet_valid_certificate_hourly_and_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let config = HubConfig::loopback(folder.path().to_owned());
        let now = Timestamp::now();
        let ahead = Timestamp::from_second(now.as_second() + 300 * DAY_SECONDS).unwrap();
        let (live, _) = ReloadableState::start(&config).unwrap();
        assert_eq!(live.invalid(now), [""; 0]);
        live.renew_if_needed(ahead).unwrap();
        let [problem] = &live.invalid(now)[..] else {
            panic!("only the server certificate is invalid");
        };
        assert!(
            problem.starts_with("server certificate: not valid before "),
            "{problem}"
        );
        assert!(live.certificate_times().not_before > now.as_second());
        live.renew_if_needed(now).unwrap();
        assert_eq!(live.invalid(now), [""; 0]);
        live.renew_if_needed(ahead).unwrap();
        drop(live);
        let (live, _) = ReloadableState::start(&config).unwrap();
        assert_eq!(live.invalid(now), [""; 0]);
        let times = live.certificate_times();
        assert!(times.not_before <= now.as_second() && now.as_second() < times.not_after);
        assert!(times.authority_not_after > times.not_after);
    }

    #[test]
    fn reports_but_keeps_a_not_yet_valid_provided_certificate_and_authority() {
        let folder = tempfile::tempdir().unwrap();
        let own = HubConfig::loopback(folder.path().to_owned());
        let now = Timestamp::now();
        let ahead = Timestamp::from_second(now.as_second() + 300 * DAY_SECONDS).unwrap();
        certify(&own, ahead).unwrap();
        let files = || {
            let files = ["ca.pem", "ca.key", "server.pem", "server.key"];
            files.map(|file| std::fs::read(folder.path().join(file)).unwrap())
        };
        let before = files();
        let given = HubConfig {
            certificate: Some(pki::ProvidedCertificate {
                certificate_file: folder.path().join("server.pem"),
                key_file: folder.path().join("server.key"),
            }),
            ..own.clone()
        };
        let (live, _) = ReloadableState::start(&given).unwrap();
        let problems = live.invalid(now);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("not valid before"), "{problems:?}");
        let refused = live.reload(given).unwrap_err().to_string();
        assert!(refused.contains("not valid before"), "{refused}");
        assert_eq!(files(), before);

        let (live, _) = ReloadableState::start(&own).unwrap();
        let problems = live.invalid(now);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("authority in "), "{problems:?}");
        assert_eq!(files()[..2], before[..2], "the authority is never replaced");
        assert_ne!(files()[2..], before[2..]);
    }

    #[test]
    fn a_failed_reload_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let config = HubConfig::loopback(folder.path().to_owned());
        let (live, _) = ReloadableState::start(&config).unwrap();
        let leaf = live.certificate.leaf();
        let other = HubConfig {
            aliases: vec!["other.example".into()],
            device_ca_files: vec![folder.path().join("missing.pem")],
            ..config
        };
        let error = live.reload(other.clone()).unwrap_err().to_string();
        assert!(error.contains("missing.pem"), "{error}");
        assert_eq!(live.certificate.leaf(), leaf);
        assert!(!live.names.accept("other.example"));

        let other = HubConfig {
            device_ca_files: Vec::new(),
            ..other
        };
        live.reload(other).unwrap();
        assert_ne!(live.certificate.leaf(), leaf);
        assert!(live.names.accept("other.example") && live.names.accept("localhost"));
    }
}
