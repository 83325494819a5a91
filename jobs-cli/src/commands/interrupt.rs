//! Ctrl-C between two steps: what was begun is brought to an end that can be told.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::printer::print_message;

/// Why a door's turn did not come.
pub(super) const NOT_ANY_MORE: &str = "interrupted before its turn";

/// Whether somebody pressed Ctrl-C; cheap to clone. While there is one, it does not end the program
/// by itself.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    pressed: CancellationToken,
    pressed_again: CancellationToken,
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Interrupt {
    /// Listens from now on.
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
            // It listens before somebody reads that it stops.
            let told = async { print_message("stopping; what is under way is finished first") };
            tokio::join!(again, told);
        });
        Self {
            pressed,
            pressed_again,
            _listening: Arc::new(Listening(listening)),
        }
    }

    /// Waits until somebody presses it a second time, and does not want to wait for what is under
    /// way.
    pub(super) async fn came_again(&self) {
        self.pressed_again.cancelled().await;
    }

    /// Whether somebody has.
    pub(super) fn came(&self) -> bool {
        self.pressed.is_cancelled()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}
