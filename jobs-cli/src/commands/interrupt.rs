//! Ctrl-C between two steps: the current step is finished and reported.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::printer::print_message;

/// Error of a door that was not handled before the interruption.
pub(super) const NOT_ANY_MORE: &str = "interrupted before its turn";

/// Whether Ctrl-C was pressed; cheap to clone. While one exists, Ctrl-C does not terminate the
/// program.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    pressed: CancellationToken,
    pressed_again: CancellationToken,
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Interrupt {
    /// Starts to listen.
    pub(super) fn new() -> Self {
        let (pressed, pressed_again) = (CancellationToken::new(), CancellationToken::new());
        let (first, second) = (pressed.clone(), pressed_again.clone());
        let listening = tokio::spawn(async move {
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
            let told = async { print_message("stopping; waiting for the current step") };
            tokio::join!(again, told);
        });
        Self {
            pressed,
            pressed_again,
            _listening: Arc::new(Listening(listening)),
        }
    }

    /// Waits for a second Ctrl-C, which abandons the current step.
    pub(super) async fn came_again(&self) {
        self.pressed_again.cancelled().await;
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn came(&self) -> bool {
        self.pressed.is_cancelled()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}
