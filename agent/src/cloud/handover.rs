//! Hands a desired value over to its owner and keeps the result of the latest hand-over.

use tokio::sync::watch;

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
            finish.send_replace(Finished { number, problem });
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

    /// Waits until a hand-over finishes.
    pub(super) async fn changed(&mut self) {
        // This struct holds the sender: it cannot be closed.
        let _ = self.finished.changed().await;
    }
}
