//! `door-agent selftest`: guides an installer through the wiring of a door, wire by wire, and finds
//! wrong wiring and configuration.
//!
//! It holds the pins itself, so no agent may run at the same time. The strike moves only after
//! typed consent, and is de-energised however the test ends. It uses neither hub nor state; the
//! result is a [`Summary`]. On a simulated board an answer may be an action of `door-agent sim`.

mod person;
mod strike;
mod summary;
mod watch;

use std::time::Duration;

use door_core::{Outputs, StrikeConfig};
use tokio::time::Instant;

use crate::gpio::config::OutputPins;
use crate::gpio::simulated::{SimCommand, SimHandle};
use crate::gpio::{PinLevel, WiredBoard, words};
use person::PersonInput;
pub use person::{Person, SelfTestError};
pub use summary::{Finding, Summary, SummaryRow};
use watch::{PinVerdict, PinWatch};

/// Poll interval of the pins.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The answer that skips a step.
const SKIP: &str = "skip";

/// A board to test, with the person at the door.
pub struct SelfTest {
    board: SafeBoard,
    sim: Option<SimHandle>,
    strike: StrikeConfig,
    outputs: OutputPins,
    person: Person,
    /// How long to wait for each answer.
    answer_timeout: Duration,
    summary: Summary,
    began: Instant,
}

/// De-energised when dropped, even by a panic.
struct SafeBoard(Box<dyn WiredBoard>);

impl Drop for SafeBoard {
    fn drop(&mut self) {
        // The board logs why.
        let _ = self.0.drive(Outputs::DeEnergised);
    }
}

impl std::fmt::Debug for SelfTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelfTest")
            .field("strike", &self.strike)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// Result of watching a pin.
enum WatchOutcome {
    Seen(PinVerdict),
    /// No pin moved.
    Silent,
    Skipped,
}

/// How to test an input.
struct InputTest {
    /// The level while nobody does anything.
    rest: bool,
    act: String,
    undo: String,
}

impl InputTest {
    fn of(role: &str) -> Self {
        let (act, undo) = match role {
            "door" => ("Open the door", "Close the door"),
            "rex" => (
                "Press the exit button and keep it pressed",
                "Release the exit button",
            ),
            "grant" => (
                "Let the reader grant access, as with a valid card",
                "Wait until the reader's relay opens again",
            ),
            "fire" => ("Set off the fire release", "Reset the fire release"),
            "fire_reset" => (
                "Turn the key switch that ends a fire release, and hold it",
                "Release the key switch",
            ),
            "tamper" => ("Open the enclosure", "Close the enclosure"),
            other => {
                return Self {
                    rest: false,
                    act: format!("Make {other} active"),
                    undo: format!("Make {other} idle"),
                };
            }
        };
        Self {
            // The switch is active while the door is closed.
            rest: role == "door",
            act: act.to_owned(),
            undo: undo.to_owned(),
        }
    }
}

impl SelfTest {
    /// A test of an open board whose outputs are de-energised.
    #[must_use]
    pub fn new(
        (board, sim): (Box<dyn WiredBoard>, Option<SimHandle>),
        strike: StrikeConfig,
        outputs: OutputPins,
        person: Person,
        answer_timeout: Duration,
    ) -> Self {
        Self {
            board: SafeBoard(board),
            sim,
            strike,
            outputs,
            person,
            answer_timeout,
            summary: Summary::default(),
            began: Instant::now(),
        }
    }

    /// Runs the test. The summary also contains the findings of a test that ended early.
    pub async fn run(mut self) -> (Summary, Result<(), SelfTestError>) {
        let ended = self.run_steps().await;
        // De-energise before anything is printed.
        drop(self.board);
        (self.summary, ended)
    }

    async fn run_steps(&mut self) -> Result<(), SelfTestError> {
        self.rest().await?;
        for (index, pin) in self.board.0.pins().iter().enumerate() {
            match pin.role {
                None => {}
                // Tested with the strike.
                Some("bond") if pin.fault.is_none() => {}
                Some(role) => self.input(index, role).await?,
            }
        }
        self.try_strike().await
    }

    async fn rest(&mut self) -> Result<(), SelfTestError> {
        self.person
            .say("Close the door. Do not press, turn or set off anything.")?;
        self.ask("Enter when done").await?;
        for pin in self.board.0.pins() {
            if pin.role.is_some() {
                self.person.say(&format!("  {}", describe(&pin)))?;
            }
        }
        Ok(())
    }

    async fn input(&mut self, index: usize, role: &'static str) -> Result<(), SelfTestError> {
        let test = InputTest::of(role);
        let (active, idle) = words(role);
        let word = |level: bool| if level { active } else { idle };
        let (rest, moved) = (word(test.rest), word(!test.rest));
        if let Some(fault) = self.fault(index) {
            return self.record(role, index, Finding::Wrong(fault));
        }
        let finding = match self.watch(index, !test.rest, &test.act).await? {
            WatchOutcome::Seen(PinVerdict::Right) => {
                self.check_return(index, &test, rest, moved).await?
            }
            WatchOutcome::Seen(PinVerdict::Inverted) => {
                let finding = Finding::Wrong(self.inverted(index, moved, rest));
                self.watch(index, !test.rest, &test.undo).await?;
                finding
            }
            WatchOutcome::Seen(PinVerdict::Elsewhere(others)) => {
                let finding = Finding::Wrong(self.elsewhere(&others, role));
                self.person.say(&test.undo)?;
                self.ask("Enter when done").await?;
                finding
            }
            WatchOutcome::Silent => Finding::Wrong(format!(
                "no pin moved, it constantly reads {}: check wire, contact and pin",
                word(self.level(index))
            )),
            WatchOutcome::Skipped if self.level(index) != test.rest => {
                Finding::Wrong(self.inverted(index, rest, moved))
            }
            WatchOutcome::Skipped => Finding::Untested("skipped".to_owned()),
        };
        self.record(role, index, finding)
    }

    /// After a correct move, checks that the level goes back.
    async fn check_return(
        &mut self,
        index: usize,
        test: &InputTest,
        rest: &str,
        moved: &str,
    ) -> Result<Finding, SelfTestError> {
        let outcome = if self.level(index) == test.rest {
            // A relay that closes only for a moment is back already.
            WatchOutcome::Seen(PinVerdict::Right)
        } else {
            self.watch(index, test.rest, &test.undo).await?
        };
        Ok(match outcome {
            WatchOutcome::Seen(PinVerdict::Right) => {
                Finding::Fine(format!("{moved} and {rest} seen"))
            }
            _ => Finding::Wrong(format!(
                "{moved} was seen, but it does not go back to {rest}"
            )),
        })
    }

    fn level(&self, index: usize) -> bool {
        self.board.0.pins().get(index).is_some_and(|pin| pin.active)
    }

    /// Why a pin cannot be read.
    fn fault(&self, index: usize) -> Option<String> {
        let pins = self.board.0.pins();
        let fault = pins.get(index)?.fault.as_ref()?;
        Some(format!("cannot be read: {fault}"))
    }

    /// The index of a wired input that can be read.
    fn index_of(&self, role: &str) -> Option<usize> {
        let is_it = |pin: &PinLevel| pin.role == Some(role) && pin.fault.is_none();
        self.board.0.pins().iter().position(is_it)
    }

    fn record(&mut self, role: &str, index: usize, finding: Finding) -> Result<(), SelfTestError> {
        if let Finding::Wrong(detail) = &finding {
            self.person.say(&format!("  WRONG {role}: {detail}"))?;
        }
        let pins = self.board.0.pins();
        let name = pins.get(index).and_then(|pin| pin.pin.as_ref());
        let pin = name.map_or_else(|| "simulated".to_owned(), ToString::to_string);
        self.summary.add(role, &pin, finding);
        Ok(())
    }

    /// The text for an input that reads `wrong` when it should read `right`.
    fn inverted(&self, index: usize, right: &str, wrong: &str) -> String {
        let pins = self.board.0.pins();
        let fix = pins.get(index).and_then(|pin| {
            pin.pin.as_ref()?;
            let other = if pin.high == pin.active {
                "low"
            } else {
                "high"
            };
            let role = pin.role?;
            Some(format!(
                "set active = \"{other}\" in [board.inputs.{role}], or use the other contact"
            ))
        });
        format!(
            "the wrong way round, {wrong} when it should be {right}: {}",
            fix.as_deref().unwrap_or("use the other contact")
        )
    }

    fn elsewhere(&self, others: &[usize], role: &str) -> String {
        let pins = self.board.0.pins();
        let names: Vec<_> = others
            .iter()
            .filter_map(|index| pins.get(*index))
            .map(name)
            .collect();
        let fix = match others {
            [only] => match pins.get(*only) {
                Some(PinLevel {
                    role: None,
                    pin: Some(pin),
                    ..
                }) => {
                    let setting = pin.setting();
                    format!("move its wire, or set {setting} in [board.inputs.{role}]")
                }
                _ => "the wires, or the pins in the configuration, are swapped".to_owned(),
            },
            _ => "check the wires".to_owned(),
        };
        format!("{} moved instead: {fix}", names.join(", "))
    }

    /// Prints the instruction and watches the pins until there is a result.
    async fn watch(
        &mut self,
        target: usize,
        wanted: bool,
        instruction: &str,
    ) -> Result<WatchOutcome, SelfTestError> {
        let mut watch = PinWatch::new(target, wanted, &self.board.0.pins(), self.began.elapsed());
        if self.person.scripted {
            match self.person.ask(instruction, self.answer_timeout).await? {
                line if line == SKIP => return Ok(WatchOutcome::Skipped),
                line => {
                    self.act(&line)?;
                }
            }
        } else {
            self.person.say(&format!(
                "{instruction} (Enter if nothing happens, {SKIP} to skip)"
            ))?;
        }
        let deadline = self.began.elapsed() + self.answer_timeout;
        loop {
            let pins = self.board.0.pins();
            let now = self.began.elapsed();
            for changed in watch.look(&pins, now) {
                if let Some(pin) = pins.get(changed) {
                    self.person.say(&format!("  {}", describe(pin)))?;
                }
            }
            if let Some(verdict) = watch.verdict(now) {
                return Ok(WatchOutcome::Seen(verdict));
            }
            if now >= deadline {
                return Ok(WatchOutcome::Silent);
            }
            match self.person.wait(POLL_INTERVAL).await? {
                PersonInput::Nothing => {}
                PersonInput::Line(line) if line.is_empty() => return Ok(WatchOutcome::Silent),
                PersonInput::Line(line) if line == SKIP => return Ok(WatchOutcome::Skipped),
                PersonInput::Line(line) => {
                    self.act(&line)?;
                }
            }
        }
    }

    /// Asks for a line; actions at a simulated door are performed and not returned.
    async fn ask(&mut self, question: &str) -> Result<String, SelfTestError> {
        loop {
            let line = self.person.ask(question, self.answer_timeout).await?;
            if !self.act(&line)? {
                return Ok(line);
            }
        }
    }

    /// Asks for yes or no; `None` if skipped.
    async fn ask_whether(&mut self, question: &str) -> Result<Option<bool>, SelfTestError> {
        let question = format!("{question} (y, n or {SKIP})");
        loop {
            match self.ask(&question).await?.as_str() {
                "y" | "yes" => return Ok(Some(true)),
                "n" | "no" => return Ok(Some(false)),
                SKIP => return Ok(None),
                _ => self.person.say(&format!("  Expected y, n or {SKIP}."))?,
            }
        }
    }

    /// Performs a line that is an action at a simulated door; false if it is not one.
    fn act(&mut self, line: &str) -> Result<bool, SelfTestError> {
        let Some((sim, command)) = self.sim.as_ref().zip(line.parse::<SimCommand>().ok()) else {
            return Ok(false);
        };
        if let Err(refusal) = sim.apply(command) {
            self.person.say(&format!("  {refusal}"))?;
        }
        Ok(true)
    }
}

/// A pin by its number and role.
fn name(pin: &PinLevel) -> String {
    match (&pin.pin, pin.role) {
        (Some(pin), Some(role)) => format!("{pin} ({role})"),
        (Some(pin), None) => format!("{pin} (not in the configuration)"),
        (None, role) => role.unwrap_or("a pin").to_owned(),
    }
}

/// A pin with its raw level and the word for it.
fn describe(pin: &PinLevel) -> String {
    if let Some(fault) = &pin.fault {
        return format!("{} cannot be read: {fault}", name(pin));
    }
    let level = if pin.high { "high" } else { "low" };
    match pin.role {
        Some(role) => {
            let (active, idle) = words(role);
            let word = if pin.active { active } else { idle };
            format!("{} is {level}: {word}", name(pin))
        }
        None => format!("{} is {level}", name(pin)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, sink};
    use std::time::Instant;

    use door_core::{Inputs, OutputFault};

    use super::*;
    use crate::gpio::{Board, PinName};
    use crate::service::Signals;

    /// A board whose door contact cannot be read.
    struct Unreadable;

    impl Board for Unreadable {
        fn read(&mut self) -> Inputs {
            Inputs::default()
        }

        fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
            assert_eq!(outputs, Outputs::DeEnergised);
            Ok(())
        }

        fn next_change(&self) -> Option<Instant> {
            None
        }
    }

    impl WiredBoard for Unreadable {
        fn pins(&self) -> Vec<PinLevel> {
            vec![PinLevel {
                role: Some("door"),
                pin: Some(PinName::Offset(22)),
                fault: Some("input/output error".to_owned()),
                high: false,
                active: false,
            }]
        }
    }

    #[tokio::test]
    async fn a_door_contact_that_cannot_be_read_is_wrong_and_the_strike_does_not_move() {
        let input = Cursor::new("ok\n");
        let signals = Signals::catch().unwrap();
        let person = Person::new(input, Box::new(sink()), signals, true).unwrap();
        let test = SelfTest::new(
            (Box::new(Unreadable), None),
            StrikeConfig::motor_lock(),
            OutputPins::default(),
            person,
            Duration::from_secs(10),
        );
        let (summary, ended) = test.run().await;
        ended.unwrap();
        assert_eq!(
            summary.to_string(),
            "what       pin        result\n\
             door       line 22    WRONG     cannot be read: input/output error\n\
             strike     simulated  untested  whether the door is closed cannot be read\n\
             fail mode             untested  the strike was not driven\n"
        );
    }
}
