//! What a change of level costs an agent: timed entries begin and end at one agent, another is
//! called at the same instants, and a third, with neither, shows what idling costs. A fourth, in
//! this process, shows how late the pin is driven.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::agent::{DEADLINE, Door, InProcess, Watch};
use crate::hub::Hub;
use crate::process::Process;
use crate::report::{ms, quantile};

/// Until the first change: every agent is started and has armed its entries.
const AHEAD: Duration = Duration::from_secs(5);

/// Measures `changes` of level, one in each `every`, and prints the agent's processor time for one
/// and how late the pin is driven.
pub(crate) async fn run(
    hub: &Hub,
    scratch: &Path,
    program: &Path,
    changes: u32,
    every: Duration,
) -> anyhow::Result<()> {
    let mut doors = Vec::new();
    for name in ["timed", "called", "idle"] {
        doors.push(Door::start(hub, scratch, program, &format!("level-{name}")).await?);
    }
    let watched = InProcess::start(hub, scratch, "level-pin").await?;
    let processes = doors
        .iter()
        .map(|door| Process::of("the agent", &door.child));
    let processes: Vec<_> = processes.collect::<Result<_, _>>()?;

    let (began, clock) = (Instant::now(), Timestamp::now());
    let first = Timestamp::from_second((clock + AHEAD).as_second())?;
    let start = began + Duration::try_from(first.duration_since(clock))?;
    let at = |n: u32| first + SignedDuration::try_from(every * n).unwrap_or_default();
    let entry = |n: u32| {
        let entry = json!({"want": "released", "from": at(2 * n), "until": at(2 * n + 1)});
        (format!("open-{n:02}"), entry)
    };
    let desired = json!({"timed": (0..changes / 2).map(entry).collect::<Value>()});
    for name in ["level-timed", "level-pin"] {
        hub.desire(name, &desired, DEADLINE).await?;
    }
    ensure!(Instant::now() < start, "the agents took too long to arm");

    let cpu = || {
        let usage = processes.iter().map(Process::usage);
        usage
            .map(|usage| Ok(usage?.cpu))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let (_watch, mut driven) = Watch::start(watched.sim()?);
    let before = cpu()?;
    for n in 0..changes {
        tokio::time::sleep_until((start + every * n).into()).await;
        let method = ["unlockDoor", "lockDoor"][n as usize % 2];
        hub.call("level-called", method, &json!({})).await?;
    }
    tokio::time::sleep(every).await;
    let after = cpu()?;
    let spent: Vec<_> = before
        .iter()
        .zip(after)
        .map(|(before, after)| after - *before)
        .collect();
    let each = |n: usize| spent[n].saturating_sub(spent[2]) / changes;
    let (timed, called) = (each(0), each(1));
    println!(
        "level change by a timed entry: agent's cpu {}, by a call {}, ratio {:.2} (goal 1.00), {} \
         changes, one every {} s; idle {} in that time",
        ms(timed),
        ms(called),
        timed.as_secs_f64() / called.as_secs_f64(),
        changes,
        every.as_secs(),
        ms(spent[2] / changes),
    );
    let mut late = Vec::new();
    for n in 0..changes / 2 {
        let at = driven
            .try_recv()
            .context("the pin of a timed entry was not driven")?;
        late.push(at.saturating_duration_since(start + every * (2 * n + 1)));
    }
    late.sort_unstable();
    println!(
        "pin driven after the end of a timed entry: p50 {}, latest {}, {} changes",
        ms(quantile(&late, 0.5)),
        ms(quantile(&late, 1.0)),
        late.len()
    );
    watched.stop().await;
    Ok(())
}
