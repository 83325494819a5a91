//! Grammar of the actions: verbs, arguments and syntax errors.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use door_core::config::time;
use door_core::contract::duration::with_unit;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use thiserror::Error;

use super::{Hold, Miswired, PRESS, Sensor, SimCommand};

/// A verb of the grammar, for help and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimVerb {
    pub name: &'static str,
    /// The description, as shown in the help.
    pub about: &'static str,
    syntax: Arguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    Nothing(SimCommand),
    /// `on`, `off` or `for TIME`, with the default.
    Hold(Sensor, Hold),
    Sensor(Miswired),
    TwoSensors,
    SensorOrAll,
}

impl SimVerb {
    /// The arguments, as shown in the help.
    #[must_use]
    pub fn arguments(&self) -> &'static str {
        match self.syntax {
            Arguments::Nothing(_) => "",
            Arguments::Hold(..) => "[on | off | for TIME]",
            Arguments::Sensor(_) => "INPUT",
            Arguments::TwoSensors => "INPUT INPUT",
            Arguments::SensorOrAll => "INPUT | all",
        }
    }
}

/// A row for each verb: name, arguments and description.
macro_rules! verbs {
    ($($name:literal $syntax:expr => $about:literal;)*) => {
        [$(SimVerb { name: $name, syntax: $syntax, about: $about }),*]
    };
}

pub static VERBS: [SimVerb; 20] = {
    use Arguments::{Hold as Press, Nothing, Sensor as Fault, SensorOrAll, TwoSensors};
    use Sensor::{Bond, Fire, FireReset, Grant, Rex, Tamper};
    const SHORT: Hold = Hold::For(PRESS);
    verbs! {
        "open" Nothing(SimCommand::Open) => "open the door; refused while the bolt is thrown";
        "close" Nothing(SimCommand::Close) => "close the door; refused while the bolt is out";
        "force" Nothing(SimCommand::Force) => "open the door against the bolt";
        "handle" Nothing(SimCommand::Handle)
            => "turn the handle, which retracts the bolt, and open the door";
        "rex" Press(Rex, SHORT) => "press the exit button (for 500ms)";
        "grant" Press(Grant, SHORT) => "let a reader grant access (for 500ms)";
        "fire" Press(Fire, Hold::On) => "set off the fire release (until `off`)";
        "fire-reset" Press(FireReset, SHORT)
            => "turn the key switch that ends a fire release (for 500ms)";
        "tamper" Press(Tamper, Hold::On) => "open the enclosure of the controller (until `off`)";
        "jam" Nothing(SimCommand::Jam) => "block the bolt";
        "free" Nothing(SimCommand::Free) => "unblock the bolt";
        "cut-sensor" Fault(Miswired::Cut)
            => "cut an input's wire: fire reads active, others idle";
        "cut-bond" Nothing(SimCommand::Miswire(Bond, Miswired::Cut))
            => "the same as cut-sensor bond";
        "stick-sensor" Fault(Miswired::Stuck) => "freeze the reading of an input";
        "chatter-sensor" Fault(Miswired::Chatters) => "toggle an input 100 times a second";
        "invert-sensor" Fault(Miswired::Inverted) => "invert the reading of an input";
        "swap-sensors" TwoSensors => "swap the wires of two inputs";
        "mend-sensor" SensorOrAll => "repair the wire of an input, or of all";
        "cut-power" Nothing(SimCommand::CutPower)
            => "cut the power of the lock, whatever the outputs are";
        "restore-power" Nothing(SimCommand::RestorePower) => "restore the power of the lock";
    }
};

/// Does nothing; not in the list, because people have `status` for that.
static SHOW: SimVerb = SimVerb {
    name: "show",
    syntax: Arguments::Nothing(SimCommand::Show),
    about: "only print the state of the door",
};

impl SimCommand {
    /// Parses the words of an action.
    ///
    /// # Errors
    /// The wrong word, and what was expected.
    pub fn parse(words: &[&str]) -> Result<Self, SimSyntaxError> {
        let wrong = |index: usize, expected: String| SimSyntaxError {
            found: match words.get(index) {
                Some(word) => format!("`{word:.40}`"),
                None => "the end".to_owned(),
            },
            expected,
        };
        let verb = words.first().and_then(|word| find(word));
        let Some(verb) = verb else {
            return Err(wrong(0, format!("one of {}", verb_names())));
        };
        let sensor = |index: usize| {
            words
                .get(index)
                .and_then(|word| Sensor::parse(word))
                .ok_or_else(|| wrong(index, format!("an input: {}", sensor_names())))
        };
        let (command, taken) = match verb.syntax {
            Arguments::Nothing(command) => (command, 1),
            Arguments::Hold(what, otherwise) => match words.get(1).copied() {
                None => (Self::Hold(what, otherwise), 1),
                Some("on") => (Self::Hold(what, Hold::On), 2),
                Some("off") => (Self::Hold(what, Hold::Off), 2),
                Some("for") => {
                    let time = words.get(2).and_then(|word| parse_time(word));
                    let time = time.ok_or_else(|| wrong(2, EXPECTED_TIME.to_owned()))?;
                    (Self::Hold(what, Hold::For(time)), 3)
                }
                Some(_) => return Err(wrong(1, "on, off, for TIME or nothing".to_owned())),
            },
            Arguments::Sensor(fault) => (Self::Miswire(sensor(1)?, fault), 2),
            Arguments::TwoSensors => {
                let (one, other) = (sensor(1)?, sensor(2)?);
                if one == other {
                    return Err(wrong(2, "another input than the first".to_owned()));
                }
                (Self::Miswire(one, Miswired::SwappedWith(other)), 3)
            }
            Arguments::SensorOrAll => match words.get(1) {
                Some(&"all") => (Self::Repair(None), 2),
                _ => {
                    let expected = || format!("all or an input: {}", sensor_names());
                    let sensor = sensor(1).map_err(|_| wrong(1, expected()))?;
                    (Self::Repair(Some(sensor)), 2)
                }
            },
        };
        if words.len() > taken {
            return Err(wrong(
                taken,
                format!("nothing more after `{}`", words[..taken].join(" ")),
            ));
        }
        Ok(command)
    }
}

/// In the grammar; parsing it returns the same action.
impl fmt::Display for SimCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = VERBS.iter().chain([&SHOW]).find(|verb| match verb.syntax {
            Arguments::Nothing(command) => command == *self,
            Arguments::Hold(sensor, _) => matches!(self, Self::Hold(own, _) if *own == sensor),
            Arguments::Sensor(fault) => matches!(self, Self::Miswire(_, own) if *own == fault),
            Arguments::TwoSensors => matches!(self, Self::Miswire(_, Miswired::SwappedWith(_))),
            Arguments::SensorOrAll => matches!(self, Self::Repair(_)),
        });
        let name = verb.map_or("show", |verb| verb.name);
        f.write_str(name)?;
        match (self, verb.map(|verb| verb.syntax)) {
            (_, Some(Arguments::Nothing(_))) => Ok(()),
            (Self::Hold(_, Hold::On), _) => f.write_str(" on"),
            (Self::Hold(_, Hold::Off), _) => f.write_str(" off"),
            (Self::Hold(_, Hold::For(time)), _) => write!(f, " for {}ms", time.as_millis()),
            (Self::Miswire(one, Miswired::SwappedWith(other)), _) => {
                write!(f, " {} {}", one.key(), other.key())
            }
            (Self::Miswire(sensor, _) | Self::Repair(Some(sensor)), _) => {
                write!(f, " {}", sensor.key())
            }
            (Self::Repair(None), _) => f.write_str(" all"),
            _ => Ok(()),
        }
    }
}

impl FromStr for SimCommand {
    type Err = SimSyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(&text.split_whitespace().collect::<Vec<_>>())
    }
}

/// A wrong or missing word of an action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{found}, expected {expected}")]
pub struct SimSyntaxError {
    found: String,
    expected: String,
}

const EXPECTED_TIME: &str = "a time such as 250ms, 5s or 1m30s, above zero";

/// Parses a duration as in the configuration.
#[must_use]
pub fn parse_time(text: &str) -> Option<Duration> {
    let text = with_unit(text).ok()?;
    time(IntoDeserializer::<ValueError>::into_deserializer(text)).ok()
}

fn find(word: &str) -> Option<&'static SimVerb> {
    VERBS.iter().chain([&SHOW]).find(|verb| verb.name == word)
}

/// The names of all verbs, for an error.
fn verb_names() -> String {
    VERBS.map(|verb| verb.name).join(", ")
}

fn sensor_names() -> String {
    Sensor::ALL.map(|(key, _)| key).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_parses_back_from_its_text() {
        for verb in VERBS {
            let samples: &[&str] = match verb.syntax {
                Arguments::Nothing(_) => &[""],
                Arguments::Hold(..) => &["", " on", " off", " for 2s"],
                Arguments::Sensor(_) => &[" door", " bond", " fire_reset"],
                Arguments::TwoSensors => &[" rex grant"],
                Arguments::SensorOrAll => &[" rex", " all"],
            };
            for arguments in samples {
                let text = format!("{}{arguments}", verb.name);
                let command: SimCommand = text.parse().unwrap();
                assert_eq!(command.to_string().parse(), Ok(command), "{text}");
            }
        }
        assert_eq!(
            "fire-reset".parse(),
            Ok(SimCommand::press(Sensor::FireReset))
        );
        assert_eq!("fire".parse(), Ok(SimCommand::Hold(Sensor::Fire, Hold::On)));
        assert_eq!("cut-bond".parse::<SimCommand>(), "cut-sensor bond".parse());
        assert_eq!(
            "cut-sensor fire-reset".parse::<SimCommand>(),
            "cut-sensor fire_reset".parse()
        );
    }

    #[test]
    fn a_wrong_word_is_named_with_the_valid_ones() {
        for (text, expected) in [
            ("slam", "`slam`, expected one of open, close, force"),
            ("", "the end, expected one of open"),
            ("rex of", "`of`, expected on, off, for TIME or nothing"),
            ("rex for", "the end, expected a time such as 250ms"),
            ("rex for 2x", "`2x`, expected a time"),
            ("rex for 0s", "`0s`, expected a time"),
            ("open wide", "`wide`, expected nothing more after `open`"),
            ("cut-sensor", "the end, expected an input: door, bond, rex"),
            ("swap-sensors rex rex", "`rex`, expected another input"),
            ("mend-sensor bnod", "`bnod`, expected all or an input: door"),
        ] {
            let error = text.parse::<SimCommand>().unwrap_err();
            assert!(error.to_string().starts_with(expected), "{text}: {error}");
        }
    }
}
