//! Settings that can be changed remotely: the desired properties `settings.<name>`.
//!
//! A desired setting replaces the configured one for as long as it is desired. A row of [`TABLE`]
//! makes a key of the table `[door]` remotely changeable.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, DoorConfig, DoorSettings, parse_time};
use crate::contract::duration;

/// A setting that can be changed remotely; its value is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Setting {
    /// `[door] strike_time`.
    StrikeTime,
    /// `[door] extended_strike_time`.
    ExtendedStrikeTime,
    /// `[door] settle_time`.
    SettleTime,
    /// `[door] held_open_time`.
    HeldOpenTime,
    /// `[door] pre_alarm_time`.
    PreAlarmTime,
    /// `[door] relock_delay`.
    RelockDelay,
}

/// The desired settings; all others are as configured.
pub type Overrides = BTreeMap<Setting, Duration>;

struct Row {
    setting: Setting,
    name: &'static str,
    /// The longest time allowed. A remote change is made without anybody at the door to notice a
    /// mistake.
    max: Duration,
    field: fn(&mut DoorSettings) -> &mut Duration,
}

const fn row(
    setting: Setting,
    name: &'static str,
    max_seconds: u64,
    field: fn(&mut DoorSettings) -> &mut Duration,
) -> Row {
    let max = Duration::from_secs(max_seconds);
    Row {
        setting,
        name,
        max,
        field,
    }
}

/// In the order of [`Setting`].
const TABLE: [Row; 6] = [
    row(Setting::StrikeTime, "strikeTime", 600, |door| {
        &mut door.strike_time
    }),
    row(
        Setting::ExtendedStrikeTime,
        "extendedStrikeTime",
        600,
        |door| &mut door.extended_strike_time,
    ),
    row(Setting::SettleTime, "settleTime", 60, |door| {
        &mut door.settle_time
    }),
    row(Setting::HeldOpenTime, "heldOpenTime", 86_400, |door| {
        &mut door.held_open_time
    }),
    row(Setting::PreAlarmTime, "preAlarmTime", 3600, |door| {
        &mut door.pre_alarm_time
    }),
    row(Setting::RelockDelay, "relockDelay", 60, |door| {
        &mut door.relock_delay
    }),
];

impl Setting {
    /// As spelled in desired and reported properties.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The setting with that name.
    ///
    /// # Errors
    /// A message that lists the known names.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let row = TABLE.iter().find(|row| row.name == name);
        row.map(|row| row.setting).ok_or_else(|| {
            let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
            format!("no such setting: expected one of {}", names.join(", "))
        })
    }

    /// Reads a value: a text as in the configuration file, or a number of seconds.
    ///
    /// # Errors
    /// A message of what was expected.
    pub fn read(self, value: &serde_json::Value) -> Result<Duration, String> {
        let max = self.row().max;
        let time = match value {
            serde_json::Value::String(text) => parse_time(text),
            serde_json::Value::Number(number) => number
                .as_u64()
                .and_then(|seconds| duration::from_seconds(seconds).ok()),
            _ => None,
        };
        time.filter(|time| *time <= max).ok_or_else(|| {
            let max = duration::to_text(max);
            format!("expected a time such as 250ms, 5s or 1m30s, above zero and at most {max}")
        })
    }

    /// Writes a value as text that [`Setting::read`] reads.
    #[must_use]
    pub fn write(time: Duration) -> String {
        match time.subsec_millis() {
            0 => duration::to_text(time),
            _ => format!("{}ms", time.as_millis()),
        }
    }

    /// The longest time allowed, remotely and in a file.
    #[must_use]
    pub fn max(self) -> Duration {
        self.row().max
    }

    fn row(self) -> &'static Row {
        let row = TABLE.iter().find(|row| row.setting == self);
        row.expect("every setting has a row, as a test checks")
    }
}

impl DoorConfig {
    /// This configuration with the settings replaced. Settings that do not fit are returned and
    /// keep their configured value.
    #[must_use]
    pub fn with_overrides(&self, overrides: &Overrides) -> (Self, Vec<(Setting, ConfigError)>) {
        let mut config = *self;
        let mut left: Vec<_> = overrides.iter().collect();
        // Try all at once first. Otherwise apply one by one, repeatedly, since a setting may fit
        // only after another has changed.
        if let Ok(all) = self.with_all(&left) {
            return (all, Vec::new());
        }
        loop {
            let before = left.len();
            let mut refused = Vec::new();
            left.retain(|change| match config.with_all(&[*change]) {
                Ok(changed) => {
                    config = changed;
                    false
                }
                Err(error) => {
                    refused.push((*change.0, error));
                    true
                }
            });
            if left.len() == before || left.is_empty() {
                return (config, refused);
            }
        }
    }

    fn with_all(&self, changes: &[(&Setting, &Duration)]) -> Result<Self, ConfigError> {
        let mut settings = self.settings;
        for (setting, time) in changes {
            *(setting.row().field)(&mut settings) = **time;
        }
        Self::new(settings, self.strike, self.fitted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Want;
    use crate::config::{FailMode, Fitted, StrikeConfig};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_setting_has_its_row_and_its_name_on_disk_and_on_the_wire() {
        for row in &TABLE {
            let setting = row.setting;
            assert_eq!(serde_json::to_value(setting).unwrap(), setting.name());
            assert_eq!(Setting::from_name(setting.name()), Ok(setting));
            let mut settings = DoorSettings::default();
            let time = *(row.field)(&mut settings);
            assert!(time <= row.max, "{}", row.name);
            assert_eq!(setting.read(&Setting::write(time).into()), Ok(time));
        }
        let unknown = Setting::from_name("strike_time").unwrap_err();
        assert!(
            unknown.contains("strikeTime, extendedStrikeTime, settleTime"),
            "{unknown}"
        );
    }

    #[test]
    fn a_value_is_a_text_or_seconds_within_its_limit() {
        let read = |value| Setting::StrikeTime.read(&value).ok();
        assert_eq!(read(json!("7s")), Some(SECOND * 7));
        assert_eq!(read(json!("2500ms")), Some(SECOND * 5 / 2));
        assert_eq!(read(json!(8)), Some(SECOND * 8));
        for bad in [
            json!("0ms"),
            json!(0),
            json!(-1),
            json!(1.5),
            json!("11m"),
            json!("soon"),
            json!(true),
            json!({"s": 5}),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn a_value_is_written_in_milliseconds_only_if_it_has_a_part_of_a_second() {
        assert_eq!(Setting::write(SECOND * 90), "1m30s");
        assert_eq!(Setting::write(SECOND * 5 / 2), "2500ms");
    }

    #[test]
    fn settings_that_do_not_fit_keep_their_configured_value() {
        let strike = StrikeConfig {
            max_on: Some(SECOND * 20),
            ..StrikeConfig::solenoid_bolt(FailMode::Secure)
        };
        let fitted = Fitted {
            rex: false,
            fire: false,
            ..Fitted::ALL
        };
        let config = DoorConfig::new(DoorSettings::default(), strike, fitted).unwrap();
        assert_eq!(config.relinquish_default(), Want::Locked);
        let wanted = Overrides::from([
            (Setting::StrikeTime, SECOND * 30),
            (Setting::SettleTime, SECOND),
        ]);
        let (changed, refused) = config.with_overrides(&wanted);
        assert_eq!(changed.settings.strike_time, config.settings.strike_time);
        assert_eq!(changed.settings.settle_time, SECOND);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0, Setting::StrikeTime);
        let fits = Overrides::from([(Setting::StrikeTime, SECOND * 10)]);
        let (changed, refused) = config.with_overrides(&fits);
        assert_eq!(changed.settings.strike_time, SECOND * 10);
        assert_eq!(changed.duty.map(|duty| duty.reserve), Some(SECOND * 10));
        assert_eq!(refused, []);
        assert_eq!(changed.with_overrides(&Overrides::new()).0, changed);
    }
}
