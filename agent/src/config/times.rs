//! Every key that holds a time, with its limits, one row each.
//!
//! A number without a unit is refused: the author of `debounce = "30"` wants milliseconds and would
//! get seconds. A door that starts with a value accepted by version 0.1 uses the nearest allowed
//! time.

use std::time::Duration;

use door_core::Setting;
use door_core::contract::duration::with_unit;
use serde::de::IntoDeserializer;
use serde::de::value::Error;
use toml::de::DeValue;

/// A key and its allowed times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Tables and key, joined by dots.
    pub(super) key: &'static str,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn limits() -> impl Iterator<Item = Limit> {
    let up_to = |key, to| Limit {
        key,
        from: MILLISECOND,
        to,
    };
    let settings = [
        ("door.strike_time", Setting::StrikeTime),
        ("door.extended_strike_time", Setting::ExtendedStrikeTime),
        ("door.settle_time", Setting::SettleTime),
        ("door.held_open_time", Setting::HeldOpenTime),
        ("door.pre_alarm_time", Setting::PreAlarmTime),
        ("door.relock_delay", Setting::RelockDelay),
    ];
    let others = [
        ("door.grant_max", 60 * MINUTE),
        ("strike.bond_time", MINUTE),
        ("strike.dead_time", SECOND),
        ("strike.pulse", MINUTE),
        ("strike.max_on", DAY),
        ("strike.cool_down", DAY),
        ("board.bolt_travel", MINUTE),
        ("board.inputs.door.debounce", SECOND),
        ("board.inputs.bond.debounce", SECOND),
        ("board.inputs.rex.debounce", SECOND),
        ("board.inputs.grant.debounce", SECOND),
        ("board.inputs.fire.debounce", SECOND),
        ("board.inputs.fire_reset.debounce", SECOND),
        ("board.inputs.tamper.debounce", SECOND),
    ];
    let between = |key, from, to| Limit { key, from, to };
    let hub = [
        // Shorter ones leave no time to connect; longer ones are as good as a key.
        between("hub.sas_lifetime", MINUTE, 7 * DAY),
        between("hub.reconnect_min", 100 * MILLISECOND, 60 * MINUTE),
        between("hub.reconnect_max", SECOND, DAY),
        // IoT Hub closes a silent connection after 1767 s, one and a half times 1177 s.
        between("hub.keep_alive", 5 * SECOND, 1177 * SECOND),
    ];
    settings
        .into_iter()
        .map(move |(key, setting)| up_to(key, setting.max()))
        .chain(others.into_iter().map(move |(key, to)| up_to(key, to)))
        .chain(hub)
}

impl Limit {
    /// What is wrong with a value, and the nearest allowed time if version 0.1 accepted it. A value
    /// that is not a time at all is left to the parser.
    pub(super) fn check(&self, value: &DeValue<'_>) -> Option<(String, Option<Duration>)> {
        let (from, to) = (self.from, self.to);
        let unit = |number: &str| {
            format!(
                "{number} has no unit, expected from {from:?} to {to:?}: write \"{number}ms\" or \
                 \"{number}s\""
            )
        };
        let text = match value {
            DeValue::Integer(number) => return Some((unit(number.as_str()), None)),
            DeValue::String(text) => text,
            _ => return None,
        };
        let time: Result<Duration, Error> =
            door_core::config::time(text.as_ref().into_deserializer());
        if with_unit(text).is_err() {
            return Some((
                unit(text.trim()),
                time.ok().map(|time| time.clamp(from, to)),
            ));
        }
        let time = time.ok().filter(|time| !(from..=to).contains(time))?;
        Some((
            format!("{time:?}, expected from {from:?} to {to:?}"),
            Some(time.clamp(from, to)),
        ))
    }
}
