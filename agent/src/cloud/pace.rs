//! Timing of reconnects and token renewals: pure arithmetic, the random source is an argument.

use std::time::Duration;

use rand::RngExt;

/// Share of a token's lifetime after which the connection is renewed, drawn per token so that a
/// fleet spreads out.
const RENEW_BETWEEN: std::ops::Range<f64> = 0.85..0.95;
/// Share of a token's lifetime after which the connection is renewed even if calls are pending.
const RENEW_LATEST: f64 = 0.98;

/// Exponential back-off with full jitter: each wait is drawn between zero and a ceiling that
/// doubles up to the maximum.
#[derive(Debug, Clone)]
pub(super) struct BackOff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl BackOff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            ceiling: min,
        }
    }

    pub(super) fn next(&mut self, rng: &mut impl RngExt) -> Duration {
        let wait = self.ceiling.mul_f64(rng.random::<f64>());
        self.ceiling = (self.ceiling * 2).min(self.max);
        wait
    }

    /// Resets the waits if the connection that ended had lasted at least the maximum: a hub that
    /// accepts and drops at once must not be hammered.
    pub(super) fn connection_ended(&mut self, lasted: Duration) {
        if lasted >= self.max {
            self.ceiling = self.min;
        }
    }
}

/// Notices that the hub keeps closing young connections: it does so when another client connects
/// with the same identity.
#[derive(Debug, Default)]
pub(super) struct Displacements {
    in_a_row: u32,
}

/// From this many on, another client is named.
const DISPLACED: u32 = 3;
/// An older connection was not displaced by a client that takes turns.
const YOUNG: Duration = Duration::from_secs(120);

impl Displacements {
    /// The hub closed a connection that lasted for a time; whether such ends show another client.
    pub(super) fn closed_after(&mut self, lasted: Duration) -> bool {
        self.in_a_row = match lasted < YOUNG {
            true => (self.in_a_row + 1).min(DISPLACED),
            false => 0,
        };
        self.in_a_row == DISPLACED
    }

    /// An attempt or a connection failed for another reason.
    pub(super) fn interrupted(&mut self) {
        self.in_a_row = 0;
    }
}

/// When to renew a connection, counted from the creation of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Renewal {
    /// From here on, as soon as no call is pending.
    pub(super) from: Duration,
    /// Unconditionally from here on.
    pub(super) latest: Duration,
}

impl Renewal {
    pub(super) fn of_token(lifetime: Duration, rng: &mut impl RngExt) -> Self {
        Self {
            from: lifetime.mul_f64(rng.random_range(RENEW_BETWEEN)),
            latest: lifetime.mul_f64(RENEW_LATEST),
        }
    }

    /// Whether to renew, `age` after the token was created.
    pub(super) fn is_due(&self, age: Duration, idle: bool) -> bool {
        age >= self.latest || (idle && age >= self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn young_connections_that_the_hub_closes_in_a_row_show_another_client() {
        let (young, old) = (Duration::from_secs(5), YOUNG);
        let mut seen = Displacements::default();
        assert_eq!(
            [young; 4].map(|it| seen.closed_after(it)),
            [false, false, true, true]
        );
        // A connection that lasts, or another problem, ends the row.
        assert_eq!(
            [old, young, young].map(|it| seen.closed_after(it)),
            [false; 3]
        );
        seen.interrupted();
        assert_eq!([young; 2].map(|it| seen.closed_after(it)), [false; 2]);
    }

    #[test]
    fn waits_stay_below_a_ceiling_that_doubles_up_to_the_maximum() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut longest = [Duration::ZERO; 10];
        for _ in 0..200 {
            let mut back_off = BackOff::new(seconds(1), seconds(60));
            for (longest, ceiling) in longest.iter_mut().zip([1, 2, 4, 8, 16, 32, 60, 60, 60, 60]) {
                let wait = back_off.next(&mut rng);
                assert!(wait <= seconds(ceiling));
                *longest = wait.max(*longest);
            }
        }
        // Full jitter uses the whole range.
        assert!(longest[0] > Duration::from_millis(900));
        assert!(longest[9] > seconds(55));
    }

    #[test]
    fn only_a_connection_that_lasted_resets_the_waits() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut back_off = BackOff::new(seconds(1), seconds(60));
        for _ in 0..8 {
            back_off.next(&mut rng);
            back_off.connection_ended(seconds(2));
        }
        assert_eq!(back_off.ceiling, seconds(60));
        back_off.connection_ended(seconds(61));
        assert_eq!(back_off.ceiling, seconds(1));
    }

    #[test]
    fn a_token_is_renewed_between_85_and_95_percent_of_its_life_when_idle() {
        let mut rng = StdRng::seed_from_u64(3);
        let hour = seconds(3600);
        for _ in 0..1000 {
            let renewal = Renewal::of_token(hour, &mut rng);
            assert!(renewal.from >= seconds(3060) && renewal.from <= seconds(3420));
            assert!(!renewal.is_due(renewal.from - seconds(1), true));
            assert!(renewal.is_due(renewal.from, true));
            assert!(!renewal.is_due(renewal.from, false));
            assert!(renewal.is_due(seconds(3528), false));
        }
    }
}
