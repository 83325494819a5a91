//! Prints measurements of latency.

use std::time::Duration;

use crate::attack::Tally;

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

/// Prints single calls over REST.
pub(crate) fn print_calls(doors: u32, mut calls: Vec<Duration>) {
    calls.sort_unstable();
    println!(
        "method call over REST, {doors} doors: p50 {}, p99 {}, {} calls",
        ms(quantile(&calls, 0.5)),
        ms(quantile(&calls, 0.99)),
        calls.len()
    );
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

pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_at_its_rank() {
        let values: Vec<_> = (0..=100).map(Duration::from_millis).collect();
        for (share, expected) in [(0.0, 0), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(quantile(&values, share), Duration::from_millis(expected));
        }
        assert_eq!(quantile(&values[..1], 0.99), Duration::ZERO);
        assert_eq!(quantile(&values[1..3], 1.0), Duration::from_millis(2));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
