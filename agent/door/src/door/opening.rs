//! What it means that the door is open: that nobody was allowed to open it, or that it stands open
//! for too long.
//!
//! A door is forced when it opens although nothing releases it, nor did just before: whoever opens
//! in the last moment of a release is late, not a burglar. One that is found open is not forced,
//! for nobody saw it open. It is held when it stands open for longer than allowed while nothing but
//! a button, a reader or a pulse would have it open. Both end when it is seen closed: while the
//! switch is in fault they stay.

use std::time::Duration;

use crate::authority::{AuthorityArray, Slot, Want};
use crate::config::DoorSettings;
use crate::sensing::Reading;

/// For how long after a release ended an opening still belongs to it: until the door position
/// switch has noticed.
pub(super) const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Default)]
pub(super) struct Opening {
    state: State,
    released: bool,
    /// Boot-clock time of the latest moment at which the door was released, or first seen.
    released_at: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
enum State {
    /// Not read yet, or not readable.
    #[default]
    Unknown,
    Closed,
    Open(Open),
}

#[derive(Debug, Clone, Default)]
struct Open {
    forced: bool,
    /// Boot-clock time from which its time counts; none while it may stand open.
    since: Option<Duration>,
    warned: bool,
    held: bool,
}

impl Opening {
    /// Takes a step; true when it is time to warn that the door has stood open for nearly too long.
    pub(super) fn step(
        &mut self,
        at: Duration,
        closed: Reading,
        array: &AuthorityArray,
        settings: &DoorSettings,
    ) -> bool {
        let released = array.want() == Want::Released;
        if released || self.released || (self.released_at.is_none() && closed.is_some()) {
            self.released_at = Some(at);
        }
        self.released = released;
        let state = std::mem::take(&mut self.state);
        self.state = match (closed, state) {
            // The count of its time starts again once it is seen.
            (None, State::Open(open)) if open.forced || open.held => State::Open(Open {
                since: None,
                warned: false,
                ..open
            }),
            (None, _) => State::Unknown,
            (Some(true), _) => State::Closed,
            (Some(false), State::Open(open)) => State::Open(open),
            (Some(false), State::Unknown) => State::Open(Open::default()),
            (Some(false), State::Closed) => State::Open(Open {
                forced: self.is_unreleased(at),
                ..Open::default()
            }),
        };
        let State::Open(open) = &mut self.state else {
            return false;
        };
        if closed.is_none() {
            return false;
        }
        // A button, a reader or a pulse lets somebody through; whatever else releases the door may
        // have it stand open.
        let passing = array.winner().is_some_and(|(slot, entry)| {
            matches!(slot, Slot::RequestToExit | Slot::LocalGrant) || entry.one_passage
        });
        if released && !passing {
            open.since = None;
            open.warned = false;
            return false;
        }
        let since = *open.since.get_or_insert(at);
        open.held |= since + settings.held_open_time <= at;
        let warn = !open.warned && !open.held && warning(since, settings) <= at;
        open.warned |= warn;
        warn
    }

    /// Nothing releases the door, nor did just before.
    pub(super) fn is_unreleased(&self, at: Duration) -> bool {
        self.released_at
            .is_none_or(|released| released + GRACE < at)
    }

    pub(super) fn is_forced(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.forced)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.held)
    }

    /// When time alone changes something.
    pub(super) fn poll_timeout(&self, settings: &DoorSettings) -> Option<Duration> {
        match &self.state {
            State::Open(open) if !open.held => {
                let since = open.since?;
                Some(if open.warned {
                    since + settings.held_open_time
                } else {
                    warning(since, settings)
                })
            }
            _ => None,
        }
    }
}

fn warning(since: Duration, settings: &DoorSettings) -> Duration {
    since
        + settings
            .held_open_time
            .saturating_sub(settings.pre_alarm_time)
}
