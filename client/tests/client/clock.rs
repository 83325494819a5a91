//! Local and hub clocks that differ: tokens follow the hub's clock.

use doorfleet_testing::{Received, Reply, Server};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Clients as _, DEVICE, device};

fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn a_token_of_a_wrong_clock_is_renewed_once() {
    let expiry = |request: &Received| -> i64 {
        let header = request.header("authorization").unwrap();
        header
            .split("&se=")
            .nth(1)
            .unwrap()
            .split('&')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let refused = super::refusal("IotHubUnauthorizedAccess");
    // Minutes that the hub is ahead, and how often a refused request is sent.
    for (minutes, attempts) in [
        (0, 1),
        (59, 1),
        (61, 2),
        (-59, 1),
        (-61, 2),
        (60 * 24 * 300, 2),
    ] {
        let hub = Timestamp::now() + SignedDuration::from_mins(minutes);
        let reply = |status, body: &str| Reply::status(status, body).with("date", &date(hub));
        let server = Server::play(vec![reply(401, &refused), reply(401, &refused)]).await;
        server.client().device(&device()).await.unwrap_err();
        assert_eq!(server.requests().len(), attempts, "{minutes} min");
        if attempts == 2 {
            let server = Server::play(vec![reply(401, &refused), reply(200, DEVICE)]).await;
            server.client().device(&device()).await.unwrap();
            let left = expiry(&server.requests()[1]) - hub.as_second();
            assert!((3_540..=3_660).contains(&left), "{minutes} min: {left} s");
        }
    }
    // Later tokens use the hub's clock, even if the first was valid.
    let hub = Timestamp::now() - SignedDuration::from_mins(20);
    let reply = || Reply::ok(DEVICE).with("date", &date(hub));
    let server = Server::play(vec![reply(), reply()]).await;
    let client = server.client();
    for _ in 0..2 {
        client.device(&device()).await.unwrap();
    }
    let left = expiry(&server.requests()[1]) - hub.as_second();
    assert!((3_540..=3_660).contains(&left), "{left} s");
    assert!(Duration::from_secs(19 * 60) < client.clock_ahead().unsigned_abs());
}
