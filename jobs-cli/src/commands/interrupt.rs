//! Ctrl-C between two steps: the current step is finished and reported.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::printer::print_message;

/// Error of a door that was not handled before the interruption.
pub(super) const INTERRUPTED: &str = "interrupted before its turn";

/// Whether Ctrl-C was pressed; cheap to clone. While one exists, Ctrl-C does not terminate the
/// program.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    pressed: CancellationToken,
    pressed_again: CancellationToken,
    _listener: Arc<Listener>,
}

#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Interrupt {
    /// Starts to listen.
    pub(super) fn new() -> Self {
        let (pressed, pressed_again) = (CancellationToken::new(), CancellationToken::new());
        let (first, second) = (pressed.clone(), pressed_again.clone());
        let listener = tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            first.cancel();
            let again = async {
                if tokio::signal::ctrl_c().await.is_ok() {
                    second.cancel();
                }
            };
            // Listen for the second Ctrl-C before the message appears.
            let message = async { print_message("stopping; waiting for the current step") };
            tokio::join!(again, message);
        });
        Self {
            pressed,
            pressed_again,
            _listener: Arc::new(Listener(listener)),
        }
    }

    /// Waits for a second Ctrl-C, which abandons the current step.
    pub(super) async fn second_press(&self) {
        self.pressed_again.cancelled().await;
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed.is_cancelled()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
