//! Local and hub clocks that differ: relative times follow the hub's clock, and named times are
//! sent unchanged.

use doorfleet_testing::{Received, Reply, Server};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::commands::{HEALTH, doorctl};

/// Largest difference between a `Date` and the times computed from it, on a busy machine.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

const MINUTE: i64 = 60;

fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn door() -> Value {
    json!({"lockState": "locked", "doorState": "closed", "secured": "secured", "proof": "bond",
        "mode": "normal"})
}

fn twin() -> String {
    json!({
        "deviceId": "d", "etag": "AAAAAAAAAAE=", "version": 2, "connectionState": "Connected",
        "properties": {"desired": {"$version": 1}, "reported": {"door": door(), "$version": 1}},
    })
    .to_string()
}

/// Answers of the hub.
#[derive(Clone, Copy)]
enum Answer {
    Health,
    Twins,
    Called,
    Twin,
    Job,
    OverJob,
    Rows,
    Empty,
    End,
}

impl Answer {
    fn body(self, hub: Timestamp) -> String {
        let start = hub - SignedDuration::from_mins(1);
        match self {
            Self::Health => HEALTH.to_owned(),
            Self::Twins => format!("[{}]", twin()),
            Self::Called => json!({"status": 200, "payload": door()}).to_string(),
            Self::Twin => twin(),
            Self::Job => {
                r#"{"jobId":"j","type":"scheduleDeviceMethod","status":"queued"}"#.to_owned()
            }
            Self::OverJob => json!({
                "jobId": "j", "type": "scheduleDeviceMethod", "status": "completed",
                "startTime": start, "maxExecutionTimeInSeconds": 300,
                "cloudToDeviceMethod": {
                    "methodName": "lockDoor",
                    "payload": {"lockTime": "10m", "commandId": "j", "notAfter": start},
                },
            })
            .to_string(),
            Self::Rows => json!([{
                "deviceId": "d", "jobId": "j", "jobType": "scheduleDeviceMethod",
                "status": "failed",
                "error": {"code": "DeviceNotOnline", "description": "away"},
            }])
            .to_string(),
            Self::Empty => "[]".to_owned(),
            Self::End => "event: end\ndata: {}\n\n".to_owned(),
        }
    }
}

/// Expected value at a place of a request.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Seconds after the hub's time.
    Hub(i64),
    /// The named time.
    Named,
    /// One minute after the named time.
    NamedAndMinute,
    Text(&'static str),
    Absent,
}
use Expected::{Absent, Hub, Named, NamedAndMinute, Text};

/// A verb (`NAMED` stands for a time), the hub's answers in order, the index of the request to
/// check, and what it has to contain.
type Case = (
    &'static [&'static str],
    &'static [Answer],
    usize,
    &'static [(&'static str, Expected)],
);

const DIRECT: &[Answer] = &[Answer::Twins, Answer::Called, Answer::Twin];
const DIRECT_UNTIL: &[Answer] = &[Answer::Health, Answer::Twins, Answer::Called, Answer::Twin];
const MADE: &[Answer] = &[Answer::Health, Answer::Twins, Answer::Job];
const RETRIED: &[Answer] = &[
    Answer::OverJob,
    Answer::Rows,
    Answer::Twins,
    Answer::Twins,
    Answer::Job,
];

const CALL: &str = "/payload";
const JOB_CALL: &str = "/cloudToDeviceMethod/payload";

#[rustfmt::skip]
const CASES: &[Case] = &[
    (&["lock", "d", "--for", "1m"], DIRECT, 1,
        &[("lockTime", Text("1m")), ("until", Absent), ("notAfter", Hub(5 * MINUTE))]),
    (&["unlock", "d", "--for", "1m"], DIRECT, 1,
        &[("unlockTime", Text("1m")), ("until", Absent), ("notAfter", Hub(5 * MINUTE))]),
    (&["unlock", "d"], DIRECT, 1,
        &[("unlockTime", Absent), ("until", Absent), ("notAfter", Hub(5 * MINUTE))]),
    (&["unlock", "d", "--pulse", "strike"], DIRECT, 1,
        &[("until", Absent), ("notAfter", Hub(5 * MINUTE))]),
    (&["relinquish", "d"], DIRECT, 1, &[("notAfter", Hub(5 * MINUTE))]),
    (&["mode", "normal", "d"], DIRECT, 1, &[("notAfter", Hub(5 * MINUTE))]),
    (&["lock", "d", "--until", "+10m"], DIRECT_UNTIL, 2,
        &[("until", Hub(10 * MINUTE)), ("notAfter", Hub(5 * MINUTE))]),
    (&["unlock", "d", "--until", "NAMED", "--yes"], DIRECT_UNTIL, 2,
        &[("until", Named), ("notAfter", Hub(5 * MINUTE))]),
    (&["jobs", "lock", "d", "--for", "1m"], MADE, 2,
        &[("lockTime", Text("1m")), ("until", Absent), ("notAfter", Hub(5 * MINUTE)),
          ("/startTime", Absent)]),
    (&["jobs", "unlock", "d", "--for", "1m"], MADE, 2,
        &[("unlockTime", Text("1m")), ("until", Absent), ("/startTime", Absent)]),
    (&["jobs", "lock", "d", "--at", "+10s", "--for", "1m"], MADE, 2,
        &[("lockTime", Text("1m")), ("until", Hub(70)), ("notAfter", Hub(310)),
          ("/startTime", Hub(10))]),
    (&["jobs", "lock", "d", "--at", "NAMED", "--for", "1m", "--yes"], MADE, 2,
        &[("lockTime", Text("1m")), ("until", NamedAndMinute), ("/startTime", Named)]),
    (&["jobs", "method", "relinquish", "d"], MADE, 2,
        &[("notAfter", Hub(5 * MINUTE)), ("/startTime", Absent)]),
    (&["jobs", "retry", "j"], RETRIED, 4,
        &[("lockTime", Text("10m")), ("until", Absent), ("notAfter", Hub(5 * MINUTE)),
          ("/startTime", Absent)]),
    (&["audit", "--since", "1h"], &[Answer::Health, Answer::Empty], 1, 
        &[("?since", Hub(-60 * MINUTE))]),
    (&["events", "--since", "1h"], &[Answer::Health, Answer::End], 1, 
        &[("?since", Hub(-60 * MINUTE))]),
    (&["events"], &[Answer::Health, Answer::End], 1, &[("?since", Hub(-24 * 60 * MINUTE))]),
];

/// The value at a place of a request: a member of the door's payload, `/x` of the body, `?x` of the
/// query string.
fn sent(request: &Received, place: &str) -> Option<String> {
    if let Some(name) = place.strip_prefix('?') {
        let address =
            reqwest::Url::parse(&format!("https://hub{}", request.line.split(' ').nth(1)?));
        let pairs = address.ok()?;
        let value = pairs.query_pairs().find(|(key, _)| key == name)?.1;
        return Some(value.into_owned());
    }
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let value = match place.starts_with('/') {
        true => body.pointer(place),
        false => [CALL, JOB_CALL]
            .iter()
            .find_map(|at| body.pointer(at)?.get(place)),
    };
    value.map(|value| value.as_str().unwrap().to_owned())
}

/// A server whose clock is `ahead` of the local one.
async fn hub_ahead(ahead: SignedDuration, answers: &[Answer]) -> (Server, Timestamp) {
    let hub = Timestamp::now() + ahead;
    let reply = |answer: &Answer| Reply::ok(&answer.body(hub)).with("date", &date(hub));
    (Server::play(answers.iter().map(reply).collect()).await, hub)
}

/// The arguments with a time in place of `NAMED`.
fn with_time<'a>(arguments: &[&'a str], time: &'a str) -> Vec<&'a str> {
    let named = |argument: &&'a str| if *argument == "NAMED" { time } else { argument };
    arguments.iter().map(named).collect()
}

#[tokio::test]
async fn relative_times_follow_the_hubs_clock_and_named_times_are_sent_unchanged() {
    for minutes in [0, 20, -20] {
        for (arguments, answers, counts, expected) in CASES {
            let (server, hub) = hub_ahead(SignedDuration::from_mins(minutes), answers).await;
            let named = (hub + SignedDuration::from_hours(2))
                .round(jiff::Unit::Second)
                .unwrap();
            let text = named.to_string();
            let arguments = with_time(arguments, &text);
            let what = format!("{arguments:?}, the hub's clock {minutes} min ahead");
            let output = doorctl(&server, &arguments).await;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let requests = server.requests();
            let request = requests
                .get(*counts)
                .unwrap_or_else(|| panic!("{what}: {stderr}"));
            for (place, expected) in *expected {
                let found = sent(request, place);
                let near = |at: Timestamp| {
                    let found: Option<Timestamp> =
                        found.as_ref().and_then(|found| found.parse().ok());
                    found.is_some_and(|found| found.duration_since(at).abs() <= SLACK)
                };
                let fits = match expected {
                    Hub(seconds) => near(hub + SignedDuration::from_secs(*seconds)),
                    Named => found == Some(named.to_string()),
                    NamedAndMinute => {
                        found == Some((named + SignedDuration::from_mins(1)).to_string())
                    }
                    Text(text) => found.as_deref() == Some(*text),
                    Absent => found.is_none(),
                };
                assert!(
                    fits,
                    "{what}: {place} is {found:?}, not {expected:?}: {stderr}"
                );
            }
            // A difference is reported once, with both times.
            let warnings = stderr.matches("this machine's clock is").count();
            assert_eq!(warnings, usize::from(minutes != 0), "{what}: {stderr}");
        }
    }
}

#[tokio::test]
async fn a_named_time_needs_confirmation_when_the_clocks_differ_by_minutes() {
    #[rustfmt::skip]
    let rows: &[(i64, &[&str], &[Answer], bool)] = &[
        (20, &["unlock", "d", "--until", "NAMED"], DIRECT_UNTIL, false),
        (-20, &["lock", "d", "--until", "NAMED"], DIRECT_UNTIL, false),
        (20, &["jobs", "lock", "d", "--at", "NAMED"], MADE, false),
        (-20, &["jobs", "twin", "--set", "floor=3", "d", "--at", "NAMED"], MADE, false),
        (20, &["jobs", "retry", "j", "--at", "NAMED"], RETRIED, false),
        (1, &["jobs", "lock", "d", "--at", "NAMED"], MADE, true),
        (20, &["jobs", "lock", "d", "--at", "+1h"], MADE, true),
        (20, &["jobs", "lock", "d", "--at", "NAMED", "--yes"], MADE, true),
    ];
    for &(minutes, arguments, answers, changes) in rows {
        let (server, hub) = hub_ahead(SignedDuration::from_mins(minutes), answers).await;
        let text = (hub + SignedDuration::from_mins(2)).to_string();
        let arguments = with_time(arguments, &text);
        let output = doorctl(&server, &arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let requests = server.requests();
        let changed = requests
            .iter()
            .any(|request| request.line.starts_with("PUT") || request.line.contains("/methods"));
        assert_eq!(changed, changes, "{arguments:?}, {minutes} min: {stderr}");
        if !changes {
            assert_eq!(output.status.code(), Some(4), "{arguments:?}: {stderr}");
            assert!(
                stderr.contains("pass --yes if that instant is right"),
                "{stderr}"
            );
        }
    }
}

#[tokio::test]
async fn a_hold_of_more_than_7_days_by_the_hubs_clock_is_refused() {
    for (hours, taken) in [(7 * 24 - 1, true), (7 * 24 + 1, false)] {
        let (server, hub) = hub_ahead(SignedDuration::from_hours(-72), DIRECT_UNTIL).await;
        let until = (hub + SignedDuration::from_hours(hours)).to_string();
        let output = doorctl(&server, &["lock", "d", "--until", &until, "--yes"]).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(server.requests().len() > 1, taken, "{hours} h: {stderr}");
        let refused =
            "expected at most 7 days\n  next: without --until it stays until doorctl relinquish";
        assert_eq!(stderr.contains(refused), !taken, "{hours} h: {stderr}");
    }
}
