//! Handing what is desired of the door to its controller, one hand-over after another, and hearing
//! what became of it.

use door_core::DesiredDoor;
use tokio::sync::watch;

use super::publisher::Finished;
use crate::controller::ControllerHandle;

/// What is desired of the door, on its way to it.
#[derive(Debug)]
pub(super) struct Wishes {
    controller: ControllerHandle,
    /// To be handed over when the one before is done.
    next: Option<DesiredDoor>,
    handed: Option<DesiredDoor>,
    started: u64,
    finished: watch::Receiver<Finished>,
    finish: watch::Sender<Finished>,
}

impl Wishes {
    pub(super) fn new(controller: ControllerHandle) -> Self {
        let (finish, finished) = watch::channel(Finished::default());
        Self {
            controller,
            next: None,
            handed: None,
            started: 0,
            finished,
            finish,
        }
    }

    /// Wants this from now on. The same again does nothing, unless it went wrong.
    pub(super) fn want(&mut self, desired: DesiredDoor) {
        let went_wrong = self.finished.borrow().problem.is_some();
        let known = self.next.as_ref().or(self.handed.as_ref()) == Some(&desired);
        if !known || went_wrong {
            self.next = Some(desired);
        }
    }

    /// Whether everything wanted is in force, or has failed.
    pub(super) fn is_settled(&self) -> bool {
        self.next.is_none() && self.finished.borrow().number == self.started
    }

    /// What went wrong with what was handed over last.
    pub(super) fn problem(&mut self) -> Option<String> {
        self.finished.borrow_and_update().problem.clone()
    }

    /// Hands over what waits, unless something is on its way. Never waits itself.
    pub(super) fn advance(&mut self) {
        if self.finished.borrow().number != self.started {
            return;
        }
        let Some(desired) = self.next.take() else {
            return;
        };
        self.handed = Some(desired.clone());
        self.started += 1;
        let number = self.started;
        let (controller, finish) = (self.controller.clone(), self.finish.clone());
        tokio::spawn(async move {
            let problem = controller.desire(desired).await.err();
            finish.send_replace(Finished { number, problem });
        });
    }

    /// Waits until a hand-over is done.
    pub(super) async fn changed(&mut self) {
        // The sender is here too: it never goes away.
        let _ = self.finished.changed().await;
    }
}
