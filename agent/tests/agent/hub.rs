//! The agent with a real hub: MQTT over TLS on one side, the REST API on the other.

use std::path::Path;
use std::time::Duration;

use door_agent::cloud::LinkState;
use door_agent::config::CertificateFiles;
use door_agent::tls::TlsCache;
use door_agent::{Agent, Shared};
use door_core::contract::Mode;
use doorfleet_testing::{TestHub, agent_until, start_agent_again};
use serde_json::json;
use sha2::{Digest as _, Sha256};

#[tokio::test(flavor = "multi_thread")]
async fn a_door_connects_reports_and_executes_methods() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let agent = hub.start_agent("lobby-east", home.path()).await;

    let reported = hub.reports("lobby-east", "/door/secured", "secured").await;
    assert_eq!(reported["door"]["lockState"], "locked");
    assert_eq!(reported["door"]["proof"], "bond");
    assert_eq!(reported["device"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(reported["device"]["link"]["connections"], 1);

    let (status, answer) = hub
        .invoke("lobby-east", "unlockDoor", json!({"unlockTime": "10m"}))
        .await;
    assert_eq!((status, &answer["status"]), (200, &json!(200)), "{answer}");
    assert_eq!(answer["payload"]["lockState"], "unlocked");
    hub.reports("lobby-east", "/door/lockState", "unlocked")
        .await;

    // The tutorial sends the payload as a string that holds JSON.
    let (status, answer) = hub
        .invoke("lobby-east", "lockDoor", json!(r#"{"lockTime":"10m"}"#))
        .await;
    assert_eq!((status, &answer["status"]), (200, &json!(200)), "{answer}");
    assert_eq!(
        answer["payload"]["Response"],
        "lockDoor called successfully"
    );
    assert_eq!(answer["payload"]["secured"], "secured");

    let (_, answer) = hub.invoke("lobby-east", "identify", json!(null)).await;
    assert_eq!(answer["status"], 200, "{answer}");
    let identity = &answer["payload"]["identity"];
    assert_eq!(identity["deviceId"], "lobby-east");
    assert_eq!(identity["strike"], "motor-lock");
    let (_, answer) = hub.invoke("lobby-east", "selfTest", json!(null)).await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["payload"]["checks"]["storage"]["result"], "passed");
    let (_, answer) = hub.invoke("lobby-east", "openSesame", json!({})).await;
    assert_eq!(answer["status"], 404, "{answer}");
    // Commands and changes of state are events, and the hub has acknowledged all of them.
    agent_until(&agent, |snapshot| snapshot.waiting_events == 0).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_properties_are_applied_acknowledged_and_saved() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let config = hub.agent_config(&connection, &home.path().join("state"));
    let shared = Shared::new().unwrap();
    // Set before the door first connects.
    hub.set_desired("lobby-east", json!({"building": 43})).await;
    let agent = Agent::start(config.clone(), &shared).await.unwrap();
    let reported = hub.reports("lobby-east", "/building/ac", 200).await;
    assert_eq!(
        reported["building"],
        json!({"value": 43, "ac": 200, "av": 2, "ad": "applied"})
    );

    // Set while it is connected.
    hub.set_desired("lobby-east", json!({"floor": "3"})).await;
    let reported = hub.reports("lobby-east", "/floor/ac", 200).await;
    assert_eq!(reported["floor"]["value"], "3");
    let (_, answer) = hub.invoke("lobby-east", "identify", json!({})).await;
    let identity = &answer["payload"]["identity"];
    assert_eq!(
        (&identity["building"], &identity["floor"]),
        (&json!(43), &json!("3"))
    );

    // An invalid value is refused, and the old one stays.
    hub.set_desired("lobby-east", json!({"floor": {"is": 4}}))
        .await;
    let reported = hub.reports("lobby-east", "/floor/ac", 400).await;
    assert_eq!(reported["floor"]["value"], "3");
    assert!(
        reported["floor"]["ad"]
            .as_str()
            .unwrap()
            .contains("expected a string or a number"),
        "{reported}"
    );

    // Removed while the door is off: the saved value is dropped after the restart.
    agent.shutdown().await;
    hub.set_desired("lobby-east", json!({"floor": null, "building": 44}))
        .await;
    let agent = start_agent_again(&config, &shared).await;
    let reported = hub.reports("lobby-east", "/building/value", 44).await;
    assert_eq!(reported.get("floor"), None);
    assert_eq!(reported["device"]["startReason"], "restart");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_mode_acts_once_even_after_a_reconnect_or_restart() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let config = hub.agent_config(&connection, &home.path().join("state"));
    let shared = Shared::new().unwrap();
    hub.set_desired("lobby-east", json!({"mode": "secure"}))
        .await;
    let agent = Agent::start(config.clone(), &shared).await.unwrap();
    let reported = hub
        .reported_until("lobby-east", |reported| {
            reported["door"]["mode"] == "secure" && reported["mode"]["ac"] == 200
        })
        .await;
    assert_eq!(
        reported["mode"],
        json!({"value": "secure", "ac": 200, "av": 2, "ad": "applied"})
    );
    let (_, answer) = hub.invoke("lobby-east", "unlockDoor", json!({})).await;
    assert_eq!(answer["status"], 409, "{answer}");
    assert_eq!(answer["payload"]["mode"], "secure");
    let (_, answer) = hub
        .invoke(
            "lobby-east",
            "setMode",
            json!({"mode": "normal", "commandId": "m-1"}),
        )
        .await;
    assert_eq!(answer["status"], 200, "{answer}");

    // The twin is read again, and contains the same value.
    agent.disconnect_link();
    agent_until(&agent, |snapshot| {
        snapshot.link.state == LinkState::Unplugged
    })
    .await;
    hub.set_desired("lobby-east", json!({"floor": 1})).await;
    agent.reconnect_link();
    hub.reports("lobby-east", "/floor/value", 1).await;
    assert_eq!(agent.snapshot().door.report.mode, Mode::Normal);
    agent.shutdown().await;
    hub.set_desired("lobby-east", json!({"floor": 2})).await;
    let agent = start_agent_again(&config, &shared).await;
    hub.reports("lobby-east", "/floor/value", 2).await;
    assert_eq!(agent.snapshot().door.report.mode, Mode::Normal);

    // A new mode acts, an invalid one does not.
    hub.set_desired("lobby-east", json!({"mode": "lockdown"}))
        .await;
    hub.reports("lobby-east", "/door/mode", "lockdown").await;
    hub.set_desired("lobby-east", json!({"mode": "open"})).await;
    let reported = hub.reports("lobby-east", "/mode/ac", 400).await;
    assert_eq!(reported["mode"]["value"], "lockdown");
    assert_eq!(reported["door"]["mode"], "lockdown");
    // A lockdown ends when it is removed.
    hub.set_desired("lobby-east", json!({"mode": "lockdown"}))
        .await;
    hub.set_desired("lobby-east", json!({"mode": null})).await;
    let reported = hub.reports("lobby-east", "/door/mode", "normal").await;
    assert_eq!(reported.get("mode"), None);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_settings_are_validated_one_by_one_and_saved() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let config = hub.agent_config(&connection, &home.path().join("state"));
    let shared = Shared::new().unwrap();
    let agent = Agent::start(config.clone(), &shared).await.unwrap();
    hub.set_desired(
        "lobby-east",
        json!({"settings": {"strikeTime": "7s", "settleTime": "soon"}}),
    )
    .await;
    let reported = hub
        .reports("lobby-east", "/settings/strikeTime/ac", 200)
        .await;
    assert_eq!(
        reported["settings"]["strikeTime"],
        json!({"value": "7s", "ac": 200, "av": 2, "ad": "applied"})
    );
    assert_eq!(reported["settings"]["settleTime"]["ac"], 400);
    agent.shutdown().await;

    // After a restart an invalid value is answered with the one still in force.
    hub.set_desired("lobby-east", json!({"settings": {"strikeTime": -1}}))
        .await;
    let agent = start_agent_again(&config, &shared).await;
    let reported = hub
        .reports("lobby-east", "/settings/strikeTime/ac", 400)
        .await;
    assert_eq!(reported["settings"]["strikeTime"]["value"], "7s");
    hub.set_desired("lobby-east", json!({"settings": null}))
        .await;
    hub.reported_until("lobby-east", |reported| reported.get("settings").is_none())
        .await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_door_works_and_reports_everything_afterwards() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let agent = hub.start_agent("lobby-east", home.path()).await;
    hub.reports("lobby-east", "/door/secured", "secured").await;

    agent.disconnect_link();
    agent_until(&agent, |snapshot| {
        snapshot.link.state == LinkState::Unplugged
    })
    .await;
    let (status, answer) = hub.invoke("lobby-east", "getState", json!({})).await;
    assert_eq!(status, 404, "{answer}");
    let reply = agent.controller().invoke("unlockDoor", b"{}").await;
    assert_eq!(reply.status, 200);
    agent_until(&agent, |snapshot| snapshot.waiting_events > 0).await;
    hub.set_desired("lobby-east", json!({"floor": 3})).await;

    agent.reconnect_link();
    let reported = hub.reports("lobby-east", "/floor/value", 3).await;
    assert_eq!(reported["door"]["lockState"], "unlocked");
    agent_until(&agent, |snapshot| snapshot.waiting_events == 0).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_reconnects_to_a_restarted_hub() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let agent = hub.start_agent("lobby-east", home.path()).await;
    agent_until(&agent, |snapshot| snapshot.link.connections == 1).await;
    let hub = hub.stop().await;
    agent_until(&agent, |snapshot| snapshot.link.state == LinkState::Waiting).await;
    let hub = hub.start().await;
    agent_until(&agent, |snapshot| snapshot.link.connections == 2).await;
    let (status, answer) = hub.invoke("lobby-east", "getState", json!({})).await;
    assert_eq!(status, 200, "{answer}");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_it_ends() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let mut config = hub.agent_config(&connection, &home.path().join("state"));
    config.hub.sas_lifetime = Duration::from_secs(2);
    let agent = Agent::start(config, &Shared::new().unwrap()).await.unwrap();
    agent_until(&agent, |snapshot| snapshot.link.connections >= 3).await;
    assert_eq!(agent.snapshot().link.last_problem, None);
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_an_unknown_device_are_reported_and_retried() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    hub.add_door("lobby-east").await;
    let wrong_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let shared = Shared::new().unwrap();
    for name in ["lobby-east", "nobody"] {
        let connection = hub.connection_string(name, wrong_key);
        let config = hub.agent_config(&connection, &home.path().join(name));
        let agent = Agent::start(config, &shared).await.unwrap();
        agent_until(&agent, |snapshot| snapshot.link.last_problem.is_some()).await;
        let snapshot = agent.snapshot();
        assert_eq!(
            snapshot.link.last_problem,
            Some(format!("localhost refused device {name}: not authorized"))
        );
        assert_eq!(snapshot.link.connections, 0);
        // The door itself works.
        assert_eq!(
            agent.controller().invoke("unlockDoor", b"{}").await.status,
            200
        );
        agent.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_created_later_connects_by_itself() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let connection = hub.connection_string("lobby-east", key);
    let config = hub.agent_config(&connection, &home.path().join("state"));
    let agent = Agent::start(config, &Shared::new().unwrap()).await.unwrap();
    agent_until(&agent, |snapshot| snapshot.link.last_problem.is_some()).await;
    let identity = json!({
        "deviceId": "lobby-east",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
    });
    let created = hub.put("/devices/lobby-east", identity).await;
    assert_eq!(created.status, 200, "{}", created.body);
    agent_until(&agent, |snapshot| {
        snapshot.link.state == LinkState::Connected
    })
    .await;
    agent.shutdown().await;
}

/// Writes a self-signed certificate and its key; returns the files and the thumbprint.
fn write_certificate(folder: &Path, name: &str) -> (CertificateFiles, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let digest = Sha256::digest(made.cert.der());
    let thumbprint = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    (files, thumbprint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_authenticates_with_a_certificate() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let (files, thumbprint) = write_certificate(home.path(), "lobby-east");
    let authentication = json!({
        "type": "selfSigned",
        "x509Thumbprint": {"primaryThumbprint": thumbprint},
    });
    let identity = json!({"authentication": authentication});
    let created = hub.put("/devices/lobby-east", identity).await;
    assert_eq!(created.status, 200, "{}", created.body);
    let connection = "HostName=localhost;DeviceId=lobby-east;x509=true";
    let mut config = hub.agent_config(connection, &home.path().join("state"));
    config.hub.certificate = Some(files.clone());
    let shared = Shared::new().unwrap();
    let agent = Agent::start(config.clone(), &shared).await.unwrap();
    hub.reports("lobby-east", "/door/secured", "secured").await;

    // The hub does not know this certificate.
    let (other, _) = write_certificate(home.path(), "other");
    config.hub.certificate = Some(other.clone());
    assert!(agent.set_hub(config.hub.clone()).unwrap());
    agent_until(&agent, |seen| seen.link.last_problem.is_some()).await;
    assert_ne!(agent.snapshot().link.state, LinkState::Connected);

    // A wrong, invalid or missing key is reported with its file, and without any content.
    for (key, problem) in [
        (other.key.clone(), "not the certificate's key"),
        (files.certificate.clone(), "no private key in it"),
        (home.path().join("missing.key"), "cannot read the key"),
    ] {
        config.hub.certificate = Some(CertificateFiles {
            certificate: files.certificate.clone(),
            key: key.clone(),
        });
        let error = TlsCache::default()
            .client_config(
                config.hub.ca_file.as_deref(),
                config.hub.certificate.as_ref(),
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.contains(&key.display().to_string()), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_of_another_ca_is_not_trusted() {
    let (hub, other) = (TestHub::start().await, TestHub::start().await);
    let home = tempfile::tempdir().unwrap();
    let connection = hub.add_door("lobby-east").await;
    let mut config = hub.agent_config(&connection, &home.path().join("state"));
    config.hub.ca_file = Some(other.hub.ca_file().to_path_buf());
    let agent = Agent::start(config, &Shared::new().unwrap()).await.unwrap();
    agent_until(&agent, |snapshot| snapshot.link.last_problem.is_some()).await;
    let problem = agent.snapshot().link.last_problem.unwrap();
    assert!(
        problem.contains("the certificate of localhost"),
        "{problem}"
    );
    assert!(problem.contains("is invalid"), "{problem}");
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
        agent_until(agent, |snapshot| {
            snapshot.link.state == LinkState::Connected && snapshot.waiting_events == 0
        })
        .await;
    }
    assert_eq!(hub.hub.registry().connected_count(), DOORS);
    // Those of other tests are few.
    let threads = storage_threads();
    assert!((1..DOORS / 2).contains(&threads), "{threads}");
    for agent in agents {
        agent.shutdown().await;
    }
}
