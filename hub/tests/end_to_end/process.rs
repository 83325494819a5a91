//! The program itself: killed outright, and asked to end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Operator, eventually};
use crate::job::lock;

/// A `door-hub serve` on free ports.
struct Process {
    child: Child,
    operator: Operator,
}

impl Process {
    async fn start(folder: &TempDir) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_door-hub"))
            .args(["serve", "--name", "localhost", "--listen", "127.0.0.1"])
            .args(["--mqtt-port", "0", "--https-port", "0", "--data"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let said = tokio::task::spawn_blocking(move || {
            let lines = output.lines().map(Result::unwrap);
            lines.take(5).collect::<Vec<String>>()
        });
        let said = tokio::time::timeout(Duration::from_secs(20), said).await;
        let said = said.unwrap().unwrap().join("\n");
        let mqtt = said.lines().find(|line| line.contains("MQTT")).unwrap();
        let mqtt_port = mqtt.rsplit(':').next().unwrap().parse().unwrap();
        let owner = std::fs::read_to_string(folder.path().join("service-connection-string"));
        let owner = owner.unwrap().parse().unwrap();
        let operator = Operator::new(owner, mqtt_port, &folder.path().join("ca.pem"));
        Self { child, operator }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_job_scheduled_before_a_sigkill_runs_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Process::start(&folder).await;
    let key = hub.operator.add_device("door").await;
    // The door may come back after the start.
    let mut job = lock("*", 3000);
    job["cloudToDeviceMethod"]["connectTimeoutInSeconds"] = json!(20);
    let made = hub.operator.put("/jobs/v2/later", job).await;
    assert_eq!(made.status, 200);
    hub.kill();

    let hub = Process::start(&folder).await;
    let _device = hub.operator.connect("door", &key, 200).await;
    let job = hub.operator.job("later", &["completed", "failed"]).await;
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 1, "{job}");
}

#[tokio::test]
async fn sigterm_ends_it_with_success_and_leaves_nothing_connected() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Process::start(&folder).await;
    let key = hub.operator.add_device("door").await;
    let _device = hub.operator.connect("door", &key, 200).await;
    let id = hub.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let child = std::sync::Mutex::new(&mut hub.child);
    let status = eventually("the hub ends", || async {
        child.lock().unwrap().try_wait().unwrap()
    })
    .await;
    assert!(status.success(), "{status}");
}

#[test]
fn mistakes_end_it_with_the_place_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "\nhttps_port = \"high\"\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_door-hub"))
            .arg("serve")
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (child.wait().unwrap().code(), said)
    };
    let (data, settings) = (folder.path().join("data"), settings.to_str().unwrap());
    let data = data.to_str().unwrap();
    for (arguments, parts) in [
        (
            vec!["--data", data, "--config", settings],
            vec!["settings.toml, line 2", "https_port", "u16"],
        ),
        (
            vec!["--data", data, "--name", "a b"],
            vec!["`a b`", "--name", "expected a host name"],
        ),
        (
            vec!["--data", data, "--mqtt-port", "70000"],
            vec!["--mqtt-port", "70000"],
        ),
        (vec!["--data", "/proc/none"], vec!["/proc/none", "--data"]),
    ] {
        let (code, said) = run(&arguments);
        assert!(matches!(code, Some(1 | 2)), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
    assert!(!std::path::Path::new(data).exists(), "nothing was made");
}
