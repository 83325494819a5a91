//! The door as a whole: authority array, strike, alarms, persistence, replies and events.
//!
//! Every call of a `handle_*` method is one step. A step applies the change, then its consequences
//! (expiries, strike, alarms, replies), and returns the actions: the difference between the outputs
//! before and after. A change of the strike is the first action. A lock is driven, then saved, then
//! answered; an unlock is saved, then driven, then answered. Timed entries and the week act before
//! the save; their record is the twin.

mod alarms;
mod answer;
mod change;
mod command;
mod desired;
mod disk;
mod driven;
mod event_limit;
mod forced_lock;
mod grant;
mod memory;
mod opening;
mod self_test;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::authority::{AuthorityArray, Entry, Expiry};
use crate::config::{DoorConfig, Overrides, Relock, Rest};
use crate::contract::{
    Alarm, Command, DoorReport, DoorState, LockState, LockStatus, MethodReply, Mode, Proof, Raised,
    Secured, Slot, Source, Want,
};
use crate::event::{Event, EventKind};
use crate::saved::SavedDoor;
use crate::schedule::{Agenda, EntryId, SAVE_INTERVAL, SavedAgenda, TimedReport, WeekReport};
use crate::sensing::{Input, Inputs, Sensing};
use crate::strike::{Failure, Outputs, Phase, RequiredRest, Strike, StrikeInputs};
use crate::time::{BootTime, Now};
use answer::Pending;
use disk::DiskWait;
use event_limit::{EventLimit, Subject};
use forced_lock::ForcedLock;
use grant::{FirstPerson, GrantContact};
pub(crate) use memory::AcceptedCommand;
use memory::CommandMemory;
use opening::Opening;

/// Identifies a method call that waits for its reply. The shell chooses the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Number of a state handed out to be saved; it grows with every save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(u64);

/// A state could not be saved. The shell has logged the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSaved;

/// What the shell has to do. Actions are carried out in the order returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set the outputs to this level, and call [`Door::handle_driven`] with the result.
    Drive(Outputs),
    /// Save the state. Call [`Door::handle_persisted`] once this state, or a later one, survives a
    /// power cut.
    Persist {
        /// Passed back to [`Door::handle_persisted`].
        generation: Generation,
        /// The state to save.
        saved: SavedDoor,
    },
    /// Reply to a method call.
    Answer {
        /// The call.
        ticket: Ticket,
        /// Status and body.
        reply: MethodReply,
    },
    /// Append this event to the event log.
    Record(Event),
    /// [`Door::report`] has changed: update the reported properties.
    Report,
}

/// While a hold or grant runs, its remaining time is saved each time 1/32 of it has passed. A
/// reboot without a clock resumes from that save; a fixed interval would write to the card every
/// minute of a long night.
const REMAINDER_PART: u32 = 32;
/// Minimum time between two such saves.
const REMAINDER_INTERVAL: Duration = Duration::from_secs(60);
/// After a change of the fire latch is saved, it is saved again after this time: see
/// `Door::persist`.
const LATCH_AGAIN: Duration = Duration::from_secs(1);
/// Delay before a failed save is retried.
const SAVE_RETRY: Duration = Duration::from_secs(5);

/// One door.
#[derive(Debug, Clone)]
pub struct Door {
    /// As configured in the file.
    configured: DoorConfig,
    /// `configured` with the desired settings applied.
    config: DoorConfig,
    overrides: Overrides,
    array: AuthorityArray,
    agenda: Agenda,
    /// Boot-clock deadline of the proof for the timed entry that began last.
    timed_proof_by: Option<BootTime>,
    sensing: Sensing,
    strike: Strike,
    alarms: BTreeMap<Alarm, Raised>,
    opening: Opening,
    event_limit: EventLimit,
    /// Exit button and reader, while still active after somebody has passed through.
    active_after_passage: BTreeSet<Slot>,
    /// The key switch has been seen idle since the fire release was last active: turning it now
    /// ends the latch.
    reset_armed: bool,
    forced_lock: ForcedLock,
    grant: GrantContact,
    first_person: FirstPerson,
    /// Boot-clock time until which an exit button that only reports explains an opening.
    exit_until: Option<BootTime>,
    /// Boot-clock time of the latest step.
    stepped_at: BootTime,
    memory: CommandMemory,
    /// Calls that wait for their reply, oldest first.
    pending: Vec<Pending>,
    disk_waits: Vec<DiskWait>,
    /// The save of the last change by desired properties, until that or a later one is on disk.
    unsaved_desired: Option<Generation>,
    generation: Generation,
    /// When to save without a change of state.
    save_due: Option<BootTime>,
    /// Whether the latest save contains the fire latch.
    latch_saved: bool,
    /// The output that could not be set last, and why.
    output_fault: Option<String>,
    /// Outputs and report according to the actions returned so far.
    driven: Outputs,
    reported: DoorReport,
}

/// Effects of one step, apart from the state itself.
#[derive(Debug, Default)]
struct StepEffects {
    /// The saved part of the state has changed.
    save: bool,
    /// A new request: the strike retries now instead of waiting for the next attempt.
    retry_now: bool,
    events: Vec<EventKind>,
    answers: Vec<(Ticket, MethodReply)>,
}

impl Door {
    /// Creates a door at start. `restored` is the saved state, which applies again. Nothing is
    /// driven until the inputs have been read.
    #[must_use]
    pub fn new(config: DoorConfig, restored: Option<&SavedDoor>, now: &Now) -> (Self, Vec<Action>) {
        let mut array = AuthorityArray::new(config.relinquish_default());
        let mut effects = StepEffects::default();
        let mut memory = CommandMemory::default();
        let mut agenda = Agenda::default();
        if let Some(saved) = restored {
            // Another version leaves the agenda out: who changed what since is unknown.
            let unknown = SavedAgenda::default().with_unknown_moments();
            let timed = saved.agenda.as_deref().unwrap_or(&unknown);
            agenda = Agenda::restore(timed, &saved.boot_id, saved.saved_at, now);
            let dropped = saved.restore(now, config.fitted, &mut array);
            // Save again: the remaining time of a hold now counts on this boot's clock.
            effects.save = saved.boot_id != now.boot_id || !dropped.is_empty();
            if let Some(reason) = array.in_doubt().map(str::to_owned) {
                effects.save = true;
                effects.events.push(EventKind::StateInDoubt { reason });
            }
            let dropped = dropped.into_iter();
            effects
                .events
                .extend(dropped.map(|(slot, why)| EventKind::Dropped { slot, why }));
            memory = CommandMemory::restore(&saved.commands, &saved.command_details);
        }
        let sensing = Sensing::new(config.fitted);
        let strike = Strike::new(&config, now.boottime);
        let mut door = Self {
            reported: report(&array, &sensing, &strike, &BTreeMap::new(), false),
            configured: config,
            config,
            overrides: Overrides::new(),
            array,
            agenda,
            timed_proof_by: None,
            sensing,
            strike,
            alarms: BTreeMap::new(),
            opening: Opening::default(),
            event_limit: EventLimit::default(),
            active_after_passage: BTreeSet::new(),
            reset_armed: false,
            forced_lock: ForcedLock::default(),
            grant: GrantContact::default(),
            first_person: FirstPerson::default(),
            exit_until: None,
            stepped_at: now.boottime,
            memory,
            pending: Vec::new(),
            disk_waits: Vec::new(),
            unsaved_desired: None,
            generation: Generation::default(),
            save_due: None,
            latch_saved: false,
            output_fault: None,
            driven: Outputs::DeEnergised,
        };
        if let Some(saved) = restored {
            let refused = door.use_settings(&saved.settings());
            let refused = refused.into_iter().map(|setting| setting.name());
            for setting in saved.unknown_settings().chain(refused) {
                let setting = setting.to_owned();
                effects.events.push(EventKind::SettingDropped { setting });
            }
            effects.save |= saved.unknown_settings().next().is_some();
            match saved.lock_forced {
                Some(raised) if config.fitted.bond => {
                    door.forced_lock.restore();
                    door.alarms.insert(Alarm::LockForced, raised);
                }
                // The bond sensor that raised it is not fitted.
                Some(_) => {
                    let alarm = Alarm::LockForced;
                    effects.events.push(EventKind::AlarmCleared { alarm });
                    effects.save = true;
                }
                None => {}
            }
        }
        // Counted from the last save: restarts do not put it off.
        door.save_due = restored.and_then(|saved| door.next_save(&door.array, saved.saved_at));
        if door.agenda.awaits_proof() {
            door.timed_proof_by = Some(door.proof_by(now));
        }
        let actions = door.finish(now, effects);
        (door, actions)
    }

    /// Handles a reading of all inputs. Readings are levels and may be unchanged.
    pub fn handle_inputs(&mut self, now: &Now, inputs: Inputs) -> Vec<Action> {
        let mut effects = StepEffects::default();
        let before = self.sensing.inputs();
        self.sensing.read(now.boottime, inputs);
        let inputs = self.sensing.inputs();
        let settings = self.config.settings;
        let grant_max = settings.grant_max.max(settings.strike_time);
        // What the activation leaves is counted from before this reading, which may end it.
        let granted = self.grant.is_active();
        let mut grant_left = self.grant.left(now.boottime, grant_max);
        self.grant.read(now.boottime, inputs.grant, grant_max);
        if self.blocks_grant() {
            self.grant.block();
        }
        if self.grant.is_active() {
            grant_left = self.grant.left(now.boottime, grant_max);
        }
        for (input, slot, was, is, longest, event) in [
            (
                Input::REX,
                Slot::RequestToExit,
                before.rex == Some(true),
                inputs.rex == Some(true),
                Duration::MAX,
                EventKind::RequestToExit,
            ),
            (
                Input::GRANT,
                Slot::LocalGrant,
                granted,
                self.grant.is_active(),
                grant_left,
                EventKind::LocalGrant,
            ),
        ] {
            if is && !was {
                self.active_after_passage.remove(&slot);
                effects.retry_now |=
                    slot != Slot::RequestToExit || !self.config.fitted.rex_reports_only;
                // An input in fault records a count of changes instead of an event for each.
                if !self.sensing.is_faulty(input) {
                    effects.events.push(event);
                }
            }
            if (is || was) && slot == Slot::RequestToExit && self.config.fitted.rex_reports_only {
                self.exit_until = Some(now.boottime + settings.strike_time);
            } else if is || was {
                let passed = !is && self.active_after_passage.remove(&slot);
                let time = if passed {
                    settings.relock_delay.min(settings.strike_time)
                } else {
                    settings.strike_time
                };
                let expiry = Expiry::after(time.min(longest), now);
                self.array
                    .fill(slot, Entry::new(Want::Released, Some(expiry)));
            }
        }
        let is_granted = !granted && self.grant.is_active();
        let opens = match self.config.fitted.door {
            true => before.closed == Some(true) && inputs.closed == Some(false),
            false => is_granted,
        };
        let reading = (inputs.grant, is_granted, opens);
        if self
            .first_person
            .came_in(now.boottime, reading, settings.strike_time)
        {
            effects.save |= self.agenda.first_person(now.boottime);
        }
        self.relock(now, &before, &inputs, &mut effects);
        self.update_fire_release(&before, &inputs, &mut effects);
        self.finish(now, effects)
    }

    /// Handles a method call. An [`Action::Answer`] of this or a later step replies to it.
    pub fn handle_command(&mut self, now: &Now, ticket: Ticket, command: &Command) -> Vec<Action> {
        let mut effects = StepEffects::default();
        self.accept(now, ticket, command, &mut effects);
        self.finish(now, effects)
    }

    /// Handles the result of a save: this generation and all earlier ones are on disk, or the save
    /// failed.
    pub fn handle_persisted(
        &mut self,
        now: &Now,
        generation: Generation,
        result: Result<(), NotSaved>,
    ) -> Vec<Action> {
        let mut effects = StepEffects::default();
        for wait in &mut self.disk_waits {
            wait.handle_persisted(generation, result);
        }
        match result {
            Ok(()) => {
                self.unsaved_desired = self.unsaved_desired.filter(|it| *it > generation);
                self.handle_saved(now, generation, &mut effects);
            }
            Err(NotSaved) => {
                self.handle_save_failed(generation);
                self.save_due = Some(now.boottime + SAVE_RETRY);
                self.latch_saved = false;
            }
        }
        self.finish(now, effects)
    }

    /// Handles the passage of time. The shell calls it when [`Door::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: &Now) -> Vec<Action> {
        self.finish(now, StepEffects::default())
    }

    /// Boot-clock time of the next [`Door::handle_timeout`]; `None` when nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let strike = self
            .sensing
            .has_read()
            .then(|| self.strike.poll_timeout(&self.strike_inputs(false)));
        [
            strike.flatten(),
            self.array.poll_timeout(),
            self.sensing.poll_timeout(self.stepped_at),
            self.opening.poll_timeout(&self.config.settings),
            self.event_limit.poll_timeout(),
            self.forced_lock.poll_timeout(),
            self.exit_until.filter(|until| *until > self.stepped_at),
            self.agenda.poll_timeout(self.stepped_at),
            self.timed_proof_by
                .filter(|by| *by > self.stepped_at && self.agenda.awaits_result()),
            self.pending.iter().map(Pending::deadline).min(),
            self.disk_waits.iter().map(DiskWait::deadline).min(),
            self.save_due,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The level that the outputs must have now.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        self.strike.outputs()
    }

    /// The state as reported to the hub.
    #[must_use]
    pub fn report(&self) -> DoorReport {
        let has_fault = self.output_fault.is_some();
        let mut report = report(
            &self.array,
            &self.sensing,
            &self.strike,
            &self.alarms,
            has_fault,
        );
        if let Some(held) = &mut report.status.held_by {
            held.since = self.agenda.silenced_since(held.slot, self.stepped_at);
        }
        report
    }

    /// Where the strike rests when it is de-energised.
    #[must_use]
    pub fn rest(&self) -> Rest {
        self.config.rest()
    }

    /// The authority array: the deciding slot and the others.
    #[must_use]
    pub fn authority(&self) -> &AuthorityArray {
        &self.array
    }

    /// The timed entries and what became of each.
    #[must_use]
    pub fn timed(&self) -> &BTreeMap<EntryId, TimedReport> {
        self.agenda.timed()
    }

    /// The week, if one is assigned.
    #[must_use]
    pub fn week(&self) -> Option<WeekReport> {
        self.agenda.week(self.stepped_at)
    }

    /// Number of calls that have not been answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.pending.len() + self.disk_waits.len()
    }

    /// Ends releases by button, reader and pulse early once somebody has passed through.
    fn relock(&mut self, now: &Now, before: &Inputs, inputs: &Inputs, effects: &mut StepEffects) {
        let settings = &self.config.settings;
        let gone_through = match settings.relock {
            Relock::AfterTime => false,
            Relock::OnOpen => before.closed == Some(true) && inputs.closed == Some(false),
            Relock::OnClose => before.closed == Some(false) && inputs.closed == Some(true),
        };
        if !gone_through {
            return;
        }
        let expiry = Expiry::after(settings.relock_delay, now);
        for (slot, pressed) in [
            (Slot::RequestToExit, inputs.rex == Some(true)),
            (Slot::LocalGrant, self.grant.is_active()),
        ] {
            if pressed {
                self.active_after_passage.insert(slot);
            } else {
                self.array.shorten(slot, expiry);
            }
        }
        let pulse = self.array.get(Slot::OperatorGrant);
        if pulse.is_some_and(|entry| entry.one_passage) {
            effects.save |= self.array.shorten(Slot::OperatorGrant, expiry);
        }
    }

    /// During a lockdown the reader releases nothing, unless the configuration allows it.
    fn blocks_grant(&self) -> bool {
        !self.config.settings.grant_in_lockdown && self.array.get(Slot::Lockdown).is_some()
    }

    fn update_fire_release(&mut self, before: &Inputs, inputs: &Inputs, effects: &mut StepEffects) {
        let latched = self.array.get(Slot::FireRelease).is_some();
        if inputs.fire == Some(true) {
            effects.retry_now |= before.fire != Some(true);
            if !latched {
                self.array
                    .fill(Slot::FireRelease, Entry::new(Want::Released, None));
                effects.events.push(EventKind::FireRelease);
                effects.save = true;
            }
        } else if latched && self.reset_armed && inputs.fire_reset == Some(true) {
            self.array.clear(Slot::FireRelease);
            effects.events.push(EventKind::FireReset);
            effects.save = true;
        }
        // Turning the key switch while the fire release is active is not a reset: a switch left
        // turned would lock the door as soon as the wire of the fire release burns through.
        let is_over = inputs.fire == Some(false);
        let latched = self.array.get(Slot::FireRelease).is_some();
        self.reset_armed =
            latched && is_over && (self.reset_armed || inputs.fire_reset == Some(false));
    }

    /// Completes a step: applies its consequences and returns the actions.
    fn finish(&mut self, now: &Now, mut effects: StepEffects) -> Vec<Action> {
        self.stepped_at = now.boottime;
        self.sensing.advance(now.boottime);
        if self.sensing.is_faulty(Input::GRANT) || self.blocks_grant() {
            self.grant.block();
            self.array.clear(Slot::LocalGrant);
        }
        self.expire(now, &mut effects);
        self.look_at_agenda(now, &mut effects);
        let present = self.agenda.present(now.boottime);
        self.array.date_lockdown(present);
        let was_thrown = self.strike.is_thrown();
        let may_open = self.may_open(now.boottime);
        if self.sensing.has_read() {
            let strike_inputs = self.strike_inputs(effects.retry_now);
            self.strike.advance(now.boottime, &strike_inputs);
        }
        let bolt_left = was_thrown
            && !self.strike.is_thrown()
            && self.array.want() == Want::Locked
            && self.sensing.inputs().bonded == Some(false);
        self.update_alarms(now, bolt_left, may_open, &mut effects);
        let mut actions = Vec::new();
        let outputs = self.outputs();
        if outputs == self.driven {
            self.prove_timed(now, &mut effects);
            self.answer_pending(now, &mut effects);
            self.answer_disk_waits(now, &mut effects);
        } else {
            // The next step answers: whether the outputs could be set is known then.
            self.driven = outputs;
            actions.push(Action::Drive(outputs));
        }
        let report = self.report();
        let report_changed = report != self.reported;
        self.record_changes(&report, &mut effects);
        self.reported = report;
        if effects.save || self.save_due.is_some_and(|due| due <= now.boottime) {
            actions.push(self.persist(now));
        }
        let events = effects.events.into_iter();
        actions.extend(events.map(|kind| Action::Record(Event::new(now, kind))));
        actions.extend(
            effects
                .answers
                .into_iter()
                .map(|(ticket, reply)| Action::Answer { ticket, reply }),
        );
        if report_changed {
            actions.push(Action::Report);
        }
        actions
    }

    fn expire(&mut self, now: &Now, effects: &mut StepEffects) {
        // Save what was learned from the clock: after a restart it may read something else.
        effects.save |= self.array.follow_clock(now);
        for slot in self.array.expire(now) {
            if !slot.is_at_the_door() {
                let want = self.array.want();
                effects.events.push(EventKind::Expired { slot, want });
                effects.save = true;
            }
        }
    }

    fn look_at_agenda(&mut self, now: &Now, effects: &mut StepEffects) {
        let look = self.agenda.look(now, &mut self.array);
        for id in look.changed {
            if let Some(event) = self.agenda.event(&id) {
                if self.event_limit.admit(Subject::Timed(id), now.boottime) {
                    effects.events.push(event);
                }
            }
        }
        effects.events.extend(look.events);
        effects.save |= look.save;
        if look.started {
            effects.retry_now = true;
            self.timed_proof_by = Some(self.proof_by(now));
        }
    }

    /// The rest that coil or motor needs, when that keeps the strike from doing what is wanted.
    fn required_rest(&self) -> Option<RequiredRest> {
        let has_read = self.sensing.has_read();
        has_read.then(|| self.strike.required_rest(&self.strike_inputs(false)))?
    }

    fn strike_inputs(&self, retry_now: bool) -> StrikeInputs {
        let inputs = self.sensing.inputs();
        StrikeInputs {
            want: self.array.want(),
            at_the_door: self
                .array
                .winner()
                .is_some_and(|(slot, _)| slot.is_at_the_door()),
            retry_now,
            closed: inputs.closed,
            reads_open: self.sensing.reads_open(),
            closed_since: self.sensing.closed_since(),
            bonded: inputs.bonded,
        }
    }

    /// Whether people may open the door although the array does not release it: by a handle whose
    /// exit button only reports, or because the lock is still as released as the start found it.
    fn may_open(&self, at: BootTime) -> bool {
        let found_released = match self.config.rest() {
            Rest::Released => true,
            Rest::Locked => false,
            Rest::Stays => self.sensing.inputs().bonded == Some(false),
        };
        let is_untouched = self.sensing.has_read() && self.strike.is_untouched();
        (found_released && is_untouched) || self.exit_until.is_some_and(|until| at < until)
    }

    fn record_changes(&self, report: &DoorReport, effects: &mut StepEffects) {
        let ordered = |report: &DoorReport| (report.mode, report.lockdown.clone());
        if ordered(&self.reported) != ordered(report) {
            let (mode, lockdown) = ordered(report);
            effects.events.push(EventKind::Mode { mode, lockdown });
            let maintained = |mode| mode == Mode::Maintenance;
            if maintained(self.reported.mode) != maintained(report.mode) {
                // Record all raised alarms again: from here on they are hidden, or shown.
                let standing = self.alarms.keys();
                effects
                    .events
                    .extend(standing.map(|alarm| self.alarm_event(*alarm)));
            }
        }
        let (was, is) = (&self.reported.status, &report.status);
        if was.door_state != is.door_state {
            effects.events.push(EventKind::DoorState {
                door_state: is.door_state,
            });
        }
        if was.lock_state != is.lock_state {
            effects.events.push(EventKind::LockState {
                lock_state: is.lock_state,
                secured: is.secured,
                proof: is.proof,
                source: self.source(is.lock_state),
            });
        }
    }

    fn source(&self, lock_state: LockState) -> Source {
        let exhausted = matches!(
            self.strike.phase(),
            Phase::Failed {
                why: Failure::Exhausted,
                ..
            }
        );
        let against_the_array = self.array.want() == Want::Locked
            && matches!(lock_state, LockState::Unlocked | LockState::Unlocking);
        match self.array.winner() {
            _ if exhausted => Source::Protection,
            // No input or command asked for it: a handle, or a door opened during the throw.
            _ if against_the_array => Source::Local,
            Some((slot, _)) => slot.source(),
            None => Source::Schedule,
        }
    }

    fn persist(&mut self, now: &Now) -> Action {
        self.generation = self.next_generation();
        let mut array = self.array.clone();
        let mut superseded = BTreeMap::new();
        for pending in &self.pending {
            pending.preview(&mut array);
            let slots = array.take_superseded().into_iter();
            superseded.extend(slots.map(|slot| (slot, pending.accepted())));
        }
        let agenda = self.agenda.to_saved(now.boottime, &superseded);
        self.save_due = self.next_save(&array, now.boottime);
        let latched = array.get(Slot::FireRelease).is_some();
        if latched != self.latch_saved {
            // Saved twice, so that both state files contain it: losing one file must lock nobody
            // in.
            self.latch_saved = latched;
            self.save_due = Some(now.boottime + LATCH_AGAIN);
        }
        Action::Persist {
            generation: self.generation,
            saved: SavedDoor {
                lock_forced: self.alarms.get(&Alarm::LockForced).copied(),
                agenda: Some(Box::new(agenda)),
                ..SavedDoor::new(now, &array, &self.overrides, self.memory.to_saved())
            },
        }
    }

    /// When to save again after a save at `saved_at` without a change of state.
    fn next_save(&self, array: &AuthorityArray, saved_at: BootTime) -> Option<BootTime> {
        let temporary = array
            .stored()
            .filter(|(slot, _)| !slot.is_at_the_door())
            .filter_map(|(_, entry)| entry.expiry);
        let intervals = temporary.map(|expiry| {
            let left = expiry.ends().since(saved_at);
            (left / REMAINDER_PART).max(REMAINDER_INTERVAL)
        });
        let timed = self.agenda.is_live().then_some(SAVE_INTERVAL);
        let interval = intervals.chain(timed).min()?;
        Some(saved_at + interval)
    }

    /// The generation that this step will save.
    fn next_generation(&self) -> Generation {
        Generation(self.generation.0 + 1)
    }
}

fn report(
    array: &AuthorityArray,
    sensing: &Sensing,
    strike: &Strike,
    alarms: &BTreeMap<Alarm, Raised>,
    has_output_fault: bool,
) -> DoorReport {
    let (lock_state, proof) = if has_output_fault {
        (LockState::Unknown, Proof::None)
    } else {
        let lock_state = strike.lock_state(sensing.inputs().bonded);
        (lock_state, sensing.proof(lock_state))
    };
    let door_state = sensing.door_state();
    let has_fault = !sensing.position_faults().is_empty();
    DoorReport {
        status: LockStatus {
            lock_state,
            door_state,
            secured: secured(lock_state, door_state, has_fault, alarms),
            proof,
            locked_until: array.locked_until(),
            held_by: array.held_by(),
        },
        mode: array.mode(),
        lockdown: array.lockdown().cloned(),
        // Mode maintenance hides the alarms. `secured` still depends on them.
        alarms: match array.mode() {
            Mode::Maintenance => BTreeMap::new(),
            _ => alarms.clone(),
        },
    }
}

/// Secured: locked, closed and no fault. Unsecured if any of these is known to be false, else
/// unknown. `has_fault`: door contact or lock monitor is in fault; no other input bears on it.
fn secured(
    lock_state: LockState,
    door_state: DoorState,
    has_fault: bool,
    alarms: &BTreeMap<Alarm, Raised>,
) -> Secured {
    let raised = |alarm| alarms.contains_key(&alarm);
    match (lock_state, door_state) {
        (_, DoorState::Open) => Secured::Unsecured,
        (LockState::Unknown, _) => Secured::Unknown,
        (LockState::Locked, _) if has_fault => Secured::Unknown,
        (LockState::Locked, DoorState::Unknown) => Secured::Unknown,
        (LockState::Locked, DoorState::Closed)
            if !raised(Alarm::LockFault)
                && !raised(Alarm::Jammed)
                && !raised(Alarm::LockForced) =>
        {
            Secured::Secured
        }
        _ => Secured::Unsecured,
    }
}
