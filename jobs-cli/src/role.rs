//! Roles: doorctl's names for the bounds of a policy. The hub knows bounds alone.

use clap::ValueEnum;
use door_core::contract::METHODS;
use iothub_protocol::policy::{Access, Bounds};
use serde::Serialize;

use crate::printer::Row;

/// Every right of a hub; RegistryWrite includes RegistryRead.
const ALL_RIGHTS: &str = "RegistryRead,RegistryWrite,ServiceConnect,DeviceConnect";

/// What a person may do, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Sees doors, jobs and events.
    Viewer,
    /// Locks doors, locks down and ends it, acknowledges alarms.
    Guard,
    /// Everything at doors: unlock, mode, schedule, settings.
    Operator,
    /// Everything, devices and policies too.
    Admin,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Viewer, Self::Guard, Self::Operator, Self::Admin];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Guard => "guard",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub(crate) const fn rights(self) -> &'static str {
        match self {
            Self::Admin => ALL_RIGHTS,
            // What its verbs need: identities are read with RegistryRead, without their keys.
            _ => "ServiceConnect",
        }
    }

    /// The bounds, without a condition; `None` for an administrator.
    pub(crate) fn bounds(self) -> Option<Bounds> {
        let operator: Vec<&str> = METHODS.into_iter().chain(["identify"]).collect();
        let (access, methods, desired, tags): (_, &[&str], &[&str], &[&str]) = match self {
            Self::Viewer => (Access::Read, &[], &[], &[]),
            Self::Guard => (
                Access::Operate,
                &["lockDoor", "lockdown", "allClear", "getState"],
                &["lockdown"],
                &["alarm"],
            ),
            Self::Operator => (
                Access::Operate,
                &operator,
                &["lockdown", "mode", "timed", "schedule", "settings"],
                &["alarm"],
            ),
            Self::Admin => return None,
        };
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let method = |name: &&str| name.parse().expect("the names of methods are valid");
        Some(Bounds {
            access,
            methods: methods.iter().map(method).collect(),
            desired: owned(desired),
            tags: owned(tags),
            condition: None,
        })
    }

    /// The role with these bounds, whichever doors they reach.
    pub(crate) fn of(rights: &str, bounds: Option<&Bounds>) -> Option<Self> {
        let Some(bounds) = bounds else {
            let has = |right: &str| rights.split(',').any(|own| own.trim() == right);
            let needed = ["RegistryWrite", "ServiceConnect", "DeviceConnect"];
            return needed.into_iter().all(has).then_some(Self::Admin);
        };
        let sorted = |bounds: &Bounds| {
            let mut bounds = bounds.clone();
            bounds.methods.sort();
            bounds.desired.sort();
            bounds.tags.sort();
            bounds.condition = None;
            bounds
        };
        let own = sorted(bounds);
        let mut roles = Self::ALL.into_iter();
        roles.find(|role| role.bounds().is_some_and(|bounds| sorted(&bounds) == own))
    }
}

/// What a policy may do, as the columns of several verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Permissions {
    /// `None`: its bounds are those of no role.
    pub(crate) role: Option<&'static str>,
    access: String,
    methods: String,
    desired: String,
    tags: String,
    #[serde(rename = "where")]
    condition: Option<String>,
}

impl Permissions {
    pub(crate) const TITLES: [&'static str; 6] =
        ["role", "access", "methods", "desired", "tags", "where"];

    pub(crate) fn of(rights: &str, bounds: Option<&Bounds>) -> Self {
        let role = Role::of(rights, bounds).map(Role::as_str);
        let Some(bounds) = bounds else {
            let all = String::new;
            return Self {
                role,
                access: "full".to_owned(),
                methods: all(),
                desired: all(),
                tags: all(),
                condition: None,
            };
        };
        let methods: Vec<&str> = bounds.methods.iter().map(AsRef::as_ref).collect();
        Self {
            role,
            access: bounds.access.to_string(),
            methods: methods.join(" "),
            desired: bounds.desired.join(" "),
            tags: bounds.tags.join(" "),
            condition: bounds.condition.clone(),
        }
    }
}

/// The table of roles.
#[derive(Debug, Serialize)]
pub(crate) struct RoleRow {
    rights: &'static str,
    #[serde(flatten)]
    permissions: Permissions,
}

impl RoleRow {
    pub(crate) fn all() -> Vec<Self> {
        let row = |role: Role| Self {
            rights: role.rights(),
            permissions: Permissions::of(role.rights(), role.bounds().as_ref()),
        };
        Role::ALL.map(row).into()
    }
}

impl Row for RoleRow {
    fn titles() -> Vec<&'static str> {
        vec!["role", "access", "methods", "desired", "tags", "rights"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_known_by_its_bounds_and_only_an_admin_opens_without_them() {
        for role in Role::ALL {
            let mut bounds = role.bounds();
            assert_eq!(Role::of(role.rights(), bounds.as_ref()), Some(role));
            if let Some(bounds) = &mut bounds {
                bounds.check().unwrap();
                bounds.methods.reverse();
                bounds.condition = Some("tags.a = 1".to_owned());
                assert_eq!(Role::of("ServiceConnect", Some(bounds)), Some(role));
                bounds.tags.push("own".to_owned());
                assert_eq!(Role::of("ServiceConnect", Some(bounds)), None);
            }
        }
        assert_eq!(Role::of("ServiceConnect", None), None);
        let opens = ["unlockDoor", "relinquish", "setMode"];
        for role in [Role::Viewer, Role::Guard] {
            let bounds = role.bounds().unwrap();
            let methods = bounds.methods.iter().map(AsRef::as_ref);
            assert!(
                !methods
                    .into_iter()
                    .any(|method: &str| opens.contains(&method))
            );
            let desired = ["mode", "timed", "schedule", "settings"];
            assert!(
                !bounds
                    .desired
                    .iter()
                    .any(|name| desired.contains(&name.as_str()))
            );
        }
    }

    #[test]
    fn the_docs_have_the_table_of_roles() {
        let page = include_str!("../../docs/operator/people.md");
        for row in RoleRow::all() {
            let code = |names: &str| {
                let names = names.split(' ').filter(|name| !name.is_empty());
                names
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let Permissions {
                role,
                access,
                methods,
                desired,
                tags,
                ..
            } = row.permissions;
            let [methods, desired, tags] = match access.as_str() {
                "full" => ["all", "all", "all"].map(str::to_owned),
                _ => [methods, desired, tags].map(|names| match code(&names).as_str() {
                    "" => "none".to_owned(),
                    names => names.to_owned(),
                }),
            };
            let role = role.unwrap();
            let line = format!("| `{role}` | `{access}` | {methods} | {desired} | {tags} |");
            assert!(page.contains(&line), "{line}");
        }
    }
}
