use super::*;

const FROM: &str = "2026-12-01T21:00:00Z";
const UNTIL: &str = "2026-12-01T21:10:00Z";

fn twin(connection: &str, desired: &Value, reported: &Value) -> Twin {
    serde_json::from_value(json!({
        "deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4,
        "connectionState": connection,
        "properties": {
            "desired": {"timed": desired, "$version": 1},
            "reported": {"timed": reported, "door": reported.get("door"), "$version": 1},
        },
    }))
    .unwrap()
}

fn judged(connection: &str, is_desired: bool, reported: &Value, now: &str) -> OutcomeRow {
    let value = json!({"want": "locked", "from": FROM, "until": UNTIL});
    let staged = StagedEntry {
        id: "night".parse().unwrap(),
        entry: TimedEntry::read(&value).unwrap(),
    };
    let desired = match is_desired {
        true => json!({"night": value}),
        false => json!({}),
    };
    let record = serde_json::from_value(json!({
        "deviceId": "east", "jobId": "night-stage", "jobType": "scheduleUpdateTwin",
        "status": "completed",
    }));
    let goal = staged.goal(false);
    let mut row = OutcomeRow::new(&record.unwrap(), JobGoal::Changed);
    let twin = twin(connection, &desired, reported);
    staged.judge_door(&mut row, Some(&twin), goal, now.parse().unwrap());
    row
}

#[test]
fn a_staged_door_is_judged_by_what_it_reports() {
    let result = |state: &str, secured: &str, reached: bool| {
        json!({"night": {"ac": 200, "state": state, "at": FROM, "secured": secured,
            "proof": "bond", "reached": reached}})
    };
    let at_door = |mut timed: Value, lock_state: &str, secured: &str| {
        timed["door"] = json!({"lockState": lock_state, "doorState": "closed",
            "secured": secured, "proof": "bond"});
        timed
    };
    let armed = json!({"night": {"ac": 200, "state": "armed"}});
    let (before, during, after) = ("2026-12-01T20:00:00Z", FROM, UNTIL);
    let (on, off) = ("Connected", "Disconnected");
    for (connection, is_desired, reported, now, progress, outcome) in [
        (
            on,
            true,
            json!({}),
            before,
            Progress::Waiting,
            "not armed yet",
        ),
        (
            off,
            true,
            json!({}),
            before,
            Progress::Waiting,
            "not armed: the door is offline",
        ),
        (on, true, armed.clone(), before, Progress::Waiting, "armed"),
        (off, true, armed.clone(), before, Progress::Waiting, "armed"),
        (
            off,
            true,
            armed.clone(),
            during,
            Progress::Waiting,
            "armed; the door is offline",
        ),
        (
            on,
            false,
            json!({}),
            before,
            Progress::Failed,
            "disarmed: its entry was removed",
        ),
        (
            off,
            false,
            armed,
            before,
            Progress::Failed,
            "disarmed, but the door is offline",
        ),
        (
            on,
            false,
            json!({}),
            after,
            Progress::Accepted,
            "over; the door keeps no record",
        ),
        (
            on,
            true,
            json!({"night": {"ac": 400, "ad": "20 entries already"}}),
            before,
            Progress::Failed,
            "refused (400): 20 entries already",
        ),
        (
            on,
            true,
            json!({"ac": 400, "ad": "expected an object"}),
            before,
            Progress::Failed,
            "refused (400): expected an object",
        ),
        (
            on,
            true,
            json!({"night": {"ac": 200, "state": "overruled", "why": "lockdown"}}),
            during,
            Progress::Failed,
            "overruled: lockdown",
        ),
        (
            on,
            true,
            json!({"night": {"ac": 200, "state": "later"}}),
            during,
            Progress::Waiting,
            "not armed yet",
        ),
        (
            on,
            true,
            at_door(result("holding", "secured", true), "locked", "secured"),
            during,
            Progress::Reached,
            "secured",
        ),
        (
            on,
            true,
            at_door(result("holding", "secured", true), "unlocked", "unsecured"),
            during,
            Progress::Accepted,
            "secured before, unlocked now",
        ),
        (
            on,
            true,
            at_door(
                result("overruled", "secured", true),
                "unlocked",
                "unsecured",
            ),
            during,
            Progress::Failed,
            "secured before, then overruled",
        ),
        (
            on,
            true,
            result("holding", "unknown", false),
            during,
            Progress::Accepted,
            "holding: no sensor proves it",
        ),
        (
            on,
            true,
            result("over", "secured", true),
            after,
            Progress::Reached,
            "secured, over now",
        ),
        (
            on,
            true,
            result("over", "unsecured", false),
            after,
            Progress::Failed,
            "over, and never secured",
        ),
        (
            on,
            true,
            json!({"night": {"ac": 200, "state": "over"}}),
            after,
            Progress::Failed,
            "over: the door was off all the time",
        ),
    ] {
        let row = judged(connection, is_desired, &reported, now);
        assert!(row.outcome.starts_with(outcome), "{reported}: {row:?}");
        assert_eq!(row.progress, progress, "{reported}: {row:?}");
    }
}
