//! Benchmarks of the hub. By default the hub runs a lock job over all doors, mosquitto carries the
//! same requests and answers, and a floor moves the same bytes: each a process of its own, beside a
//! generator that is one too. `latency` times calls to one hub: single ones, when a lockdown has
//! reached the last door beside a lock job, while doors arm and act, and during an attack.
//!
//! Rounds alternate between the sides, so that a busy machine slows down all of them. Absolute
//! figures depend on the machine; the ratios are the result.

mod agent;
mod attack;
mod compare;
mod fleet;
mod floor;
mod generator;
mod hub;
mod levels;
mod link;
mod mosquitto;
mod mqtt;
mod page;
mod process;
mod report;
mod staged;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

/// Benchmarks of door-hub, side by side with mosquitto.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    compare: compare::Arguments,
    #[command(subcommand)]
    role: Option<Role>,
}

/// `latency`
#[derive(Args)]
struct LatencyArguments {
    /// Number of doors that connect.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    doors: u32,
    /// Number of lock jobs and of lockdowns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Number of single method calls to time.
    #[arg(
        long,
        default_value_t = 2_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    calls: u32,
    /// Afterwards attack the hub for this time from one hostile address, and time calls to the
    /// other doors before and during the attack.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    attack: Option<u64>,
    /// Afterwards stage a timed entry at every door, as often, and time calls to other doors while
    /// they arm, act and report, beside calls on the quiet hub.
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..=100))]
    staged: Option<u32>,
}

#[derive(Subcommand)]
enum Role {
    /// Time calls to one hub: single ones, and beside other work.
    Latency(LatencyArguments),
    /// The agent, side by side with a device of Azure's Python SDK. `bench/agent` runs it.
    Agent(agent::Arguments),
    /// The hub's readers of events, doorctl over all doors, and a browser. `bench/page` runs it.
    Page(page::Arguments),
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
    /// The doors, as another child process.
    #[command(hide = true)]
    Generator,
    /// The floor, as another child process.
    #[command(hide = true)]
    Floor,
}

/// Registered devices that misbehave during the attack.
const HOSTILE_DEVICES: u32 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    door_hub::raise_descriptor_limit(u64::MAX).context("raising the limit of open files")?;
    match arguments.role {
        None => compare::run(&arguments.compare).await,
        Some(Role::Latency(arguments)) => latency(&arguments).await,
        Some(Role::Agent(arguments)) => agent::run(&arguments).await,
        Some(Role::Page(arguments)) => page::run(&arguments).await,
        Some(Role::Hub { data, mqtt_port }) => hub::serve(data, mqtt_port).await,
        Some(Role::Attack) => attack::run().await,
        Some(Role::Generator) => generator::run(),
        Some(Role::Floor) => floor::run(),
    }
}

async fn latency(arguments: &LatencyArguments) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("a folder for the hub's data")?;
    let hub = hub::Hub::start(scratch.path()).await?;
    let names = (0..arguments.doors).map(|n| format!("door-{n:05}"));
    let devices = hub.register(names).await?;
    eprintln!("registered {} doors", devices.len());
    let (doors, counted) = fleet::connect_to_hub(&hub.endpoint, devices).await?;
    hub.wait_for_connected(arguments.doors).await?;
    eprintln!("connected {} doors", doors.len());
    let calls = hub.time_calls(arguments.doors, arguments.calls).await?;
    report::print_calls(arguments.doors, calls);

    let (mut locks, mut lockdowns) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        for (lockdown, taken) in [(false, &mut locks), (true, &mut lockdowns)] {
            counted.reached.begin_round();
            let started = Instant::now();
            match lockdown {
                true => hub.lock_down_all(round, arguments.doors).await?,
                false => {
                    let job = hub.start_lock(round).await?;
                    hub.wait_for_job(&job, arguments.doors).await?;
                }
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
    let before = hub.worker.process.usage()?;
    let (quiet, _) = hub.time_calls_for(doors, duration).await?;
    let between = hub.worker.process.usage()?;
    eprintln!("attacking for {} s", duration.as_secs());
    let attack =
        attack::Attack::start(&hub.endpoint, &hub.certificate.ca, hostile, duration).await?;
    let (attacked, resident) = hub.time_calls_for(doors, duration).await?;
    let after = hub.worker.process.usage()?;
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
