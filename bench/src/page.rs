//! Measures readers of events, doorctl's commands over all doors, and the web page: the hub's
//! processor time for readers of the event stream, how late they see an event, how long the
//! commands take, and how long a browser takes to show every door.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use iothub_client::EventStreamItem;
use iothub_protocol::event::EventRequest;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::fleet::{CONNECTING, Connection, Device, Endpoint};
use crate::hub::{Hub, write_secret};
use crate::process::Usage;
use crate::report::{ms, quantile};

/// Doors that send the events.
const SENDERS: u32 = 50;
/// Doors of a floor. Their names begin alike.
const DOORS_OF_FLOOR: u32 = 100;
const FLOORS_OF_BUILDING: u32 = 10;
const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/?$rid=1";
const ANSWERS: &str = "$iothub/twin/res/#";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of doors, each with a twin as an agent reports it.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=50_000))]
    doors: u32,
    /// Number of readers of the event stream.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=48))]
    readers: u32,
    /// Events in a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(50..=5_000))]
    events: u32,
    /// Seconds of each measurement, of which there are three with readers and three without.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// A script for Node that opens an address until it shows a number of doors; without it no
    /// browser is measured. `bench/page` passes it.
    #[arg(long, value_name = "SCRIPT")]
    browser: Option<PathBuf>,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("a folder for the hub's data")?;
    let hub = Hub::start(scratch.path()).await?;
    let names = (0..arguments.doors).map(|n| format!("door-{n:05}"));
    let mut devices = hub.register(names).await?;
    devices.sort_by(|one, other| one.client_id.cmp(&other.client_id));
    for place in 0..arguments.doors.div_ceil(DOORS_OF_FLOOR) {
        let (building, floor) = (place / FLOORS_OF_BUILDING, place % FLOORS_OF_BUILDING);
        hub.assign(&format!("door-{place:03}"), building, floor)
            .await?;
    }
    report_all(&hub.endpoint, &devices).await?;
    eprintln!("{} doors have reported", arguments.doors);
    readers(&hub, &devices, arguments).await?;
    let doorctl = Doorctl::new(&hub, scratch.path())?;
    for (goal, words) in COMMANDS {
        doorctl.measure(goal, words).await?;
    }
    if let Some(script) = &arguments.browser {
        browser(&doorctl, script, arguments.doors).await?;
    }
    Ok(())
}

/// Commands of doorctl over every door, with the goal for each in milliseconds. An empty first word
/// asks for completions of the last one.
const COMMANDS: [(u32, &[&str]); 4] = [
    (20, &["--version"]),
    (1_000, &["status"]),
    (1_000, &["devices", "list"]),
    (100, &["", "doorctl", "devices", "show", "door-0001"]),
];
const RUNS: usize = 5;

/// doorctl with a context of the hub.
struct Doorctl {
    program: PathBuf,
    config: PathBuf,
}

impl Doorctl {
    fn new(hub: &Hub, scratch: &Path) -> anyhow::Result<Self> {
        let config = scratch.join("doorctl.toml");
        let connection = std::fs::read_to_string(hub.data.join("service-connection-string"))?;
        let ca = std::fs::read_to_string(&hub.certificate.ca)?;
        let context = format!(
            "current = \"bench\"\n[context.bench]\nconnection_string = \"{}\"\n\
             ca = \"\"\"\n{ca}\"\"\"\n",
            connection.trim()
        );
        write_secret(&config, &context)?;
        let program = std::env::current_exe()?.with_file_name("doorctl");
        Ok(Self { program, config })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("DOORCTL_CONFIG", &self.config);
        match words {
            ["", typed @ ..] => command
                .env("DOORCTL_COMPLETE", "bash")
                .env("_CLAP_COMPLETE_INDEX", (typed.len() - 1).to_string())
                .env("_CLAP_COMPLETE_COMP_TYPE", "9")
                .env("_CLAP_COMPLETE_SPACE", "true")
                .arg("--")
                .args(typed),
            words => command.args(words),
        };
        command
    }

    /// Prints how long a command takes, from its start to its end.
    async fn measure(&self, goal: u32, words: &[&str]) -> anyhow::Result<()> {
        let name = match words {
            ["", typed @ ..] => format!("completion of `{}`", typed.join(" ")),
            words => format!("doorctl {}", words.join(" ")),
        };
        let mut taken = Vec::new();
        for _ in 0..RUNS {
            let began = Instant::now();
            let output = self.command(words).output().await?;
            taken.push(began.elapsed());
            // 2: some doors are offline.
            ensure!(
                matches!(output.status.code(), Some(0 | 2)) && !output.stdout.is_empty(),
                "{name} ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        taken.sort_unstable();
        println!(
            "{name}: median {}, slowest {} (goal {goal} ms), {RUNS} times",
            ms(quantile(&taken, 0.5)),
            ms(quantile(&taken, 1.0)),
        );
        Ok(())
    }
}

/// Every door connects, reports its state and leaves.
async fn report_all(endpoint: &Endpoint, devices: &[Device]) -> anyhow::Result<()> {
    let gate = Arc::new(Semaphore::new(CONNECTING));
    let mut reports = JoinSet::new();
    for (n, device) in (0..).zip(devices) {
        let (gate, endpoint, device) = (Arc::clone(&gate), endpoint.clone(), device.clone());
        reports.spawn(async move {
            let _permit = gate.acquire_owned().await?;
            let mut connection = Connection::open(&endpoint, &device).await?;
            connection.subscribe(&[ANSWERS]).await?;
            let body = reported(n).to_string();
            let patch = Publish::new(REPORTED, QoS::AtMostOnce, body);
            connection.queue(&Packet::Publish(patch))?;
            connection.flush().await?;
            match connection.next().await? {
                Packet::Publish(answer) if answer.topic.contains("/res/204/") => anyhow::Ok(()),
                other => anyhow::bail!("a report was answered {other:?}"),
            }
        });
    }
    while let Some(report) = reports.join_next().await {
        report??;
    }
    Ok(())
}

/// What an agent reports of a quiet door; one in a hundred is in alarm.
fn reported(n: u32) -> Value {
    let applied = |value: u32| json!({"value": value, "ac": 200, "av": 1, "ad": "applied"});
    let place = n / DOORS_OF_FLOOR;
    let alarms = match n % 100 {
        0 => json!({"heldOpen": {"since": "2026-11-30T21:00:00Z"}}),
        _ => json!({}),
    };
    json!({
        "device": {
            "version": "0.2.0", "model": "Raspberry Pi Zero 2 W", "strike": "motor-lock",
            "features": {"lockdown": true, "schedule": true, "timed": true}
        },
        "building": applied(place / FLOORS_OF_BUILDING),
        "floor": applied(place % FLOORS_OF_BUILDING),
        "door": {
            "lockState": "locked", "doorState": "closed", "secured": "secured", "proof": "bond",
            "mode": "normal", "alarms": alarms, "clock": "synchronized",
            "heldBy": {"slot": 17, "source": "default", "value": "locked"},
            "since": "2026-11-30T21:00:00Z"
        }
    })
}

/// Measures the hub without and with readers, in turns.
async fn readers(hub: &Hub, devices: &[Device], arguments: &Arguments) -> anyhow::Result<()> {
    let (began, length) = (Instant::now(), Duration::from_secs(arguments.seconds));
    let mut senders = JoinSet::new();
    let interval = Duration::from_secs(1) * SENDERS / arguments.events;
    for (n, device) in (0..SENDERS).zip(devices) {
        let connection = Connection::open(&hub.endpoint, device).await?;
        let first = interval * n / SENDERS;
        senders.spawn(send(
            connection,
            device.client_id.clone(),
            began,
            first,
            interval,
        ));
    }
    let (mut without, mut with, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        without.push(cores(hub, length).await?);
        let mut reading = JoinSet::new();
        for _ in 0..arguments.readers {
            let request = EventRequest {
                follow: true,
                ..EventRequest::default()
            };
            let stream = hub.operator.door_hub_events(&request).await?;
            reading.spawn(read(stream, began, Instant::now() + length));
        }
        with.push(cores(hub, length).await?);
        while let Some(read) = reading.join_next().await {
            late.extend(read??);
        }
    }
    if let Some(sent) = senders.try_join_next() {
        sent??;
    }
    late.sort_unstable();
    let expected = 3 * arguments.seconds * u64::from(arguments.events * arguments.readers);
    ensure!(
        late.len() as u64 * 10 >= expected * 9,
        "the readers saw {} of about {expected} events",
        late.len()
    );
    let median = |cores: &mut Vec<f64>| {
        cores.sort_by(f64::total_cmp);
        cores[cores.len() / 2]
    };
    let (without, with) = (median(&mut without), median(&mut with));
    println!(
        "{} events a second: hub {without:.3} cores, with {} readers {with:.3}, for the readers \
         {:.3} (goal 0.2)",
        arguments.events,
        arguments.readers,
        with - without
    );
    println!(
        "event at a reader after its door sent it: p50 {}, p99 {} (goal 250 ms), {} events",
        ms(quantile(&late, 0.5)),
        ms(quantile(&late, 0.99)),
        late.len()
    );
    Ok(())
}

/// Sends an event each `interval`, until dropped.
async fn send(
    mut connection: Connection,
    id: String,
    began: Instant,
    first: Duration,
    interval: Duration,
) -> anyhow::Result<()> {
    let topic = format!("devices/{id}/messages/events/$.ct=application%2Fjson&$.ce=utf-8");
    let mut ticks = tokio::time::interval_at((Instant::now() + first).into(), interval);
    for pkid in (1..=u16::MAX).cycle() {
        tokio::select! {
            _ = ticks.tick() => {
                let body = json!({
                    "kind": "lockState", "door": id, "lockState": "locked", "secured": "secured",
                    "proof": "bond", "source": "remote", "sent": began.elapsed().as_secs_f64()
                });
                let mut event = Publish::new(&topic, QoS::AtLeastOnce, body.to_string());
                event.pkid = pkid;
                connection.queue(&Packet::Publish(event))?;
                connection.flush().await?;
            }
            packet = connection.next() => drop(packet?),
        }
    }
    Ok(())
}

/// How late a reader sees each event, until `end`.
async fn read(
    mut stream: iothub_client::EventStream,
    began: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut late = Vec::new();
    while let Ok(item) = tokio::time::timeout_at(end.into(), stream.next()).await {
        let item = item?.context("the hub ended a stream of events")?;
        let EventStreamItem::Event(event) = item else {
            anyhow::bail!("unexpected in a stream of events: {item:?}");
        };
        let sent = event.body.as_ref().and_then(|body| body["sent"].as_f64());
        late.extend(sent.map(|sent| {
            began
                .elapsed()
                .saturating_sub(Duration::from_secs_f64(sent))
        }));
    }
    Ok(late)
}

/// The hub's use of processors over a time.
async fn cores(hub: &Hub, length: Duration) -> anyhow::Result<f64> {
    let cpu = |usage: Usage| usage.cpu;
    let (began, before) = (Instant::now(), cpu(hub.worker.process.usage()?));
    tokio::time::sleep(length).await;
    let spent = cpu(hub.worker.process.usage()?) - before;
    Ok(spent.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Lets a browser open the page of `doorctl dashboard`, and prints how long it takes.
async fn browser(doorctl: &Doorctl, script: &Path, doors: u32) -> anyhow::Result<()> {
    let mut server = doorctl
        .command(&["dashboard", "--no-open"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", doorctl.program.display()))?;
    let lines = server.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(lines).lines();
    let address = loop {
        let line = lines.next_line().await?.context("doorctl ended early")?;
        if let Some(at) = line.find("http://") {
            break line[at..].trim().to_owned();
        }
    };
    let node = Command::new("node")
        .arg(script)
        .args([&address, &doors.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("starting node")?;
    ensure!(
        node.status.success(),
        "the browser ended with {}",
        node.status
    );
    let taken: Vec<f64> = serde_json::from_slice(&node.stdout)?;
    let mut taken: Vec<_> = taken.into_iter().map(Duration::from_secs_f64).collect();
    taken.sort_unstable();
    println!(
        "browser shows {doors} doors: median {}, slowest {} (goal 2000 ms), {} times",
        ms(quantile(&taken, 0.5)),
        ms(quantile(&taken, 1.0)),
        taken.len()
    );
    Ok(())
}
