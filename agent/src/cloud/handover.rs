//! Hands a desired value over to its owner and keeps the result of the latest hand-over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Delay before the retry of a failed hand-over: a slow save may have finished.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct HandOver<T> {
    /// The value handed over last.
    last: Option<T>,
    started: u64,
    finished: watch::Receiver<Finished>,
    finish: watch::Sender<Finished>,
}

#[derive(Debug, Default)]
struct Finished {
    number: u64,
    problem: Option<String>,
    retry_at: Option<Instant>,
}

impl<T: PartialEq> HandOver<T> {
    /// `last` is a value that its owner has already.
    pub(super) fn new(last: Option<T>) -> Self {
        let (finish, finished) = watch::channel(Finished::default());
        Self {
            last,
            started: 0,
            finished,
            finish,
        }
    }

    /// Whether the value has to be handed over: it is another one than the last, or that failed.
    pub(super) fn needs(&self, value: &T) -> bool {
        self.last.as_ref() != Some(value) || self.finished.borrow().problem.is_some()
    }

    /// Begins a hand-over; the caller passes its error, if any, to the returned function.
    pub(super) fn start(&mut self, value: T) -> impl FnOnce(Option<String>) + Send + use<T> {
        self.last = Some(value);
        self.started += 1;
        let (number, finish) = (self.started, self.finish.clone());
        move |problem| {
            let retry_at = problem.is_some().then(|| Instant::now() + RETRY);
            finish.send_replace(Finished {
                number,
                problem,
                retry_at,
            });
        }
    }

    /// Whether the latest hand-over has finished.
    pub(super) fn is_idle(&self) -> bool {
        self.finished.borrow().number == self.started
    }

    /// The error of the hand-over that finished last.
    pub(super) fn problem(&self) -> Option<String> {
        self.finished.borrow().problem.clone()
    }

    /// When to hand the value over again, if that failed.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.finished.borrow().retry_at.filter(|_| self.is_idle())
    }

    /// Waits until a hand-over finishes.
    pub(super) async fn changed(&mut self) {
        // This struct holds the sender: it cannot be closed.
        let _ = self.finished.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_hand_over_is_due_again_a_minute_later() {
        let mut subject = HandOver::new(None);
        assert_eq!(subject.retry_at(), None);
        for problem in [Some("too slow"), None] {
            let finish = subject.start("door");
            assert_eq!(subject.retry_at(), None, "it has not finished");
            let before = Instant::now();
            finish(problem.map(str::to_owned));
            let is_due = subject.retry_at().map(|at| at >= before + RETRY);
            assert_eq!(is_due, problem.map(|_| true));
            assert_eq!(subject.needs(&"door"), problem.is_some());
        }
    }
}
