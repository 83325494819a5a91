//! Collects measurements and prints medians and ratios.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::process::Usage;

/// All that one run measured.
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

    /// Resident bytes that `side` took for each connected door.
    pub(crate) fn connected(&mut self, side: &'static str, empty: Usage, connected: Usage) {
        let bytes = connected.resident.saturating_sub(empty.resident);
        self.resident
            .insert(side, bytes as f64 / f64::from(self.doors));
    }

    /// Durations of single method calls through REST.
    pub(crate) fn calls(&mut self, mut calls: Vec<Duration>) {
        calls.sort_unstable();
        self.calls = calls;
    }

    /// One round over every door: wall time seen by the asker, processor time of the server.
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
            ms(self.quantile(0.5)),
            ms(self.quantile(0.99)),
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
        if let (Some(ours), Some(peer)) = (self.jobs.get("door-hub"), self.jobs.get("mosquitto")) {
            let (ours, peer) = (median(ours), median(peer));
            println!(
                "{:<12} {:>12.2} {:>14.2} {:>16.2}",
                "ratio",
                ours.0.as_secs_f64() / peer.0.as_secs_f64(),
                ours.1.as_secs_f64() / peer.1.as_secs_f64(),
                self.resident["door-hub"] / self.resident["mosquitto"],
            );
        }
    }

    fn quantile(&self, share: f64) -> Duration {
        let last = self.calls.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index between 0 and last"
        )]
        let index = (last as f64 * share).round() as usize;
        self.calls.get(index).copied().unwrap_or_default()
    }
}

fn median(rounds: &[(Duration, Duration)]) -> (Duration, Duration) {
    let mut walls: Vec<_> = rounds.iter().map(|(wall, _)| *wall).collect();
    let mut cpus: Vec<_> = rounds.iter().map(|(_, cpu)| *cpu).collect();
    walls.sort_unstable();
    cpus.sort_unstable();
    (walls[walls.len() / 2], cpus[cpus.len() / 2])
}

fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
