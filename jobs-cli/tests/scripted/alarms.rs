//! Two people acknowledge one alarm at once.

use doorfleet_testing::{Reply, Server};
use serde_json::{Value, json};

use super::commands::doorctl;
use super::refusal;

fn twin(etag: &str, acknowledged: &Value) -> String {
    let since = json!({"since": "2026-11-23T21:00:00Z"});
    let twin = json!({
        "deviceId": "east", "etag": etag, "version": 2, "tags": {"alarm": acknowledged},
        "properties": {
            "desired": {"$version": 1},
            "reported": {"$version": 1, "door": {"alarms": {"forcedOpen": since}}},
        },
    });
    twin.to_string()
}

fn by(name: &str) -> Value {
    let tag = json!({
        "raised": "2026-11-23T21:00:00Z", "by": name, "at": "2026-11-23T21:01:00Z", "note": "on it",
    });
    json!({"forcedOpen": tag})
}

#[tokio::test]
async fn the_second_of_two_acknowledgements_overwrites_nothing() {
    for (meanwhile, status, part) in [
        (
            by("eve"),
            4,
            "forcedOpen of east is acknowledged already, by eve at ",
        ),
        // Somebody changed another tag: the write is repeated with the new etag.
        (json!({}), 0, "forcedOpen"),
    ] {
        let server = Server::play(vec![
            Reply::ok(&twin("AAAAAAAAAAE=", &json!({}))),
            Reply::status(412, &refusal("PreconditionFailed")),
            Reply::ok(&twin("AAAAAAAAAAI=", &meanwhile)),
            Reply::ok(&twin("AAAAAAAAAAM=", &by("service"))),
        ])
        .await;
        let words = ["alarms", "ack", "east", "--note", "I go"];
        let output = doorctl(&server, &words).await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(printed.contains(part), "{printed}");
        let requests = server.requests();
        let writes = requests
            .iter()
            .filter_map(|request| request.header("if-match"));
        let etags: &[&str] = match status {
            0 => &["\"AAAAAAAAAAE=\"", "\"AAAAAAAAAAI=\""],
            _ => &["\"AAAAAAAAAAE=\""],
        };
        assert_eq!(writes.collect::<Vec<_>>(), etags);
    }
}
