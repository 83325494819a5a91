//! The agent side by side with a device of Azure's Python SDK: start to connected, resident memory,
//! idle wake-ups, and the time from a method call over REST until the pin is driven (for the SDK's
//! device, which has none: until its handler runs). Then the memory that timed entries and a week
//! cost an agent.
//!
//! Starts alternate between the two. The SDK only dials port 8883, so this runs in its own network
//! namespace: see `bench/agent`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use door_agent::config::{AgentConfig, HubConfig};
use door_agent::gpio::simulated::SimHandle;
use door_agent::{Agent, RunningAgent, Shared};
use door_core::Outputs;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::hub::Hub;
use crate::process::Process;
use crate::report::{ms, quantile};

/// The port that Azure's SDKs dial.
const MQTT_PORT: u16 = 8883;

/// How long a program may take to connect.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Settling time before a program is observed, and the time of the observation.
const SETTLE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(10);

/// Pause before each call: the bolt has moved back and the hub has stored the events, so that both
/// sides start idle.
const PAUSE: Duration = Duration::from_millis(100);

const DEVICE: &str = include_str!("device.py");

#[derive(Args)]
pub(crate) struct Arguments {
    /// A Python interpreter with azure-iot-device; without it only the agent is measured.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The agent. [default: door-agent beside this program]
    #[arg(long, value_name = "PROGRAM")]
    agent: Option<PathBuf>,
    /// How many times each is started; the median counts.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    starts: u32,
    /// How many calls are timed.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: u32,
    /// How many changes of level by timed entries, and by calls, are measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=40))]
    changes: u32,
    /// Seconds between two of them. An agent joins what it reports within 10 s of timed entries.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,
}

/// Measurements of one side.
#[derive(Default)]
struct Side {
    starts: Vec<Duration>,
    resident: u64,
    anonymous: u64,
    wakes_per_second: f64,
    calls: Vec<Duration>,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("a folder for hub and doors")?;
    let port = if arguments.python.is_some() {
        MQTT_PORT
    } else {
        0
    };
    let hub = Hub::start_at(scratch.path(), port).await?;
    let program = match &arguments.agent {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("door-agent"),
    };
    ensure!(
        program.exists(),
        "{} is missing; build it: `cargo build --release --bin door-agent`",
        program.display()
    );
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for start in 0..arguments.starts {
        let last = start + 1 == arguments.starts;
        let name = format!("agent-{start}");
        let door = Door::start(&hub, scratch.path(), &program, &name).await?;
        door.measure(&mut ours, last).await?;
        drop(door);
        if let Some(python) = &arguments.python {
            let mut device = Device::start(&hub, python, start).await?;
            device.door.measure(&mut theirs, last).await?;
            if last {
                theirs.calls = device.time_calls(&hub, arguments.calls).await?;
            }
        }
        eprintln!("start {} of {}", start + 1, arguments.starts);
    }
    ours.calls = time_to_pin(&hub, scratch.path(), arguments.calls).await?;
    ours.print("door-agent", "REST call to pin driven");
    let [resident, anonymous] =
        cost_of_schedule(&hub, scratch.path(), &program, arguments.starts).await?;
    println!(
        "{:<12} resident {resident:+} kB, heap and stacks {anonymous:+} kB",
        "20 timed entries and a week"
    );
    let every = Duration::from_secs(arguments.every);
    crate::levels::run(&hub, scratch.path(), &program, arguments.changes, every).await?;
    if arguments.python.is_some() {
        theirs.print("Python SDK", "REST call to handler");
        let ratio = |one: f64, other: f64| one / other;
        println!(
            "{:<12} start {:.2}, resident {:.2}, heap and stacks {:.2}, wake-ups {:.2}",
            "ratio",
            ratio(median(&ours.starts), median(&theirs.starts)),
            ratio(ours.resident as f64, theirs.resident as f64),
            ratio(ours.anonymous as f64, theirs.anonymous as f64),
            ratio(ours.wakes_per_second, theirs.wakes_per_second),
        );
    }
    Ok(())
}

impl Side {
    fn print(&self, name: &str, what: &str) {
        let mut calls = self.calls.clone();
        calls.sort_unstable();
        println!(
            "{name:<12} start to connected {:.1} ms, resident {:.1} MiB ({:.1} MiB heap and \
             stacks), {:.1} wake-ups/s idle; {what}: p50 {}, p99 {}, {} calls",
            median(&self.starts) * 1e3,
            self.resident as f64 / f64::from(1 << 20),
            self.anonymous as f64 / f64::from(1 << 20),
            self.wakes_per_second,
            ms(quantile(&calls, 0.5)),
            ms(quantile(&calls, 0.99)),
            calls.len()
        );
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, Duration::as_secs_f64)
}

pub(crate) struct Door {
    /// Killed when dropped.
    pub(crate) child: Child,
    took: Duration,
}

impl Door {
    /// Starts the agent with its own door, and waits until the hub reaches it.
    pub(crate) async fn start(
        hub: &Hub,
        scratch: &Path,
        program: &Path,
        name: &str,
    ) -> anyhow::Result<Self> {
        let folder = scratch.join(name);
        std::fs::create_dir(&folder)?;
        let connection = hub.add_device(name).await?;
        let config = folder.join("door.toml");
        crate::hub::write_secret(&folder.join("connection-string"), &connection)?;
        let text = format!(
            "[hub]\nconnection_string_file = \"connection-string\"\nca_file = \"{}\"\nmqtt_port = \
             {}\n\
             [strike]\nkind = \"motor-lock\"\nmax_on = \"1h\"\n[board]\nkind = \"simulated\"\n\
             bolt_travel = \"50ms\"\n[door]\nsettle_time = \"5ms\"\n[state]\ndirectory = \
             \"state\"\n",
            hub.certificate.ca.display(),
            hub.endpoint.address.port(),
        );
        std::fs::write(&config, text)?;
        let began = Instant::now();
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
            // As in its systemd unit.
            .env("MALLOC_ARENA_MAX", "1")
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        hub.wait_for_device(name, DEADLINE).await?;
        Ok(Self {
            child,
            took: began.elapsed(),
        })
    }

    /// Records the start time, and with `at_rest` the usage of the idle program.
    async fn measure(&self, side: &mut Side, at_rest: bool) -> anyhow::Result<()> {
        side.starts.push(self.took);
        if at_rest {
            tokio::time::sleep(SETTLE).await;
            let process = Process::of("the device", &self.child)?;
            let before = process.usage()?.voluntary_switches;
            tokio::time::sleep(IDLE).await;
            let usage = process.usage()?;
            let wakes = usage.voluntary_switches - before;
            side.wakes_per_second = wakes as f64 / IDLE.as_secs_f64();
            (side.resident, side.anonymous) = (usage.resident, usage.anonymous);
        }
        Ok(())
    }
}

struct Device {
    door: Door,
    name: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Device {
    async fn start(hub: &Hub, python: &Path, number: u32) -> anyhow::Result<Self> {
        let name = format!("python-{number}");
        let connection = hub.add_device(&name).await?;
        let ca = std::fs::read_to_string(&hub.certificate.ca)?;
        let given = json!({ "connection_string": connection, "ca": ca }).to_string() + "\n";
        let began = Instant::now();
        let mut child = Command::new(python)
            .args(["-c", DEVICE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let mut stdin = child.stdin.take().context("its standard input")?;
        stdin.write_all(given.as_bytes()).await?;
        let stdout = child.stdout.take().context("its standard output")?;
        hub.wait_for_device(&name, DEADLINE).await?;
        let took = began.elapsed();
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await??;
        ensure!(
            line.as_deref() == Some("connected"),
            "expected \"connected\" from the SDK's device, found {line:?}"
        );
        Ok(Self {
            door: Door { child, took },
            name,
            lines,
        })
    }

    /// Times from the call to the line that the handler prints.
    async fn time_calls(&mut self, hub: &Hub, calls: u32) -> anyhow::Result<Vec<Duration>> {
        let mut taken = Vec::new();
        // The first call waits until the SDK has subscribed.
        hub.call(&self.name, "lockDoor", &json!({})).await?;
        self.lines.next_line().await?;
        for _ in 0..calls {
            tokio::time::sleep(PAUSE).await;
            let began = Instant::now();
            let payload = json!({});
            let call = hub.call(&self.name, "lockDoor", &payload);
            let line = async {
                let line = self.lines.next_line().await?;
                anyhow::Ok((line, began.elapsed()))
            };
            let (answer, line) = tokio::join!(call, line);
            answer?;
            let (line, took) = line?;
            ensure!(
                line.as_deref() == Some("called"),
                "expected \"called\" from the SDK's device, found {line:?}"
            );
            taken.push(took);
        }
        Ok(taken)
    }
}

/// Kilobytes that an agent with the most timed entries and a week has more than one without, by the
/// median of pairs of agents: resident, and of it heap and stacks.
async fn cost_of_schedule(
    hub: &Hub,
    scratch: &Path,
    program: &Path,
    pairs: u32,
) -> anyhow::Result<[i64; 2]> {
    let mut costs = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        let names = ["without", "with"].map(|kind| format!("{kind}-{pair}"));
        let without = Door::start(hub, scratch, program, &names[0]).await?;
        let with = Door::start(hub, scratch, program, &names[1]).await?;
        hub.schedule(&names[1], DEADLINE).await?;
        tokio::time::sleep(SETTLE).await;
        let without = Process::of("the agent", &without.child)?.usage()?;
        let with = Process::of("the agent", &with.child)?.usage()?;
        let kilobytes = |with: u64, without: u64| (with as i64 - without as i64) / 1024;
        costs[0].push(kilobytes(with.resident, without.resident));
        costs[1].push(kilobytes(with.anonymous, without.anonymous));
    }
    Ok(costs.map(|mut costs| {
        costs.sort_unstable();
        costs[costs.len() / 2]
    }))
}

/// Times from calls of `lockDoor` until the strike is driven: an agent in this process, whose
/// simulated pins a thread polls.
async fn time_to_pin(hub: &Hub, scratch: &Path, calls: u32) -> anyhow::Result<Vec<Duration>> {
    let name = "pin";
    let agent = InProcess::start(hub, scratch, name).await?;
    let (_watch, mut driven) = Watch::start(agent.sim()?);
    let mut taken = Vec::new();
    for _ in 0..calls {
        hub.call(name, "unlockDoor", &json!({})).await?;
        tokio::time::sleep(PAUSE).await;
        while driven.try_recv().is_ok() {}
        let began = Instant::now();
        let payload = json!({});
        let seen = tokio::time::timeout(DEADLINE, driven.recv());
        let (answer, at) = tokio::join!(hub.call(name, "lockDoor", &payload), seen);
        answer?;
        let at =
            at.context("the strike was not driven in time, or the watcher of the pins missed it")?;
        let at = at.context("the watcher of the pins")?;
        taken.push(at.saturating_duration_since(began));
    }
    agent.stop().await;
    Ok(taken)
}

/// An agent in this process.
pub(crate) struct InProcess {
    agent: RunningAgent,
    shared: Shared,
}

impl InProcess {
    /// Starts it with its own door, and waits until the hub reaches it.
    pub(crate) async fn start(hub: &Hub, scratch: &Path, name: &str) -> anyhow::Result<Self> {
        let connection = hub.add_device(name).await?;
        let mut link = HubConfig::new(connection.parse()?);
        link.ca_file = Some(hub.certificate.ca.clone());
        link.mqtt_port = hub.endpoint.address.port();
        let mut config = AgentConfig::simulated(link, scratch.join(name));
        // A quick lock, so that many calls fit in a short time; the measured time ends before the
        // bolt moves.
        config.door.settle_time = Duration::from_millis(5);
        config.board.bolt_travel = Duration::from_millis(50);
        // Its motor need not rest either.
        config.strike.max_on = Some(Duration::from_secs(3600));
        let shared = Shared::new()?;
        let agent = Agent::start(config, &shared).await?;
        hub.wait_for_device(name, DEADLINE).await?;
        Ok(Self { agent, shared })
    }

    pub(crate) fn sim(&self) -> anyhow::Result<SimHandle> {
        self.agent.sim().context("a simulated door")
    }

    pub(crate) async fn stop(self) {
        self.agent.shutdown().await;
        self.shared.shutdown();
    }
}

/// A thread that polls simulated pins.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Sends the time when the motor starts to throw the bolt.
    pub(crate) fn start(sim: SimHandle) -> (Self, mpsc::Receiver<Instant>) {
        let (tx, rx) = mpsc::channel(64);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut was = Outputs::DeEnergised;
            while !stopped.load(Ordering::Relaxed) {
                let is = sim.show().outputs;
                if is == Outputs::Throw && was != is {
                    // A full queue drops it.
                    let _ = tx.try_send(Instant::now());
                }
                was = is;
                // As fine as the printed figures; without a pause it would be the load.
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        (Self { stop }, rx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
