//! Keys, rights and policies: the stored facts by which [`crate::auth`] checks a token or a
//! certificate. Plain data, known to every layer.

use std::fmt;
use std::str::FromStr;

use iothub_protocol::id::PolicyName;
use iothub_protocol::identity::Thumbprints;
use iothub_protocol::policy::Bounds;
use iothub_protocol::sas::SharedAccessKey;

/// Two keys, both valid, so that one can be rotated while the other is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The key that is handed out by default.
    pub primary: SharedAccessKey,
    pub secondary: SharedAccessKey,
}

/// What a policy allows: Azure's permissions registry read, registry write, service connect and
/// device connect (azure-docs, "Control access to IoT Hub").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    pub const NONE: Self = Self(0);
    /// Read identities.
    pub const REGISTRY_READ: Self = Self(1);
    /// Change identities; includes reading them.
    pub const REGISTRY_WRITE: Self = Self(3);
    /// Use twins, methods, queries and jobs.
    pub const SERVICE_CONNECT: Self = Self(4);
    /// Connect as any device.
    pub const DEVICE_CONNECT: Self = Self(8);
    pub const ALL: Self = Self(15);
    /// The most that a policy with bounds may have: the others have no bounds.
    pub const BOUNDED: Self = Self(5);

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `self` allows all that `needed` names.
    #[must_use]
    pub const fn contains(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// The stored form.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// From the stored form; unknown bits are ignored.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }
}

/// In Azure's spelling: `RegistryWrite, ServiceConnect`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = *self;
        let mut separator = "";
        for (name, right) in RIGHTS {
            if left.contains(right) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
                left = Self(left.0 & !right.0);
            }
        }
        Ok(())
    }
}

/// A text that is not the name of a right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown right `{0}`; expected some of RegistryRead, RegistryWrite, ServiceConnect and \
     DeviceConnect, separated by commas"
)]
pub struct UnknownRight(String);

impl FromStr for Rights {
    type Err = UnknownRight;

    /// Reads names separated by commas, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        text.split(',').try_fold(Self::NONE, |rights, name| {
            let name = name.trim();
            RIGHTS
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, right)| rights.union(*right))
                .ok_or_else(|| UnknownRight(name.to_owned()))
        })
    }
}

/// The names of the rights. A right that includes another comes first.
const RIGHTS: [(&str, Rights); 4] = [
    ("RegistryWrite", Rights::REGISTRY_WRITE),
    ("RegistryRead", Rights::REGISTRY_READ),
    ("ServiceConnect", Rights::SERVICE_CONNECT),
    ("DeviceConnect", Rights::DEVICE_CONNECT),
];

/// A shared access policy: a name that tokens refer to (`skn`), its keys and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub name: PolicyName,
    pub keys: Keys,
    pub rights: Rights,
    /// `None`: the rights alone limit it.
    pub bounds: Option<Bounds>,
}

impl Policy {
    /// Whether it may do everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rights == Rights::ALL && self.bounds.is_none()
    }
}

/// What authentication needs to know of a device.
#[derive(Debug, Clone)]
pub struct DeviceAuthentication {
    /// Whether the identity's status is `enabled`.
    pub enabled: bool,
    /// Changes with every change of the identity, and when it is deleted and created again.
    pub etag: String,
    pub kind: AuthenticationKind,
}

/// How a device authenticates (`authentication.type`).
#[derive(Debug, Clone)]
pub enum AuthenticationKind {
    /// `sas`: a token signed with one of these keys or with a key of a policy.
    Sas(Keys),
    /// `selfSigned`: a certificate with one of these thumbprints (hexadecimal, SHA-1 or SHA-256).
    SelfSigned(Thumbprints),
    /// `certificateAuthority`: a certificate of a registered authority with the device id as its
    /// common name.
    CertificateAuthority,
    /// `none`: the device cannot connect.
    None,
}

/// How a connection authenticated as its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A token signed with a key of the device.
    DeviceKey,
    /// A token signed with a key of this policy.
    Policy(PolicyName),
    Certificate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_parse_in_any_case_and_display_in_azures_spelling() {
        for (given, written) in [
            ("ServiceConnect", "ServiceConnect"),
            (
                "serviceconnect, REGISTRYREAD",
                "RegistryRead, ServiceConnect",
            ),
            ("RegistryRead,RegistryWrite", "RegistryWrite"),
            (
                "DeviceConnect,RegistryWrite,ServiceConnect",
                "RegistryWrite, ServiceConnect, DeviceConnect",
            ),
        ] {
            assert_eq!(given.parse::<Rights>().unwrap().to_string(), written);
        }
        assert_eq!(
            Rights::ALL.to_string(),
            "RegistryWrite, ServiceConnect, DeviceConnect"
        );
        for bad in [
            "",
            "Service",
            "ServiceConnect,",
            "ServiceConnect RegistryRead",
        ] {
            let error = bad.parse::<Rights>().unwrap_err().to_string();
            assert!(error.contains("expected some of RegistryRead"), "{error}");
        }
    }
}
