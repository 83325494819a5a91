//! Following the desired properties. A mode acts only when it is another than the one last applied;
//! settings take effect at once.

use super::change::Change;
use super::disk::Purpose;
use super::{Action, Door, Ticket, Turn};
use crate::config::{Overrides, Setting};
use crate::contract::{MethodReply, Window};
use crate::desired::{DesiredDoor, DesiredMode};
use crate::time::Now;

impl Door {
    /// Takes all that is desired of the door, changed or not; answered with 200 by an
    /// [`Action::Answer`] of this or a later step once it is in force and on disk, with 500
    /// when it cannot be brought there.
    pub fn handle_desired(
        &mut self,
        now: &Now,
        ticket: Ticket,
        desired: &DesiredDoor,
    ) -> Vec<Action> {
        let mut turn = Turn::default();
        let changed = self.overrides != desired.settings;
        if changed {
            self.use_settings(&desired.settings);
            turn.save = true;
        }
        let mode = match desired.mode {
            DesiredMode::Absent => None,
            DesiredMode::Unreadable => self.array.desired_mode(),
            DesiredMode::Mode(mode) => Some(mode),
        };
        if mode != self.array.desired_mode() {
            self.act(
                now,
                ticket,
                Change::Desired(mode),
                0,
                Window::default(),
                &mut turn,
            );
        } else if changed {
            self.wait_for_disk(now, ticket, Purpose::Desired, &mut turn);
        } else {
            turn.answers.push((ticket, self.applied()));
        }
        self.finish(now, turn)
    }

    /// Uses other settings from here on; returns those that do not fit what is configured, which
    /// stay as configured.
    pub(super) fn use_settings(&mut self, overrides: &Overrides) -> Vec<Setting> {
        let (config, refused) = self.configured.with_overrides(overrides);
        self.overrides = overrides.clone();
        self.config = config;
        self.strike.follow_settings(&config);
        refused.into_iter().map(|(setting, _)| setting).collect()
    }

    pub(super) fn applied(&self) -> MethodReply {
        MethodReply::accepted("desired properties", true, self.report().status)
    }
}
