//! Webhooks as their receivers see them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use door_hub::config::WebhookSettings;
use doorfleet_testing::{
    Received, Reply, Server, TestHub, eventually, run, write_secret, write_with_mode,
};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::event::stored_events;
use crate::metrics::wait_for;
use crate::program::program;

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The settings of a webhook for alarms.
fn alarms(server: &Server, folder: &Path) -> WebhookSettings {
    let secret_file = folder.join("pager.secret");
    write_secret(&secret_file, format!("whsec_{SECRET}\n"));
    let ca_file = folder.join("receiver.pem");
    std::fs::write(&ca_file, &server.ca_pem).unwrap();
    let alarms = vec![json!("alarmRaised"), json!("alarmCleared")];
    WebhookSettings {
        name: "pager".to_owned(),
        url: format!("https://localhost:{}/hook?token=t", server.port()),
        secret_file,
        ca_file: Some(ca_file),
        kinds: vec!["telemetry".to_owned()],
        conditions: BTreeMap::from([("/body/kind".to_owned(), alarms)]),
    }
}

async fn hub_with(webhook: &WebhookSettings, folder: TempDir) -> TestHub {
    let webhook = webhook.clone();
    TestHub::start_with(folder, |config| config.webhooks.push(webhook)).await
}

/// Sends events of these kinds from a device, and returns when the hub has stored them.
async fn send(hub: &TestHub, door: &str, kinds: &[&str]) {
    let key = hub.add_device(door).await;
    let mut device = hub.subscriber(door, &key, "$iothub/twin/res/#").await;
    for kind in kinds {
        let topic = format!("devices/{door}/messages/events/");
        let body = json!({"kind": kind, "door": door}).to_string();
        device.publish(&topic, &body).await;
    }
    // PUBACK means stored; the twin request makes rumqttc send its queue.
    device.publish("$iothub/twin/GET/?$rid=1", " ").await;
    device.received().await;
}

async fn requests(server: &Server, count: usize) -> Vec<Received> {
    eventually("the receiver gets its events", || async {
        let received = server.requests();
        (received.len() >= count).then_some(received)
    })
    .await
}

fn counter(outcome: &str) -> String {
    format!("door_hub_webhook_events_total{{outcome=\"{outcome}\",webhook=\"pager\"}}")
}

fn body(request: &Received) -> Value {
    serde_json::from_str(&request.body).unwrap()
}

fn is_signed(request: &Received) -> bool {
    let header = |name| request.header(name).unwrap();
    let signed = format!(
        "{}.{}.{}",
        header("webhook-id"),
        header("webhook-timestamp"),
        request.body
    );
    let key = BASE64_STANDARD.decode(SECRET).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
    let signature = BASE64_STANDARD.decode(signature).unwrap();
    hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn chosen_events_arrive_signed_and_in_order_and_again_after_a_failure() {
    let mut first = true;
    let server = Server::answering(move |_| match std::mem::take(&mut first) {
        true => Reply::status(503, ""),
        false => Reply::status(204, ""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let webhook = alarms(&server, folder.path());
    let hub = hub_with(&webhook, folder).await;
    send(&hub, "a", &["alarmRaised", "doorState", "alarmCleared"]).await;

    let received = requests(&server, 3).await;
    let kinds: Vec<Value> = received
        .iter()
        .map(|request| body(request)["body"]["kind"].clone())
        .collect();
    assert_eq!(kinds, ["alarmRaised", "alarmRaised", "alarmCleared"]);
    assert_eq!(received[0].line, "POST /hook?token=t");
    assert!(received.iter().all(is_signed));
    let id = |request: &Received| request.header("webhook-id").unwrap().to_owned();
    assert_eq!(id(&received[0]), id(&received[1]), "one event has one id");
    assert_ne!(id(&received[1]), id(&received[2]));
    assert_eq!(
        body(&received[0]),
        stored_events(&hub, "telemetry").await[0]
    );
    for (outcome, events) in [("delivered", 2.0), ("failed", 1.0), ("lost", 0.0)] {
        wait_for(&hub, &counter(outcome), events).await;
    }
    let behind = "door_hub_webhook_behind_seconds{webhook=\"pager\"}";
    wait_for(&hub, behind, 0.0).await;
}

#[tokio::test]
async fn an_event_that_was_not_delivered_when_the_hub_was_killed_is_sent_by_the_next_one() {
    let takes = Arc::new(AtomicBool::new(true));
    let open = Arc::clone(&takes);
    let server = Server::answering(move |_| match open.load(Ordering::Relaxed) {
        true => Reply::status(200, ""),
        false => Reply::hang_up(),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let webhook = alarms(&server, folder.path());
    let hub = hub_with(&webhook, folder).await;
    send(&hub, "a", &["alarmRaised"]).await;
    requests(&server, 1).await;
    // Stored before the receiver is asked for the next event.
    takes.store(false, Ordering::Relaxed);
    send(&hub, "b", &["alarmRaised"]).await;
    requests(&server, 2).await;

    let TestHub { hub, folder, .. } = hub;
    drop(hub);
    takes.store(true, Ordering::Relaxed);
    let before = server.requests().len();
    let hub = hub_with(&webhook, folder).await;
    let received = requests(&server, before + 1).await;
    assert_eq!(body(&received[before])["deviceId"], "b");
    send(&hub, "c", &["alarmRaised"]).await;
    let received = requests(&server, before + 2).await;
    let doors: Vec<Value> = received[before..]
        .iter()
        .map(|request| body(request)["deviceId"].clone())
        .collect();
    assert_eq!(
        doors,
        ["b", "c"],
        "nothing that was delivered is sent again"
    );
}

/// Each row: the settings, and what the error says.
#[test]
fn invalid_settings_stop_the_start_and_name_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let secret = format!("whsec_{SECRET}");
    write_secret(folder.path().join("good.secret"), &secret);
    write_with_mode(folder.path().join("open.secret"), &secret, 0o644);
    write_secret(folder.path().join("short.secret"), "whsec_c2hvcnQ=");
    write_secret(folder.path().join("empty.pem"), "");
    for (settings, expected) in [
        (
            "name = \"Pager\"\nurl = \"https://a.example\"\nsecret_file = \"good.secret\"",
            "name is `Pager`; expected 1 to 64 of a-z, 0-9 and -",
        ),
        (
            "name = \"p\"\nurl = \"http://a.example/t0ken\"\nsecret_file = \"good.secret\"",
            "webhook `p`: url is `http://…`; expected an address that begins with https://",
        ),
        (
            "name = \"p\"\nurl = \"a.example?t0ken\"\nsecret_file = \"good.secret\"",
            "webhook `p`: url is `…`",
        ),
        (
            "name = \"p\"\nurl = \"https://u:t0ken@a.example\"\nsecret_file = \"good.secret\"",
            "without user and password",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"open.secret\"",
            "open.secret has mode 0644; expected 0600",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"short.secret\"",
            "short.secret is invalid; expected whsec_",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"missing\"",
            "cannot read secret_file",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"good.secret\"\n\
             ca_file = \"empty.pem\"",
            "holds no certificate",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"good.secret\"\n\
             kinds = [\"alarm\"]",
            "kinds is `alarm`; expected some of telemetry",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"good.secret\"\n\
             [webhook.match]\n\"body.kind\" = [\"alarmRaised\"]",
            "match is `body.kind`; expected a JSON pointer",
        ),
        (
            "name = \"p\"\nurl = \"https://a.example\"\nsecret_file = \"good.secret\"\n\
             filter = 1",
            "unknown field `filter`",
        ),
    ] {
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, format!("[[webhook]]\n{settings}\n")).unwrap();
        for verb in ["serve", "webhook list", "check"] {
            let mut command = Command::new(program());
            command.args(verb.split(' ')).arg("--data").arg(&data);
            command.args([
                "--listen",
                "127.0.0.1",
                "--mqtt-port",
                "0",
                "--https-port",
                "0",
            ]);
            let output = run(command.arg("--config").arg(&file));
            let all = format!("{}{}", output.stdout, output.stderr);
            assert_eq!(output.status, 1, "{verb}: {all}");
            assert!(all.contains(expected), "{verb} {settings}: {all}");
            assert!(
                !all.contains("t0ken") && !all.contains(SECRET),
                "{verb}: {all}"
            );
        }
    }
}

#[tokio::test]
async fn a_test_document_is_sent_once_and_its_result_printed() {
    let server = Server::play(vec![Reply::ok(""), Reply::status(401, "")]).await;
    let folder = tempfile::tempdir().unwrap();
    let webhook = alarms(&server, folder.path());
    let settings = door_hub::config::ConfigFile {
        webhook: Some(vec![webhook]),
        ..Default::default()
    };
    let file = folder.path().join("hub.toml");
    settings.write(&file).unwrap();
    let data = folder.path().join("data");
    let test = async |name: &'static str| {
        let mut command = Command::new(program());
        command.args(["webhook", "test", name, "--data"]).arg(&data);
        command.arg("--config").arg(&file);
        let ran = tokio::task::spawn_blocking(move || run(&mut command));
        ran.await.unwrap()
    };
    let output = test("pager").await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stdout.contains("webhook `pager`: delivered test-"));
    assert!(is_signed(&server.requests()[0]));
    let refused = test("pager").await;
    assert_eq!(refused.status, 1);
    assert!(
        refused
            .stderr
            .contains("webhook `pager`: the receiver answered 401"),
        "{}",
        refused.stderr
    );
    let unknown = test("mail").await;
    assert!(
        unknown
            .stderr
            .contains("no webhook `mail`; hub.toml has pager"),
        "{}",
        unknown.stderr
    );
}
