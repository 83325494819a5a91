//! The desired property `settings`: an object with a time for each setting that overrides the
//! configuration.

use std::collections::BTreeMap;

use door_core::{DoorConfig, Overrides, Setting};
use serde_json::{Map, Value};

use super::verdict::{Verdict, acknowledge_each, type_name};

/// The desired settings, each validated on its own.
#[derive(Debug)]
pub(super) struct Settings {
    configured: DoorConfig,
    accepted: Overrides,
    /// By desired name, known or not: the value as accepted, and the verdict on the latest one.
    entries: BTreeMap<String, SettingEntry>,
    /// Refused when `settings` as a whole is not an object.
    whole: Verdict,
}

#[derive(Debug)]
struct SettingEntry {
    value: Option<Value>,
    verdict: Verdict,
}

impl Settings {
    pub(super) fn new(accepted: Overrides, configured: DoorConfig) -> Self {
        Self {
            configured,
            accepted,
            entries: BTreeMap::new(),
            whole: Verdict::Absent,
        }
    }

    pub(super) fn accepted(&self) -> &Overrides {
        &self.accepted
    }

    /// Drops the settings missing from a whole document: they are not desired any more.
    pub(super) fn keep_only(&mut self, desired: &Map<String, Value>) {
        self.accepted
            .retain(|setting, _| desired.contains_key(setting.name()));
        self.entries.retain(|name, _| desired.contains_key(name));
    }

    /// Applies a desired value: a whole document or a patch.
    pub(super) fn apply(&mut self, desired: &Value, version: u64) {
        let changes = match desired {
            Value::Null => {
                self.accepted.clear();
                self.entries.clear();
                self.whole = Verdict::Absent;
                return;
            }
            Value::Object(changes) => changes,
            other => {
                let found = type_name(other);
                self.whole = Verdict::Refused {
                    version,
                    reason: format!(
                        "expected an object with a time for each setting, found {found}; the \
                         previous values stay"
                    ),
                };
                return;
            }
        };
        self.whole = Verdict::Absent;
        let mut parsed = BTreeMap::new();
        for (name, value) in changes {
            if value.is_null() {
                self.entries.remove(name);
                self.accepted.retain(|setting, _| setting.name() != name);
                continue;
            }
            let read =
                Setting::from_name(name).and_then(|setting| Ok((setting, setting.read(value)?)));
            match read {
                Ok((setting, time)) => {
                    parsed.insert(setting, (time, value));
                }
                Err(reason) => self.judge(name, Err(reason), version),
            }
        }
        self.fit(&parsed, version);
    }

    /// Accepts the values that fit the configuration and each other.
    fn fit(&mut self, parsed: &BTreeMap<Setting, (std::time::Duration, &Value)>, version: u64) {
        let mut wanted = self.accepted.clone();
        wanted.extend(parsed.iter().map(|(setting, (time, _))| (*setting, *time)));
        let (_, refused) = self.configured.with_overrides(&wanted);
        for (setting, (time, value)) in parsed {
            let error = refused.iter().find(|(refused, _)| refused == setting);
            let judged = match error {
                Some((_, error)) => Err(format!("does not fit this door: {error}")),
                None => {
                    self.accepted.insert(*setting, *time);
                    Ok((*value).clone())
                }
            };
            self.judge(setting.name(), judged, version);
        }
    }

    fn judge(&mut self, name: &str, value: Result<Value, String>, version: u64) {
        let accepted = &self.accepted;
        let entry = self.entries.entry(name.to_owned()).or_insert_with(|| {
            // Of a saved setting only the time is known.
            let setting = Setting::from_name(name).ok();
            let time = setting.and_then(|setting| accepted.get(&setting));
            SettingEntry {
                value: time.map(|time| Setting::write(*time).into()),
                verdict: Verdict::Absent,
            }
        });
        let value = value.map_err(|reason| format!("{reason}; the previous value stays"));
        entry.verdict.judge(&mut entry.value, Some(value), version);
    }

    /// One acknowledgement per setting, or a single one if `settings` is not an object.
    pub(super) fn acknowledge(&self, problem: Option<&str>) -> Option<String> {
        if let Some(refused) = self.whole.acknowledge(None, problem) {
            return Some(refused.to_string());
        }
        let members = self.entries.iter();
        acknowledge_each(
            members.map(|(name, entry)| (name, &entry.verdict, entry.value.clone())),
            problem,
        )
    }
}
