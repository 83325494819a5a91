//! Raises and clears the alarms of a step, and records them within the limits on events.

use super::event_limit::Subject;
use super::{Door, StepEffects};
use crate::contract::{Alarm, Mode, Raised, Want};
use crate::event::EventKind;
use crate::sensing::{FaultReport, Input};
use crate::time::{BootTime, Now};

impl Door {
    /// `bolt_left`: in this step the bolt left its thrown position although locked is wanted.
    /// `may_open`: see [`Door::may_open`], as before this step.
    ///
    /// `jammed` stays until a movement is proven, `lockFault` while coil or motor must rest or an
    /// output cannot be driven, `forcedOpen` and `heldOpen` until the door closes, `lockForced`
    /// until a command is accepted. `sensorFault` and `tamper` follow the readings.
    pub(super) fn update_alarms(
        &mut self,
        now: &Now,
        bolt_left: bool,
        may_open: bool,
        effects: &mut StepEffects,
    ) {
        let at = now.boottime;
        self.set_alarm(Alarm::SensorFault, self.sensing.has_fault(), now, effects);
        for report in self.sensing.take_reports() {
            if self.event_limit.admit(Subject::Input(report.input), at) {
                effects.events.push(report.into());
            }
        }
        let inputs = self.sensing.inputs();
        let settings = &self.config.settings;
        let opening = &mut self.opening;
        if opening.step(at, inputs.closed, may_open, &self.array, settings)
            && self.array.mode() != Mode::Maintenance
        {
            let alarm = Alarm::HeldOpen;
            if self.event_limit.admit(Subject::Alarm(alarm), at) {
                effects.events.push(EventKind::PreAlarm { alarm });
            }
        }
        // Without a door position switch, nothing shows whether the door opened after the bolt
        // left.
        let bolt_left = bolt_left && self.config.fitted.door && self.opening.is_unreleased(at);
        let is_released = may_open || self.array.want() == Want::Released;
        let bond_time = self.config.bond_time;
        self.forced_lock
            .step(at, bolt_left, inputs.closed, is_released, bond_time);
        let is_forced = self.forced_lock.is_raised();
        effects.save |= is_forced != self.alarms.contains_key(&Alarm::LockForced);
        self.set_alarm(Alarm::LockForced, is_forced, now, effects);
        self.set_alarm(Alarm::ForcedOpen, self.opening.is_forced(), now, effects);
        self.set_alarm(Alarm::HeldOpen, self.opening.is_held(), now, effects);
        // A tamper input in fault can raise the alarm but not clear it.
        let holds =
            self.sensing.is_faulty(Input::TAMPER) && self.alarms.contains_key(&Alarm::Tamper);
        self.set_alarm(
            Alarm::Tamper,
            inputs.tamper == Some(true) || holds,
            now,
            effects,
        );
        self.set_alarm(Alarm::Jammed, self.strike.is_jammed(), now, effects);
        self.set_alarm(
            Alarm::LockFault,
            self.required_rest().is_some() || self.output_fault.is_some(),
            now,
            effects,
        );
        self.record_omitted(at, effects);
    }

    /// Records, for each subject whose minute has ended, how many events were omitted and the
    /// current state.
    fn record_omitted(&mut self, at: BootTime, effects: &mut StepEffects) {
        for (subject, omitted) in self.event_limit.take_due(at) {
            self.event_limit.admit(subject.clone(), at);
            match subject {
                Subject::Alarm(alarm) => {
                    effects
                        .events
                        .push(EventKind::AlarmRepeated { alarm, omitted });
                    effects.events.push(if self.alarms.contains_key(&alarm) {
                        self.alarm_event(alarm)
                    } else {
                        EventKind::AlarmCleared { alarm }
                    });
                }
                Subject::Input(input) => {
                    let report = self.sensing.fault_report(input);
                    effects.events.extend(report.map(EventKind::from));
                }
                Subject::Timed(id) => {
                    let state = self.agenda.event(&id);
                    let repeated = EventKind::TimedRepeated { id, omitted };
                    effects
                        .events
                        .extend([Some(repeated), state].into_iter().flatten());
                }
            }
        }
    }

    fn set_alarm(&mut self, alarm: Alarm, raised: bool, now: &Now, effects: &mut StepEffects) {
        if raised == self.alarms.contains_key(&alarm) {
            return;
        }
        let event = if raised {
            let since = now.trusted_wall();
            self.alarms.insert(alarm, Raised { since });
            self.alarm_event(alarm)
        } else {
            self.alarms.remove(&alarm);
            EventKind::AlarmCleared { alarm }
        };
        if self.event_limit.admit(Subject::Alarm(alarm), now.boottime) {
            effects.events.push(event);
        }
    }

    /// The event for an alarm that is raised, in the current mode.
    pub(super) fn alarm_event(&self, alarm: Alarm) -> EventKind {
        match self.array.mode() {
            Mode::Maintenance => EventKind::AlarmSuppressed { alarm },
            _ => EventKind::AlarmRaised {
                alarm,
                reason: self
                    .output_fault
                    .clone()
                    .filter(|_| alarm == Alarm::LockFault),
            },
        }
    }
}

impl From<FaultReport> for EventKind {
    fn from(report: FaultReport) -> Self {
        Self::InputFault {
            input: report.input.key().to_owned(),
            fault: report.fault,
            changes: report.changes,
            ended: report.ended,
        }
    }
}
