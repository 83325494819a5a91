//! Timed entries through a hub: armed, carried out without it, kept over restarts.

use std::time::Duration;

use door_agent::AgentSnapshot;
use door_core::contract::Secured;
use door_core::{TimedState, Want};
use doorfleet_testing::agent_until;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::site::{DOOR, Site, all_sent, events, sim};

/// A whole second, some seconds from now.
fn in_seconds(seconds: i64) -> Timestamp {
    let now = Timestamp::now().round(Unit::Second).unwrap();
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn state(seen: &AgentSnapshot) -> Option<TimedState> {
    let timed = seen.door.timed.values().next();
    timed.map(|timed| timed.progress.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_armed_lock_acts_with_the_hub_dead_and_its_outcome_follows() {
    let site = Site::new().await;
    let agent = site.start().await;
    sim(&agent, "close");
    // Late enough for the hub to be gone, on a busy machine too.
    let from = in_seconds(20);
    let until = in_seconds(3600);
    let entry = json!({"want": "locked", "from": from, "until": until, "by": "alice"});
    site.desire(json!({"timed": {"drill": entry}})).await;
    let reported = site.reports("/timed/drill/state", "armed").await;
    assert_eq!(reported["timed"]["drill"]["ac"], 200, "{reported}");
    assert_eq!(reported["device"]["features"]["timed"], true);

    let hub = site.hub.stop().await;
    assert_eq!(
        state(&agent.snapshot()),
        Some(TimedState::Armed),
        "the hub is gone before T"
    );
    agent_until(&agent, |seen| {
        seen.door.report.status.secured == Secured::Secured
            && state(seen) == Some(TimedState::Holding)
    })
    .await;
    let timed = agent.snapshot().door.timed.into_values().next().unwrap();
    let at = timed.progress.at.unwrap();
    assert!(from <= at && at < until, "{at}");

    let hub = hub.start().await;
    let is_proven = |reported: &serde_json::Value| reported["timed"]["drill"]["reached"] == true;
    let reported = hub.reported_until(DOOR, is_proven).await;
    let drill = &reported["timed"]["drill"];
    assert_eq!(
        (
            &drill["state"],
            &drill["clock"],
            &drill["secured"],
            &drill["proof"]
        ),
        (
            &json!("holding"),
            &json!("synchronized"),
            &json!("secured"),
            &json!("bond")
        ),
    );
    all_sent(&agent).await;
    let events = events(&hub, DOOR).await;
    let started = events
        .iter()
        .filter(|event| event["kind"] == "timedStarted");
    assert_eq!(started.count(), 1);

    hub.set_desired(DOOR, json!({"timed": {"drill": null}}))
        .await;
    agent_until(&agent, |seen| seen.door.timed.is_empty()).await;
    hub.reported_until(DOOR, |reported| reported.get("timed").is_none())
        .await;
    all_sent(&agent).await;
    let events = crate::site::events(&hub, DOOR).await;
    assert!(events.iter().any(|event| event["kind"] == "disarmed"));
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_was_off_at_the_time_acts_without_a_network_when_it_is_back() {
    let site = Site::new().await;
    let agent = site.start().await;
    let from = in_seconds(4);
    let entry = json!({"want": "locked", "from": from, "until": in_seconds(3600)});
    site.desire(json!({"timed": {"night": entry}})).await;
    site.reports("/timed/night/state", "armed").await;
    agent.shutdown().await;
    let hub = site.hub.stop().await;
    let left = from.duration_since(Timestamp::now()) + SignedDuration::from_secs(1);
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    let agent = doorfleet_testing::start_agent_again(&site.config, &site.shared).await;
    agent_until(&agent, |seen| state(seen) == Some(TimedState::Holding)).await;
    let snapshot = agent.snapshot();
    assert_eq!(snapshot.door.slots[0].slot.number(), 8, "{snapshot:?}");
    assert!(snapshot.to_text().contains("timed    night: locked from"));
    agent.shutdown().await;
    drop(hub);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assigned_week_holds_without_a_hub_after_a_restart() {
    let site = Site::new().await;
    let agent = site.start().await;
    let window = |from: &str, to: &str| json!({"days": "mon-sun", "from": from, "to": to, "want": "released"});
    let text = json!({
        "name": "always", "zone": "Europe/Berlin",
        "window": [window("00:00", "12:00"), window("12:00", "24:00")]
    })
    .to_string();
    let digest = Sha256::digest(&text);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let assigned = json!({"digest": digest, "text": text, "now": true});
    site.desire(json!({"schedule": assigned})).await;
    let reported = site
        .reports("/schedule/value/digest", digest.as_str())
        .await;
    assert_eq!(reported["schedule"]["ac"], 200, "{reported}");
    assert_eq!(reported["device"]["features"]["schedule"], true);
    assert!(reported["device"]["zoneinfo"].is_string());
    let decides = |seen: &AgentSnapshot| {
        let slot = seen
            .door
            .slots
            .first()
            .map(|slot| (slot.slot.number(), slot.want));
        slot == Some((16, Want::Released))
    };
    agent_until(&agent, decides).await;
    agent.shutdown().await;
    let hub = site.hub.stop().await;
    let agent = doorfleet_testing::start_agent_again(&site.config, &site.shared).await;
    agent_until(&agent, decides).await;
    let text = agent.snapshot().to_text();
    assert!(text.contains("week     always: released"), "{text}");
    agent.shutdown().await;
    drop(hub);
}
