//! Bulk requests for many doors, and the outcome for each: Azure may carry out part of a request.

use iothub_client::{ClientError, ErrorResponse, HubClient};
use iothub_protocol::ErrorCode;
use iothub_protocol::bulk::{BulkError, BulkItem, MAX_ITEMS};

use crate::failure::sentence;

/// Maximum body of a request; door-hub accepts 1 MiB.
const MAX_BYTES: usize = 512 * 1024;

/// Outcome for one door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BulkOutcome {
    Done,
    /// Not done, with the reason.
    Refused(String),
    /// Not done, because the policy lacks a right.
    NotAllowed(ErrorResponse),
    /// Not done by this request, because the door exists; an earlier request may have created it.
    Exists(String),
    /// Unknown: there was no response, or one that does not cover this door.
    Unknown(String),
}

/// Splits the items into requests of allowed size.
pub(super) fn requests(items: &[BulkItem]) -> Vec<&[BulkItem]> {
    let mut requests = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        // An item that cannot be encoded fails in the request itself.
        let length = serde_json::to_vec(item).map_or(0, |text| text.len());
        let is_full = at - start == MAX_ITEMS || bytes + length > MAX_BYTES;
        if is_full && at > start {
            requests.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += length;
    }
    if start < items.len() {
        requests.push(&items[start..]);
    }
    requests
}

/// Sends one request; returns the outcome for each item, in the same order.
pub(super) async fn send(hub: &HubClient, items: &[BulkItem]) -> Vec<BulkOutcome> {
    match hub.devices_bulk(items).await {
        Ok(errors) => outcomes_of(items, &errors),
        Err(ClientError::Refused(refusal)) if refusal.needed_rights.is_some() => {
            vec![BulkOutcome::NotAllowed(refusal); items.len()]
        }
        Err(error) => {
            let (nothing_was_done, code) = (is_certain_refusal(&error), error.code());
            let text = sentence(&error.into());
            let result = match nothing_was_done {
                true => refused(code, text),
                false => BulkOutcome::Unknown(text),
            };
            vec![result; items.len()]
        }
    }
}

/// The outcome for each item of a request that returned these errors.
fn outcomes_of(items: &[BulkItem], errors: &[BulkError]) -> Vec<BulkOutcome> {
    let names = |error: &BulkError, item: &BulkItem| {
        let named = error.device_id.as_deref();
        named == Some(item.id.as_str())
    };
    let unmatched = errors
        .iter()
        .find(|error| !items.iter().any(|item| names(error, item)));
    let without_error = match unmatched {
        None => BulkOutcome::Done,
        Some(error) => BulkOutcome::Unknown(error.text()),
    };
    let result = |item: &BulkItem| match errors.iter().find(|error| names(error, item)) {
        Some(error) => refused(error.code(), error.text()),
        None => without_error.clone(),
    };
    items.iter().map(result).collect()
}

fn refused(code: Option<ErrorCode>, text: String) -> BulkOutcome {
    match code {
        Some(ErrorCode::DeviceAlreadyExists) => BulkOutcome::Exists(text),
        _ => BulkOutcome::Refused(text),
    }
}

/// Whether an error proves that nothing was done.
pub(super) fn is_certain_refusal(error: &ClientError) -> bool {
    match error {
        // Part may have been done; or all of it, after the hub had stopped waiting for it.
        ClientError::Refused(
            ErrorResponse {
                code: Some(ErrorCode::BulkRegistryOperationFailure | ErrorCode::RequestTimedOut),
                ..
            }
            | ErrorResponse { status: 408, .. },
        ) => false,
        ClientError::Refused(refusal) => refusal.status < 500,
        ClientError::Unreachable { connected, .. } => !connected,
        ClientError::Encode(_) | ClientError::Header(_) | ClientError::Unaddressable(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use iothub_protocol::bulk::ImportMode;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_at_most_100_doors_and_512_kib() {
        let mut items: Vec<BulkItem> = (0..250)
            .map(|n| BulkItem::new(format!("door-{n}").parse().unwrap(), ImportMode::Create))
            .collect();
        let lengths = |items: &[BulkItem]| -> Vec<usize> {
            requests(items).into_iter().map(<[_]>::len).collect()
        };
        assert_eq!(lengths(&items), [100, 100, 50]);
        assert_eq!(lengths(&[]), [0; 0]);
        for item in &mut items {
            item.tags
                .insert("note".to_owned(), json!("x".repeat(7_900)));
        }
        assert_eq!(lengths(&items), [65, 65, 65, 55]);
    }

    #[test]
    fn only_doors_that_the_response_covers_are_done() {
        let items = ["a", "b"].map(|id| BulkItem::new(id.parse().unwrap(), ImportMode::Create));
        let of = |errors: serde_json::Value| -> Vec<BulkOutcome> {
            let errors: Vec<BulkError> = serde_json::from_value(errors).unwrap();
            outcomes_of(&items, &errors)
        };
        assert_eq!(of(json!([])), [BulkOutcome::Done, BulkOutcome::Done]);
        let of_b = json!({"deviceId": "b", "errorCode": "ServerBusy"});
        let refused = BulkOutcome::Refused("ServerBusy".to_owned());
        assert_eq!(of(json!([of_b])), [BulkOutcome::Done, refused.clone()]);
        for unmatched in [json!(null), json!("c")] {
            let unmatched = json!({"deviceId": unmatched, "errorCode": 400_013});
            assert_eq!(
                of(json!([of_b, unmatched])),
                [BulkOutcome::Unknown("400013".to_owned()), refused.clone()]
            );
        }
        for code in [json!("DeviceAlreadyExists"), json!(409_001)] {
            let result = of(json!([{"deviceId": "a", "errorCode": code}]));
            assert!(matches!(result[0], BulkOutcome::Exists(_)), "{result:?}");
        }
    }

    #[test]
    fn an_error_that_may_have_changed_something_is_no_refusal() {
        let refusal = |status: u16, code: Option<ErrorCode>| {
            is_certain_refusal(&ClientError::Refused(ErrorResponse {
                status,
                code,
                name: None,
                message: String::new(),
                tracking_id: None,
                retry_after: None,
                needed_rights: None,
            }))
        };
        for (status, code, says_so) in [
            (400, Some(ErrorCode::ArgumentInvalid), true),
            (400, None, true),
            (409, Some(ErrorCode::DeviceAlreadyExists), true),
            (429, None, true),
            (400, Some(ErrorCode::BulkRegistryOperationFailure), false),
            (400, Some(ErrorCode::RequestTimedOut), false),
            (408, None, false),
            (500, None, false),
        ] {
            assert_eq!(refusal(status, code), says_so, "{status} {code:?}");
        }
    }
}
