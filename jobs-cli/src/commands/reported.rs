//! Waits until doors report what they have just answered, so that the next read of the twins shows
//! it.

use std::time::Duration;

use door_core::contract::Word;
use iothub_client::HubClient;
use iothub_protocol::DeviceId;
use tokio::time::Instant;

use super::many;
use crate::door::ReportedStatus;
use crate::outcome::OutcomeRow;

/// How long to wait for a report after the answer.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Poll interval for the twins.
const POLL_INTERVAL: Duration = Duration::from_millis(150);

/// Above this number of doors there is no wait: reading all twins would take longer than the
/// reports.
const MAX_DOORS: usize = 50;

/// Waits until the doors that have answered report the same state, at most [`REPORT_TIMEOUT`]. A
/// report that is missing or unreadable is no error: the command was carried out.
pub(super) async fn wait_for_rows(rows: &[OutcomeRow], hub: &HubClient) {
    let answered = rows.iter().filter(|row| row.method_status.is_some());
    let answers = answered.filter_map(|row| Some((row.door.parse().ok()?, row.state.clone())));
    wait_for_states(answers.collect(), hub).await;
}

/// Like [`wait_for_rows`], for answered states.
pub(super) async fn wait_for_states(mut answers: Vec<(DeviceId, ReportedStatus)>, hub: &HubClient) {
    answers.retain(|(_, answer)| answer.lock_state != Word::default());
    if answers.len() > MAX_DOORS {
        return;
    }
    let ends_at = Instant::now() + REPORT_TIMEOUT;
    let all_reported = async {
        while !answers.is_empty() {
            let read = many::for_each_door(
                answers,
                hub,
                |hub, door, answer: ReportedStatus| async move {
                    let twin = hub.twin(&door).await.ok()?;
                    (ReportedStatus::reported(&twin) != answer).then_some(answer)
                },
            );
            let read = read.await.into_iter();
            answers = read
                .filter_map(|(door, answer)| Some((door, answer?)))
                .collect();
            if !answers.is_empty() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    };
    // A timeout is no error: the next read shows the state.
    let _ = tokio::time::timeout_at(ends_at, all_reported).await;
}
