//! The program itself: killed, and asked to stop.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use doorfleet_testing::{HubProcess, eventually, write_with_mode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;

use crate::job::{lock, wait_for_doors};
use crate::program::{program, run};

/// Starts the program on free ports.
pub(crate) fn start(folder: &TempDir) -> HubProcess {
    start_with(folder, |_| {})
}

fn start_with(folder: &TempDir, change: impl FnOnce(&mut Command)) -> HubProcess {
    HubProcess::start(program(), folder.path(), change)
}

/// The certificate that the HTTPS port presents now.
async fn presented(hub: &HubProcess) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    tls.resumption = rustls::client::Resumption::disabled();
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", hub.https_port));
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
        .connect("localhost".try_into().unwrap(), socket.await.unwrap())
        .await
        .unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_job_scheduled_before_a_sigkill_runs_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(&folder);
    let key = hub.operator.add_device("door").await;
    // The door may connect after the job's start.
    let mut job = lock("*", 3000);
    wait_for_doors(&mut job, 20);
    let created = hub.operator.put("/jobs/v2/later", job).await;
    assert_eq!(created.status, 200);
    hub.process.kill();

    let hub = start(&folder);
    let _device = hub.operator.connect("door", &key, 200).await;
    let job = hub.operator.job("later", &["completed", "failed"]).await;
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 1, "{job}");
}

#[tokio::test]
async fn sigterm_stops_the_hub_with_success() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = start(&folder);
    let key = hub.operator.add_device("door").await;
    let _device = hub.operator.connect("door", &key, 200).await;
    let status = tokio::task::spawn_blocking(move || hub.process.terminate());
    let status = status.await.unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn invalid_settings_end_it_with_the_place_and_the_expected_value() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "\nhttps_port = \"high\"\n").unwrap();
    let data = folder.path().join("data");
    let settings = format!("--config {}", settings.display());
    for (flags, parts) in [
        (
            settings.as_str(),
            &["settings.toml, line 2", "https_port", "u16"][..],
        ),
        ("--name 'a b'", &["`a b`", "--name", "expected a host name"]),
        ("--mqtt-port 70000", &["--mqtt-port", "70000"]),
        ("--data /proc/none", &["/proc/none", "--data"]),
    ] {
        let line = match flags.starts_with("--data") {
            true => format!("serve {flags}"),
            false => format!("serve --data {} {flags}", data.display()),
        };
        let refused = run(&line).says(parts);
        assert!([1, 2].contains(&refused.status), "{refused:?}");
    }
    assert!(!data.exists(), "nothing was created");
}

/// Accepts any certificate.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Writes a self-signed server certificate and its key, and returns the certificate.
fn write_certificate(folder: &Path, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let created = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.join("given.pem"), created.cert.pem()).unwrap();
    write_key(folder, &created.signing_key.serialize_pem(), 0o600);
    created.cert.der().to_vec()
}

fn write_key(folder: &Path, pem: &str, mode: u32) {
    write_with_mode(folder.join("given.key"), pem, mode);
}

/// Waits until the hub's log contains `what`, `times` times.
async fn logged(folder: &Path, what: &str, times: usize) {
    eventually(&format!("{what:?} is logged"), || async {
        let log = std::fs::read_to_string(folder.join("hub.log")).unwrap();
        (log.matches(what).count() >= times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn sighup_reloads_a_given_certificate_and_keeps_the_old_one_when_the_new_is_invalid() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path();
    let hub = start(&data);
    let own = presented(&hub).await;

    let first = write_certificate(folder, &["localhost", "old.example"]);
    let settings = "aliases = [\"door.example\"]\n\
        certificate_file = \"given.pem\"\n\
        key_file = \"given.key\"\n\
        log = \"info,door_hub=debug\"\n";
    std::fs::write(folder.join("hub.toml"), settings).unwrap();
    hub.process.signal("HUP");
    logged(folder, "settings and certificates reloaded", 1).await;
    assert_ne!(presented(&hub).await, own);
    assert_eq!(presented(&hub).await, first);
    // No client that uses this alias would accept that certificate.
    logged(folder, "door.example", 1).await;

    // The key of another certificate, a key file that others can read, and an unknown setting.
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    write_key(folder, &other, 0o600);
    hub.process.signal("HUP");
    logged(folder, "nothing changed", 1).await;
    write_key(folder, &other, 0o644);
    hub.process.signal("HUP");
    logged(folder, "has mode 0644; expected 0600", 1).await;
    std::fs::write(folder.join("hub.toml"), format!("{settings}colour = 1\n")).unwrap();
    hub.process.signal("HUP");
    logged(folder, "hub.toml, line 5", 1).await;
    assert_eq!(presented(&hub).await, first);

    std::fs::write(folder.join("hub.toml"), settings).unwrap();
    let second = write_certificate(folder, &["localhost", "new.example"]);
    hub.process.signal("HUP");
    logged(folder, "settings and certificates reloaded", 2).await;
    assert_eq!(presented(&hub).await, second);
}

#[tokio::test]
async fn systemd_is_notified_of_start_reload_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut hub = start_with(&folder, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let notification = || {
        let mut bytes = [0; 1024];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let ready = notification();
    assert!(
        ready.starts_with("READY=1\nSTATUS=serving localhost on "),
        "{ready}"
    );
    hub.process.signal("HUP");
    let reloading = notification();
    let since = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(since.trim().parse::<u64>().unwrap() > 0);
    assert!(notification().starts_with("READY=1\n"));
    hub.process.signal("TERM");
    assert_eq!(notification(), "STOPPING=1\nSTATUS=draining\n");
    assert!(hub.process.wait().success());
}
