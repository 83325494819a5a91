//! Collects measurements and prints medians and ratios.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::attack::Tally;
use crate::process::Usage;

/// Prints when the last door was reached, by the median and the least round of each.
pub(crate) fn print_last_reached(mut locks: Vec<Duration>, mut lockdowns: Vec<Duration>) {
    locks.sort_unstable();
    lockdowns.sort_unstable();
    let (lock, lockdown) = (quantile(&locks, 0.5), quantile(&lockdowns, 0.5));
    let line = |which: &str, lock: Duration, lockdown: Duration| {
        println!(
            "last door reached, {which} round: lock job {}, lockdown {}, ratio {:.2} (goal 1.5)",
            ms(lock),
            ms(lockdown),
            lockdown.as_secs_f64() / lock.as_secs_f64()
        );
    };
    line("median", lock, lockdown);
    line("least", locks[0], lockdowns[0]);
}

/// Prints calls to other doors, first those on a quiet hub, then those while doors were staged.
pub(crate) fn print_staged(doors: u32, windows: &mut [(&str, Vec<Duration>)]) {
    println!("calls to other doors, {doors} doors staged:");
    let mut quiet = None;
    for (window, calls) in windows {
        calls.sort_unstable();
        let both = [0.5, 0.99].map(|share| quantile(calls, share));
        let base = *quiet.get_or_insert(both);
        let ratio = |n: usize| both[n].as_secs_f64() / base[n].as_secs_f64();
        println!(
            "{window:<12} p50 {}, p99 {}, ratio {:.2} / {:.2}, {} calls",
            ms(both[0]),
            ms(both[1]),
            ratio(0),
            ratio(1),
            calls.len()
        );
    }
}

/// Measurements of one run.
pub(crate) struct Report {
    doors: u32,
    resident: BTreeMap<&'static str, f64>,
    calls: Vec<Duration>,
    jobs: BTreeMap<&'static str, Vec<(Duration, Duration)>>,
}

impl Report {
    pub(crate) fn new(doors: u32) -> Self {
        Self {
            doors,
            resident: BTreeMap::new(),
            calls: Vec::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// Resident bytes of `side` per connected door.
    pub(crate) fn connected(&mut self, side: &'static str, empty: Usage, connected: Usage) {
        let bytes = connected.resident.saturating_sub(empty.resident);
        self.resident
            .insert(side, bytes as f64 / f64::from(self.doors));
    }

    pub(crate) fn calls(&mut self, mut calls: Vec<Duration>) {
        calls.sort_unstable();
        self.calls = calls;
    }

    /// One round over every door: wall time of the client, processor time of the server.
    pub(crate) fn job(&mut self, side: &'static str, wall: Duration, cpu: Duration) {
        self.jobs.entry(side).or_default().push((wall, cpu));
    }

    pub(crate) fn print(&self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "doors: {}; load average: {}",
            self.doors,
            load.split(' ').next().unwrap_or("?")
        );
        println!(
            "method call over REST: p50 {}, p99 {}, {} calls",
            ms(quantile(&self.calls, 0.5)),
            ms(quantile(&self.calls, 0.99)),
            self.calls.len()
        );
        println!(
            "{:<12} {:>12} {:>14} {:>16}",
            "", "job, wall", "job, server cpu", "bytes per door"
        );
        for (side, rounds) in &self.jobs {
            let (wall, cpu) = median(rounds);
            println!(
                "{side:<12} {:>12} {:>14} {:>16.0}",
                ms(wall),
                ms(cpu),
                self.resident[side]
            );
        }
        if let (Some(hub), Some(peer)) = (self.jobs.get("door-hub"), self.jobs.get("mosquitto")) {
            let (hub, peer) = (median(hub), median(peer));
            println!(
                "{:<12} {:>12.2} {:>14.2} {:>16.2}",
                "ratio",
                hub.0.as_secs_f64() / peer.0.as_secs_f64(),
                hub.1.as_secs_f64() / peer.1.as_secs_f64(),
                self.resident["door-hub"] / self.resident["mosquitto"],
            );
        }
    }
}

/// Calls to doors without and with an attack, and their cost.
pub(crate) struct UnderAttack {
    pub(crate) quiet: Vec<Duration>,
    pub(crate) attacked: Vec<Duration>,
    /// The hub's processor time without and with an attack.
    pub(crate) hub_cpu: (Duration, Duration),
    pub(crate) attacker_cpu: Duration,
    /// The hub's resident bytes before, and their peak during the attack.
    pub(crate) resident: (u64, u64),
    pub(crate) tally: Tally,
}

pub(crate) fn print_attack(measured: &UnderAttack) {
    let Tally {
        opened,
        closed,
        requests,
    } = measured.tally;
    println!(
        "attack from one address: {opened} connections, {closed} of them ended by the hub; \
         {requests} requests by devices that do not read the answers"
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let line = |name: &str, calls: &[Duration], cpu: Duration, resident: u64| {
        let mut calls = calls.to_vec();
        calls.sort_unstable();
        let (p50, p99) = (quantile(&calls, 0.5), quantile(&calls, 0.99));
        println!(
            "{name:<12} method call p50 {}, p99 {}, {} calls; hub: cpu {}, resident {:.1} MiB",
            ms(p50),
            ms(p99),
            calls.len(),
            ms(cpu),
            mib(resident)
        );
        p99.as_secs_f64()
    };
    let quiet = line(
        "no attack",
        &measured.quiet,
        measured.hub_cpu.0,
        measured.resident.0,
    );
    let attacked = line(
        "under attack",
        &measured.attacked,
        measured.hub_cpu.1,
        measured.resident.1,
    );
    println!(
        "{:<12} p99 {:.2} (goal 2.00); processor time of the attacker on the same machine: {}",
        "ratio",
        attacked / quiet,
        ms(measured.attacker_cpu)
    );
}

/// The smallest value that at least a `share` of the sorted `calls` do not exceed.
pub(crate) fn quantile(calls: &[Duration], share: f64) -> Duration {
    let last = calls.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between 0 and last"
    )]
    let index = (last as f64 * share).round() as usize;
    calls.get(index).copied().unwrap_or_default()
}

fn median(rounds: &[(Duration, Duration)]) -> (Duration, Duration) {
    let mut walls: Vec<_> = rounds.iter().map(|(wall, _)| *wall).collect();
    let mut cpus: Vec<_> = rounds.iter().map(|(_, cpu)| *cpu).collect();
    walls.sort_unstable();
    cpus.sort_unstable();
    (walls[walls.len() / 2], cpus[cpus.len() / 2])
}

pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
