//! Configuration: the strike, the inputs and the settings.
//!
//! [`DoorSettings`] and [`StrikeConfig`] are the tables `[door]` and `[strike]` of the agent's
//! TOML; the fitted inputs follow from the board. [`DoorConfig::new`] checks that they fit together
//! before anything is driven.

mod error;
mod overrides;
mod rest;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::contract::{Want, duration};
use crate::sensing::INPUTS;
pub use error::ConfigError;
pub use overrides::{Overrides, Setting};
pub use rest::Rest;

/// The table `[door]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorSettings {
    /// Wanted state when no slot of the authority array is occupied: `locked` or `released`.
    pub relinquish_default: Want,
    /// How long a request to exit or a local grant still releases the strike after the input
    /// became idle.
    #[serde(deserialize_with = "time")]
    pub strike_time: Duration,
    /// How long an `unlockDoor` with `"pulse":"extended"` releases the strike: for people who need
    /// more time.
    #[serde(deserialize_with = "time")]
    pub extended_strike_time: Duration,
    /// How long the door must be closed before a bolt is thrown.
    #[serde(deserialize_with = "time")]
    pub settle_time: Duration,
    /// How long the door may stand open before the alarm `heldOpen`. A release by anything but a
    /// button, reader or pulse stops the count.
    #[serde(deserialize_with = "time")]
    pub held_open_time: Duration,
    /// How long before `heldOpen` its pre-alarm comes.
    #[serde(deserialize_with = "time")]
    pub pre_alarm_time: Duration,
    /// What ends a release by exit button, reader or pulse early.
    pub relock: Relock,
    /// Delay between that event and the end of the release.
    #[serde(deserialize_with = "time")]
    pub relock_delay: Duration,
    /// How long one activation of the reader's contact may release, from its first active reading;
    /// a contact that is stuck active must not release forever. At least the strike time counts.
    #[serde(deserialize_with = "time")]
    pub grant_max: Duration,
    /// The reader releases the door during a lockdown too.
    pub grant_in_lockdown: bool,
    /// How people get out; checked against the strike by [`DoorConfig::check_egress`].
    pub egress: Option<Egress>,
}

/// How people get out. It must never depend on this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// A handle or bar opens the door from inside, whatever the strike does.
    FreeMechanical,
    /// Exit button and fire release cut the power of the lock in hardware.
    HardwareRelease,
    /// There are never people behind this door.
    None,
}

/// What ends a release for one passage: by exit button, reader, or `unlockDoor` with a `pulse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relock {
    /// The end of the strike time.
    #[default]
    AfterTime,
    /// The door was opened, or the strike time has ended.
    OnOpen,
    /// The door was opened and closed, or the strike time has ended.
    OnClose,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            relinquish_default: Want::Locked,
            strike_time: Duration::from_secs(5),
            extended_strike_time: Duration::from_secs(15),
            settle_time: Duration::from_millis(250),
            held_open_time: Duration::from_secs(60),
            pre_alarm_time: Duration::from_secs(15),
            relock: Relock::AfterTime,
            relock_delay: Duration::from_millis(500),
            grant_max: Duration::from_secs(30),
            grant_in_lockdown: false,
            egress: None,
        }
    }
}

/// Kind of actuator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrikeKind {
    /// A motor throws and retracts the bolt, which stays where it is in between.
    MotorLock,
    /// A coil pulls the bolt one way, a spring the other.
    SolenoidBolt,
    /// An electric strike: a coil holds its keeper one way, a spring the other. The door latches
    /// into it by itself.
    HoldStrike,
    /// An electric strike whose coil may be energised for a short time only: it releases for a
    /// moment and locks by itself.
    PulseStrike,
    /// A magnet that holds the door while it is energised.
    Maglock,
}

impl StrikeKind {
    /// As spelled in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MotorLock => "motor-lock",
            Self::SolenoidBolt => "solenoid-bolt",
            Self::HoldStrike => "hold-strike",
            Self::PulseStrike => "pulse-strike",
            Self::Maglock => "maglock",
        }
    }

    /// All kinds, for error messages.
    pub const EXPECTED: &str =
        r#""motor-lock", "solenoid-bolt", "hold-strike", "pulse-strike" or "maglock""#;

    /// Whether a bolt moves into the frame: it is thrown only when the door is closed.
    #[must_use]
    pub fn has_bolt(self) -> bool {
        matches!(self, Self::MotorLock | Self::SolenoidBolt)
    }
}

/// Where a coil leaves the strike without power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailMode {
    /// Fail-safe: released without power; the coil locks.
    Safe,
    /// Fail-secure: locked without power; the coil releases.
    Secure,
}

/// The table `[strike]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrikeConfig {
    /// `motor-lock`, `solenoid-bolt`, `hold-strike`, `pulse-strike` or `maglock`.
    pub kind: StrikeKind,
    /// How long the bolt may take to reach the driven position; after it the strike is jammed.
    #[serde(default = "default_bond_time", deserialize_with = "time")]
    pub bond_time: Duration,
    /// Motor lock: longest run per throw or retraction; the bond switch ends a throw earlier.
    #[serde(default, deserialize_with = "optional_time")]
    pub pulse: Option<Duration>,
    /// Motor lock: pause between the two directions, during which no output is energised.
    #[serde(default, deserialize_with = "optional_time")]
    pub dead_time: Option<Duration>,
    /// Solenoid bolt and hold strike: `safe` or `secure`. A maglock is always fail-safe, a pulse
    /// strike always fail-secure.
    #[serde(default)]
    pub fail: Option<FailMode>,
    /// How long coil or motor may be energised before it must rest for `cool_down`. Default: 30 s
    /// for a motor lock, no limit for a coil (continuous duty). Required for a pulse strike.
    #[serde(default, deserialize_with = "optional_time")]
    pub max_on: Option<Duration>,
    /// Rest after `max_on`, in proportion after less. Default 60 s.
    #[serde(default, deserialize_with = "optional_time")]
    pub cool_down: Option<Duration>,
}

impl StrikeConfig {
    /// Where the coil leaves the strike without power. (A motor leaves it as it is.)
    #[must_use]
    pub fn fail_mode(&self) -> FailMode {
        match self.kind {
            StrikeKind::PulseStrike => FailMode::Secure,
            _ => self.fail.unwrap_or(FailMode::Safe),
        }
    }

    /// A motor lock with the default timings.
    #[must_use]
    pub fn motor_lock() -> Self {
        Self {
            kind: StrikeKind::MotorLock,
            bond_time: default_bond_time(),
            pulse: None,
            dead_time: None,
            fail: None,
            max_on: None,
            cool_down: None,
        }
    }

    /// A solenoid bolt for continuous duty with the default timings.
    #[must_use]
    pub fn solenoid_bolt(fail: FailMode) -> Self {
        Self {
            kind: StrikeKind::SolenoidBolt,
            fail: Some(fail),
            ..Self::motor_lock()
        }
    }

    /// An electric strike for continuous duty with the default timings.
    #[must_use]
    pub fn hold_strike(fail: FailMode) -> Self {
        Self {
            kind: StrikeKind::HoldStrike,
            ..Self::solenoid_bolt(fail)
        }
    }

    /// An electric strike whose coil may be energised for `max_on`.
    #[must_use]
    pub fn pulse_strike(max_on: Duration) -> Self {
        Self {
            kind: StrikeKind::PulseStrike,
            max_on: Some(max_on),
            ..Self::motor_lock()
        }
    }

    /// A maglock with the default timings.
    #[must_use]
    pub fn maglock() -> Self {
        Self {
            kind: StrikeKind::Maglock,
            ..Self::motor_lock()
        }
    }
}

/// Which inputs are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an input of its own, and any combination is a door"
)]
pub struct Fitted {
    /// Door position switch.
    pub door: bool,
    /// Lock monitor.
    pub bond: bool,
    /// Request to exit.
    pub rex: bool,
    /// The request to exit only reports: the door opens by its handle, whatever the strike does.
    pub rex_reports_only: bool,
    /// Local grant.
    pub grant: bool,
    /// Fire release.
    pub fire: bool,
    /// Key switch that ends a fire release.
    pub fire_reset: bool,
    /// Tamper contact of the enclosure.
    pub tamper: bool,
}

impl Fitted {
    /// All inputs.
    pub const ALL: Self = Self {
        door: true,
        bond: true,
        rex: true,
        rex_reports_only: false,
        grant: true,
        fire: true,
        fire_reset: true,
        tamper: true,
    };
}

/// A checked configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorConfig {
    pub(crate) settings: DoorSettings,
    /// As configured; `actuator` and `duty` are derived from it.
    strike: StrikeConfig,
    pub(crate) fitted: Fitted,
    pub(crate) bond_time: Duration,
    pub(crate) actuator: Actuator,
    pub(crate) duty: Option<Duty>,
}

/// The actuator, with the parameters of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actuator {
    MotorLock {
        pulse: Duration,
        /// Pause before the motor runs the other way.
        dead_time: Duration,
    },
    Coil {
        fail: FailMode,
        /// The coil throws a bolt, which waits for a closed door. Without a bolt it locks at once.
        has_bolt: bool,
    },
}

/// Limits of a coil or motor that may not be energised continuously.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Duty {
    pub(crate) max_on: Duration,
    pub(crate) cool_down: Duration,
    /// Part of `max_on` that only a release by an input at the door may use.
    pub(crate) reserve: Duration,
    /// Energised time that must remain before any other use starts.
    pub(crate) min_remaining: Duration,
}

const DEFAULT_PULSE: Duration = Duration::from_secs(2);
/// A relay needs about 10 ms to open, a DC motor less than that to stop as a generator.
const DEFAULT_DEAD_TIME: Duration = Duration::from_millis(50);
const DEFAULT_MOTOR_MAX_ON: Duration = Duration::from_secs(30);
const DEFAULT_COOL_DOWN: Duration = Duration::from_secs(60);

impl DoorConfig {
    /// Checks that settings, strike and inputs fit together.
    ///
    /// # Errors
    /// The first combination that cannot work.
    pub fn new(
        settings: DoorSettings,
        strike: StrikeConfig,
        fitted: Fitted,
    ) -> Result<Self, ConfigError> {
        if let Some(first) = misfits(&settings, &strike, fitted).into_iter().next() {
            return Err(first);
        }
        let (actuator, duty) = drive(&settings, &strike, fitted)?;
        Ok(Self {
            settings,
            strike,
            fitted,
            bond_time: strike.bond_time,
            actuator,
            duty,
        })
    }

    /// Every combination of settings, strike and inputs that cannot work.
    #[must_use]
    pub fn mistakes(
        settings: &DoorSettings,
        strike: &StrikeConfig,
        fitted: Fitted,
    ) -> Vec<ConfigError> {
        let mut mistakes = misfits(settings, strike, fitted);
        mistakes.extend(drive(settings, strike, fitted).err());
        mistakes
    }

    /// Checks `[door] egress` against what the strike does without power.
    ///
    /// # Errors
    /// If the strike contradicts `egress`, or requires one and there is none.
    pub fn check_egress(egress: Option<Egress>, strike: &StrikeConfig) -> Result<(), ConfigError> {
        let kind = strike.kind.name();
        let stays = |rest| Err(ConfigError::HardwareReleasesNothing { kind, rest });
        match (egress, strike.rest()) {
            (Some(Egress::HardwareRelease), Rest::Stays) => stays("stays as it is"),
            (Some(Egress::HardwareRelease), Rest::Locked) => stays("is locked"),
            (None, _) if strike.kind == StrikeKind::Maglock => {
                Err(ConfigError::MaglockWithoutEgress)
            }
            _ => Ok(()),
        }
    }

    /// Wanted state when no slot is occupied.
    #[must_use]
    pub fn relinquish_default(&self) -> Want {
        self.settings.relinquish_default
    }

    /// Where the strike rests when it is de-energised.
    #[must_use]
    pub fn rest(&self) -> Rest {
        self.strike.rest()
    }

    /// Kind of actuator.
    #[must_use]
    pub fn strike_kind(&self) -> StrikeKind {
        self.strike.kind
    }

    /// The fitted inputs, by their keys in `[board.inputs]`.
    #[must_use]
    pub fn inputs(&self) -> Vec<&'static str> {
        let inputs = INPUTS.into_iter().zip(self.fitted.all());
        inputs
            .filter_map(|(name, fitted)| fitted.then_some(name))
            .collect()
    }

    /// How people get out, if configured.
    #[must_use]
    pub fn egress(&self) -> Option<Egress> {
        self.settings.egress
    }

    /// How long a lock or unlock may take until it is proven or has failed.
    #[must_use]
    pub fn bond_time(&self) -> Duration {
        self.bond_time
    }
}

/// What does not fit together, apart from how the strike is driven.
fn misfits(settings: &DoorSettings, strike: &StrikeConfig, fitted: Fitted) -> Vec<ConfigError> {
    let mut misfits = Vec::new();
    if !fitted.door && strike.kind.has_bolt() {
        misfits.push(ConfigError::NoDoorSwitch);
    }
    if settings.egress == Some(Egress::FreeMechanical) && strike.kind == StrikeKind::Maglock {
        misfits.push(ConfigError::MaglockHoldsHandles);
    }
    if fitted.fire && !fitted.fire_reset {
        misfits.push(ConfigError::NoFireReset);
    }
    let held_open = at_least(
        "[door] held_open_time",
        settings.held_open_time,
        settings.pre_alarm_time + Duration::from_secs(1),
        "longer than [door] pre_alarm_time, by a second",
    );
    misfits.extend(held_open.err());
    misfits
}

fn drive(
    settings: &DoorSettings,
    strike: &StrikeConfig,
    fitted: Fitted,
) -> Result<(Actuator, Option<Duty>), ConfigError> {
    match strike.kind {
        StrikeKind::MotorLock => motor_lock(strike),
        StrikeKind::SolenoidBolt
        | StrikeKind::HoldStrike
        | StrikeKind::PulseStrike
        | StrikeKind::Maglock => coil(strike, settings, &fitted),
    }
}

fn motor_lock(strike: &StrikeConfig) -> Result<(Actuator, Option<Duty>), ConfigError> {
    if strike.fail.is_some() {
        return Err(ConfigError::Unused {
            key: "fail",
            kind: "motor-lock",
        });
    }
    let pulse = strike.pulse.unwrap_or(DEFAULT_PULSE);
    let max_on = strike.max_on.unwrap_or(DEFAULT_MOTOR_MAX_ON);
    at_least(
        "[strike] bond_time",
        strike.bond_time,
        pulse,
        "as long as [strike] pulse",
    )?;
    at_least(
        "[strike] max_on",
        max_on,
        pulse * 3,
        "three times [strike] pulse: a throw, and in reserve a retraction and its repetition",
    )?;
    let duty = Duty {
        max_on,
        cool_down: strike.cool_down.unwrap_or(DEFAULT_COOL_DOWN),
        reserve: pulse * 2,
        min_remaining: pulse * 3,
    };
    let dead_time = strike.dead_time.unwrap_or(DEFAULT_DEAD_TIME);
    Ok((Actuator::MotorLock { pulse, dead_time }, Some(duty)))
}

fn coil(
    strike: &StrikeConfig,
    settings: &DoorSettings,
    fitted: &Fitted,
) -> Result<(Actuator, Option<Duty>), ConfigError> {
    for (key, time) in [("pulse", strike.pulse), ("dead_time", strike.dead_time)] {
        if time.is_some() {
            let kind = strike.kind.name();
            return Err(ConfigError::Unused { key, kind });
        }
    }
    let fail = match (strike.kind, strike.fail) {
        (StrikeKind::Maglock, None | Some(FailMode::Safe)) => FailMode::Safe,
        (StrikeKind::Maglock, Some(FailMode::Secure)) => {
            return Err(ConfigError::Unused {
                key: "fail = \"secure\"",
                kind: "maglock",
            });
        }
        (StrikeKind::PulseStrike, None | Some(FailMode::Secure)) => FailMode::Secure,
        (StrikeKind::PulseStrike, Some(FailMode::Safe)) => {
            return Err(ConfigError::Unused {
                key: "fail = \"safe\"",
                kind: "pulse-strike",
            });
        }
        (_, fail) => fail.ok_or(ConfigError::Missing {
            key: "fail",
            expected: "`safe` (released without power) or `secure` (locked without power)",
        })?,
    };
    let has_bolt = strike.kind.has_bolt();
    let actuator = Actuator::Coil { fail, has_bolt };
    if strike.kind == StrikeKind::PulseStrike && strike.max_on.is_none() {
        return Err(ConfigError::Missing {
            key: "max_on",
            expected: "how long the coil of a pulse-strike may be on, such as 10s",
        });
    }
    let Some(max_on) = strike.max_on else {
        return match strike.cool_down {
            None => Ok((actuator, None)),
            Some(_) => Err(ConfigError::Unused {
                key: "cool_down",
                kind: "a coil without max_on",
            }),
        };
    };
    let (holding, name, reserve) = match fail {
        FailMode::Safe => (Want::Locked, "locked", Duration::ZERO),
        FailMode::Secure => (Want::Released, "released", settings.strike_time),
    };
    if settings.relinquish_default == holding {
        return Err(ConfigError::CannotHold { want: name, max_on });
    }
    if fail == FailMode::Secure {
        let releases = fitted.rex && !fitted.rex_reports_only;
        for (wired, input) in [(releases, "rex"), (fitted.fire, "fire")] {
            if wired {
                return Err(ConfigError::EgressOnLimitedCoil { input });
            }
        }
    }
    at_least(
        "[strike] max_on",
        max_on,
        reserve + strike.bond_time,
        "[strike] bond_time, and for a fail-secure coil [door] strike_time in reserve",
    )?;
    let duty = Duty {
        max_on,
        cool_down: strike.cool_down.unwrap_or(DEFAULT_COOL_DOWN),
        reserve,
        min_remaining: reserve + strike.bond_time,
    };
    Ok((actuator, Some(duty)))
}

fn at_least(
    key: &'static str,
    value: Duration,
    least: Duration,
    reason: &'static str,
) -> Result<(), ConfigError> {
    if value < least {
        return Err(ConfigError::TooShort {
            key,
            value,
            least,
            reason,
        });
    }
    Ok(())
}

fn default_bond_time() -> Duration {
    Duration::from_secs(3)
}

const EXPECTED_TIME: &str = "a duration such as 250ms, 5s or 1m30s, above zero";

/// Deserializes a time of the configuration: a duration as in [`duration::parse`], in whole
/// milliseconds, since some times are shorter than a second.
///
/// # Errors
/// Serde's error, with the text and what was expected.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_time(&text)
        .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &EXPECTED_TIME))
}

fn parse_time(text: &str) -> Option<Duration> {
    let time = duration::parse_precise(text).ok()?;
    (time.subsec_nanos() % 1_000_000 == 0).then_some(time)
}

fn optional_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    time(deserializer).map(Some)
}
