//! Finds other jobs that use some of the same doors at the same time.

use std::collections::BTreeSet;

use iothub_protocol::job::JobResponse;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::commands::jobs::create::PreparedJob;
use crate::commands::staged::StagedEntry;
use crate::door::DoorName;
use crate::failure::sentence;
use crate::session::Session;

/// Another job, and the doors that it shares with the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conflict {
    pub(super) job: String,
    /// Its method, or `twin`.
    pub(super) what: String,
    pub(super) start: Timestamp,
    /// The end of its action or of its run, whichever is later.
    pub(super) end: Timestamp,
    /// Doors in both jobs.
    pub(super) doors: Vec<String>,
}

/// The time in which a job affects its doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: Timestamp,
    end: Timestamp,
}

impl Span {
    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The span of a job that is not over.
    fn of(job: &JobResponse, now: Timestamp) -> Self {
        if let Some(StagedEntry { entry, .. }) = StagedEntry::of(job) {
            return Self {
                start: entry.from,
                end: entry.until.unwrap_or(Timestamp::MAX),
            };
        }
        let start = job.start_time.unwrap_or(now);
        let seconds = job.max_execution_time_in_seconds.unwrap_or(3_600);
        let runs = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let payload = job.cloud_to_device_method.as_ref();
        let payload = payload.and_then(|call| call.payload());
        let payload: Option<Value> =
            payload.and_then(|payload| serde_json::from_str(payload.get()).ok());
        let until = payload.and_then(|payload| payload.get("until")?.as_str()?.parse().ok());
        let end = start.saturating_add(runs).unwrap_or(Timestamp::MAX);
        Self {
            start,
            end: end.max(until.unwrap_or(end)),
        }
    }
}

/// The jobs that overlap with `prepared` and share some of `doors`, sorted by start.
pub(super) async fn conflicts(
    prepared: &PreparedJob,
    doors: &BTreeSet<String>,
    session: &Session,
) -> anyhow::Result<Vec<Conflict>> {
    let now = session.hub.now();
    let runs = prepared.draft.start_plus(prepared.draft.max_execution)?;
    let holds = prepared
        .length
        .map(|length| prepared.draft.start_plus(length));
    let own = Span {
        start: prepared.draft.start(),
        end: runs.max(holds.transpose()?.unwrap_or(runs)),
    };
    // What was staged affects its doors long after the hub's job is over, until its end.
    let is_active = |job: &JobResponse| match StagedEntry::of(job) {
        Some(staged) => !staged.is_over(now),
        None => !job.status.is_over(),
    };
    let mut jobs = session.hub.jobs(None).await?;
    jobs.retain(|job| is_active(job) && Span::of(job, now).overlaps(own));
    jobs.sort_by_key(|job| Span::of(job, now).start);
    let mut found = Vec::new();
    for job in jobs {
        let staged = StagedEntry::of(&job);
        let condition = match &staged {
            Some(staged) => staged.condition(),
            None => job.query_condition.clone().unwrap_or("*".to_owned()),
        };
        let query = match &*condition {
            "*" => "SELECT deviceId FROM devices".to_owned(),
            condition => format!("SELECT deviceId FROM devices WHERE {condition}"),
        };
        let listed: Vec<DoorName> = match session.hub.query(&query).await {
            Ok(listed) => listed,
            // An invalid condition: that job will fail by itself.
            Err(error) if error.status() == Some(400) => {
                let why = sentence(&error.into());
                session.printer.warn(format!(
                    "cannot determine the doors of job {}: {why}",
                    job.job_id
                ));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let shared: BTreeSet<String> = listed
            .into_iter()
            .map(|listed| listed.device_id.to_string())
            .filter(|name| doors.contains(name))
            .collect();
        if !shared.is_empty() {
            let span = Span::of(&job, now);
            let call = job.cloud_to_device_method.as_ref();
            found.push(Conflict {
                job: staged
                    .as_ref()
                    .map_or(job.job_id.to_string(), |it| it.id.to_string()),
                what: match (&staged, call) {
                    (Some(staged), _) => staged.what().to_owned(),
                    (None, Some(call)) => call.method_name().to_string(),
                    (None, None) => "twin".to_owned(),
                },
                start: span.start,
                end: span.end,
                doors: shared.into_iter().collect(),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(start: &str, end: &str) -> Span {
        let time = |text: &str| format!("2026-11-23T{text}:00Z").parse().unwrap();
        Span {
            start: time(start),
            end: time(end),
        }
    }

    #[test]
    fn adjacent_spans_do_not_overlap() {
        let own = span("22:00", "22:10");
        assert!(own.overlaps(span("22:09", "23:00")));
        assert!(own.overlaps(span("21:00", "23:00")));
        assert!(!own.overlaps(span("22:10", "23:00")));
        assert!(!own.overlaps(span("21:00", "22:00")));
    }

    #[test]
    fn the_span_of_a_job_lasts_until_its_action_ends() {
        let job = |payload: &str| -> JobResponse {
            let job = json!({
                "jobId": "a", "type": "scheduleDeviceMethod", "status": "scheduled",
                "queryCondition": "*",
                "startTime": "2026-11-23T22:00:00Z", "maxExecutionTimeInSeconds": 300,
            });
            let call = format!(r#"{{"methodName":"lockDoor","payload":{payload}}}"#);
            let text = job.to_string();
            let text = text.trim_end_matches('}');
            serde_json::from_str(&format!(r#"{text},"cloudToDeviceMethod":{call}}}"#)).unwrap()
        };
        let now = "2026-11-23T21:00:00Z".parse().unwrap();
        assert_eq!(Span::of(&job("null"), now), span("22:00", "22:05"));
        let until = job(r#"{"until":"2026-11-23T23:00:00Z"}"#);
        assert_eq!(Span::of(&until, now), span("22:00", "23:00"));
    }
}
