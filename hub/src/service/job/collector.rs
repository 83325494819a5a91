//! What was heard of a job's calls and is not stored yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::plan::HELD_BYTES;
use crate::session::{CallObserver, CallOutcome};
use crate::store::DeviceResult;

/// Payloads that are held at most, when devices that were called before the store fell behind
/// answer with much. Of further answers all but the payload is kept.
const MOST_BYTES: usize = 8 * HELD_BYTES;

/// What the record of a device says whose answer could not be held until it was stored. Not one of
/// IoT Hub's codes.
const NOT_KEPT: &str = "AnswerNotKept";

/// Hears of the job's calls, on whatever thread they end. Never more than the calls in flight, and
/// of their payloads no more than [`MOST_BYTES`].
#[derive(Default)]
pub(super) struct Collector {
    heard: Mutex<Waiting>,
    /// Something is there.
    pub(super) arrived: Notify,
    /// Calls that have not left are not to.
    pub(super) withdrawn: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    outcomes: Vec<(u32, Heard)>,
    bytes: usize,
    /// Devices that have connected, and were sent nothing yet.
    online: Vec<u32>,
}

/// What was heard of one call.
#[derive(Debug)]
pub(super) enum Heard {
    /// All of it.
    Whole(CallOutcome),
    /// An answer whose payload could not be held, as its record will say.
    Cut(DeviceResult),
    /// Why the wait for the device's connection ended; it was sent nothing.
    Unreached(CallOutcome),
}

impl Heard {
    fn bytes(&self) -> usize {
        match self {
            Self::Whole(CallOutcome::Answered { payload, .. }) => payload.len(),
            _ => 0,
        }
    }
}

impl Collector {
    /// The next outcomes to be stored: so many, and about as many bytes as one operation should
    /// write.
    pub(super) fn take(&self, at_most: usize) -> Vec<(u32, Heard)> {
        let mut waiting = self.waiting();
        let mut taken = Vec::with_capacity(at_most.min(waiting.outcomes.len()));
        let mut bytes = 0;
        while taken.len() < at_most && bytes < HELD_BYTES {
            let Some(outcome) = waiting.outcomes.pop() else {
                break;
            };
            bytes += outcome.1.bytes();
            taken.push(outcome);
        }
        waiting.bytes -= bytes;
        taken
    }

    /// The devices that have connected since the last time.
    pub(super) fn take_online(&self) -> Vec<u32> {
        std::mem::take(&mut self.waiting().online)
    }

    /// How many outcomes wait, and how many bytes their payloads have.
    pub(super) fn held(&self) -> (usize, usize) {
        let waiting = self.waiting();
        (waiting.outcomes.len(), waiting.bytes)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallObserver for Collector {
    fn done(&self, token: u32, outcome: CallOutcome) {
        let mut heard = Heard::Whole(outcome);
        let mut waiting = self.waiting();
        if waiting.bytes + heard.bytes() > MOST_BYTES {
            heard = cut(heard);
        }
        waiting.bytes += heard.bytes();
        waiting.outcomes.push((token, heard));
        drop(waiting);
        self.arrived.notify_one();
    }

    fn is_waiting(&self) -> bool {
        !self.withdrawn.load(Ordering::Relaxed)
    }
}

/// Hears of the waits for devices that are not connected. Their rows are still `pending`.
pub(super) struct Waits(pub(super) Arc<Collector>);

impl CallObserver for Waits {
    fn done(&self, token: u32, outcome: CallOutcome) {
        // A withdrawn wait leaves its row as it is.
        if outcome != CallOutcome::Withdrawn {
            let heard = Heard::Unreached(outcome);
            self.0.waiting().outcomes.push((token, heard));
            self.0.arrived.notify_one();
        }
    }

    fn online(&self, token: u32) {
        self.0.waiting().online.push(token);
        self.0.arrived.notify_one();
    }

    fn is_waiting(&self) -> bool {
        self.0.is_waiting()
    }
}

fn cut(heard: Heard) -> Heard {
    match heard {
        Heard::Whole(CallOutcome::Answered { status, payload }) => {
            Heard::Cut(DeviceResult::Failed {
                code: NOT_KEPT,
                description: format!(
                    "The device answered with status {status} and {} bytes while the hub held too many answers that it could not store; \
                 the status is kept here, the bytes are not.",
                    payload.len()
                ),
            })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LARGE: usize = 128 * 1024;

    #[test]
    fn keeps_answers_up_to_a_limit_and_drops_the_payloads_beyond_it() {
        let collector = Collector::default();
        let fit = u32::try_from(MOST_BYTES / LARGE).unwrap();
        for token in 0..fit + 10 {
            let payload = Bytes::from(vec![b'1'; LARGE]);
            collector.done(
                token,
                CallOutcome::Answered {
                    status: 207,
                    payload,
                },
            );
        }
        assert_eq!(collector.held(), (fit as usize + 10, MOST_BYTES));
        let taken = collector.take(10);
        for (token, heard) in taken {
            assert!(token >= fit, "the last ones are cut");
            let Heard::Cut(DeviceResult::Failed { description, .. }) = heard else {
                panic!("{heard:?}");
            };
            assert!(description.contains("status 207"), "{description}");
        }
        let taken = collector.take(usize::MAX);
        assert_eq!(
            taken.len(),
            HELD_BYTES / LARGE,
            "as many as one write takes"
        );
        let left = fit as usize - taken.len();
        assert_eq!(collector.held(), (left, left * LARGE));
    }
}
