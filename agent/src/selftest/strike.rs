//! Test of the strike: moved after consent, observed by the bond and by the person, then left
//! without power to determine its fail mode.

use std::time::Duration;

use door_core::config::{FailMode, StrikeKind};
use door_core::{Outputs, StrikeConfig, Want};

use super::person::SelfTestError;
use super::{Finding, POLL_INTERVAL, PinVerdict, SKIP, SelfTest, WatchOutcome};

/// The answer that lets the strike move.
const CONSENT: &str = "drive";
/// Default pulse of a motor.
const PULSE: Duration = Duration::from_secs(2);

/// How to test a strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StrikeTest {
    lock: Drive,
    release: Drive,
    /// State without power; `None` for a motor, which stays where it is.
    without_power: Option<Want>,
    /// Outputs during the power cut: on for a coil without a time limit, so that the cut shows.
    while_cut: Outputs,
}

/// One move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Drive {
    outputs: Outputs,
    time: Duration,
    /// Outputs afterwards.
    then: Outputs,
}

impl StrikeTest {
    fn of(strike: &StrikeConfig) -> Self {
        let drive = |outputs, time, then| Drive {
            outputs,
            time,
            then,
        };
        let off = drive(Outputs::DeEnergised, strike.bond_time, Outputs::DeEnergised);
        match strike.kind {
            StrikeKind::MotorLock => {
                let pulse = strike.pulse.unwrap_or(PULSE);
                Self {
                    lock: drive(Outputs::Throw, pulse, Outputs::DeEnergised),
                    release: drive(Outputs::Retract, pulse, Outputs::DeEnergised),
                    without_power: None,
                    while_cut: Outputs::DeEnergised,
                }
            }
            StrikeKind::SolenoidBolt
            | StrikeKind::HoldStrike
            | StrikeKind::PulseStrike
            | StrikeKind::Maglock => {
                let (time, held) = match strike.max_on {
                    None => (strike.bond_time, Outputs::Energised),
                    Some(max_on) => (strike.bond_time.min(max_on), Outputs::DeEnergised),
                };
                let on = drive(Outputs::Energised, time, held);
                let (lock, release, without_power) = match strike.fail_mode() {
                    FailMode::Secure => (off, on, Want::Locked),
                    FailMode::Safe => (on, off, Want::Released),
                };
                Self {
                    lock,
                    release,
                    without_power: Some(without_power),
                    while_cut: held,
                }
            }
        }
    }
}

impl SelfTest {
    pub(super) async fn try_strike(&mut self) -> Result<(), SelfTestError> {
        let test = StrikeTest::of(&self.strike);
        let untested = |why: &str| Finding::Untested(why.to_owned());
        if let Some(why) = self.refusal_to_drive().await? {
            self.record_strike(untested(why));
            if let Some(bond) = self.index_of("bond") {
                self.record("bond", bond, untested("the strike was not driven"))?;
            }
            self.summary
                .add("fail mode", "", untested("the strike was not driven"));
            return Ok(());
        }
        self.moves(test).await?;
        self.fail_mode(test).await
    }

    /// Why the strike must not be driven; `None` if it may.
    async fn refusal_to_drive(&mut self) -> Result<Option<&'static str>, SelfTestError> {
        let pins = self.board.0.pins();
        if pins
            .iter()
            .any(|pin| pin.role == Some("door") && pin.fault.is_some())
        {
            return Ok(Some("whether the door is closed cannot be read"));
        }
        if let Some(door) = self.index_of("door") {
            if !self.level(door) {
                let closed = self
                    .watch(
                        door,
                        true,
                        "Close the door: a bolt must not move in an open one",
                    )
                    .await?;
                if !matches!(closed, WatchOutcome::Seen(PinVerdict::Right)) {
                    return Ok(Some("the door does not read closed"));
                }
            }
        }
        self.person.say(
            "The strike comes next. The bolt or lock will move: keep your hands off it, and make \
             sure that nobody needs the door.",
        )?;
        let answer = self
            .ask(&format!(
                "Type {CONSENT} to let it move; anything else skips it"
            ))
            .await?;
        Ok((answer != CONSENT).then_some("not allowed to move"))
    }

    async fn moves(&mut self, test: StrikeTest) -> Result<(), SelfTestError> {
        let locked = self.drive("Locking", test.lock, Want::Locked).await?;
        let released = self
            .drive("Releasing", test.release, Want::Released)
            .await?;
        let Some(bond) = self.index_of("bond") else {
            let finding = match (locked, released) {
                (Some(Want::Locked), Some(Want::Released)) => {
                    Finding::Fine("locks and releases, by your answers".to_owned())
                }
                (Some(Want::Released), Some(Want::Locked)) => Finding::Wrong(self.wrong_way()),
                (Some(_), Some(_)) => Finding::Wrong(self.does_not_move()),
                _ => Finding::Untested(SKIP.to_owned() + "ped"),
            };
            self.record_strike(finding);
            return Ok(());
        };
        let fine = |what: &str| Finding::Fine(what.to_owned());
        let untested = |what: &str| Finding::Untested(what.to_owned());
        let (strike, sensed) = match (locked, released) {
            (Some(Want::Locked), Some(Want::Released)) => (
                fine("locks and releases"),
                fine("thrown and not thrown seen"),
            ),
            (Some(Want::Released), Some(Want::Locked)) => match self
                .ask_whether("Bond and strike disagree. Is it released now?")
                .await?
            {
                Some(true) => (
                    fine("locks and releases, by your answers"),
                    Finding::Wrong(self.inverted(bond, "not thrown", "thrown")),
                ),
                Some(false) => (
                    Finding::Wrong(self.wrong_way()),
                    fine("thrown and not thrown seen"),
                ),
                None => (
                    untested("it moves; the direction was not answered"),
                    untested("it moves; the direction was not answered"),
                ),
            },
            _ => {
                let stays = if self.level(bond) {
                    "thrown"
                } else {
                    "not thrown"
                };
                match self
                    .ask_whether(&format!("The bond stayed {stays}. Has the lock moved?"))
                    .await?
                {
                    Some(true) => (
                        fine("moves, by your answer"),
                        Finding::Wrong(format!(
                            "stays {stays} while the lock moves: check wire, contact and pin"
                        )),
                    ),
                    Some(false) => (
                        Finding::Wrong(self.does_not_move()),
                        untested("the lock does not move"),
                    ),
                    None => (
                        untested("whether it moves was not answered"),
                        untested("whether the lock moves was not answered"),
                    ),
                }
            }
        };
        self.record_strike(strike);
        self.record("bond", bond, sensed)
    }

    /// Drives the strike and returns its state, by the bond or by the person's answer.
    async fn drive(
        &mut self,
        what: &str,
        drive: Drive,
        want: Want,
    ) -> Result<Option<Want>, SelfTestError> {
        self.person
            .say(&format!("  {what}, for {:?} at most", drive.time))?;
        let last_shown = self.bond_level();
        self.set(drive.outputs)?;
        let seen = self.settle(drive.time, Some(want), last_shown).await;
        self.set(drive.then)?;
        match seen? {
            Some(state) => Ok(Some(state)),
            None => {
                self.ask_state(if drive.then == drive.outputs {
                    "Is"
                } else {
                    "Was"
                })
                .await
            }
        }
    }

    /// Sets the outputs; an output that cannot be driven is shown, and the test goes on to judge
    /// what the strike did.
    fn set(&mut self, outputs: Outputs) -> Result<(), SelfTestError> {
        if let Err(fault) = self.board.0.drive(outputs) {
            self.person.say(&format!("  {}", fault.problem))?;
        }
        Ok(())
    }

    async fn ask_state(&mut self, verb: &str) -> Result<Option<Want>, SelfTestError> {
        let locked = self.ask_whether(&format!("{verb} it locked?")).await?;
        Ok(locked.map(|locked| if locked { Want::Locked } else { Want::Released }))
    }

    /// Waits until the bond shows `want`, or the time is over; returns the state that it shows.
    async fn settle(
        &mut self,
        time: Duration,
        want: Option<Want>,
        mut last_shown: Option<bool>,
    ) -> Result<Option<Want>, SelfTestError> {
        let bond = self.index_of("bond");
        let until = self.began.elapsed() + time;
        loop {
            let thrown = self.bond_level();
            if let (Some(bond), true) = (bond, thrown != last_shown) {
                last_shown = thrown;
                if let Some(pin) = self.board.0.pins().get(bond) {
                    self.person.say(&format!("  {}", super::describe(pin)))?;
                }
            }
            let state = thrown.map(|thrown| if thrown { Want::Locked } else { Want::Released });
            let reached = state.is_some() && state == want && last_shown == thrown;
            if self.began.elapsed() >= until || (reached && self.may_stop(want)) {
                return Ok(state);
            }
            // A line typed now answers no question.
            self.person.wait(POLL_INTERVAL).await?;
        }
    }

    fn bond_level(&self) -> Option<bool> {
        self.index_of("bond").map(|bond| self.level(bond))
    }

    /// Whether the bond may end the move: it proves a throw, but not a full retraction.
    fn may_stop(&self, want: Option<Want>) -> bool {
        want == Some(Want::Locked) || self.strike.kind != StrikeKind::MotorLock
    }

    async fn fail_mode(&mut self, test: StrikeTest) -> Result<(), SelfTestError> {
        let last_shown = self.bond_level();
        self.set(test.while_cut)?;
        let before = self.settle(self.strike.bond_time, None, last_shown).await?;
        self.person
            .say("Now cut the power of the lock: its own supply, not this machine's.")?;
        if self
            .ask(&format!("Enter when it is cut, {SKIP} to skip"))
            .await?
            == SKIP
        {
            self.set(Outputs::DeEnergised)?;
            self.summary
                .add("fail mode", "", Finding::Untested("skipped".to_owned()));
            return Ok(());
        }
        let last_shown = self.bond_level();
        let learned = match self.settle(self.strike.bond_time, None, last_shown).await? {
            Some(state) => Some(state),
            None => self.ask_state("Is").await?,
        };
        self.set(Outputs::DeEnergised)?;
        self.summary
            .add("fail mode", "", judge_fail_mode(test, before, learned));
        self.person.say("Restore the power of the lock.")?;
        self.ask("Enter when done").await?;
        Ok(())
    }

    fn record_strike(&mut self, finding: Finding) {
        let pins: Vec<_> = self
            .outputs
            .all()
            .into_iter()
            .filter_map(|(_, output)| Some(output?.pin.to_string()))
            .collect();
        let pins = if pins.is_empty() {
            "simulated".to_owned()
        } else {
            pins.join(", ")
        };
        self.summary.add("strike", &pins, finding);
    }

    fn wrong_way(&self) -> String {
        let fix = match self.strike.kind {
            StrikeKind::MotorLock => {
                "swap the wires of the motor, or the pins of [board.outputs.throw] and \
                 [board.outputs.retract]"
            }
            StrikeKind::SolenoidBolt
            | StrikeKind::HoldStrike
            | StrikeKind::PulseStrike
            | StrikeKind::Maglock => {
                "correct `active` of [board.outputs.coil], the relay's contact, or [strike] fail"
            }
        };
        format!("moves the wrong way: {fix}")
    }

    fn does_not_move(&self) -> String {
        "does not move: check its supply, its driver and the pins of [board.outputs]".to_owned()
    }
}

fn judge_fail_mode(test: StrikeTest, before: Option<Want>, learned: Option<Want>) -> Finding {
    match (test.without_power, learned) {
        (_, None) => Finding::Untested("its state without power was not answered".to_owned()),
        (Some(expected), Some(learned)) if expected == learned => {
            Finding::Fine(format!("{learned} without power, as configured"))
        }
        (Some(expected), Some(learned)) => Finding::Wrong(format!(
            "{learned} without power, but [strike] expects {expected}: correct `fail`, or the \
             wiring of the lock"
        )),
        (None, Some(learned)) if before.is_none_or(|before| before == learned) => {
            Finding::Fine(format!("stays as it is without power, {learned}"))
        }
        (None, Some(learned)) => Finding::Wrong(format!(
            "becomes {learned} without power, but a motor lock stays as it is: check [strike] kind"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coil_with_a_time_limit_is_never_left_on() {
        let mut coil = StrikeConfig::solenoid_bolt(FailMode::Secure);
        assert_eq!(StrikeTest::of(&coil).while_cut, Outputs::Energised);
        coil.max_on = Some(Duration::from_secs(1));
        let test = StrikeTest::of(&coil);
        assert_eq!(test.while_cut, Outputs::DeEnergised);
        assert_eq!(
            (test.release.time, test.release.then),
            (Duration::from_secs(1), Outputs::DeEnergised)
        );
        assert_eq!(test.lock.outputs, Outputs::DeEnergised);
        let motor = StrikeTest::of(&StrikeConfig::motor_lock());
        assert_eq!(
            [motor.lock.then, motor.release.then, motor.while_cut],
            [Outputs::DeEnergised; 3]
        );
    }

    #[test]
    fn the_observed_fail_mode_is_compared_with_the_configuration() {
        use Want::{Locked, Released};
        let safe = StrikeTest::of(&StrikeConfig::solenoid_bolt(FailMode::Safe));
        let secure = StrikeTest::of(&StrikeConfig::solenoid_bolt(FailMode::Secure));
        let motor = StrikeTest::of(&StrikeConfig::motor_lock());
        for (test, before, learned, expected) in [
            (
                safe,
                Some(Locked),
                Some(Released),
                Finding::Fine("released without power, as configured".to_owned()),
            ),
            (
                secure,
                Some(Released),
                Some(Locked),
                Finding::Fine("locked without power, as configured".to_owned()),
            ),
            (
                motor,
                Some(Released),
                Some(Released),
                Finding::Fine("stays as it is without power, released".to_owned()),
            ),
            (
                motor,
                None,
                None,
                Finding::Untested("its state without power was not answered".to_owned()),
            ),
        ] {
            assert_eq!(judge_fail_mode(test, before, learned), expected);
        }
        for (test, before, learned, expected) in [
            (
                safe,
                Some(Locked),
                Locked,
                "locked without power, but [strike] expects released",
            ),
            (
                secure,
                Some(Released),
                Released,
                "released without power, but [strike] expects locked",
            ),
            (
                motor,
                Some(Released),
                Locked,
                "becomes locked without power",
            ),
        ] {
            match judge_fail_mode(test, before, Some(learned)) {
                Finding::Wrong(detail) => assert!(detail.starts_with(expected), "{detail}"),
                other => panic!("{other:?} should be wrong: {expected}"),
            }
        }
    }
}
