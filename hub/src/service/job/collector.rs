//! What the calls of a job come to, until it is stored. Bounded by bytes: a fleet may answer faster than the disk takes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::session::{CallObserver, CallOutcome};

/// Bytes of answers that may wait before no further calls are sent.
const BEHIND: usize = 8 * 1024 * 1024;

/// Bytes of answers that may wait at all: calls that are on their way are answered all the same, with up to 128 KiB each.
const MOST: usize = 128 * 1024 * 1024;

/// What a call came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    /// What the registry says.
    Outcome(CallOutcome),
    /// The device answered with this status, and with so many bytes that could not be held.
    Dropped { status: i32, bytes: usize },
}

/// Hears of the job's calls, on whatever thread they end. Never more than the calls in flight.
#[derive(Default)]
pub(super) struct Collector {
    held: Mutex<Held>,
    arrived: Notify,
    /// Calls that have not left are not to.
    withdrawn: AtomicBool,
}

#[derive(Default)]
struct Held {
    outcomes: Vec<(u32, Heard)>,
    bytes: usize,
}

impl Collector {
    /// Up to so many outcomes.
    pub(super) fn take(&self, at_most: usize) -> Vec<(u32, Heard)> {
        let mut held = self.lock();
        let keep = held.outcomes.len().saturating_sub(at_most);
        let taken = held.outcomes.split_off(keep);
        held.bytes -= taken.iter().map(|(_, heard)| heard.bytes()).sum::<usize>();
        taken
    }

    /// Whether so much waits to be stored that no more should be asked for.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().bytes > BEHIND
    }

    /// Waits for an outcome.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Wants no more of the calls that have not left. `false` when that has been said before.
    pub(super) fn withdraw(&self) -> bool {
        !self.withdrawn.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere leaves it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// The bytes of the answer that are held for it.
    fn bytes(&self) -> usize {
        match self {
            Self::Outcome(CallOutcome::Answered { payload, .. }) => payload.len(),
            Self::Outcome(_) | Self::Dropped { .. } => 0,
        }
    }
}

impl CallObserver for Collector {
    fn done(&self, token: u32, outcome: CallOutcome) {
        {
            let mut held = self.lock();
            let heard = match outcome {
                CallOutcome::Answered { status, payload } if held.bytes + payload.len() > MOST => {
                    Heard::Dropped {
                        status,
                        bytes: payload.len(),
                    }
                }
                outcome => Heard::Outcome(outcome),
            };
            held.bytes += heard.bytes();
            held.outcomes.push((token, heard));
        }
        self.arrived.notify_one();
    }

    fn is_waiting(&self) -> bool {
        !self.is_withdrawn()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn answers_are_held_up_to_a_bound_and_what_exceeds_it_is_said() {
        let collector = Collector::default();
        let answer = Bytes::from(vec![b'x'; 128 * 1024]);
        let calls = u32::try_from(MOST / answer.len()).unwrap() + 2;
        for token in 0..calls {
            assert_eq!(
                collector.is_behind(),
                (token as usize * answer.len()) > BEHIND
            );
            let payload = answer.clone();
            collector.done(
                token,
                CallOutcome::Answered {
                    status: 200,
                    payload,
                },
            );
        }
        collector.done(calls, CallOutcome::ResponseTimedOut);
        let dropped = Heard::Dropped {
            status: 200,
            bytes: answer.len(),
        };
        let last = collector.take(3);
        assert_eq!(last[0], (calls - 2, dropped.clone()));
        assert_eq!(last[1], (calls - 1, dropped));
        assert_eq!(
            last[2],
            (calls, Heard::Outcome(CallOutcome::ResponseTimedOut))
        );
        assert_eq!(collector.take(usize::MAX).len(), calls as usize - 2);
        assert!(!collector.is_behind());
        assert!(collector.take(1).is_empty());
    }
}
