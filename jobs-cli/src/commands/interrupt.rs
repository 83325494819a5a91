//! Ctrl-C between two steps: what was begun is brought to an end that can be told.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::printer::talk;

/// Why a door's turn did not come.
pub(super) const NOT_ANY_MORE: &str = "interrupted before its turn";

/// Whether somebody pressed Ctrl-C; cheap to clone. While there is one, it does not end the program by itself.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    pressed: CancellationToken,
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Interrupt {
    /// Listens from now on.
    pub(super) fn new() -> Self {
        let pressed = CancellationToken::new();
        let token = pressed.clone();
        let listening = tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                talk("stopping; what is under way is finished first");
                token.cancel();
            }
        });
        Self {
            pressed,
            _listening: Arc::new(Listening(listening)),
        }
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
