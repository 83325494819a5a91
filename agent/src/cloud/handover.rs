//! Hands the desired state of the door to its controller, one hand-over at a time, and keeps the
//! result.

use door_core::DesiredDoor;
use tokio::sync::watch;

use super::publisher::HandoverResult;
use crate::controller::ControllerHandle;

#[derive(Debug)]
pub(super) struct DesiredHandover {
    controller: ControllerHandle,
    /// Waits for the current hand-over to finish.
    next: Option<DesiredDoor>,
    handed_over: Option<DesiredDoor>,
    started: u64,
    finished: watch::Receiver<HandoverResult>,
    finish: watch::Sender<HandoverResult>,
}

impl DesiredHandover {
    pub(super) fn new(controller: ControllerHandle) -> Self {
        let (finish, finished) = watch::channel(HandoverResult::default());
        Self {
            controller,
            next: None,
            handed_over: None,
            started: 0,
            finished,
            finish,
        }
    }

    /// Queues a desired state. An unchanged one is ignored, unless its last hand-over failed.
    pub(super) fn set(&mut self, desired: DesiredDoor) {
        let went_wrong = self.finished.borrow().problem.is_some();
        let known = self.next.as_ref().or(self.handed_over.as_ref()) == Some(&desired);
        if !known || went_wrong {
            self.next = Some(desired);
        }
    }

    /// Whether nothing is queued or in progress.
    pub(super) fn is_settled(&self) -> bool {
        self.next.is_none() && self.finished.borrow().number == self.started
    }

    /// The error of the last hand-over.
    pub(super) fn problem(&mut self) -> Option<String> {
        self.finished.borrow_and_update().problem.clone()
    }

    /// Starts the queued hand-over unless one is in progress. Does not wait for it.
    pub(super) fn advance(&mut self) {
        if self.finished.borrow().number != self.started {
            return;
        }
        let Some(desired) = self.next.take() else {
            return;
        };
        self.handed_over = Some(desired.clone());
        self.started += 1;
        let number = self.started;
        let (controller, finish) = (self.controller.clone(), self.finish.clone());
        tokio::spawn(async move {
            let problem = controller.desire(desired).await.err();
            finish.send_replace(HandoverResult { number, problem });
        });
    }

    /// Waits until a hand-over finishes.
    pub(super) async fn changed(&mut self) {
        // This struct holds the sender: it cannot be closed.
        let _ = self.finished.changed().await;
    }
}
