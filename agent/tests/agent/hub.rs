//! The agent with a real hub: MQTT over TLS on one side, the REST API on the other.

use std::path::Path;
use std::time::Duration;

use door_agent::cloud::LinkState;
use door_agent::config::CertificateFiles;
use door_agent::tls::TlsCache;
use door_agent::{Agent, Shared};
use door_core::contract::Mode;
use doorfleet_testing::{TestHub, agent_until, eventually, write_secret};
use jiff::civil::{Date, date};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::site::{DOOR, Site, all_sent, call, link_is, link_problem, try_sim};

/// The acknowledgement of an applied value.
fn applied(value: impl Into<Value>, version: u64) -> Value {
    json!({"value": value.into(), "ac": 200, "av": version, "ad": "applied"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_connects_reports_and_executes_methods() {
    let site = Site::new().await;
    let agent = site.start().await;

    let reported = site.reports("/door/secured", "secured").await;
    assert_eq!(reported["door"]["lockState"], "locked");
    assert_eq!(reported["door"]["proof"], "bond");
    assert_eq!(reported["device"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(reported["device"]["link"]["connections"], 1);

    let answer = site
        .invoke("unlockDoor", json!({"unlockTime": "10m"}))
        .await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["payload"]["lockState"], "unlocked");
    site.reports("/door/lockState", "unlocked").await;

    // The tutorial sends the payload as a string that holds JSON.
    let answer = site
        .invoke("lockDoor", json!(r#"{"lockTime":"10m"}"#))
        .await;
    assert_eq!(answer["status"], 200, "{answer}");
    let response = &answer["payload"]["Response"];
    assert_eq!(response, "lockDoor called successfully");
    assert_eq!(answer["payload"]["secured"], "secured");

    let answer = site.invoke("identify", json!(null)).await;
    assert_eq!(answer["status"], 200, "{answer}");
    let identity = &answer["payload"]["identity"];
    assert_eq!(identity["deviceId"], "lobby-east");
    assert_eq!(identity["strike"], "motor-lock");
    let answer = site.invoke("selfTest", json!(null)).await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["payload"]["checks"]["storage"]["result"], "passed");
    let answer = site.invoke("openSesame", json!({})).await;
    assert_eq!(answer["status"], 404, "{answer}");
    // Commands and changes of state are events, and the hub has acknowledged all of them.
    all_sent(&agent).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_properties_are_applied_acknowledged_and_saved() {
    let site = Site::new().await;
    // Set before the door first connects.
    site.desire(json!({"building": 43})).await;
    let agent = site.start().await;
    let reported = site.reports("/building/ac", 200).await;
    assert_eq!(reported["building"], applied(43, 2));

    // Set while it is connected.
    site.desire(json!({"floor": "3"})).await;
    let reported = site.reports("/floor/ac", 200).await;
    assert_eq!(reported["floor"]["value"], "3");
    let answer = site.invoke("identify", json!({})).await;
    let identity = &answer["payload"]["identity"];
    assert_eq!(identity["building"], 43);
    assert_eq!(identity["floor"], "3");

    // An invalid value is refused, and the old one stays.
    site.desire(json!({"floor": {"is": 4}})).await;
    let reported = site.reports("/floor/ac", 400).await;
    assert_eq!(reported["floor"]["value"], "3");
    let reason = reported["floor"]["ad"].as_str().unwrap();
    assert!(reason.contains("expected a string or a number"), "{reason}");

    // A person at the door sees both.
    let refused = "expected a string or a number, found an object; the previous value stays";
    agent_until(&agent, |seen| {
        seen.desired
            .refused
            .get("floor")
            .is_some_and(|it| it == refused)
    })
    .await;
    let seen = agent.snapshot();
    let text = seen.to_text();
    for line in [
        "location building 43, floor 3\n",
        &format!("refused  floor: {refused}\n"),
    ] {
        assert!(text.contains(line), "{text}\nlacks {line}");
    }
    let document = json!(seen);
    assert_eq!(document["building"], 43);
    assert_eq!(document["refused"], json!({"floor": refused}));

    // Removed while the door is off: the saved value is dropped after the restart.
    agent.shutdown().await;
    site.desire(json!({"floor": null, "building": 44})).await;
    let agent = site.start().await;
    let reported = site.reports("/building/value", 44).await;
    assert_eq!(reported.get("floor"), None);
    assert_eq!(reported["device"]["startReason"], "restart");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_mode_acts_once_even_after_a_reconnect_or_restart() {
    let site = Site::new().await;
    site.desire(json!({"mode": "secure"})).await;
    let agent = site.start().await;
    site.reports("/door/mode", "secure").await;
    let reported = site.reports("/mode/ac", 200).await;
    assert_eq!(reported["mode"], applied("secure", 2));
    let answer = site.invoke("unlockDoor", json!({})).await;
    assert_eq!(answer["status"], 409, "{answer}");
    assert_eq!(answer["payload"]["mode"], "secure");
    let normal = json!({"mode": "normal", "commandId": "m-1"});
    let answer = site.invoke("setMode", normal).await;
    assert_eq!(answer["status"], 200, "{answer}");

    // The twin is read again, and contains the same value.
    agent.disconnect_link();
    link_is(&agent, LinkState::Unplugged).await;
    site.desire(json!({"floor": 1})).await;
    agent.reconnect_link();
    site.reports("/floor/value", 1).await;
    assert_eq!(agent.snapshot().door.report.mode, Mode::Normal);
    agent.shutdown().await;
    site.desire(json!({"floor": 2})).await;
    let agent = site.start().await;
    site.reports("/floor/value", 2).await;
    assert_eq!(agent.snapshot().door.report.mode, Mode::Normal);

    // A new mode acts, an invalid one does not.
    site.desire(json!({"mode": "lockdown"})).await;
    site.reports("/door/mode", "lockdown").await;
    site.desire(json!({"mode": "open"})).await;
    let reported = site.reports("/mode/ac", 400).await;
    assert_eq!(reported["mode"]["value"], "lockdown");
    assert_eq!(reported["door"]["mode"], "lockdown");
    // A lockdown ends when it is removed.
    site.desire(json!({"mode": "lockdown"})).await;
    site.desire(json!({"mode": null})).await;
    let reported = site.reports("/door/mode", "normal").await;
    assert_eq!(reported.get("mode"), None);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_settings_are_validated_one_by_one_and_saved() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.desire(json!({"settings": {"strikeTime": "7s", "settleTime": "soon"}}))
        .await;
    let reported = site.reports("/settings/strikeTime/ac", 200).await;
    assert_eq!(reported["settings"]["strikeTime"], applied("7s", 2));
    assert_eq!(reported["settings"]["settleTime"]["ac"], 400);
    agent.shutdown().await;

    // After a restart an invalid value is answered with the one still in force.
    site.desire(json!({"settings": {"strikeTime": -1}})).await;
    let agent = site.start().await;
    let reported = site.reports("/settings/strikeTime/ac", 400).await;
    assert_eq!(reported["settings"]["strikeTime"]["value"], "7s");
    site.desire(json!({"settings": null})).await;
    site.hub
        .reported_until(DOOR, |reported| reported.get("settings").is_none())
        .await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_door_works_and_reports_everything_afterwards() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.reports("/door/secured", "secured").await;

    agent.disconnect_link();
    link_is(&agent, LinkState::Unplugged).await;
    let (status, answer) = site.hub.invoke(DOOR, "getState", json!({})).await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
    agent_until(&agent, |snapshot| snapshot.waiting_events > 0).await;
    site.desire(json!({"floor": 3})).await;

    agent.reconnect_link();
    let reported = site.reports("/floor/value", 3).await;
    assert_eq!(reported["door"]["lockState"], "unlocked");
    all_sent(&agent).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_reconnects_to_a_restarted_hub() {
    let site = Site::new().await;
    let agent = site.start().await;
    agent_until(&agent, |snapshot| snapshot.link.connections == 1).await;
    let hub = site.hub.stop().await;
    link_is(&agent, LinkState::Waiting).await;
    let hub = hub.start().await;
    agent_until(&agent, |snapshot| snapshot.link.connections == 2).await;
    let (status, answer) = hub.invoke(DOOR, "getState", json!({})).await;
    assert_eq!(status, 200, "{answer}");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_it_ends() {
    let mut site = Site::new().await;
    site.config.hub.sas_lifetime = Duration::from_secs(2);
    let agent = site.start().await;
    agent_until(&agent, |snapshot| snapshot.link.connections >= 3).await;
    assert_eq!(agent.snapshot().link.last_problem, None);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_an_unknown_device_are_reported_and_retried() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    hub.add_door(DOOR).await;
    let wrong_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let shared = Shared::new().unwrap();
    for name in [DOOR, "nobody"] {
        let connection = hub.connection_string(name, wrong_key);
        let config = hub.agent_config(&connection, &home.path().join(name));
        let agent = Agent::start(config, &shared).await.unwrap();
        assert_eq!(
            link_problem(&agent).await,
            format!("localhost refused device {name}: not authorized")
        );
        assert_eq!(agent.snapshot().link.connections, 0);
        // The door itself works.
        assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
        agent.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_created_later_connects_by_itself() {
    let hub = TestHub::start().await;
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let connection = hub.connection_string(DOOR, key);
    let site = Site::with(hub, &connection);
    let agent = site.start().await;
    link_problem(&agent).await;
    let identity = json!({
        "deviceId": DOOR,
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
    });
    let created = site.hub.put("/devices/lobby-east", identity).await;
    assert_eq!(created.status, 200, "{}", created.body);
    link_is(&agent, LinkState::Connected).await;
    agent.shutdown().await;
}

/// Writes a self-signed certificate that ends at the start of a day, and its key; returns the files
/// and the thumbprint.
pub(crate) fn write_certificate(
    folder: &Path,
    name: &str,
    end: Date,
) -> (CertificateFiles, String) {
    let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let [month, day] = [end.month(), end.day()].map(|part| part.try_into().unwrap());
    parameters.not_after = rcgen::date_time_ymd(end.year().into(), month, day);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let files = CertificateFiles {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    write_secret(&files.key, key.serialize_pem());
    let digest = Sha256::digest(certificate.der());
    let thumbprint = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    (files, thumbprint)
}

/// Creates the device `lobby-east` with this certificate.
pub(crate) async fn add_certificate(hub: &TestHub, thumbprint: &str) {
    let authentication = json!({
        "type": "selfSigned",
        "x509Thumbprint": {"primaryThumbprint": thumbprint},
    });
    let identity = json!({"authentication": authentication});
    let created = hub.put("/devices/lobby-east", identity).await;
    assert_eq!(created.status, 200, "{}", created.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_certificate_is_named_first() {
    let connection = "HostName=localhost;DeviceId=lobby-east;x509=true";
    let mut site = Site::with(TestHub::start().await, connection);
    let (files, thumbprint) = write_certificate(site.home.path(), DOOR, date(2024, 1, 1));
    add_certificate(&site.hub, &thumbprint).await;
    site.config.hub.certificate = Some(files);
    let agent = site.start().await;
    let problem = link_problem(&agent).await;
    let expected = "the certificate of lobby-east ended at 2024-01-01T00:00:00Z; ";
    assert!(problem.starts_with(expected), "{problem}");
    let text = agent.snapshot().to_text();
    let expected = "cert     WRONG it ended at 2024-01-01T00:00:00Z\n";
    assert!(text.contains(expected), "{text}");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_with_one_identity_are_named_by_agent_and_hub() {
    let site = Site::new().await;
    let mut other = site.config.clone();
    other.state.directory = site.home.path().join("other");
    let agents = [
        site.start().await,
        Agent::start(other, &site.shared).await.unwrap(),
    ];
    for agent in &agents {
        let expected = "another agent probably connects as lobby-east";
        agent_until(agent, |seen| {
            let problem = seen.link.last_problem.as_deref();
            problem.is_some_and(|problem| problem.ends_with(expected))
        })
        .await;
    }
    let conflict = eventually("the hub records the conflict", async || {
        let events = site.hub.events_of("connection", DOOR).await;
        let mut events = events.into_iter();
        events.find(|event| event["properties"]["opType"] == "identityConflict")
    })
    .await;
    let reason = conflict["body"]["reason"].as_str().unwrap();
    assert_eq!(reason.matches("127.0.0.1:").count(), 2, "{reason}");
    for agent in agents {
        agent.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_authenticates_with_a_certificate() {
    let connection = "HostName=localhost;DeviceId=lobby-east;x509=true";
    let mut site = Site::with(TestHub::start().await, connection);
    let (files, thumbprint) = write_certificate(site.home.path(), DOOR, date(2100, 1, 1));
    add_certificate(&site.hub, &thumbprint).await;
    site.config.hub.certificate = Some(files.clone());
    let agent = site.start().await;
    site.reports("/door/secured", "secured").await;

    // The hub does not know this certificate.
    let (other, _) = write_certificate(site.home.path(), "other", date(2100, 1, 1));
    let mut hub = site.config.hub.clone();
    hub.certificate = Some(other.clone());
    assert!(agent.set_hub(hub.clone()).unwrap());
    link_problem(&agent).await;
    assert_ne!(agent.snapshot().link.state, LinkState::Connected);

    // A wrong, invalid or missing key is reported with its file, and without any content.
    for (key, problem) in [
        (other.key.clone(), "not the certificate's key"),
        (files.certificate.clone(), "no private key in it"),
        (site.home.path().join("missing.key"), "cannot read the key"),
    ] {
        hub.certificate = Some(CertificateFiles {
            certificate: files.certificate.clone(),
            key: key.clone(),
        });
        let tls =
            TlsCache::default().client_config(hub.ca_file.as_deref(), hub.certificate.as_ref());
        let error = tls.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.contains(&key.display().to_string()), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_ca_is_not_trusted() {
    let (mut site, other) = (Site::new().await, TestHub::start().await);
    site.config.hub.ca_file = Some(other.hub.ca_file().to_path_buf());
    let agent = site.start().await;
    let problem = link_problem(&agent).await;
    for part in ["the certificate of localhost", "is invalid"] {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(agent.snapshot().link.connections, 0);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_doors_share_a_process_and_one_storage_thread() {
    const DOORS: usize = 100;
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let shared = Shared::new().unwrap();
    let storage_threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
        names
            .filter(|name| name.as_ref().is_ok_and(|name| name.trim() == "storage"))
            .count()
    };
    let mut agents = Vec::new();
    for n in 0..DOORS {
        let name = format!("door-{n:04}");
        let connection = hub.add_door(&name).await;
        let config = hub.agent_config(&connection, &home.path().join(&name));
        agents.push(Agent::start(config, &shared).await.unwrap());
    }
    for agent in &agents {
        link_is(agent, LinkState::Connected).await;
        all_sent(agent).await;
    }
    assert_eq!(hub.hub.registry().connected_count(), DOORS);
    // Those of other tests are few.
    let threads = storage_threads();
    assert!((1..DOORS / 2).contains(&threads), "{threads}");
    for agent in agents {
        agent.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_desired_property_changes_is_reported_with_its_acknowledgement() {
    let site = Site::new().await;
    let agent = site.start().await;
    site.reports("/door/mode", "normal").await;
    let modes = ["secure", "normal"].into_iter().cycle().take(12);
    let changes = async {
        for mode in modes.clone() {
            // The next patch may go at once.
            tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
            site.desire(json!({ "mode": mode })).await;
            site.reports("/door/mode", mode).await;
            site.reports("/mode/value", mode).await;
        }
    };
    // Something else to report or to send at nearly every moment: the bolt may be out.
    let traffic = async {
        for action in ["open", "close"].into_iter().cycle() {
            let _refused = try_sim(&agent, action);
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
    };
    tokio::select! {
        () = changes => {}
        () = traffic => {}
    }
    let mut changes = Vec::new();
    for event in site.hub.events_of("twin", DOOR).await {
        let patch = &event["body"]["properties"]["reported"];
        // The first report has everything.
        if patch["door"].get("mode").is_some() && patch.get("device").is_none() {
            assert_eq!(patch["mode"]["value"], patch["door"]["mode"], "{patch}");
            changes.push(patch["door"]["mode"].clone());
        }
    }
    assert_eq!(changes, modes.collect::<Vec<_>>());
    agent.shutdown().await;
}
