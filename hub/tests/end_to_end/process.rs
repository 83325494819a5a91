//! The program itself: killed, and asked to stop.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;

use crate::harness::{Operator, eventually};
use crate::job::{lock, wait_for_doors};

/// A `door-hub serve` on free ports.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) operator: Operator,
    https_port: u16,
    folder: PathBuf,
}

impl Process {
    pub(crate) async fn start(folder: &TempDir) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    /// The same with more arguments or another environment. Its log goes to `hub.log` in the
    /// folder.
    pub(crate) async fn start_with(folder: &TempDir, change: impl FnOnce(&mut Command)) -> Self {
        let log = std::fs::File::create(folder.path().join("hub.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_door-hub"));
        change(&mut command);
        let mut child = command
            .args(["serve", "--name", "localhost", "--listen", "127.0.0.1"])
            .args(["--mqtt-port", "0", "--https-port", "0", "--data"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let text = tokio::task::spawn_blocking(move || {
            let lines = output.lines().map(Result::unwrap);
            lines.take(5).collect::<Vec<String>>()
        });
        let text = tokio::time::timeout(Duration::from_secs(20), text).await;
        let text = text.unwrap().unwrap().join("\n");
        let mqtt = text.lines().find(|line| line.contains("MQTT")).unwrap();
        let mqtt_port = mqtt.rsplit(':').next().unwrap().parse().unwrap();
        let https = text.lines().find(|line| line.contains("REST")).unwrap();
        let https_port = https.rsplit(':').next().unwrap().parse().unwrap();
        let owner = std::fs::read_to_string(folder.path().join("service-connection-string"));
        let owner = owner.unwrap().parse().unwrap();
        let operator = Operator::new(owner, mqtt_port, &folder.path().join("ca.pem"));
        Self {
            child,
            operator,
            https_port,
            folder: folder.path().to_owned(),
        }
    }

    /// The address of the REST API.
    pub(crate) fn https(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.https_port))
    }

    /// An operator with a new connection.
    pub(crate) fn new_operator(&self) -> Operator {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap();
        let owner = read("service-connection-string").parse().unwrap();
        Operator::new(owner, self.operator.mqtt_port, &self.folder.join("ca.pem"))
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// The certificate that the HTTPS port presents now.
    async fn presented(&self) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_no_client_auth();
        tls.resumption = rustls::client::Resumption::disabled();
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", self.https_port));
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect("localhost".try_into().unwrap(), socket.await.unwrap())
            .await
            .unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_job_scheduled_before_a_sigkill_runs_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Process::start(&folder).await;
    let key = hub.operator.add_device("door").await;
    // The door may connect after the job's start.
    let mut job = lock("*", 3000);
    wait_for_doors(&mut job, 20);
    let created = hub.operator.put("/jobs/v2/later", job).await;
    assert_eq!(created.status, 200);
    hub.kill();

    let hub = Process::start(&folder).await;
    let _device = hub.operator.connect("door", &key, 200).await;
    let job = hub.operator.job("later", &["completed", "failed"]).await;
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 1, "{job}");
}

#[tokio::test]
async fn sigterm_stops_the_hub_with_success() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Process::start(&folder).await;
    let key = hub.operator.add_device("door").await;
    let _device = hub.operator.connect("door", &key, 200).await;
    hub.signal("TERM");
    let child = std::sync::Mutex::new(&mut hub.child);
    let status = eventually("the hub ends", || async {
        child.lock().unwrap().try_wait().unwrap()
    })
    .await;
    assert!(status.success(), "{status}");
}

#[test]
fn invalid_settings_end_it_with_the_place_and_the_expected_value() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "\nhttps_port = \"high\"\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_door-hub"))
            .arg("serve")
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (child.wait().unwrap().code(), text)
    };
    let (data, settings) = (folder.path().join("data"), settings.to_str().unwrap());
    let data = data.to_str().unwrap();
    for (arguments, parts) in [
        (
            vec!["--data", data, "--config", settings],
            vec!["settings.toml, line 2", "https_port", "u16"],
        ),
        (
            vec!["--data", data, "--name", "a b"],
            vec!["`a b`", "--name", "expected a host name"],
        ),
        (
            vec!["--data", data, "--mqtt-port", "70000"],
            vec!["--mqtt-port", "70000"],
        ),
        (vec!["--data", "/proc/none"], vec!["/proc/none", "--data"]),
    ] {
        let (code, text) = run(&arguments);
        assert!(matches!(code, Some(1 | 2)), "{text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
    assert!(!std::path::Path::new(data).exists(), "nothing was created");
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
    let path = folder.join("given.key");
    std::fs::write(&path, pem).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
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
    let hub = Process::start(&data).await;
    let own = hub.presented().await;

    let first = write_certificate(folder, &["localhost", "old.example"]);
    let settings = "aliases = [\"door.example\"]\n\
        certificate_file = \"given.pem\"\n\
        key_file = \"given.key\"\n\
        log = \"info,door_hub=debug\"\n";
    std::fs::write(folder.join("hub.toml"), settings).unwrap();
    hub.signal("HUP");
    logged(folder, "settings and certificates reloaded", 1).await;
    assert_ne!(hub.presented().await, own);
    assert_eq!(hub.presented().await, first);
    // No client that uses this alias would accept that certificate.
    logged(folder, "door.example", 1).await;

    // The key of another certificate, a key file that others can read, and an unknown setting.
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    write_key(folder, &other, 0o600);
    hub.signal("HUP");
    logged(folder, "nothing changed", 1).await;
    write_key(folder, &other, 0o644);
    hub.signal("HUP");
    logged(folder, "has mode 0644; expected 0600", 1).await;
    std::fs::write(folder.join("hub.toml"), format!("{settings}colour = 1\n")).unwrap();
    hub.signal("HUP");
    logged(folder, "hub.toml, line 5", 1).await;
    assert_eq!(hub.presented().await, first);

    std::fs::write(folder.join("hub.toml"), settings).unwrap();
    let second = write_certificate(folder, &["localhost", "new.example"]);
    hub.signal("HUP");
    logged(folder, "settings and certificates reloaded", 2).await;
    assert_eq!(hub.presented().await, second);
}

#[tokio::test]
async fn systemd_is_notified_of_start_reload_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut hub = Process::start_with(&folder, |command| {
        command.env("NOTIFY_SOCKET", &path);
    })
    .await;
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
    hub.signal("HUP");
    let reloading = notification();
    let since = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(since.trim().parse::<u64>().unwrap() > 0);
    assert!(notification().starts_with("READY=1\n"));
    hub.signal("TERM");
    assert_eq!(notification(), "STOPPING=1\nSTATUS=draining\n");
    assert!(hub.child.wait().unwrap().success());
}
