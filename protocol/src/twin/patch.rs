//! Twin updates by a service: the body of `PATCH` and `PUT /twins/{id}`, and `updateTwin` of a job.

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Object;

/// A change of tags, desired properties or both.
///
/// Other members (`deviceId`, `version`, `properties.reported` and so on) are ignored, since
/// clients send back whole twins. So are `$metadata` and `$version` within the desired properties.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TwinPatch {
    /// The member `etag`. For a job it must be `*`; otherwise it is ignored and `If-Match` counts.
    pub etag: Option<String>,
    /// Change of the tags.
    pub tags: SectionPatch,
    /// Change of the desired properties.
    pub desired: SectionPatch,
}

/// Change of one section.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SectionPatch {
    /// The section is absent from the body.
    #[default]
    Absent,
    /// The section is `null`.
    Null,
    /// Values to merge (`PATCH`) or to replace the section with (`PUT`).
    Values(Object),
}

impl SectionPatch {
    /// The values, if there are any.
    #[must_use]
    pub const fn values(&self) -> Option<&Object> {
        match self {
            Self::Values(values) => Some(values),
            Self::Absent | Self::Null => None,
        }
    }
}

impl TwinPatch {
    /// A patch of desired properties alone.
    #[must_use]
    pub fn desired(values: Object) -> Self {
        Self {
            desired: SectionPatch::Values(values),
            ..Self::default()
        }
    }

    /// A patch of tags alone.
    #[must_use]
    pub fn tags(values: Object) -> Self {
        Self {
            tags: SectionPatch::Values(values),
            ..Self::default()
        }
    }
}

impl Serialize for TwinPatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Properties<'a> {
            desired: Option<&'a Object>,
        }

        let mut map = serializer.serialize_map(None)?;
        if let Some(etag) = &self.etag {
            map.serialize_entry("etag", etag)?;
        }
        if self.tags != SectionPatch::Absent {
            map.serialize_entry("tags", &self.tags.values())?;
        }
        if self.desired != SectionPatch::Absent {
            map.serialize_entry(
                "properties",
                &Properties {
                    desired: self.desired.values(),
                },
            )?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for TwinPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(expecting = "a JSON object")]
        struct Wire {
            #[serde(default)]
            etag: Option<String>,
            #[serde(default)]
            tags: SectionPatch,
            #[serde(default)]
            properties: Option<Properties>,
        }

        #[derive(Deserialize)]
        #[serde(expecting = "a JSON object")]
        struct Properties {
            #[serde(default)]
            desired: SectionPatch,
        }

        let Wire {
            etag,
            tags,
            properties,
        } = Wire::deserialize(deserializer)?;
        let mut desired = properties.map_or(SectionPatch::Absent, |properties| properties.desired);
        if let SectionPatch::Values(values) = &mut desired {
            values.shift_remove("$metadata");
            values.shift_remove("$version");
        }
        Ok(Self {
            etag,
            tags,
            desired,
        })
    }
}

impl<'de> Deserialize<'de> for SectionPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Option::<Object>::deserialize(deserializer)?;
        Ok(values.map_or(Self::Null, Self::Values))
    }
}
