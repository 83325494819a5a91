//! IoT Hub's error codes: a number whose first three digits are the HTTP status, and a name.
//!
//! Source: "Troubleshoot error codes" and the enum of the .NET client. How a code is put into a
//! body is up to the sender: HTTP and MQTT wrap it differently.

use std::fmt;

macro_rules! codes {
    ($($number:literal $name:ident $doc:literal)*) => {
        /// An error code, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $doc] $name,)*
        }

        impl ErrorCode {
            /// All codes, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number, such as 404001.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            /// The name, as in `ErrorCode:<name>;` and in the header `iothub-errorcode`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What happened, as a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc,)* }
            }

            /// The HTTP status of the code.
            #[must_use]
            #[expect(
                clippy::cast_possible_truncation,
                reason = "no number is as large as 65536000"
            )]
            pub const fn http_status(self) -> u16 {
                (self.number() / 1000) as u16
            }

            /// The code with that name; case-sensitive.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// The code with that number.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    400000 GenericBadRequest "The request is invalid."
    400001 InvalidProtocolVersion "The api-version is unknown."
    400003 InvalidOperation "The operation is invalid here."
    400004 ArgumentInvalid "An argument has an invalid value."
    400005 ArgumentNull "An argument is missing."
    400006 IotHubFormatError "A text is malformed."
    400011 DeviceDefinedMultipleTimes "A bulk request names a device twice."
    400012 DeserializationError "The body is not the expected document."
    400013 BulkRegistryOperationFailure "Part of a bulk request failed."
    400023 EtagDoesNotMatch "The etag of a bulk item does not match the resource."
    400024 RequestTimedOut "The request took too long to arrive."
    400026 NullMessage "A message is missing."
    400027 ConnectionForcefullyClosedOnNewConnection "The device made a new connection, which \
        ended this one."
    400301 CannotRegisterModuleToModule "A module cannot hold modules."
    401000 GenericUnauthorized "The caller is not authenticated."
    401002 IotHubUnauthorizedAccess "The token does not grant the right."
    401003 IotHubUnauthorized "The token or certificate is invalid."
    403000 GenericForbidden "The operation is not allowed."
    403001 IotHubSuspended "The hub is suspended."
    403002 IotHubQuotaExceeded "The day's messages are used up."
    403003 JobQuotaExceeded "Too many import or export jobs are active."
    403004 DeviceMaximumQueueDepthExceeded "Too many messages are pending for the device."
    403009 InvalidMessageExpiryTime "A message's expiry is not allowed."
    403010 OperationNotAvailableInCurrentTier "The hub's tier does not offer this."
    403012 DeviceDisabled "The device is disabled."
    403800 DeviceMaximumInflightMethodExceeded "Too many calls to the device are in flight."
    404000 GenericNotFound "The resource does not exist."
    404001 DeviceNotFound "The device does not exist."
    404002 JobNotFound "The job does not exist."
    404010 ModuleNotFound "The module does not exist."
    404103 DeviceNotOnline "The device did not come online in time."
    404104 DeviceConnectionClosedRemotely "The device's connection ended."
    405000 GenericMethodNotAllowed "The resource does not have this HTTP method."
    405102 OperationNotAllowedInCurrentState "The resource's state does not allow this."
    409000 GenericConflict "The request conflicts with another write."
    409001 DeviceAlreadyExists "A device of that name exists."
    409002 LinkCreationConflict "A device opened two links at once."
    409103 DeviceJobAlreadyExists "The device has this job already."
    409104 JobAlreadyExists "A job of that name exists."
    409301 ModuleAlreadyExistsOnDevice "The device has a module of that name."
    412001 PreconditionFailed "The etag does not match the resource."
    412002 DeviceMessageLockLost "Another reader has received the message."
    412003 JobRunPreconditionFailed "The job cannot run as it is."
    413000 GenericRequestEntityTooLarge "The body is too large."
    413001 MessageTooLarge "The message is too large."
    413002 TooManyDevices "The hub has too many devices."
    413003 TooManyModulesOnDevice "The device has too many modules."
    429000 GenericTooManyRequests "Too many requests."
    429001 ThrottlingException "Too many requests of this kind."
    429002 ThrottleBacklogLimitExceeded "Too many throttled requests are waiting."
    429003 ThrottlingBacklogTimeout "A throttled request timed out."
    429004 ThrottlingMaxActiveJobCountExceeded "Too many jobs are active."
    429005 DeviceThrottlingLimitExceeded "Too many requests of this device."
    500001 ServerError "The hub failed."
    500008 GenericTimeout "The hub took too long."
    503001 ServiceUnavailable "The hub is not available."
    503005 ServerBusy "The hub is busy."
    504101 GatewayTimeout "The device did not answer in time. Azure documents the number alone; \
        the name is not Azure's."
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_statuses_agree() {
        for pair in ErrorCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?}");
        }
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(code));
            assert_eq!(ErrorCode::from_name(code.name()), Some(code));
            assert_eq!(u32::from(code.http_status()), code.number() / 1000);
        }
        assert_eq!(ErrorCode::from_name("devicenotfound"), None);
        assert_eq!(ErrorCode::from_number(404), None);
    }

    /// Literal codes seen in bodies and headers (azure-docs "Troubleshoot error codes", and public
    /// issue threads).
    #[test]
    fn codes_are_spelled_as_the_service_spells_them() {
        let seen = [
            (ErrorCode::ArgumentInvalid, 400_004, "ArgumentInvalid", 400),
            (
                ErrorCode::IotHubUnauthorizedAccess,
                401_002,
                "IotHubUnauthorizedAccess",
                401,
            ),
            (ErrorCode::DeviceNotFound, 404_001, "DeviceNotFound", 404),
            (ErrorCode::DeviceNotOnline, 404_103, "DeviceNotOnline", 404),
            (
                ErrorCode::OperationNotAllowedInCurrentState,
                405_102,
                "OperationNotAllowedInCurrentState",
                405,
            ),
            (
                ErrorCode::JobAlreadyExists,
                409_104,
                "JobAlreadyExists",
                409,
            ),
            (
                ErrorCode::PreconditionFailed,
                412_001,
                "PreconditionFailed",
                412,
            ),
            (ErrorCode::GatewayTimeout, 504_101, "GatewayTimeout", 504),
        ];
        for (code, number, name, status) in seen {
            assert_eq!(
                (code.number(), code.name(), code.http_status()),
                (number, name, status)
            );
        }
    }
}
