//! A lockdown whose jobs the hub refuses, delays or does not complete.

use std::process::Stdio;

use doorfleet_testing::{Process, Received, Reply, Server};
use serde_json::json;

use super::commands::{HEALTH, command, doorctl};
use super::{TWIN, refusal};

const LOCKDOWN: [&str; 2] = ["lockdown", "--all"];

fn twin(door: &str) -> String {
    TWIN.replace(r#""d""#, &format!("{door:?}"))
}

fn job(request: &Received, kind: &str, status: &str, succeeded: usize) -> Reply {
    let id = path(request).rsplit('/').next();
    let counts = json!({"deviceCount": 2, "succeededCount": succeeded, "failedCount": 0});
    let job = json!({"jobId": id, "type": kind, "status": status, "deviceJobStatistics": counts});
    Reply::ok(&job.to_string())
}

/// Answers for the doors `d` and `e`, of which `older` are of 0.1; the twin job completes.
fn hub(request: &Received, older: &[&str]) -> Reply {
    let twin_of = |door: &str| match older.contains(&door) {
        true => twin(door).replace(r#""reported":{"#, r#""reported":{"door":{},"#),
        false => twin(door),
    };
    let contains = |part| request.body.contains(part);
    match path(request) {
        "/healthz" => Reply::ok(HEALTH),
        "/devices/query" if contains("devices.jobs") => Reply::ok(
            r#"[{"deviceId":"d","jobId":"x","jobType":"scheduleDeviceMethod","status":"completed",
            "outcome":{"deviceMethodResponse":{"status":200,"payload":{"secured":"secured"}}}}]"#,
        ),
        "/devices/query" if contains("connectionState") => Reply::ok("[]"),
        "/devices/query" => Reply::ok(&format!("[{},{}]", twin_of("d"), twin_of("e"))),
        path if path.starts_with("/twins/") => {
            Reply::ok(r#"{"status":200,"payload":{"secured":"secured"}}"#)
        }
        path if path.ends_with("-twin") => job(request, "scheduleUpdateTwin", "completed", 2),
        _ => job(request, "scheduleDeviceMethod", "completed", 1),
    }
}

fn path(request: &Received) -> &str {
    request.line.split(['?', ' ']).nth(1).unwrap()
}

fn is(request: &Received, method: &str, end: &str) -> bool {
    request.line.starts_with(method) && path(request).ends_with(end)
}

#[tokio::test]
async fn doors_whose_job_is_refused_are_called_directly_and_the_other_job_is_watched() {
    let faults = [
        ("-older", 400, "ArgumentInvalid"),
        ("-older", 503, "ServiceUnavailable"),
        ("-older", 429, "ThrottlingMaxActiveJobCountExceeded"),
        ("-known", 0, "the connection is closed"),
    ];
    for (suffix, status, name) in faults {
        let server = Server::answering(move |request| match () {
            () if is(request, "PUT", suffix) => match status {
                0 => Reply::hang_up(),
                status => Reply::status(status, &refusal(name)),
            },
            () if is(request, "GET", suffix) => Reply::status(404, &refusal("JobNotFound")),
            () => hub(request, &["e"]),
        })
        .await;
        let output = doorctl(&server, &LOCKDOWN).await;
        let printed = String::from_utf8(output.stderr).unwrap();
        let rows = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{suffix}: {printed}");
        for part in [
            "cannot create job lockdown-",
            "; calling each door directly",
        ] {
            assert!(printed.contains(part), "{suffix}: {printed}");
        }
        assert!(
            !printed.contains("one job at a time"),
            "{suffix}: {printed}"
        );
        assert!(rows.contains("\nd  ") && rows.contains("\ne  "), "{rows}");
        let requests = server.requests();
        let method = if suffix == "-older" {
            "setMode"
        } else {
            "lockdown"
        };
        let called = requests
            .iter()
            .find(|request| is(request, "POST", "/e/methods"));
        assert!(called.unwrap().body.contains(method), "{called:?}");
    }
}

#[tokio::test]
async fn the_calls_come_before_the_twin_job_which_does_not_wait_for_throttled_ones() {
    for is_throttled in [false, true] {
        let mut is_twin_created = false;
        let server = Server::answering(move |request| {
            is_twin_created |= is(request, "PUT", "-twin");
            match is_throttled && request.line.starts_with("PUT") && !is_twin_created {
                true => Reply::status(429, &refusal("ThrottlingException")),
                false => hub(request, &[]),
            }
        })
        .await;
        let output = doorctl(&server, &LOCKDOWN).await;
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{printed}");
        let requests = server.requests();
        let mut created = requests
            .iter()
            .filter(|request| request.line.starts_with("PUT"));
        let is_call =
            |request: &Received| request.line.starts_with("PUT") && !is(request, "PUT", "-twin");
        assert!(created.next().is_some_and(is_call), "{requests:?}");
        let before = requests.iter().take_while(|request| !is_call(request));
        let queries = before.filter(|request| path(request) == "/devices/query");
        assert_eq!(queries.count(), 1, "{requests:?}");
        let last = created.next_back();
        assert_eq!(last.is_some_and(is_call), is_throttled, "{requests:?}");
    }
}

#[tokio::test]
async fn the_calls_do_not_wait_for_a_throttled_search_for_older_doors() {
    let mut is_called = false;
    let server = Server::answering(move |request| {
        is_called |= request.line.starts_with("PUT") && !is(request, "PUT", "-twin");
        let contains = |part| request.body.contains(part);
        match () {
            () if contains("NOT is_defined") && !is_called => {
                Reply::status(429, &refusal("ThrottlingException"))
            }
            () if contains("COUNT()") => Reply::ok(r#"[{"doors":2}]"#),
            () if contains(r#""SELECT * FROM devices""#) => {
                hub(request, &[]).with("x-ms-continuation", "more")
            }
            () => hub(request, &[]),
        }
    })
    .await;
    let output = doorctl(&server, &LOCKDOWN).await;
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let says = "cannot find doors of 0.1, which refuse lockdown: no result within 1 s";
    assert!(printed.contains(says), "{printed}");
}

#[tokio::test]
async fn a_created_job_is_named_though_other_doors_are_unknown() {
    let mut has_failed = false;
    let server = Server::answering(move |request| {
        let is_failing = is(request, "PUT", "-older");
        has_failed |= is_failing;
        match is_failing || (has_failed && request.body.contains("is_defined")) {
            true => Reply::status(400, &refusal("ArgumentInvalid")),
            false => hub(request, &["e"]),
        }
    })
    .await;
    let output = doorctl(&server, &LOCKDOWN).await;
    let printed = String::from_utf8(output.stderr).unwrap();
    let named = printed.lines().any(|line| {
        line.starts_with("job lockdown-") && line.ends_with("-known calls the other doors")
    });
    assert!(named, "{printed}");
}

#[tokio::test]
async fn a_lockdown_names_what_was_not_stored_and_what_is_unknown() {
    let missing = "the desired lockdown is not changed at every door: ";
    let unknown = "whether the desired lockdown is changed at every door is not known yet: job ";
    for (status, succeeded, start, says) in [
        (
            "failed",
            0,
            missing,
            "0 of 2 doors were changed; job lockdown-",
        ),
        (
            "completed",
            1,
            missing,
            "1 of 2 doors were changed; repeat doorctl lockdown",
        ),
        (
            "refused",
            0,
            unknown,
            " cannot be read: the hub answers 400",
        ),
        ("not created", 0, missing, "the hub answers 400"),
    ] {
        let server = Server::answering(move |request| {
            let is_creation = is(request, "PUT", "-twin");
            match is(request, "GET", "-twin") {
                true if status == "refused" => Reply::status(400, &refusal("ArgumentInvalid")),
                true => job(request, "scheduleUpdateTwin", status, succeeded),
                false if is_creation && status == "not created" => {
                    Reply::status(400, &refusal("ArgumentInvalid"))
                }
                false => hub(request, &[]),
            }
        })
        .await;
        let output = doorctl(&server, &LOCKDOWN).await;
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(
            printed.contains(start) && printed.contains(says),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_the_twin_job() {
    let server = Server::answering(|request| match is(request, "GET", "-twin") {
        true => job(request, "scheduleUpdateTwin", "running", 0),
        false => hub(request, &[]),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(&server, &folder);
    command
        .args(LOCKDOWN)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || {
        let mut lockdown = Process::spawn(&mut command);
        let mut printed = lockdown.stderr();
        assert!(printed.any(|line| line.contains("; by the doors' answers: ")));
        lockdown.signal("INT");
        let says = "interrupted; whether the desired lockdown is changed at every door is not";
        assert!(printed.any(|line| line.contains(says)));
        lockdown.wait().code()
    });
    assert_eq!(ended.await.unwrap(), Some(130));
}
