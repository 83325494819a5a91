//! Desired properties: a mode acts only if it differs from the one last applied; settings take
//! effect at once.

use super::change::ArrayChange;
use super::disk::Purpose;
use super::{Action, Door, StepEffects, Ticket};
use crate::config::{Overrides, Setting};
use crate::contract::{CommandHeader, MethodReply};
use crate::desired::{DesiredDoor, DesiredMode};
use crate::time::Now;

impl Door {
    /// Handles all desired properties of the door, changed or not. An [`Action::Answer`] of this or
    /// a later step replies with 200 once they are applied and on disk, with 500 if they could
    /// not be saved.
    pub fn handle_desired(
        &mut self,
        now: &Now,
        ticket: Ticket,
        desired: &DesiredDoor,
    ) -> Vec<Action> {
        let mut effects = StepEffects::default();
        let changed = self.overrides != desired.settings;
        if changed {
            self.use_settings(&desired.settings);
            effects.save = true;
        }
        // An earlier desired mode may still wait for the disk: the newest one has to follow it.
        let accepted = self.array_after_pending().desired_mode();
        let mode = match desired.mode {
            DesiredMode::Absent => None,
            DesiredMode::Unreadable => accepted,
            DesiredMode::Mode(mode) => Some(mode),
        };
        if mode != accepted || mode != self.array.desired_mode() {
            self.act(
                now,
                ticket,
                ArrayChange::Desired(mode),
                0,
                CommandHeader::default(),
                &mut effects,
            );
        } else if changed {
            self.wait_for_disk(now, ticket, Purpose::Desired, &mut effects);
        } else {
            effects.answers.push((ticket, self.applied()));
        }
        self.finish(now, effects)
    }

    /// Applies settings; returns those that do not fit the configuration and therefore keep their
    /// configured value.
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
