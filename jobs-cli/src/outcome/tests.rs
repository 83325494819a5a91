//! Answers of doors and how they are judged.

use serde_json::json;

use super::*;

const LOCK: JobGoal = JobGoal::Secured {
    accept_unproven: false,
};

fn row(record: &Value, goal: JobGoal) -> OutcomeRow {
    let mut whole = json!({"deviceId": "d", "jobId": "j", "jobType": "scheduleDeviceMethod"});
    for (key, value) in record.as_object().unwrap() {
        whole[key] = value.clone();
    }
    // Parsed from text as on the wire: only then are raw payloads possible.
    OutcomeRow::new(&serde_json::from_str(&whole.to_string()).unwrap(), goal)
}

fn answer(status: i32, payload: &Value, goal: JobGoal) -> (Progress, String) {
    let outcome = json!({"deviceMethodResponse": {"status": status, "payload": payload}});
    let row = row(&json!({"status": "completed", "outcome": outcome}), goal);
    (row.progress, row.outcome)
}

fn door(lock: &str, door: &str, secured: &str, proof: &str) -> Value {
    json!({
        "lockState": lock, "doorState": door, "secured": secured, "proof": proof, "heldBy": null,
    })
}

#[test]
fn an_answer_is_judged_by_its_status_and_its_state() {
    use Progress::{Accepted, Failed, Reached};
    let unproven = JobGoal::Secured {
        accept_unproven: true,
    };
    let secured = door("locked", "closed", "secured", "bond");
    let open = door("unlocked", "open", "unsecured", "bond");
    let unknown = door("locked", "unknown", "unknown", "none");
    let mut held = door("unlocked", "closed", "unsecured", "bond");
    held["heldBy"] = json!({"slot": 1, "until": null});
    let mut below_lockdown = secured.clone();
    below_lockdown["heldBy"] = json!({"slot": 5, "until": null});
    let mut relinquished = below_lockdown.clone();
    below_lockdown["Response"] = json!("setMode called successfully");
    relinquished["Response"] = json!("relinquish called successfully");
    let mut jammed = door("jammed", "closed", "unsecured", "bond");
    jammed["error"] = json!("jammed");
    let tutorial = json!({"Response": "lockDoor called successfully"});
    for (status, body, goal, progress, outcome) in [
        (200, &secured, LOCK, Reached, "secured"),
        (202, &open, LOCK, Accepted, "accepted (202): door open"),
        (202, &held, LOCK, Accepted, "accepted (202): held by slot 1"),
        (
            202,
            &below_lockdown,
            JobGoal::Answered,
            Accepted,
            "accepted (202): held by slot 5",
        ),
        (
            202,
            &relinquished,
            JobGoal::Answered,
            Reached,
            JobGoal::Answered.reached(),
        ),
        // Without a sensor, only with --accept-unproven.
        (
            202,
            &unknown,
            LOCK,
            Accepted,
            "accepted (202): no sensor proves it",
        ),
        (202, &unknown, unproven, Reached, "secured, unproven"),
        // A failure, although the hub counts the answer as completed.
        (500, &jammed, LOCK, Failed, "failed (500): jammed"),
        (
            409,
            &json!({"Response": "lockdown holds the door"}),
            JobGoal::Released,
            Failed,
            "refused (409): lockdown holds the door",
        ),
        (
            409,
            &json!({"Response": "unlockDoor is refused: the door is in lockdown (slot 5)",
                "error": "refused", "mode": "lockdown"}),
            JobGoal::Released,
            Failed,
            "refused (409): the door is in lockdown (slot 5)",
        ),
        (
            410,
            &json!({"Response": "unlockDoor is refused: without a trusted clock notAfter cannot \
                be checked", "error": "expired"}),
            JobGoal::Released,
            Failed,
            "refused (410): without a trusted clock notAfter cannot be checked",
        ),
        (
            404,
            &json!({"error": "unknownMethod"}),
            JobGoal::Answered,
            Failed,
            "refused (404): unknownMethod",
        ),
        (
            200,
            &tutorial,
            LOCK,
            Accepted,
            "accepted (200): the answer has no lock state",
        ),
    ] {
        let judged = answer(status, body, goal);
        assert_eq!(judged, (progress, outcome.to_owned()), "{status} {body}");
    }
}

#[test]
fn a_mode_that_locks_or_releases_is_judged_by_the_lock_state() {
    for (payload, goal) in [
        (r#"{"mode":"lockdown"}"#, LOCK),
        (r#""{\"mode\":\"secure\"}""#, LOCK),
        (r#"{"mode":"passage"}"#, JobGoal::Released),
        (r#"{"mode":"normal"}"#, JobGoal::Answered),
        (r#"{"mode":"open"}"#, JobGoal::Answered),
        ("[1]", JobGoal::Answered),
        (r#"{"mode":"lockdown","until":"tomorrow","level":3}"#, LOCK),
    ] {
        let call = MethodRequest::new("setMode".parse().unwrap())
            .with_payload(serde_json::value::RawValue::from_string(payload.to_owned()).unwrap());
        assert_eq!(JobGoal::of_call(&call, false), goal, "{payload}");
    }
}

#[test]
fn an_error_of_the_hub_keeps_its_reason() {
    let offline = json!({"status": "failed", "error": {
        "code": "DeviceNotOnline", "description": "Timed out waiting for device to connect.",
    }});
    let offline = row(&offline, LOCK);
    assert_eq!(
        offline.outcome,
        "DeviceNotOnline: Timed out waiting for device to connect."
    );
    let twin = row(
        &json!({"status": "completed", "outcome": {"deviceMethodResponse": null}}),
        JobGoal::Changed,
    );
    let pending = row(&json!({"status": "pending"}), LOCK);
    let tally = Tally::of(&[offline, twin, pending]);
    assert_eq!(tally.summary(LOCK), "1 secured, 1 failed, 1 waiting");
}

#[test]
fn a_refusal_by_every_door_has_its_own_exit_status() {
    for (statuses, expected) in [
        (&[200][..], ExitStatus::Success),
        (&[200, 202], ExitStatus::Incomplete),
        (&[409, 409], ExitStatus::Refused),
        (&[200, 409], ExitStatus::Incomplete),
        (&[409, 500], ExitStatus::Incomplete),
        // No doors: not a success.
        (&[], ExitStatus::Incomplete),
    ] {
        let rows: Vec<OutcomeRow> = statuses
            .iter()
            .map(|status| {
                let lock = match status {
                    200 => "unlocked",
                    _ => "locked",
                };
                let outcome = json!({"deviceMethodResponse": {
                    "status": status, "payload": {"lockState": lock},
                }});
                row(
                    &json!({"status": "completed", "outcome": outcome}),
                    JobGoal::Released,
                )
            })
            .collect();
        assert_eq!(verdict(&rows), expected, "{statuses:?}");
    }
}

#[test]
fn a_call_is_judged_without_its_unknown_members() {
    let long = "m".repeat(100);
    let many = (0..10_000).map(|n| (format!("m{n}"), json!(n))).collect();
    for (method, payload, expected) in [
        ("lockDoor", json!({"note": "x", &long: 1}), "lockDoor"),
        ("unlockDoor", json!({"note": "x", "slot": 3}), "unlockDoor"),
        ("lockDoor", Value::Object(many), "lockDoor"),
        ("ring", json!({}), "none"),
    ] {
        let payload = serde_json::value::to_raw_value(&payload).unwrap();
        let call = MethodRequest::new(method.parse().unwrap()).with_payload(payload);
        // Each parse of the payload removes one of these members, so that they bound the work.
        assert!(known_members(&call).len() <= MEMBERS.len());
        let command = door_command(&call);
        let judged = command
            .as_ref()
            .map_or("none", |command| command.to_call().0);
        assert_eq!(judged, expected);
    }
}

#[test]
fn no_member_of_a_command_is_unknown() {
    for (method, payload) in [
        ("lockDoor", json!({"lockTime": "10m", "reason": "drill"})),
        ("lockDoor", json!({"until": "2026-11-23T22:00:00Z"})),
        ("unlockDoor", json!({"unlockTime": "10m", "commandId": "a"})),
        ("unlockDoor", json!({"pulse": "strike"})),
        ("relinquish", json!({"slot": 8})),
        ("setMode", json!({"mode": "secure"})),
        ("getState", json!({})),
    ] {
        let command = Command::parse(method, payload.to_string().as_bytes()).unwrap();
        let raw = serde_json::value::to_raw_value(&payload).unwrap();
        let call = MethodRequest::new(method.parse().unwrap()).with_payload(raw);
        assert_eq!(door_command(&call), Some(command), "{method} {payload}");
    }
}
