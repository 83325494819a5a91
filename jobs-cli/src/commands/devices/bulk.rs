//! Calls for many doors at once, and what became of each door: Azure may do a part of a call.

use doorctl::{BulkItem, ClientError, HubClient};

use crate::failure::sentence;

/// The longest body of a call; door-hub takes 1 MiB.
const MAX_BYTES: usize = 512 * 1024;

/// What became of one door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Became {
    /// What was asked for.
    Done,
    /// Nothing, and why.
    Refused(String),
    /// Nobody knows: no answer came. And why.
    Unknown(String),
}

/// The calls that these make.
pub(super) fn calls(items: &[BulkItem]) -> Vec<&[BulkItem]> {
    let mut calls = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        // What cannot be encoded is told by the call itself.
        let length = serde_json::to_vec(item).map_or(0, |text| text.len());
        let is_full = at - start == HubClient::BULK_ITEMS || bytes + length > MAX_BYTES;
        if is_full && at > start {
            calls.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += length;
    }
    if start < items.len() {
        calls.push(&items[start..]);
    }
    calls
}

/// Makes one call; gives what became of each door, in the order of `items`.
pub(super) async fn call(hub: &HubClient, items: &[BulkItem]) -> Vec<Became> {
    let errors = match hub.devices_bulk(items).await {
        Ok(errors) => errors,
        Err(error) => {
            let nothing_was_done = is_refusal(&error);
            let said = sentence(&error.into());
            let became = match nothing_was_done {
                true => Became::Refused(said),
                false => Became::Unknown(said),
            };
            return vec![became; items.len()];
        }
    };
    let became = |item: &BulkItem| {
        let mut errors = errors.iter();
        let error = errors.find(|error| error.device_id.as_deref() == Some(item.id.as_str()));
        error.map_or(Became::Done, |error| Became::Refused(error.said()))
    };
    items.iter().map(became).collect()
}

/// Whether an error says that nothing was done.
pub(super) fn is_refusal(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(refusal) => refusal.status < 500,
        ClientError::Unreachable { connected, .. } => !connected,
        ClientError::Encode(_) | ClientError::Header(_) | ClientError::Unaddressable(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use doorctl::ImportMode;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_has_a_hundred_doors_at_most_and_is_no_longer_than_a_hub_takes() {
        let mut items: Vec<BulkItem> = (0..250)
            .map(|n| BulkItem::new(format!("door-{n}").parse().unwrap(), ImportMode::Create))
            .collect();
        let lengths = |items: &[BulkItem]| -> Vec<usize> {
            calls(items).into_iter().map(<[_]>::len).collect()
        };
        assert_eq!(lengths(&items), [100, 100, 50]);
        assert_eq!(lengths(&[]), [0; 0]);
        for item in &mut items {
            item.tags
                .insert("note".to_owned(), json!("x".repeat(7_900)));
        }
        assert_eq!(lengths(&items), [65, 65, 65, 55]);
    }
}
