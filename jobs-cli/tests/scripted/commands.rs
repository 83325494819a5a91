//! The program against the scripted server: how it handles broken responses.

use std::process::{Command, Output, Stdio};

use doorfleet_testing::{CertificateFault, Reply, Server, write_secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{TWIN, refusal};

pub(crate) const HEALTH: &str = r#"{"hubName":"localhost","mqttPort":8883}"#;

pub(crate) async fn doorctl(server: &Server, arguments: &[&str]) -> Output {
    doorctl_with(server, arguments, None).await
}

/// `columns` is the width of the terminal.
pub(crate) async fn doorctl_with(
    server: &Server,
    arguments: &[&str],
    columns: Option<&str>,
) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(server, &folder);
    match columns {
        Some(columns) => command.env("COLUMNS", columns),
        None => command.env_remove("COLUMNS"),
    };
    command.args(arguments);
    let mut command = tokio::process::Command::from(command);
    command.output().await.unwrap()
}

/// The program with its configuration in `folder`.
pub(crate) fn command(server: &Server, folder: &TempDir) -> Command {
    let config = folder.path().join("doorctl.toml");
    let (connection, ca) = (server.connection_string(), &server.ca_pem);
    let text = format!(
        "current = \"lab\"\n[context.lab]\nconnection_string = \"{connection}\"\nca = \"\"\"\n{ca}\"\"\"\n"
    );
    write_secret(&config, text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorctl"));
    command
        .current_dir(folder.path())
        .env("DOORCTL_CONFIG", config)
        .env_remove("DOORCTL_CONTEXT")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn event(id: i64) -> String {
    format!(
        "event: device\nid: {id}\ndata: {{\"id\":{id},\"kind\":\"device\",\"time\":\"2026-11-23T21:00:00Z\"}}\n\n"
    )
}

#[tokio::test]
async fn stored_events_are_read_completely_over_broken_responses() {
    let end = "event: end\ndata: {}\n\n";
    let server = Server::play(vec![
        Reply::ok(HEALTH),
        Reply::ok(&event(1)),
        Reply::ok(""),
        Reply::status(503, ""),
        Reply::hang_up(),
        Reply::ok(&(event(2) + end)),
    ])
    .await;
    let output = doorctl(&server, &["events", "-o", "jsonl"]).await;
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let requests = server.requests();
    let last = |index: usize| requests[index].header("last-event-id");
    assert_eq!([last(1), last(2), last(5)], [None, Some("1"), Some("1")]);
}

#[tokio::test]
async fn each_fault_of_the_hubs_certificate_has_its_own_next_step() {
    for (fault, expected) in [
        (
            CertificateFault::Expired,
            "valid until 2020-01-01T00:00:00Z, and this machine's clock shows ",
        ),
        (
            CertificateFault::NotValidYet,
            "valid from 3000-01-01T00:00:00Z, and this machine's clock shows ",
        ),
        (
            CertificateFault::UnknownAuthority,
            "fetch ca.pem from the hub's data folder",
        ),
        (
            CertificateFault::OtherNames,
            "has the names door-hub, 10.9.8.7: write one of them as HostName",
        ),
        (
            CertificateFault::IsAuthority,
            "is one of an authority (CA:TRUE)",
        ),
        (CertificateFault::ForClients, "is not for servers"),
    ] {
        let server = Server::with_bad_certificate(fault).await;
        let output = doorctl(&server, &["devices", "list"]).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {message}");
        let (_, next) = message.split_once("\n  next: ").unwrap_or_default();
        assert!(next.contains(expected), "{fault:?}: {message}");
        // Without a second, misleading hint.
        assert!(!next.contains("is the hub running"), "{fault:?}: {message}");
    }
}

#[tokio::test]
async fn a_response_that_never_completes_is_an_error() {
    let asked = || Reply::ok("");
    let script = std::iter::once(Reply::ok(HEALTH)).chain((0..7).map(|_| asked()));
    let server = Server::play(script.collect()).await;
    let output = doorctl(&server, &["events"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("before all events were sent"), "{printed}");
    assert_eq!(server.requests().len(), 8);
}

#[tokio::test]
async fn a_job_whose_creation_got_no_response_is_looked_up() {
    let twin = format!("[{TWIN}]");
    let job = |kind: &str| {
        format!(
            r#"{{"jobId":"night","type":"{kind}","status":"scheduled","queryCondition":"deviceId IN ['d']"}}"#
        )
    };
    let lock = ["jobs", "lock", "d", "--id", "night", "--at", "+2h"];
    let unknown = "job night may have been created";
    for (answer, status, known) in [
        (Reply::ok(&job("scheduleDeviceMethod")), 0, true),
        (Reply::status(404, &refusal("JobNotFound")), 1, true),
        // A job of another type: created by somebody else.
        (Reply::ok(&job("scheduleUpdateTwin")), 1, false),
        (
            Reply::status(401, &refusal("IotHubUnauthorizedAccess")),
            1,
            false,
        ),
    ] {
        let server = Server::play(vec![
            Reply::ok(HEALTH),
            Reply::ok(&twin),
            Reply::hang_up(),
            answer,
        ])
        .await;
        let output = doorctl(&server, &lock).await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(printed.contains(unknown), !known, "{printed}");
        assert_eq!(
            printed.contains("doorctl jobs cancel night"),
            !known,
            "{printed}"
        );
    }
}

#[tokio::test]
async fn a_job_that_may_exist_is_listed_among_those_to_cancel() {
    let made = r#"{"jobId":"night-1","type":"scheduleDeviceMethod","status":"scheduled"}"#;
    let server = Server::play(vec![
        Reply::ok(HEALTH),
        Reply::ok(HEALTH),
        Reply::ok(r#"[{"doors":600}]"#),
        Reply::ok(r#"[{"doors":100}]"#),
        Reply::ok(made),
        Reply::hang_up(),
        Reply::status(401, &refusal("IotHubUnauthorizedAccess")),
    ])
    .await;
    let doors: Vec<String> = (0..700).map(|number| format!("door-{number:04}")).collect();
    let doors: Vec<&str> = doors.iter().map(String::as_str).collect();
    let end = ["--id", "night", "--at", "+2h", "--yes", "--no-stage"];
    let output = doorctl(&server, &[&["jobs", "lock"], &doors[..], &end].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    for part in [
        "; job night-2 may have been created; created before it: night-1",
        "cancel the created jobs: doorctl jobs cancel night-1; doorctl jobs cancel night-2; \
         or create the rest",
    ] {
        assert!(printed.contains(part), "{part:?} is missing in: {printed}");
    }
}

#[tokio::test]
async fn a_job_with_a_strange_id_does_not_hide_the_others() {
    let job = |id: &str| {
        format!(r#"{{"jobId":"{id}","type":"scheduleDeviceMethod","status":"completed"}}"#)
    };
    let listed = format!("[{},{}]", job("it's mine"), job("night"));
    let server = Server::play(vec![Reply::ok(&listed)]).await;
    let output = doorctl(&server, &["jobs", "list", "-o", "csv"]).await;
    assert!(output.status.success(), "{output:?}");
    let (stdout, stderr) = (output.stdout, output.stderr);
    let lines = String::from_utf8(stdout).unwrap();
    assert!(
        lines.contains("\nnight,") && !lines.contains("mine"),
        "{lines}"
    );
    let printed = String::from_utf8(stderr).unwrap();
    assert!(
        printed.contains("the hub lists a job that is left out: job id \"it's mine\" has '\\''"),
        "{printed}"
    );
}

#[tokio::test]
async fn the_job_in_the_way_of_another_is_named() {
    let active = r#"[{"jobId":"evening","type":"scheduleDeviceMethod","status":"completed"},
        {"jobId":"tonight","type":"scheduleDeviceMethod","status":"queued"}]"#;
    let server = Server::play(vec![
        Reply::ok(HEALTH),
        Reply::ok(&format!("[{TWIN}]")),
        Reply::status(429, &refusal("ThrottlingMaxActiveJobCountExceeded")),
        Reply::ok(active),
    ])
    .await;
    let lock = ["jobs", "lock", "d", "--id", "night", "--at", "+2h"];
    let output = doorctl(&server, &lock).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    for part in [
        "another job is active, and this hub allows no more: tonight (queued)",
        "next: wait for it: doorctl jobs wait tonight; or end it: doorctl jobs cancel tonight",
    ] {
        assert!(printed.contains(part), "{part:?} is missing in: {printed}");
    }
}

/// A hub without `/healthz` is Azure or another one.
fn not_door_hub() -> Reply {
    Reply::status(404, &refusal("GenericNotFound"))
}

#[tokio::test]
async fn a_plan_drops_doors_that_only_a_lagging_query_shows() {
    let gone = TWIN.replace(r#""deviceId":"d""#, r#""deviceId":"gone""#);
    assert_ne!(gone, TWIN);
    let gone = gone.replacen('{', r#"{"connectionState":"Disconnected","#, 1);
    let here = TWIN.replacen('{', r#"{"connectionState":"Connected","#, 1);
    let server = Server::play(vec![
        Reply::ok(HEALTH),
        Reply::ok(&format!("[{here},{gone}]")),
        not_door_hub(),
        Reply::status(404, &refusal("DeviceNotFound")),
        Reply::ok("[]"),
    ])
    .await;
    let plan = ["jobs", "plan", "lock", "--all", "-o", "csv"];
    let output = doorctl(&server, &plan).await;
    assert!(output.status.success(), "{output:?}");
    let rows = String::from_utf8(output.stdout).unwrap();
    assert!(rows.contains("\nd,") && !rows.contains("gone"), "{rows}");
}

#[tokio::test]
async fn another_hub_shows_only_the_rights_that_reads_prove() {
    let lacks = r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Authorization rule 'registrar' does not allow access for this operation"}"#;
    let server = Server::play(vec![
        not_door_hub(),
        not_door_hub(),
        Reply::ok(r#"{"totalDeviceCount":1}"#),
        Reply::status(401, lacks),
    ])
    .await;
    let output = doorctl(&server, &["whoami", "-o", "jsonl"]).await;
    assert!(output.status.success(), "{output:?}");
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(row["rights"], json!(["RegistryRead"]), "{row}");
    assert_eq!(row["missing"], json!(["ServiceConnect"]), "{row}");
    let advice = String::from_utf8(output.stderr).unwrap();
    assert!(advice.contains("Shared access policies"), "{advice}");
    assert!(!advice.contains("door-hub"), "{advice}");
}
