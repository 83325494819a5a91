//! Collects the outcomes of a job's calls until they are stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::plan::HELD_BYTES;
use crate::session::{CallObserver, CallOutcome};
use crate::store::DeviceResult;

/// The most payload bytes held, for answers to calls that were sent before the store fell behind.
/// Later answers lose their payload.
const MOST_BYTES: usize = 8 * HELD_BYTES;

/// The error code of a device whose answer was dropped because too many answers waited for the
/// store. Not one of IoT Hub's codes.
const NOT_KEPT: &str = "AnswerNotKept";

/// Observes the job's calls, on any thread. It holds at most one outcome for each call in flight,
/// and at most [`MOST_BYTES`] of their payloads.
#[derive(Default)]
pub(super) struct Collector {
    heard: Mutex<Waiting>,
    /// Notified when an outcome or a connection arrives.
    pub(super) arrived: Notify,
    /// Calls that are not sent yet are withdrawn.
    pub(super) withdrawn: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    outcomes: Vec<(u32, Heard)>,
    bytes: usize,
    /// Devices that have connected and were not called yet.
    online: Vec<u32>,
}

/// The outcome of one call.
#[derive(Debug)]
pub(super) enum Heard {
    /// The complete outcome.
    Whole(CallOutcome),
    /// An answer without its payload, which exceeded the limit; this is the record's result.
    Cut(DeviceResult),
    /// Why the wait for the device's connection ended; the call was not sent.
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
    /// The next outcomes to store: `at_most`, and about as many bytes as one operation should
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

    /// The devices that have connected since the last call of this method.
    pub(super) fn take_online(&self) -> Vec<u32> {
        std::mem::take(&mut self.waiting().online)
    }

    /// The number of waiting outcomes, and the bytes of their payloads.
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

/// Observes the waits for devices that are offline. Their rows are still `pending`.
pub(super) struct Waits(pub(super) Arc<Collector>);

impl CallObserver for Waits {
    fn done(&self, token: u32, outcome: CallOutcome) {
        // A withdrawn wait leaves its row unchanged.
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
                    "The device answered with status {status} and {} bytes, \
                     but too many answers were waiting for the hub's store; \
                     the bytes were dropped.",
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
            assert!(token >= fit, "the last ones lose their payload");
            let Heard::Cut(DeviceResult::Failed { description, .. }) = heard else {
                panic!("{heard:?}");
            };
            assert!(description.contains("status 207"), "{description}");
        }
        let taken = collector.take(usize::MAX);
        assert_eq!(taken.len(), HELD_BYTES / LARGE, "the payloads of one write");
        let left = fit as usize - taken.len();
        assert_eq!(collector.held(), (left, left * LARGE));
    }
}
