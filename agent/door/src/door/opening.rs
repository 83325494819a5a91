//! The alarms of an open door: `forcedOpen` and `heldOpen`.
//!
//! A door is forced if it opens although nothing releases it now or did just before: opening in the
//! last moment of a release is late, not forced. So is opening just after a start that found the
//! lock released. A door found open at start is not forced, since it was not seen to open. A door
//! is held if it stands open for longer than allowed while at most a button, a reader or a pulse
//! releases it. Both end when the door is seen closed; while the switch is in fault they stay.

use std::time::Duration;

use crate::authority::AuthorityArray;
use crate::config::DoorSettings;
use crate::contract::{Slot, Want};
use crate::sensing::Reading;
use crate::time::BootTime;

/// How long after a release an opening still belongs to it: the door position switch follows with a
/// delay.
pub(super) const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Default)]
pub(super) struct Opening {
    state: State,
    released: bool,
    /// Boot-clock time at which the door was last released.
    released_at: Option<BootTime>,
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
    /// Boot-clock time from which the open time counts; `None` while the door may stand open.
    since: Option<BootTime>,
    warned: bool,
    held: bool,
}

impl Opening {
    /// Handles one step; returns true when the pre-alarm of `heldOpen` is due. `may_open`: the door
    /// may be opened although the array does not release it.
    pub(super) fn step(
        &mut self,
        at: BootTime,
        closed: Reading,
        may_open: bool,
        array: &AuthorityArray,
        settings: &DoorSettings,
    ) -> bool {
        let released = array.want() == Want::Released;
        let may_open = released || may_open;
        if may_open || self.released {
            self.released_at = Some(at);
        }
        self.released = may_open;
        let state = std::mem::take(&mut self.state);
        self.state = match (closed, state) {
            // The open time starts again once the door is seen.
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
        // A button, a reader or a pulse releases for one passage. Any other release allows the door
        // to stand open.
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

    /// Whether nothing releases the door now or did just before.
    pub(super) fn is_unreleased(&self, at: BootTime) -> bool {
        self.released_at
            .is_none_or(|released| released + GRACE < at)
    }

    pub(super) fn is_forced(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.forced)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.held)
    }

    /// When the state changes by time alone.
    pub(super) fn poll_timeout(&self, settings: &DoorSettings) -> Option<BootTime> {
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

fn warning(since: BootTime, settings: &DoorSettings) -> BootTime {
    since
        + settings
            .held_open_time
            .saturating_sub(settings.pre_alarm_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_opening_belongs_to_a_release_up_to_the_end_of_the_grace_time() {
        let (array, settings) = (AuthorityArray::new(Want::Locked), DoorSettings::default());
        for (late, forced) in [(Duration::ZERO, false), (Duration::from_nanos(1), true)] {
            let mut opening = Opening::default();
            opening.step(at(1), Some(true), true, &array, &settings);
            opening.step(at(2), Some(true), false, &array, &settings);
            opening.step(at(2) + GRACE + late, Some(false), false, &array, &settings);
            assert_eq!(opening.is_forced(), forced, "{late:?}");
        }
    }

    #[test]
    fn a_forced_door_gives_its_pre_alarm_again_after_its_switch_was_unreadable() {
        let (array, settings) = (AuthorityArray::new(Want::Locked), DoorSettings::default());
        let warns_after = settings.held_open_time - settings.pre_alarm_time;
        let mut opening = Opening::default();
        let mut step = |time, closed| opening.step(time, closed, false, &array, &settings);
        step(at(1), Some(true));
        let opened = at(10);
        assert!(!step(opened, Some(false)));
        assert!(step(opened + warns_after, Some(false)));
        assert!(!step(opened + warns_after + SECOND, None));
        let seen = opened + warns_after + SECOND * 2;
        assert!(!step(seen, Some(false)));
        assert!(step(seen + warns_after, Some(false)));
        assert!(opening.is_forced());
    }
}
