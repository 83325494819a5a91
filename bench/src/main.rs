//! Side-by-side benchmarks of the hub: method latency, and a lock job over the whole fleet against
//! mosquitto fanning the same requests out and collecting the same answers, over TLS, in the same
//! run; then, over the same doors, when a lockdown has reached the last one, beside a lock job, and
//! whether doors that arm or act on a timed entry hold up calls.
//!
//! The hub runs as a child process (with its own accounting of time and memory), mosquitto as
//! another; this process is the fleet. Rounds alternate between the two, so that a busy machine
//! slows down both. Absolute figures depend on the machine; the ratios are the result.

mod agent;
mod attack;
mod fleet;
mod hub;
mod levels;
mod mosquitto;
mod process;
mod report;
mod staged;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::report::Report;

/// Benchmarks of door-hub, side by side with mosquitto.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Number of doors that connect, each with an identity, a key and a TLS connection.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    doors: u32,
    /// Number of jobs per side; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Number of single method calls to time.
    #[arg(
        long,
        default_value_t = 2_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    calls: u32,
    /// Run without mosquitto and without ratios.
    #[arg(long)]
    no_peer: bool,
    /// Afterwards attack the hub for this time from one hostile address, and time calls to the
    /// other doors before and during the attack.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    attack: Option<u64>,
    /// Afterwards stage a timed entry at every door, as often, and time calls to other doors while
    /// they arm, act and report, beside calls on the quiet hub.
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..=100))]
    staged: Option<u32>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The agent, side by side with a device of Azure's Python SDK. `bench/agent` runs it.
    Agent(agent::Arguments),
    /// The hub under test, as the child process.
    #[command(hide = true)]
    Hub {
        /// Data directory.
        #[arg(long)]
        data: PathBuf,
        /// MQTT port; 0 uses any free port.
        #[arg(long, default_value_t = 0)]
        mqtt_port: u16,
    },
    /// The attack, as another child process.
    #[command(hide = true)]
    Attack,
}

/// Registered devices that misbehave during the attack.
const HOSTILE_DEVICES: u32 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    door_hub::raise_descriptor_limit(u64::MAX).context("raising the limit of open files")?;
    match arguments.role {
        Some(Role::Agent(arguments)) => agent::run(&arguments).await,
        Some(Role::Hub { data, mqtt_port }) => hub::serve(data, mqtt_port).await,
        Some(Role::Attack) => attack::run().await,
        None => run(&arguments).await,
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("a folder for the hub's data")?;
    let mut report = Report::new(arguments.doors);

    let hub = hub::Hub::start(scratch.path()).await?;
    let names = (0..arguments.doors).map(|n| format!("door-{n:05}"));
    let devices = hub.register(names).await?;
    eprintln!("registered {} doors", devices.len());
    let empty = hub.process.usage()?;
    let (doors, counted) = fleet::connect_to_hub(&hub.endpoint, devices).await?;
    hub.wait_for_connected(arguments.doors).await?;
    let connected = hub.process.usage()?;
    eprintln!("connected {} doors to door-hub", doors.len());
    report.connected("door-hub", empty, connected);

    let peer = match arguments.no_peer {
        true => None,
        false => {
            let mosquitto = mosquitto::Mosquitto::start(scratch.path(), &hub.certificate).await?;
            let empty = mosquitto.process.usage()?;
            let fanout = mosquitto.connect_fleet(arguments.doors).await?;
            report.connected("mosquitto", empty, mosquitto.process.usage()?);
            eprintln!("connected {} doors to mosquitto", arguments.doors);
            Some((mosquitto, fanout))
        }
    };

    report.calls(hub.time_calls(arguments.doors, arguments.calls).await?);
    let mut peer = peer;
    for round in 0..arguments.rounds {
        let before = hub.process.usage()?;
        let wall = hub.lock_all(round, arguments.doors).await?;
        report.job(
            "door-hub",
            wall,
            hub.process.usage()?.cpu.saturating_sub(before.cpu),
        );
        if let Some((mosquitto, fanout)) = &mut peer {
            let before = mosquitto.process.usage()?;
            let wall = fanout.request_all(Duration::from_secs(120)).await?;
            report.job(
                "mosquitto",
                wall,
                mosquitto.process.usage()?.cpu.saturating_sub(before.cpu),
            );
        }
    }
    report.print();
    drop(peer);
    let (mut locks, mut lockdowns) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        for (lockdown, taken) in [(false, &mut locks), (true, &mut lockdowns)] {
            counted.reached.begin_round();
            let started = Instant::now();
            match lockdown {
                true => hub.lock_down_all(round, arguments.doors).await?,
                false => drop(
                    hub.lock_all(arguments.rounds + round, arguments.doors)
                        .await?,
                ),
            }
            let last = counted.reached.last(arguments.doors)?;
            taken.push(last.duration_since(started));
        }
    }
    report::print_last_reached(locks, lockdowns);
    if let Some(rounds) = arguments.staged {
        staged::run(&hub, &counted.tally, arguments.doors, rounds).await?;
    }
    if let Some(seconds) = arguments.attack {
        under_attack(&hub, arguments.doors, Duration::from_secs(seconds)).await?;
    }
    drop(doors);
    Ok(())
}

/// Times calls without and with an attack, for equally long, and prints both.
async fn under_attack(hub: &hub::Hub, doors: u32, duration: Duration) -> anyhow::Result<()> {
    let hostile = (0..HOSTILE_DEVICES).map(|n| format!("traitor-{n}"));
    let hostile = hub.register(hostile).await?;
    eprintln!(
        "timing calls for {} s without an attack",
        duration.as_secs()
    );
    let before = hub.process.usage()?;
    let (quiet, _) = hub.time_calls_for(doors, duration).await?;
    let between = hub.process.usage()?;
    eprintln!("attacking for {} s", duration.as_secs());
    let attack =
        attack::Attack::start(&hub.endpoint, &hub.certificate.ca, hostile, duration).await?;
    let (attacked, resident) = hub.time_calls_for(doors, duration).await?;
    let after = hub.process.usage()?;
    let attacker = attack.process.usage()?;
    let tally = attack.finish().await?;
    report::print_attack(&report::UnderAttack {
        quiet,
        attacked,
        hub_cpu: (between.cpu - before.cpu, after.cpu - between.cpu),
        attacker_cpu: attacker.cpu,
        resident: (between.resident, resident.max(after.resident)),
        tally,
    });
    Ok(())
}
