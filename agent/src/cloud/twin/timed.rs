//! The desired property `timed`: locks and releases that begin by the door's own clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use door_core::{EntryId, TimedEntry, Want};
use serde_json::{Map, Value};

use super::verdict::{Verdict, acknowledge_each, too_old, type_name};

/// Maximum of entries.
const MAX_ENTRIES: usize = 20;
/// Maximum of their JSON text together, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// The timed entries, each validated on its own.
#[derive(Debug)]
pub(super) struct Timed {
    /// By desired name, valid or not.
    entries: BTreeMap<String, Judged>,
    /// Refused when `timed` as a whole is not an object.
    whole: Verdict,
    /// `$version` of the latest change of the accepted entries.
    version: u64,
}

#[derive(Debug)]
struct Judged {
    /// As desired, unless that is `held`: a patch changes single members.
    desired: Option<Value>,
    held: Option<Arc<TimedEntry>>,
    verdict: Verdict,
}

impl Judged {
    fn desired(&self) -> Option<Value> {
        self.desired.clone().or(self.held.as_deref().map(json))
    }

    fn is_lock(&self) -> bool {
        matches!(&self.held, Some(entry) if entry.want == Want::Locked)
    }
}

impl Timed {
    /// Starts from the saved entries.
    pub(super) fn new(saved: BTreeMap<EntryId, Arc<TimedEntry>>, version: u64) -> Self {
        let entries = saved.into_iter().map(|(id, entry)| {
            let judged = Judged {
                desired: None,
                held: Some(entry),
                verdict: Verdict::Accepted { version },
            };
            (id.to_string(), judged)
        });
        Self {
            entries: entries.collect(),
            whole: Verdict::Absent,
            version,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn accepted(&self) -> BTreeMap<EntryId, Arc<TimedEntry>> {
        let held = self.entries.iter();
        held.filter_map(|(id, judged)| Some((id.parse().ok()?, judged.held.clone()?)))
            .collect()
    }

    /// Applies the value of a whole document. One that is older than the latest change, from a hub
    /// that was restored, takes away no lock and brings no release.
    pub(super) fn handle_document(&mut self, desired: &Value, version: u64) {
        if let Value::Object(_) | Value::Null = desired {
            let is_older = version < self.version;
            let stays = |id: &str, judged: &Judged| {
                desired.get(id).is_some() || (is_older && judged.is_lock())
            };
            let before = self.entries.len();
            self.entries.retain(|id, judged| stays(id, judged));
            if self.entries.len() < before {
                self.version = version.max(self.version);
            }
            let mut entries = desired.as_object().cloned().unwrap_or_default();
            if is_older {
                entries.retain(|id, _| !self.entries.get(id).is_some_and(Judged::is_lock));
            }
            for id in entries.keys() {
                if let Some(judged) = self.entries.get_mut(id) {
                    judged.desired = Some(Value::Null);
                }
            }
            return self.change(&entries, version, is_older);
        }
        self.handle_patch(desired, version);
    }

    /// Applies a patch.
    pub(super) fn handle_patch(&mut self, desired: &Value, version: u64) {
        match desired {
            Value::Object(changes) => self.change(changes, version, false),
            Value::Null => {
                self.entries.clear();
                self.whole = Verdict::Absent;
                self.version = version;
            }
            other => {
                let found = type_name(other);
                self.whole = Verdict::Refused {
                    version,
                    reason: format!(
                        "expected an object with an entry for each id, found {found}; the \
                         previous entries stay"
                    ),
                };
            }
        }
    }

    fn change(&mut self, changes: &Map<String, Value>, version: u64, is_older: bool) {
        self.whole = Verdict::Absent;
        for (id, value) in changes {
            if value.is_null() {
                if self.entries.remove(id).is_some() {
                    self.version = version.max(self.version);
                }
                continue;
            }
            let desired = match (self.entries.get(id).and_then(Judged::desired), value) {
                (Some(Value::Object(mut desired)), Value::Object(changes)) => {
                    desired.extend(changes.clone());
                    desired.retain(|_, value| !value.is_null());
                    Value::Object(desired)
                }
                _ => value.clone(),
            };
            let read = self.read(id, &desired, is_older);
            let judged = self.entries.entry(id.clone()).or_insert(Judged {
                desired: None,
                held: None,
                verdict: Verdict::Absent,
            });
            judged.desired = read.is_err().then_some(desired);
            let is_new = read
                .as_ref()
                .is_ok_and(|new| judged.held.as_ref() != Some(new));
            if is_new {
                self.version = version.max(self.version);
            }
            judged.verdict.judge(&mut judged.held, Some(read), version);
        }
    }

    fn read(&self, id: &str, value: &Value, is_older: bool) -> Result<Arc<TimedEntry>, String> {
        let stays = match self.entries.get(id) {
            Some(Judged { held: Some(_), .. }) => "; the previous entry stays",
            _ => "",
        };
        let read = id.parse::<EntryId>().and_then(|_| TimedEntry::read(value));
        let entry = Arc::new(read.map_err(|reason| format!("{reason}{stays}"))?);
        let held = self.entries.get(id).and_then(|judged| judged.held.as_ref());
        if is_older && entry.want == Want::Released && held != Some(&entry) {
            return Err(format!("{}{stays}", too_old(self.version)));
        }
        let others = self.entries.iter().filter(|(other, _)| *other != id);
        let others = others.filter_map(|(id, judged)| Some((id, judged.held.as_ref()?)));
        let sizes: Vec<usize> = others.map(|(id, entry)| size(id, entry)).collect();
        if sizes.len() >= MAX_ENTRIES {
            return Err(format!(
                "the door has {MAX_ENTRIES} timed entries already{stays}"
            ));
        }
        let bytes = sizes.iter().sum::<usize>() + size(id, &entry);
        if bytes > MAX_BYTES {
            return Err(format!(
                "the timed entries would have {bytes} bytes, expected at most {MAX_BYTES}{stays}"
            ));
        }
        Ok(entry)
    }

    /// One acknowledgement per entry, or a single one if `timed` is not an object.
    pub(super) fn acknowledge(&self, problem: Option<&str>) -> Option<String> {
        if let Some(refused) = self.whole.acknowledge(None, problem) {
            return Some(refused.to_string());
        }
        let members = self.entries.iter();
        acknowledge_each(
            members.map(|(id, judged)| (id, &judged.verdict, judged.held.as_deref().map(json))),
            problem,
        )
    }
}

fn json(entry: &TimedEntry) -> Value {
    serde_json::to_value(entry).expect("an entry has string keys only")
}

/// As a member of an object, in bytes.
fn size(id: &str, entry: &TimedEntry) -> usize {
    id.len() + json(entry).to_string().len() + r#""":,"#.len()
}
