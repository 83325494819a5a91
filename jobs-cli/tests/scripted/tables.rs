//! Every table fits 80 columns, whatever the hub and the doors call themselves.

use doorfleet_testing::{Reply, Server};
use serde_json::{Value, json};

use super::commands::{HEALTH, doorctl_with};

const LONG: &str = "headquarters-north-building-staircase-b-emergency-exit";

const REASON: &str = "the caretaker of the north building asked for it because the cleaning \
     company works there until the early morning of the next day, \u{6e05}\u{6383}\u{4e2d}";

fn twin(name: &str, connection: &str) -> Value {
    let meta = json!({"$lastUpdated": "2026-11-20T21:00:00Z",
        "door": {"$lastUpdated": "2026-11-20T21:00:00Z"}});
    json!({
        "deviceId": name, "etag": "AAAAAAAAAAE=", "version": 4, "connectionState": connection,
        "properties": {
            "desired": {"building": LONG, "floor": "mezzanine", "$metadata": meta, "$version": 1},
            "reported": {"door": {"lockState": "unlocked", "doorState": "closed",
                "secured": "unsecured", "proof": "position", "mode": "normal"},
                "$metadata": meta, "$version": 1},
        },
    })
}

fn twins() -> Reply {
    let twins = [twin("east", "Connected"), twin(LONG, "Disconnected")];
    Reply::ok(&json!(twins).to_string()).with("x-ms-item-type", "Twin")
}

fn job() -> Value {
    json!({
        "jobId": format!("{LONG}-1"), "type": "scheduleDeviceMethod", "status": "completed",
        "startTime": "2026-11-23T21:00:00Z", "createdTime": "2026-11-23T21:00:00Z",
        "cloudToDeviceMethod": {"methodName": "unlockDoor", "payload": null},
        "deviceJobStatistics": {"deviceCount": 12_000, "failedCount": 1, "succeededCount": 11_999,
            "runningCount": 0, "pendingCount": 0},
    })
}

fn outcome() -> Value {
    json!({
        "deviceId": LONG, "jobId": "j", "jobType": "scheduleDeviceMethod", "status": "completed",
        "outcome": {"deviceMethodResponse": {"status": 409, "payload": {
            "lockState": "unlocked", "doorState": "open", "secured": "unsecured",
            "proof": "position", "error": {"code": "refused", "message": REASON}}}},
    })
}

fn audit() -> Value {
    json!([{
        "id": 1, "time": "2026-11-23T21:00:00Z", "policy": "night-guard-of-building-43",
        "peer": "[2001:db8:85a3::8a2e:370:7334]:50123", "operation": "device.regenerateKeys",
        "target": LONG, "status": 403, "error": "IotHubUnauthorizedAccess", "reason": REASON,
        "detail": format!("lockDoor {LONG}"),
    }])
}

fn event() -> String {
    let event = json!({
        "id": 7, "kind": "telemetry", "time": "2026-11-23T21:00:00Z", "deviceId": LONG,
        "body": {"kind": "alarmRaised", "alarm": "forcedOpen", "reason": REASON},
    });
    format!("event: telemetry\nid: 7\ndata: {event}\n\nevent: end\ndata: {{}}\n\n")
}

fn state() -> Value {
    json!({"status": 200, "payload": {
        "lockState": "locked", "doorState": "closed", "secured": "secured", "proof": "bond",
        "mode": "normal", "relinquishDefault": "locked", "slots": [
            {"slot": 7, "want": "released", "source": "remote", "commandId": LONG,
                "until": "2027-11-23T21:00:00.123456789Z"},
            {"slot": 8, "want": "released", "source": "remote", "until": null}],
    }})
}

/// The verbs with a table, and the replies to each.
fn verbs() -> Vec<(Vec<&'static str>, Vec<Reply>)> {
    let ok = |body: &Value| Reply::ok(&body.to_string());
    let jobs_of_door = || ok(&json!([outcome()])).with("x-ms-item-type", "JobResponse");
    let wide_rows = json!([{"name": LONG, "a": REASON, "b": 1, "c": {"d": LONG}, "e": LONG,
        "f": LONG, "g": LONG, "h": LONG, "i": LONG, "j": LONG, "k": LONG, "l": LONG}]);
    vec![
        (vec!["devices", "list"], vec![twins()]),
        (
            vec![
                "devices",
                "list",
                "--columns",
                "door,reported.door,lockState",
            ],
            vec![twins()],
        ),
        (vec!["status"], vec![twins()]),
        (vec!["query", "SELECT * FROM devices"], vec![twins()]),
        (
            vec!["query", "SELECT tags.a FROM devices"],
            vec![ok(&wide_rows).with("x-ms-item-type", "Raw")],
        ),
        (vec!["jobs", "list"], vec![ok(&json!([job()]))]),
        (
            vec!["jobs", "show", "j"],
            vec![ok(&job()), jobs_of_door(), ok(&json!([job()]))],
        ),
        (vec!["audit"], vec![Reply::ok(HEALTH), ok(&audit())]),
        (vec!["events"], vec![Reply::ok(HEALTH), Reply::ok(&event())]),
        (
            vec!["logs", "east"],
            vec![
                Reply::ok(HEALTH),
                Reply::ok(HEALTH),
                Reply::ok(&event()),
                ok(&audit()),
            ],
        ),
        (
            vec!["why", "east", "--all"],
            vec![ok(&state()), ok(&audit()), ok(&twin("east", "Connected"))],
        ),
    ]
}

async fn run(arguments: &[&str], replies: Vec<Reply>, columns: Option<&str>) -> String {
    let server = Server::play(replies).await;
    let output = doorctl_with(&server, arguments, columns).await;
    assert!(
        matches!(output.status.code(), Some(0 | 2)),
        "{arguments:?}: {output:?}"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.lines().count() > 1, "{arguments:?}: {printed}");
    printed
}

fn widest(text: &str) -> usize {
    let widths = text.lines().map(console::measure_text_width);
    widths.max().unwrap()
}

#[tokio::test]
async fn no_line_of_a_table_is_wider_than_the_terminal_unless_it_shall_be() {
    for ((verb, replies), (_, again)) in verbs().into_iter().zip(verbs()) {
        let narrow = run(&verb, replies, Some("80")).await;
        assert!(widest(&narrow) <= 80, "{verb:?}:\n{narrow}");
        let wide = run(&[&verb[..], &["-o", "wide"]].concat(), again, Some("80")).await;
        assert!(
            widest(&wide) > 80 && wide.contains(LONG),
            "{verb:?}:\n{wide}"
        );
        assert!(!wide.contains('\u{2026}'), "{verb:?}:\n{wide}");
        println!("{verb:?}\n{narrow}\n{wide}");
    }
}

#[tokio::test]
async fn scripts_get_whole_cells_in_a_pipe() {
    for ((verb, replies), (_, again)) in verbs().into_iter().zip(verbs()) {
        let piped = run(&verb, replies, None).await;
        let wide = run(&[&verb[..], &["-o", "wide"]].concat(), again, Some("80")).await;
        assert_eq!(piped, wide, "{verb:?}");
    }
}

#[tokio::test]
async fn an_offline_door_shows_its_last_state_in_brackets_with_its_age() {
    let list = run(&["devices", "list"], vec![twins()], Some("120")).await;
    let offline = list.lines().find(|line| line.contains("offline")).unwrap();
    for part in ["[unlocked ", "d ago]", "[closed]", "[unsecured]"] {
        assert!(offline.contains(part), "{list}");
    }
    let online = list.lines().find(|line| line.starts_with("east")).unwrap();
    assert!(!online.contains('['), "{list}");
    let columns = [
        "devices",
        "list",
        "--columns",
        "door,secured,reported.door.mode",
    ];
    let list = run(&columns, vec![twins()], None).await;
    assert_eq!(list.matches("[unsecured ").count(), 1, "{list}");
    assert_eq!(list.matches("[normal ").count(), 1, "{list}");
    let csv = run(&["devices", "list", "-o", "csv"], vec![twins()], Some("20")).await;
    assert!(csv.contains(",unlocked,closed,unsecured,position"), "{csv}");
}

#[tokio::test]
async fn why_shows_empty_slots_only_on_request() {
    for (flag, slots) in [(&["why", "east"][..], 3), (&["why", "east", "--all"], 9)] {
        let replies = vec![
            Reply::ok(&state().to_string()),
            Reply::ok("[]"),
            Reply::ok(&twin("east", "Connected").to_string()),
        ];
        let why = run(flag, replies, None).await;
        let (_, table) = why.split_once("SLOT").unwrap();
        assert_eq!(table.lines().count() - 1, slots, "{why}");
        assert!(!why.contains(".123"), "{why}");
    }
}
