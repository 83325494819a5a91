//! Waiting until doors report what they have just answered: whoever asks for their state next reads
//! the twins.

use std::time::Duration;

use doorctl::HubClient;
use iothub_protocol::DeviceId;
use tokio::time::Instant;

use super::many;
use crate::door::LockState;
use crate::outcome::OutcomeRow;

/// How long a report may take after the answer before nobody waits for it any more.
const WITHIN: Duration = Duration::from_secs(2);

/// How often twins are read meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(150);

/// Doors that are waited for; of more, the hub tells soon enough.
const WAITED_FOR: usize = 50;

/// Waits until the doors that have answered report the same, [`WITHIN`] at the most. A report that
/// does not come, or cannot be read, is no error: what was commanded is done.
pub(super) async fn as_answered(rows: &[OutcomeRow], hub: &HubClient) {
    let answered = rows.iter().filter(|row| row.method_status.is_some());
    let answers = answered.filter_map(|row| Some((row.door.parse().ok()?, row.state.clone())));
    as_told(answers.collect(), hub).await;
}

/// Like [`as_answered`], for states that doors have told.
pub(super) async fn as_told(mut answers: Vec<(DeviceId, LockState)>, hub: &HubClient) {
    answers.retain(|(_, answer)| !answer.lock_state.is_empty());
    if answers.len() > WAITED_FOR {
        return;
    }
    let ends = Instant::now() + WITHIN;
    let agreed = async {
        while !answers.is_empty() {
            let read = many::each(answers, hub, |hub, door, answer: LockState| async move {
                let twin = hub.twin(&door).await.ok()?;
                (LockState::reported(&twin) != answer).then_some(answer)
            });
            let read = read.await.into_iter();
            answers = read
                .filter_map(|(door, answer)| Some((door, answer?)))
                .collect();
            if !answers.is_empty() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    };
    // Not in time: the state shows it.
    let _ = tokio::time::timeout_at(ends, agreed).await;
}
