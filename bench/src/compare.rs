//! The hub beside mosquitto and beside the floor: the same doors connect, idle, and answer a
//! request each, in fresh processes for every round.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use iothub_protocol::id::JobId;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::fleet::Device;
use crate::floor;
use crate::generator::{CONNECT, FAN_OUT, Orders, Timing};
use crate::hub::Hub;
use crate::mosquitto::Mosquitto;
use crate::process::{Process, Usage, Worker, machine_busy};

/// After a phase, until its processor time is read: what a server does later belongs to it too.
const SETTLE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);
/// Above this load average wall times say nothing on two cores.
const QUIET: f64 = 1.5;

#[derive(Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// Number of doors that connect, each with an identity and a key.
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=19_500)
    )]
    doors: u32,
    /// Number of rounds; in each, every side runs once, in processes of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Number of fan-outs in a round; the figures are for one of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    fan_outs: u32,
    /// The servers to measure.
    #[arg(long, value_delimiter = ',', default_value = "hub,broker,floor")]
    sides: Vec<Side>,
    /// Without TLS; not for the hub, which has no such listener.
    #[arg(long)]
    plain: bool,
}

#[derive(Clone, Copy, PartialEq, Debug, ValueEnum)]
enum Side {
    /// A lock job of door-hub, every outcome durable.
    Hub,
    /// The same requests and answers through mosquitto, nothing stored.
    Broker,
    /// The same bytes from and to a server that does nothing else.
    Floor,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Broker => "broker",
            Self::Floor => "floor",
        }
    }
}

const PHASES: [&str; 3] = ["connect", "idle", "fan-out"];

const METRICS: [&str; 10] = [
    "wall ms",
    "p50 ms",
    "p99 ms",
    "server ms",
    "us a door",
    "client ms",
    "others ms",
    "kB a door",
    "voluntary",
    "preempted",
];
/// Metrics that other load on the machine distorts.
const TIMES: std::ops::Range<usize> = 0..3;

/// The metrics of one phase; NaN where there is none.
type Row = [f64; METRICS.len()];

struct Measured {
    side: Side,
    quiet: bool,
    phases: [Row; PHASES.len()],
}

/// What all rounds share.
struct Setup<'a> {
    arguments: &'a Arguments,
    scratch: TempDir,
    /// The hub's data folder with all doors registered; each round starts from a copy.
    registered: PathBuf,
    devices: Vec<Device>,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let sides = &arguments.sides;
    ensure!(
        !arguments.plain || !sides.contains(&Side::Hub),
        "the hub has no listener without TLS; expected `--sides broker,floor` with `--plain`"
    );
    let scratch = tempfile::tempdir().context("a folder for the hub's data")?;
    let hub = Hub::start(scratch.path()).await?;
    let names = (0..arguments.doors).map(|n| format!("door-{n:05}"));
    let devices = hub.register(names).await?;
    hub.worker.stop().await?;
    eprintln!("registered {} doors", devices.len());
    let setup = Setup {
        arguments,
        registered: scratch.path().join("hub"),
        scratch,
        devices,
    };
    let mut measured = Vec::new();
    for round in 0..arguments.rounds {
        for side in sides {
            let load = load_average()?;
            println!("round {}, load average {load:.2}", round + 1);
            let phases = setup.measure(*side, round).await.context(side.name())?;
            print_rows(side.name(), &phases);
            measured.push(Measured {
                side: *side,
                quiet: load <= QUIET,
                phases,
            });
        }
    }
    summarise(sides, &measured);
    Ok(())
}

impl Setup<'_> {
    async fn measure(&self, side: Side, round: u32) -> anyhow::Result<[Row; PHASES.len()]> {
        let folder = self.scratch.path().join(format!("{}-{round}", side.name()));
        let mut server = self.start(side, &folder).await?;
        let ca = self.registered.join("ca.pem");
        let orders = Orders {
            server: server.address(),
            ca: (!self.arguments.plain).then_some(ca),
            doors: match side {
                Side::Broker => Mosquitto::devices(self.arguments.doors),
                Side::Hub | Side::Floor => self.devices.clone(),
            },
            broker: side == Side::Broker,
        };
        let mut generator = Worker::start_with("generator", &orders).await?;
        let () = generator.receive().await?;
        tokio::time::sleep(SETTLE).await;

        let doors = f64::from(self.arguments.doors);
        let mut before = Reading::take(server.process(), &generator.process)?;
        let empty = before.server.resident;
        let mut phase = |server: &Server, generator: &Worker, timing: Option<Timing>, runs: u32| {
            let after = Reading::take(server.process(), &generator.process)?;
            let row = after.since(&before, timing, doors, f64::from(runs), empty);
            before = after;
            anyhow::Ok(row)
        };
        let timing = generator.call(CONNECT).await?;
        tokio::time::sleep(SETTLE).await;
        let connect = phase(&server, &generator, Some(timing), 1)?;
        tokio::time::sleep(IDLE).await;
        let idle = phase(&server, &generator, None, 1)?;
        let (mut sum, runs) = (Timing::default(), self.arguments.fan_outs);
        for n in 0..runs {
            let timing = server
                .fan_out(&mut generator, n, self.arguments.doors)
                .await?;
            sum.wall += timing.wall / runs;
            sum.p50 += timing.p50 / runs;
            sum.p99 += timing.p99 / runs;
        }
        tokio::time::sleep(SETTLE).await;
        let fan_out = phase(&server, &generator, Some(sum), runs)?;
        // Both at once: a server that lost its doors would work into the next round.
        let mut ending = [generator.child, server.into_child()];
        ending.iter_mut().try_for_each(Child::start_kill)?;
        for child in &mut ending {
            child.wait().await?;
        }
        std::fs::remove_dir_all(&folder)?;
        Ok([connect, idle, fan_out])
    }

    async fn start(&self, side: Side, folder: &Path) -> anyhow::Result<Server> {
        std::fs::create_dir(folder)?;
        let certificate = crate::hub::Certificate::below(&self.registered);
        let certificate = (!self.arguments.plain).then_some(certificate);
        Ok(match side {
            Side::Hub => {
                let mut copy = Command::new("cp");
                copy.arg("-a").arg(&self.registered).arg(folder);
                ensure!(copy.status().await?.success(), "copying the hub's data");
                Server::Hub(Box::new(Hub::start(folder).await?))
            }
            Side::Broker => Server::Broker(Mosquitto::start(folder, certificate.as_ref()).await?),
            Side::Floor => {
                let certificate = certificate.map(|files| (files.chain, files.key));
                let mut floor = Worker::start_with("floor", &floor::Orders { certificate }).await?;
                let address = floor.receive().await?;
                Server::Floor(floor, address)
            }
        })
    }
}

/// A server under test; it ends when it is dropped.
enum Server {
    Hub(Box<Hub>),
    Broker(Mosquitto),
    Floor(Worker, std::net::SocketAddr),
}

impl Server {
    fn process(&self) -> &Process {
        match self {
            Self::Hub(hub) => &hub.worker.process,
            Self::Broker(mosquitto) => &mosquitto.process,
            Self::Floor(floor, _) => &floor.process,
        }
    }

    fn into_child(self) -> Child {
        match self {
            Self::Hub(hub) => hub.worker.child,
            Self::Broker(mosquitto) => mosquitto.child,
            Self::Floor(floor, _) => floor.child,
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::Hub(hub) => hub.endpoint.address,
            Self::Broker(mosquitto) => mosquitto.address,
            Self::Floor(_, address) => *address,
        }
    }

    /// Has every door answer one request. The wall time ends when all outcomes are durable (hub),
    /// or when the last answer has arrived.
    async fn fan_out(
        &mut self,
        generator: &mut Worker,
        n: u32,
        doors: u32,
    ) -> anyhow::Result<Timing> {
        let began = Instant::now();
        let () = generator.call(FAN_OUT).await?;
        let mut timing: Timing;
        match self {
            Self::Hub(hub) => {
                let job: JobId = hub.start_lock(n).await?;
                // Reads of the job's state while it runs would be a load of their own.
                timing = generator.receive().await?;
                hub.wait_for_job(&job, doors).await?;
            }
            Self::Broker(_) => timing = generator.receive().await?,
            Self::Floor(floor, _) => {
                floor.send(FAN_OUT).await?;
                timing = generator.receive().await?;
                let () = floor.receive().await?;
            }
        }
        timing.wall = began.elapsed();
        Ok(timing)
    }
}

/// Counters of both processes and of the machine at one instant.
struct Reading {
    server: Usage,
    generator: Usage,
    machine: Duration,
}

impl Reading {
    fn take(server: &Process, generator: &Process) -> anyhow::Result<Self> {
        Ok(Self {
            server: server.usage()?,
            generator: generator.usage()?,
            machine: machine_busy()?,
        })
    }

    /// The phase from `before` to this reading, for one of its `runs`.
    fn since(
        &self,
        before: &Self,
        timing: Option<Timing>,
        doors: f64,
        runs: f64,
        empty: u64,
    ) -> Row {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let time = |part: fn(Timing) -> Duration| timing.map_or(f64::NAN, |all| ms(part(all)));
        let [server, client] = [
            self.server.cpu.saturating_sub(before.server.cpu),
            self.generator.cpu.saturating_sub(before.generator.cpu),
        ];
        let machine = self.machine.saturating_sub(before.machine);
        let switches = |count: fn(&Usage) -> u64| {
            count(&self.server).saturating_sub(count(&before.server)) as f64 / runs
        };
        [
            time(|all| all.wall),
            time(|all| all.p50),
            time(|all| all.p99),
            ms(server) / runs,
            ms(server) * 1e3 / runs / doors,
            ms(client) / runs,
            ms(machine.saturating_sub(server + client)) / runs,
            self.server.resident.saturating_sub(empty) as f64 / 1e3 / doors,
            switches(|usage| usage.voluntary_switches),
            switches(|usage| usage.involuntary_switches),
        ]
    }
}

fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().context("the load average")
}

fn print_rows(side: &str, phases: &[Row; PHASES.len()]) {
    print!("{:16}", "");
    METRICS.iter().for_each(|metric| print!("{metric:>11}"));
    println!();
    for (phase, row) in PHASES.iter().zip(phases) {
        print!("{side:7}{phase:9}");
        for value in row {
            match value.is_nan() {
                true => print!("{:>11}", "-"),
                false => print!("{value:>11.2}"),
            }
        }
        println!();
    }
}

/// Prints the medians of each side, and the medians of the ratios of paired rounds.
fn summarise(sides: &[Side], measured: &[Measured]) {
    let rounds = |side: Side| measured.iter().filter(move |one| one.side == side);
    println!("\nmedians");
    for side in sides {
        let medians = std::array::from_fn(|phase| {
            let rows = rounds(*side).map(|one| one.phases[phase]);
            let rows: Vec<_> = rows.collect();
            median_row(&rows)
        });
        print_rows(side.name(), &medians);
    }
    for peer in [Side::Broker, Side::Floor] {
        if !sides.contains(&Side::Hub) || !sides.contains(&peer) {
            continue;
        }
        println!("\nmedian ratios, hub / {}", peer.name());
        let ratios = std::array::from_fn(|phase| {
            let pairs = rounds(Side::Hub).zip(rounds(peer));
            let ratios: Vec<_> = pairs.map(|(hub, peer)| ratio(hub, peer, phase)).collect();
            median_row(&ratios)
        });
        print_rows("ratio", &ratios);
    }
    if measured.iter().any(|one| !one.quiet) {
        println!("wall, p50 and p99: without rounds that began at a load average above {QUIET}");
    }
}

fn ratio(hub: &Measured, peer: &Measured, phase: usize) -> Row {
    let mut row: Row = std::array::from_fn(|n| hub.phases[phase][n] / peer.phases[phase][n]);
    if !(hub.quiet && peer.quiet) {
        row[TIMES].fill(f64::NAN);
    }
    row
}

/// The median of each metric, over the rows that have it.
fn median_row(rows: &[Row]) -> Row {
    std::array::from_fn(|metric| {
        let values = rows.iter().map(|row| row[metric]);
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(quiet: bool, value: f64) -> Measured {
        Measured {
            side: Side::Hub,
            quiet,
            phases: [[value; METRICS.len()]; PHASES.len()],
        }
    }

    #[test]
    fn busy_rounds_have_ratios_of_processor_time_only() {
        let quiet = ratio(&measured(true, 3.0), &measured(true, 2.0), 2);
        assert_eq!(quiet, [1.5; METRICS.len()]);
        for (hub, peer) in [(true, false), (false, true)] {
            let busy = ratio(&measured(hub, 3.0), &measured(peer, 2.0), 2);
            assert!(busy[TIMES].iter().all(|value| value.is_nan()));
            assert_eq!(busy[TIMES.end..], quiet[TIMES.end..]);
        }
        // A median over both has the wall of the quiet round alone.
        let busy = ratio(&measured(false, 9.0), &measured(true, 2.0), 2);
        let median = median_row(&[busy, quiet]);
        assert_eq!(median[TIMES], quiet[TIMES]);
        assert!(median_row(&[busy])[0].is_nan());
    }
}
