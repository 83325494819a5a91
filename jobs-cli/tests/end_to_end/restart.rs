//! A power cut of the hub between the creation of a job and its start.

use std::process::Stdio;
use std::time::{Duration, Instant};

use door_agent::Shared;
use doorfleet_testing::{DEADLINE, Process};
use serde_json::Value;

use super::support::{Door, Operator, start_door, start_hub};

#[test]
fn a_scheduled_job_survives_a_kill_of_the_hub() {
    let operator = Operator::new();
    let hub = start_hub(&operator.folder().join("data"));
    operator.use_hub(&hub.data);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shared = Shared::new().unwrap();
    let names = ["a", "b", "c", "offline"];
    operator
        .run("devices add a b c offline --floor 3")
        .expect(0);
    let doors: Vec<Door> = names
        .iter()
        .map(|name| {
            start_door(
                &operator,
                &runtime,
                &shared,
                name,
                hub.operator.mqtt_port,
                &hub.data.join("ca.pem"),
            )
        })
        .collect();
    operator.until("devices list", |rows| {
        all(rows, "connectionState", "Connected")
    });
    doors[3].unplug();

    let scheduled = Instant::now();
    operator
        .run("jobs lock --floor 3 --id night --at +8s --for 10m --connect-timeout 15s")
        .expect(0);
    let mut watch = operator.command("jobs watch night -o json");
    let mut watch = Process::spawn(watch.stderr(Stdio::piped()).stdout(Stdio::piped()));
    let mut printed = watch.stderr();
    assert_eq!(printed.next().unwrap(), "night  waits for its start");
    let start_again = hub.kill();
    operator
        .run("jobs show night")
        .expect(1)
        .says(&["cannot reach localhost"]);
    // About 2 s are left for the doors to reconnect.
    while scheduled.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut hub = start_again();

    let watched = watch.output();
    assert!(scheduled.elapsed() < DEADLINE);
    let printed: Vec<String> = printed.collect();
    let patient = printed
        .iter()
        .any(|line| line.ends_with("the job continues on the hub, retrying"));
    assert!(patient && watched.status == 2, "{printed:?}");
    let report = watched.json();
    let doors: Vec<(&str, &str)> = report["doors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["door"].as_str().unwrap(),
                row["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        &doors[..3],
        [("a", "secured"), ("b", "secured"), ("c", "secured")]
    );
    assert_eq!(doors[3].0, "offline");
    assert!(doors[3].1.starts_with("DeviceNotOnline"), "{doors:?}");
    assert_eq!(report["job"]["status"], "completed");
    assert!(hub.process.terminate().success());
}

fn all(rows: &Value, key: &str, value: &str) -> bool {
    rows.as_array()
        .is_some_and(|rows| rows.iter().all(|row| row[key] == value))
}
