//! What all calls of the service API share: its version, names of headers, and the rights needed.

/// The version of IoT Hub's API (`api-version`).
pub const API_VERSION: &str = "2021-04-12";

/// The most rows of a page (request).
pub const MAX_ITEM_COUNT: &str = "x-ms-max-item-count";

/// Where the next page begins (request and response).
pub const CONTINUATION: &str = "x-ms-continuation";

/// The most rows that a page can have (response); door-hub only.
pub const LARGEST_PAGE: &str = "x-largest-page";

/// The type of the rows of a page (response).
pub const ITEM_TYPE: &str = "x-ms-item-type";

/// The name of the error code (response).
pub const ERROR_CODE: &str = "iothub-errorcode";

/// The reason of a call, percent-encoded, for door-hub's audit log. Azure ignores it.
pub const AUDIT_REASON: &str = "x-audit-reason";

/// Header with the rights of the caller's policy, separated by commas; door-hub only.
pub const POLICY_RIGHTS: &str = "x-policy-rights";

/// The event after which a stream continues (request; WHATWG HTML, section 9.2).
pub const LAST_EVENT_ID: &str = "last-event-id";

/// The rights that a request needs, separated by commas (IoT Hub developer guide, "Control access
/// to IoT Hub"; `/audit`, `/events`, `/metrics`, `/policies` and `/whoami` are door-hub's). Empty
/// if it needs none.
#[must_use]
pub fn needed_rights(method: &str, path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, &parts[..]) {
        (_, ["whoami"]) => "",
        (_, ["audit"]) => "RegistryRead,ServiceConnect",
        (_, ["policies", ..]) => "RegistryWrite,ServiceConnect,DeviceConnect",
        // A device may be called `query`.
        ("POST", ["devices", "query"]) | (_, ["devices", _, "commands"]) => "ServiceConnect",
        ("GET", ["devices", ..])
        | (_, ["statistics", "devices"] | ["metrics"] | ["jobs"] | ["configurations"]) => {
            "RegistryRead"
        }
        (_, ["devices", ..]) => "RegistryWrite",
        _ => "ServiceConnect",
    }
}
