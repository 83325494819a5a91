//! Who may do what: the stored facts that [`crate::auth`] judges a token or a certificate by. Plain
//! data, known to every layer.

use std::fmt;
use std::str::FromStr;

use iothub_protocol::id::PolicyName;
use iothub_protocol::sas::SharedAccessKey;

/// Two keys that are both good, so that one can be changed while the other is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The one that is handed out.
    pub primary: SharedAccessKey,
    /// The other.
    pub secondary: SharedAccessKey,
}

/// What a policy allows (Azure's permissions; IOTHUB access control, "registry read, registry
/// write, service connect, device connect").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// Reading identities.
    pub const REGISTRY_READ: Self = Self(1);
    /// Changing identities; includes reading them.
    pub const REGISTRY_WRITE: Self = Self(3);
    /// Twins, methods, queries and jobs.
    pub const SERVICE_CONNECT: Self = Self(4);
    /// Speaking as any device.
    pub const DEVICE_CONNECT: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `self` allows all that `needed` names.
    #[must_use]
    pub const fn contain(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// As it is stored.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// From what was stored; bits that mean nothing grant nothing.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }
}

/// As Azure writes them: `RegistryWrite, ServiceConnect`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = *self;
        let mut separator = "";
        for (name, right) in RIGHTS {
            if left.contain(right) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
                left = Self(left.0 & !right.0);
            }
        }
        Ok(())
    }
}

/// A text that names no rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no right; expected some of RegistryRead, RegistryWrite, ServiceConnect and DeviceConnect, separated by commas"
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
                .map(|(_, right)| rights.and(*right))
                .ok_or_else(|| UnknownRight(name.to_owned()))
        })
    }
}

/// The names of rights. One that includes another comes first.
const RIGHTS: [(&str, Rights); 4] = [
    ("RegistryWrite", Rights::REGISTRY_WRITE),
    ("RegistryRead", Rights::REGISTRY_READ),
    ("ServiceConnect", Rights::SERVICE_CONNECT),
    ("DeviceConnect", Rights::DEVICE_CONNECT),
];

/// A shared access policy: a name that tokens refer to (`skn`), its keys and what they allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The name.
    pub name: PolicyName,
    /// The keys.
    pub keys: Keys,
    /// What they allow.
    pub rights: Rights,
}

/// What a device's CONNECT is judged by.
#[derive(Debug, Clone)]
pub struct DeviceAuthentication {
    /// Whether the identity's status is `enabled`.
    pub enabled: bool,
    /// Changes whenever the identity does, and when it is deleted and made again.
    pub etag: String,
    /// How the device proves itself.
    pub kind: AuthenticationKind,
}

/// How a device proves itself (`authentication.type`).
#[derive(Debug, Clone)]
pub enum AuthenticationKind {
    /// `sas`: a token signed with one of these keys, or with a policy's.
    Sas(Keys),
    /// `selfSigned`: a certificate with one of these thumbprints (hexadecimal, SHA-1 or SHA-256).
    SelfSigned {
        /// The first.
        primary_thumbprint: Option<String>,
        /// The second.
        secondary_thumbprint: Option<String>,
    },
    /// `certificateAuthority`: a certificate of a registered authority, made out to the device id.
    CertificateAuthority,
    /// `none`: it cannot connect.
    None,
}

/// By what a connection proved that it speaks for its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A token signed with a key of the device.
    DeviceKey,
    /// A token signed with a key of this policy.
    Policy(PolicyName),
    /// A certificate.
    Certificate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_in_any_case_and_written_as_azure_writes_them() {
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
