//! Refusals for want of a right, and the rights that a policy has.

use iothub_protocol::ErrorCode;
use iothub_protocol::policy::{Bounds, Whoami};
use iothub_protocol::rest::needed_rights;
use reqwest::Method;

use super::HubClient;
use super::error::{ClientError, ErrorResponse};

/// Rights of a policy, in the spelling of Azure: `RegistryRead`, `ServiceConnect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRights {
    /// The rights that the policy has.
    pub granted: Vec<String>,
    /// The rights that the policy does not have.
    pub missing: Vec<String>,
    /// What else limits the policy; of door-hub alone.
    pub bounds: Option<Bounds>,
}

/// In place of rights: the policy has them, and its bounds refuse the call. The hub's text names
/// what they lack.
pub const WIDER_BOUNDS: &str = "wider bounds";

/// Every right.
const ALL: [&str; 4] = [
    "RegistryRead",
    "RegistryWrite",
    "ServiceConnect",
    "DeviceConnect",
];

/// A hub's text for a policy that lacks a right.
const REFUSAL: &str = "does not allow access";

/// Before what the bounds of a policy lack, in that text.
const MISSING: &str = "for this operation: ";

impl HubClient {
    /// Reads the rights of the policy that signs the requests. door-hub names them all, up to
    /// version 0.2 if it allows one of two readings. Else these show two of the rights;
    /// `RegistryWrite` and `DeviceConnect` are then in neither list, because only a change would
    /// show them.
    ///
    /// # Errors
    ///
    /// When the key is refused, or any other [`ClientError`].
    pub async fn policy_rights(&self) -> Result<PolicyRights, ClientError> {
        if self.is_door_hub().await? {
            if let Some(whoami) = self.door_hub_whoami().await? {
                let rights = PolicyRights::of(&whoami.rights);
                let bounds = whoami.bounds;
                return Ok(PolicyRights { bounds, ..rights });
            }
        }
        let mut rights = PolicyRights {
            granted: Vec::new(),
            missing: Vec::new(),
            bounds: None,
        };
        for (right, scope) in [("RegistryRead", "devices"), ("ServiceConnect", "service")] {
            match self.send(&self.get(&["statistics", scope])?).await {
                Ok(response) => match response.header(iothub_protocol::rest::POLICY_RIGHTS) {
                    Some(named) => return Ok(PolicyRights::of(named)),
                    None => rights.granted.push(right.to_owned()),
                },
                Err(error) if error.needed_rights().is_some() => {
                    rights.missing.push(right.to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rights)
    }

    /// The policy that signs the requests, with its bounds. `None`: a hub without `/whoami`.
    ///
    /// # Errors
    ///
    /// When the key is refused, or any other [`ClientError`].
    pub async fn door_hub_whoami(&self) -> Result<Option<Whoami>, ClientError> {
        match self.send(&self.get(&["whoami"])?).await {
            Ok(response) => response.json("a policy").map(Some),
            Err(ClientError::Refused(response)) if response.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl PolicyRights {
    /// Reads the header of door-hub; `RegistryWrite` includes `RegistryRead`.
    fn of(header: &str) -> Self {
        let named: Vec<&str> = header.split(',').map(str::trim).collect();
        let has = |right: &&str| {
            named.contains(right) || (*right == "RegistryRead" && named.contains(&"RegistryWrite"))
        };
        let (granted, missing): (Vec<&str>, Vec<&str>) = ALL.iter().partition(|right| has(right));
        let owned = |rights: Vec<&str>| rights.into_iter().map(str::to_owned).collect();
        Self {
            granted: owned(granted),
            missing: owned(missing),
            bounds: None,
        }
    }
}

/// The rights that a request needs, separated by commas, if it was refused because the policy lacks
/// one of them, or [`WIDER_BOUNDS`]. A refused key has the same code.
pub(super) fn missing(
    refusal: &ErrorResponse,
    method: &Method,
    path: &str,
) -> Option<&'static str> {
    let lacks = refusal.code == Some(ErrorCode::IotHubUnauthorizedAccess)
        && refusal.message.contains(REFUSAL);
    lacks.then(|| match refusal.message.contains(MISSING) {
        true => WIDER_BOUNDS,
        false => needed_rights(method.as_str(), path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_hub_names_every_right() {
        for (header, granted) in [
            ("ServiceConnect", &["ServiceConnect"][..]),
            (
                "RegistryRead, ServiceConnect",
                &["RegistryRead", "ServiceConnect"],
            ),
            ("RegistryWrite", &["RegistryRead", "RegistryWrite"]),
            ("RegistryWrite, ServiceConnect, DeviceConnect", &ALL),
            ("", &[]),
        ] {
            let rights = PolicyRights::of(header);
            assert_eq!(rights.granted, granted, "{header}");
            assert_eq!(rights.granted.len() + rights.missing.len(), ALL.len());
        }
    }
}
