//! Shared access policies of door-hub: what a policy may do, and the documents of `/policies` and
//! `/whoami`. Azure's policies have rights alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, MethodName, PolicyName};
use crate::job::JobAction;
use crate::query::{Condition, Expression, Path, QueryError, parse_condition};
use crate::sas::SharedAccessKey;
use crate::twin::{SectionPatch, TwinPatch};

/// The most methods, desired properties or tags that the bounds of a policy list.
pub const MAX_NAMES: usize = 64;

/// The longest name of a desired property or tag, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What a policy with bounds may do at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Only reads.
    Read,
    /// Reads, and calls and writes what the lists of the bounds name.
    Operate,
}

impl fmt::Display for Access {
    /// The spelling of the document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Operate => "operate",
        })
    }
}

/// The bounds of a policy; a policy without bounds is limited by its rights alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bounds {
    /// Whether the policy may call and write at all.
    pub access: Access,
    /// The methods that it may call, directly or by a job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<MethodName>,
    /// Names at the top of the desired properties that it may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub desired: Vec<String>,
    /// Names at the top of the tags that it may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A condition on `deviceId`, `tags` and `properties.desired`: for the policy no other device
    /// exists. `None`: every device.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// Why bounds are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundsError {
    /// Lists beside `read`.
    #[error("access `read` calls and writes nothing; expected `{0}` to be absent")]
    ReadWithList(&'static str),
    /// A list is too long.
    #[error("`{list}` has {count} names; expected at most {MAX_NAMES}")]
    TooMany {
        /// The list.
        list: &'static str,
        /// Its length.
        count: usize,
    },
    /// A name that is not at the top of a section.
    #[error(
        "`{list}` has `{name}`; expected the name of a property at the top, without `.`, `$` and \
         white space"
    )]
    Name {
        /// The list.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// The condition does not parse.
    #[error("`where` is invalid: {0}")]
    Condition(#[from] QueryError),
    /// The condition reads what a device, or the policy itself, may change.
    #[error(
        "`where` reads `{path}`; expected deviceId, tags.NAME and properties.desired.NAME alone, \
         which the policy may not write"
    )]
    Path {
        /// The path as the condition has it.
        path: String,
    },
}

/// What the bounds of a policy lack for an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// The policy may only read.
    #[error("its bounds have access `read`; this needs `operate`")]
    Operate,
    /// The method is not listed.
    #[error("the `methods` of its bounds do not list `{0}`")]
    Method(MethodName),
    /// The name is not listed.
    #[error("the `{section}` of its bounds do not list `{name}`")]
    Name {
        /// `tags` or `desired`.
        section: &'static str,
        /// The name at the top of the section.
        name: String,
    },
    /// A section would be cleared.
    #[error("`{0}: null` needs a policy without bounds")]
    Section(&'static str),
}

impl Bounds {
    /// Checks what the document's types leave open, and returns the condition.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn check(&self) -> Result<Option<Condition>, BoundsError> {
        let names = |list: &[String]| list.to_vec();
        let methods = self.methods.iter().map(|name| name.as_ref().to_owned());
        for (list, names) in [
            ("methods", methods.collect()),
            ("desired", names(&self.desired)),
            ("tags", names(&self.tags)),
        ] {
            if self.access == Access::Read && !names.is_empty() {
                return Err(BoundsError::ReadWithList(list));
            }
            if names.len() > MAX_NAMES {
                let count = names.len();
                return Err(BoundsError::TooMany { list, count });
            }
            let is_name = |name: &String| {
                (1..=MAX_NAME_BYTES).contains(&name.len())
                    && !name.contains(|character: char| {
                        matches!(character, '.' | '$')
                            || character.is_whitespace()
                            || character.is_control()
                    })
            };
            let is_path = list != "methods";
            if let Some(name) = names.into_iter().find(|name| is_path && !is_name(name)) {
                return Err(BoundsError::Name { list, name });
            }
        }
        let condition = self.condition.as_deref().map(parse_condition).transpose()?;
        let paths = condition.as_ref().map(Expression::paths);
        let mut paths = paths.into_iter().flatten();
        paths.try_for_each(|path| self.check_path(path))?;
        Ok(condition)
    }

    fn check_path(&self, path: &Path) -> Result<(), BoundsError> {
        let segments: Vec<&str> = path.segments().iter().map(String::as_str).collect();
        let allowed = match segments[..] {
            ["deviceId"] => true,
            ["tags", name, ..] => !self.tags.iter().any(|written| written == name),
            ["properties", "desired", name, ..] => {
                !name.starts_with('$') && !self.desired.iter().any(|own| own == name)
            }
            _ => false,
        };
        match allowed {
            true => Ok(()),
            false => Err(BoundsError::Path {
                path: segments.join("."),
            }),
        }
    }

    /// Whether the policy may change or command anything at all.
    ///
    /// # Errors
    ///
    /// If it may only read.
    pub fn check_operate(&self) -> Result<(), Forbidden> {
        match self.access {
            Access::Operate => Ok(()),
            Access::Read => Err(Forbidden::Operate),
        }
    }

    /// Whether the policy may call `method`, directly or by a job.
    ///
    /// # Errors
    ///
    /// What the bounds lack.
    pub fn check_method(&self, method: &MethodName) -> Result<(), Forbidden> {
        self.check_operate()?;
        match self.methods.contains(method) {
            true => Ok(()),
            false => Err(Forbidden::Method(method.clone())),
        }
    }

    /// Whether the policy may merge `patch` into a twin, directly or by a job.
    ///
    /// # Errors
    ///
    /// What the bounds lack.
    pub fn check_patch(&self, patch: &TwinPatch) -> Result<(), Forbidden> {
        self.check_operate()?;
        for (section, allowed, patch) in [
            ("tags", &self.tags, &patch.tags),
            ("desired", &self.desired, &patch.desired),
        ] {
            match patch {
                SectionPatch::Absent => {}
                SectionPatch::Null => return Err(Forbidden::Section(section)),
                SectionPatch::Values(values) => {
                    if let Some(name) = values.keys().find(|name| !allowed.contains(name)) {
                        let name = name.clone();
                        return Err(Forbidden::Name { section, name });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a job of the policy may do this.
    ///
    /// # Errors
    ///
    /// What the bounds lack.
    pub fn check_action(&self, action: &JobAction) -> Result<(), Forbidden> {
        match action {
            JobAction::Method(request) => self.check_method(request.method_name()),
            JobAction::UpdateTwin(patch) => self.check_patch(patch),
        }
    }
}

/// A policy in the answers of `/policies`, and with keys only when it was created or rotated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDocument {
    /// The policy's name (`skn` of a token).
    pub name: PolicyName,
    /// Rights in Azure's spelling, separated by commas.
    pub rights: String,
    /// Absent: limited by the rights alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Jobs of this policy that wait for their start or run; only in `GET /policies/{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<JobId>>,
    /// Only when it was created or rotated.
    #[serde(default, with = "key", skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<SharedAccessKey>,
    /// Only when it was created or rotated.
    #[serde(default, with = "key", skip_serializing_if = "Option::is_none")]
    pub secondary_key: Option<SharedAccessKey>,
}

/// Which of a policy's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyKey {
    /// The key that is handed out by default.
    Primary,
    /// The other one, which stays valid while the primary is rotated.
    Secondary,
}

impl fmt::Display for PolicyKey {
    /// The spelling of the document, and of `door-hub policy --key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// The body of `POST /policies/{name}/rotate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateRequest {
    /// The key to replace.
    pub key: PolicyKey,
}

/// The body of `PUT /policies/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRequest {
    /// Rights in Azure's spelling, separated by commas.
    pub rights: String,
    /// `null`: limited by the rights alone. A change without the member is refused, so that no
    /// client drops bounds by leaving it out.
    #[serde(default)]
    pub bounds: Option<Bounds>,
}

/// The answer of `GET /whoami`: what the caller may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Whoami {
    /// The policy that signs the caller's requests.
    pub policy: PolicyName,
    /// Rights in Azure's spelling, separated by commas.
    pub rights: String,
    /// Absent: limited by the rights alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
}

/// A key in base64. An error does not repeat the value.
mod key {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    use crate::sas::SharedAccessKey;

    pub(super) fn serialize<S: Serializer>(
        key: &Option<SharedAccessKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = key.as_ref().map(SharedAccessKey::to_base64);
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SharedAccessKey>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let key = text.as_deref().map(SharedAccessKey::from_base64);
        key.transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(document: &str) -> Result<Option<Condition>, BoundsError> {
        serde_json::from_str::<Bounds>(document).unwrap().check()
    }

    #[test]
    fn bounds_reach_only_devices_that_the_policy_cannot_move() {
        for (condition, valid) in [
            ("tags.building = '43'", true),
            ("deviceId IN ['a', 'b'] AND NOT tags.floor > 3", true),
            ("properties.desired.building = '43'", true),
            ("STARTSWITH(deviceId, 'east-')", true),
            ("tags.alarm.forcedOpen.by = 'me'", false),
            ("properties.desired.lockdown = true", false),
            ("properties.desired.$version > 3", false),
            ("properties.desired = 1", false),
            ("IS_DEFINED(tags)", false),
            ("properties.reported.building = '43'", false),
            ("connectionState = 'Connected'", false),
            ("tags.building = tags.alarm", false),
            ("1 + properties.reported.a = 2", false),
        ] {
            let bounds = Bounds {
                access: Access::Operate,
                methods: vec!["lockDoor".parse().unwrap()],
                desired: vec!["lockdown".to_owned()],
                tags: vec!["alarm".to_owned()],
                condition: Some(condition.to_owned()),
            };
            let checked = bounds.check();
            assert_eq!(checked.is_ok(), valid, "{condition}: {checked:?}");
        }
    }

    #[test]
    fn invalid_bounds_name_the_member_and_the_value() {
        for (document, expected) in [
            (
                r#"{"access":"read","methods":["lockDoor"]}"#,
                "`methods` to be absent",
            ),
            (
                r#"{"access":"operate","desired":["a.b"]}"#,
                "`desired` has `a.b`",
            ),
            (r#"{"access":"operate","tags":[""]}"#, "`tags` has ``"),
            (
                r#"{"access":"read","where":"tags.a ="}"#,
                "`where` is invalid",
            ),
        ] {
            let error = checked(document).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(serde_json::from_str::<Bounds>(r#"{"access":"full"}"#).is_err());
        assert!(serde_json::from_str::<Bounds>(r#"{"access":"read","scope":1}"#).is_err());
    }

    #[test]
    fn a_patch_is_allowed_name_by_name() {
        let guard = r#"{"access":"operate","desired":["lockdown"],"tags":["alarm"]}"#;
        let desired = |json: &str| format!(r#"{{"properties":{{"desired":{json}}}}}"#);
        for (bounds, patch, missing) in [
            (guard, desired(r#"{"lockdown":null}"#), None),
            (guard, desired(r#"{"lockdown":{"reason":null}}"#), None),
            (guard, desired("{}"), None),
            (guard, r#"{"tags":{"alarm":{"a":1}}}"#.into(), None),
            (
                guard,
                desired(r#"{"lockdown":1,"mode":"free"}"#),
                Some("list `mode`"),
            ),
            (guard, desired("null"), Some("`desired: null`")),
            (guard, r#"{"tags":null}"#.into(), Some("`tags: null`")),
            (
                guard,
                r#"{"tags":{"lockdown":1}}"#.into(),
                Some("`tags` of its bounds"),
            ),
            (r#"{"access":"read"}"#, "{}".into(), Some("needs `operate`")),
        ] {
            let bounds: Bounds = serde_json::from_str(bounds).unwrap();
            let checked = bounds.check_patch(&serde_json::from_str(&patch).unwrap());
            let error = checked.map_err(|error| error.to_string()).err();
            let found = error.as_deref().unwrap_or_default();
            assert_eq!(missing.is_some(), error.is_some(), "{patch}: {found}");
            assert!(found.contains(missing.unwrap_or_default()), "{found}");
        }
    }

    #[test]
    fn a_document_holds_keys_that_its_debug_form_hides() {
        let text = r#"{"name":"guard","rights":"ServiceConnect","primaryKey":"c2VjcmV0"}"#;
        let document: PolicyDocument = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
        assert!(!format!("{document:?}").contains("c2VjcmV0"));
    }
}
