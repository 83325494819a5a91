//! Desired properties: a mode acts only if it differs from the one last applied, a lockdown once
//! per id; settings take effect at once.

use super::change::ArrayChange;
use super::disk::Purpose;
use super::memory::AcceptedCommand;
use super::{Action, Door, StepEffects, Ticket};
use crate::authority::{AppliedLockdown, AuthorityArray};
use crate::config::{Overrides, Setting};
use crate::contract::{Command, CommandHeader, LockdownOrder, MethodReply};
use crate::desired::{DesiredDoor, DesiredLockdown, DesiredMode};
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
        self.array.keep_unstored_mode(None);
        let (mut changed, removed) = self.agenda.desire(
            &desired.timed,
            desired.schedule.as_ref(),
            desired.timed_version,
            now.boottime,
        );
        effects.events.extend(removed);
        if self.overrides != desired.settings {
            self.use_settings(&desired.settings);
            changed = true;
        }
        // What the disk refused is not applied yet, although it acts.
        changed |= self.unsaved_desired.is_some();
        effects.save |= changed;
        let lockdown = self.desired_lockdown(now, &desired.lockdown, &mut effects);
        // An earlier desired mode may still wait for the disk: the newest one has to follow it.
        let planned = self.array_after_pending();
        let accepted = planned.desired_mode();
        let mode = match desired.mode {
            DesiredMode::Absent => None,
            DesiredMode::Unreadable => accepted,
            DesiredMode::Mode(mode) => Some(mode),
        };
        let differs = |array: &AuthorityArray| {
            mode != array.desired_mode() || lockdown.as_ref() != array.desired_lockdown()
        };
        if differs(&planned) || differs(&self.array) {
            self.act(
                now,
                ticket,
                ArrayChange::Desired { mode, lockdown },
                0,
                CommandHeader::default(),
                &mut effects,
            );
        } else if changed {
            self.wait_for_disk(now, ticket, Purpose::Desired, &mut effects);
        } else {
            effects.answers.push((ticket, self.applied()));
        }
        if effects.save {
            self.unsaved_desired = Some(self.next_generation());
        }
        self.finish(now, effects)
    }

    /// The desired lockdown to follow. One with a new id locks at once, before the disk.
    fn desired_lockdown(
        &mut self,
        now: &Now,
        desired: &DesiredLockdown,
        effects: &mut StepEffects,
    ) -> Option<AppliedLockdown> {
        let planned = self.array_after_pending().desired_lockdown().cloned();
        match desired {
            DesiredLockdown::Absent => None,
            DesiredLockdown::Unreadable => planned,
            DesiredLockdown::Lost => {
                effects.save |= self.array.desired_lockdown().is_some();
                self.array.keep_lost_lockdown();
                None
            }
            DesiredLockdown::Lockdown { lockdown, version } => {
                let (id, version) = (lockdown.id.clone()?, *version);
                let is_applied = planned.is_some_and(|applied| applied.id == id);
                // As the method would be remembered: its call is a duplicate.
                let call = Command::Lockdown(LockdownOrder::default());
                let (method, digest) = (call.method(), call.digest());
                let has_acted = self.memory.contains(&id)
                    && self.memory.conflict(&id, method, digest).is_none();
                if !is_applied && !has_acted {
                    self.apply_now(now, &ArrayChange::Lockdown(lockdown.clone()));
                    let details = AcceptedCommand::new(method, digest, now.trusted_wall());
                    self.memory.remember(&id, details);
                    effects.save = true;
                    effects.retry_now = true;
                }
                Some(AppliedLockdown { id, version })
            }
        }
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
