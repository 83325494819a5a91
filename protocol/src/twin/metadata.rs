//! `$metadata`: a tree parallel to the properties with the time of each one's last write.
//!
//! Every object and every leaf has `$lastUpdated`, in desired properties also
//! `$lastUpdatedVersion`. The parents of a changed or removed member are stamped too. An array has
//! one stamp.

use jiff::Timestamp;
use serde_json::Value;

use super::Object;
use super::merge::object_at;
use crate::time;

const LAST_UPDATED: &str = "$lastUpdated";
const LAST_UPDATED_VERSION: &str = "$lastUpdatedVersion";

/// Time and version of a write.
pub(super) struct Stamp {
    time: String,
    version: Option<u64>,
}

impl Stamp {
    pub(super) fn new(now: Timestamp, version: Option<u64>) -> Self {
        Self {
            time: time::format(now),
            version,
        }
    }

    fn set(&self, metadata: &mut Object) {
        metadata.insert(LAST_UPDATED.to_owned(), self.time.clone().into());
        if let Some(version) = self.version {
            metadata.insert(LAST_UPDATED_VERSION.to_owned(), version.into());
        }
    }
}

/// The metadata of a section without properties.
pub(super) fn empty(since: Timestamp) -> Object {
    let mut metadata = Object::new();
    Stamp::new(since, None).set(&mut metadata);
    metadata
}

/// Stamps the members that `patch` wrote.
pub(super) fn update(metadata: &mut Object, patch: &Object, stamp: &Stamp) {
    stamp.set(metadata);
    for (name, value) in patch {
        match value {
            Value::Null => {
                metadata.shift_remove(name);
            }
            Value::Object(patch) => update(object_at(metadata, name), patch, stamp),
            _ => {
                let mut leaf = Object::new();
                stamp.set(&mut leaf);
                metadata.insert(name.clone(), Value::Object(leaf));
            }
        }
    }
}
