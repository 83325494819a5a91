//! A section of properties and its changes.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::limits::{SectionKind, TwinError, check_growth, check_patch, check_replacement};
use super::metadata::{self, Stamp};
use super::text::object_text;
use super::{FIRST_COUNTER, Object, merge, never, replacement_patch};

const METADATA: &str = "$metadata";
const VERSION: &str = "$version";

/// Desired or reported properties, with their `$metadata` and `$version`.
///
/// In JSON all three are one object. The rules of changes are here, so that all paths (REST, MQTT,
/// jobs) share them.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The properties.
    pub values: Object,
    /// Time of the last write of each property; empty in the device's view.
    pub metadata: Object,
    /// Number of writes, starting at [`FIRST_COUNTER`].
    pub version: u64,
}

impl Default for Section {
    /// A section that has never been written.
    fn default() -> Self {
        Self {
            values: Object::new(),
            metadata: metadata::empty(never()),
            version: FIRST_COUNTER,
        }
    }
}

impl Section {
    /// A section as JSON, from the JSON of its properties and of its metadata, which are not taken
    /// apart.
    ///
    /// # Errors
    ///
    /// If one of them is not a JSON object, or cannot be read as one.
    pub fn join(values: &str, metadata: &str, version: u64) -> serde_json::Result<Box<RawValue>> {
        let head = values.strip_suffix('}').filter(|it| it.starts_with('{'));
        let Some(head) = head.filter(|_| metadata.starts_with('{')) else {
            return Err(serde_json::Error::custom("expected a JSON object"));
        };
        let comma = if head.len() > 1 { "," } else { "" };
        let metadata = match metadata {
            "{}" => String::new(),
            metadata => format!("\"{METADATA}\":{metadata},"),
        };
        object_text(format!("{head}{comma}{metadata}\"{VERSION}\":{version}}}"))
    }

    /// Merges `patch`: null removes a member, an object is merged with the present one, anything
    /// else replaces the member. It counts as a write even if nothing differs. For desired
    /// properties, [`Section::notification`] of `patch` is sent to the device.
    ///
    /// # Errors
    ///
    /// If the patch contains an invalid member or makes the section too large; the section is then
    /// unchanged.
    pub fn patch(
        &mut self,
        kind: SectionKind,
        patch: &Object,
        now: Timestamp,
    ) -> Result<(), TwinError> {
        check_patch(kind, patch)?;
        let mut values = self.values.clone();
        merge(&mut values, patch);
        check_growth(kind, &self.values, &values)?;
        self.values = values;
        self.record_write(kind, patch, now);
        Ok(())
    }

    /// Replaces all properties by `values`, and returns the patch with the same effect: the new
    /// values, and null for each removed property.
    ///
    /// # Errors
    ///
    /// If the values contain an invalid member or are too large; the section is then unchanged.
    pub fn replace(
        &mut self,
        kind: SectionKind,
        values: Object,
        now: Timestamp,
    ) -> Result<Object, TwinError> {
        check_replacement(kind, &values)?;
        check_growth(kind, &self.values, &values)?;
        let patch = replacement_patch(&self.values, &values);
        self.values = values;
        self.record_write(kind, &patch, now);
        Ok(patch)
    }

    /// Removes all properties, and returns the patch with the same effect: null for each.
    pub fn clear(&mut self, kind: SectionKind, now: Timestamp) -> Object {
        let patch = replacement_patch(&self.values, &Object::new());
        self.values.clear();
        self.record_write(kind, &patch, now);
        patch
    }

    /// The notification that a device receives of a change of its desired properties: the patch as
    /// written, nulls included, with the version it created.
    #[must_use]
    pub fn notification(&self, mut patch: Object) -> Object {
        patch.insert(VERSION.to_owned(), self.version.into());
        patch
    }

    /// The metadata that `patch` stamped when it created `version` at `now`: a part of the
    /// section's metadata.
    #[must_use]
    pub fn metadata_of(kind: SectionKind, patch: &Object, version: u64, now: Timestamp) -> Object {
        let version = (kind == SectionKind::Desired).then_some(version);
        let mut stamped = Object::new();
        metadata::update(&mut stamped, patch, &Stamp::new(now, version));
        stamped
    }

    /// As the device sees it.
    #[must_use]
    pub fn without_metadata(self) -> Self {
        Self {
            metadata: Object::new(),
            ..self
        }
    }

    fn record_write(&mut self, kind: SectionKind, patch: &Object, now: Timestamp) {
        self.version += 1;
        let version = (kind == SectionKind::Desired).then_some(self.version);
        metadata::update(&mut self.metadata, patch, &Stamp::new(now, version));
    }
}

impl Serialize for Section {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, value)?;
        }
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, &self.metadata)?;
        }
        map.serialize_entry(VERSION, &self.version)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Object::deserialize(deserializer)?;
        let version = values
            .shift_remove(VERSION)
            .as_ref()
            .and_then(Value::as_u64);
        let metadata = match values.shift_remove(METADATA) {
            Some(Value::Object(metadata)) => metadata,
            None => Object::new(),
            Some(_) => {
                return Err(D::Error::custom(
                    "`$metadata` of a section of a twin is not an object",
                ));
            }
        };
        let version = version
            .ok_or_else(|| D::Error::custom("a section of a twin has no number `$version`"))?;
        Ok(Self {
            values,
            metadata,
            version,
        })
    }
}
