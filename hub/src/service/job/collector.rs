//! Collects the outcomes of a job's calls until they are stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::plan::MAX_HELD_BYTES;
use crate::session::{CallObserver, CallOutcome};
use crate::store::DeviceResult;

/// The most payload bytes held, for answers to calls that were sent before the store fell behind.
/// Later answers lose their payload.
const MAX_BYTES: usize = 8 * MAX_HELD_BYTES;

/// The error code of a device whose answer was dropped because too many answers waited for the
/// store. Not one of IoT Hub's codes.
const ANSWER_NOT_KEPT: &str = "AnswerNotKept";

/// Observes the job's calls, on any thread. It holds at most one outcome for each call in flight,
/// and at most [`MAX_BYTES`] of their payloads.
#[derive(Default)]
pub(super) struct Collector {
    collected: Mutex<Collected>,
    /// Notified when an outcome or a connection arrives.
    pub(super) arrived: Notify,
    /// Calls that are not sent yet are withdrawn.
    pub(super) withdrawn: AtomicBool,
}

#[derive(Default)]
struct Collected {
    outcomes: Vec<(u32, CollectedOutcome)>,
    bytes: usize,
    /// Devices that have connected and were not called yet.
    online: Vec<u32>,
}

/// The outcome of one call.
#[derive(Debug)]
pub(super) enum CollectedOutcome {
    Complete(CallOutcome),
    /// An answer without its payload, which exceeded the limit; this is the record's result.
    Truncated(DeviceResult),
    /// Why the wait for the device's connection ended; the call was not sent.
    NeverOnline(CallOutcome),
}

impl CollectedOutcome {
    fn bytes(&self) -> usize {
        match self {
            Self::Complete(CallOutcome::Answered { payload, .. }) => payload.len(),
            _ => 0,
        }
    }
}

impl Collector {
    /// The next outcomes to store: `at_most`, and about as many bytes as one operation should
    /// write.
    pub(super) fn take(&self, at_most: usize) -> Vec<(u32, CollectedOutcome)> {
        let mut collected = self.lock();
        let mut taken = Vec::with_capacity(at_most.min(collected.outcomes.len()));
        let mut bytes = 0;
        while taken.len() < at_most && bytes < MAX_HELD_BYTES {
            let Some(outcome) = collected.outcomes.pop() else {
                break;
            };
            bytes += outcome.1.bytes();
            taken.push(outcome);
        }
        collected.bytes -= bytes;
        taken
    }

    /// The devices that have connected since the last call of this method.
    pub(super) fn take_online(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().online)
    }

    /// The number of waiting outcomes, and the bytes of their payloads.
    pub(super) fn held(&self) -> (usize, usize) {
        let collected = self.lock();
        (collected.outcomes.len(), collected.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallObserver for Collector {
    fn done(&self, token: u32, outcome: CallOutcome) {
        let mut outcome = CollectedOutcome::Complete(outcome);
        let mut collected = self.lock();
        if collected.bytes + outcome.bytes() > MAX_BYTES {
            outcome = without_payload(outcome);
        }
        collected.bytes += outcome.bytes();
        collected.outcomes.push((token, outcome));
        drop(collected);
        self.arrived.notify_one();
    }

    fn is_waiting(&self) -> bool {
        !self.withdrawn.load(Ordering::Relaxed)
    }
}

/// Observes the waits for devices that are offline. Their rows are still `pending`.
pub(super) struct OfflineObserver(pub(super) Arc<Collector>);

impl CallObserver for OfflineObserver {
    fn done(&self, token: u32, outcome: CallOutcome) {
        // A withdrawn wait leaves its row unchanged.
        if outcome != CallOutcome::Withdrawn {
            let outcome = CollectedOutcome::NeverOnline(outcome);
            self.0.lock().outcomes.push((token, outcome));
            self.0.arrived.notify_one();
        }
    }

    fn online(&self, token: u32) {
        self.0.lock().online.push(token);
        self.0.arrived.notify_one();
    }

    fn is_waiting(&self) -> bool {
        self.0.is_waiting()
    }
}

fn without_payload(outcome: CollectedOutcome) -> CollectedOutcome {
    match outcome {
        CollectedOutcome::Complete(CallOutcome::Answered { status, payload }) => {
            CollectedOutcome::Truncated(DeviceResult::Failed {
                code: ANSWER_NOT_KEPT,
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
        let fit = u32::try_from(MAX_BYTES / LARGE).unwrap();
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
        assert_eq!(collector.held(), (fit as usize + 10, MAX_BYTES));
        let taken = collector.take(10);
        for (token, outcome) in taken {
            assert!(token >= fit, "the last ones lose their payload");
            let CollectedOutcome::Truncated(DeviceResult::Failed { description, .. }) = outcome
            else {
                panic!("{outcome:?}");
            };
            assert!(description.contains("status 207"), "{description}");
        }
        let taken = collector.take(usize::MAX);
        assert_eq!(
            taken.len(),
            MAX_HELD_BYTES / LARGE,
            "the payloads of one write"
        );
        let left = fit as usize - taken.len();
        assert_eq!(collector.held(), (left, left * LARGE));
    }
}
