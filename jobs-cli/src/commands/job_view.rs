//! Progress of a job: a bar with counts on a terminal, otherwise a line for each change.

use std::collections::BTreeSet;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use iothub_client::ClientError;
use iothub_protocol::job::{DeviceJobStatus, JobResponse, JobStatus};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::outcome::{JobGoal, OutcomeRow, Progress, Tally};
use crate::printer::{Printer, printable};
use crate::time;

/// Template while there is nothing to count.
const MESSAGE_ONLY: &str = "{msg}";

/// Template with a progress bar below the message.
const MESSAGE_AND_BAR: &str = "{msg}\n[{bar:40.green}] {pos}/{len} doors";

/// Failed doors that are printed one by one; the table at the end lists the others.
const MAX_FAILURES_SHOWN: usize = 20;

/// Waiting doors that are printed by name; the others are counted.
const MAX_NAMES_SHOWN: usize = 3;

#[derive(Debug)]
pub(crate) struct View {
    printer: Printer,
    zone: TimeZone,
    bar: Option<ProgressBar>,
    last_line: String,
    reported_doors: BTreeSet<String>,
    error_shown: bool,
}

impl View {
    /// A view on stderr: with a bar when that is a terminal.
    pub(crate) fn new(printer: &Printer, zone: &TimeZone) -> Self {
        let bar = printer.is_live().then(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style(MESSAGE_ONLY))
        });
        Self {
            bar,
            ..Self::plain(printer, zone)
        }
    }

    /// A view that prints lines; it shows times in `zone`.
    pub(crate) fn plain(printer: &Printer, zone: &TimeZone) -> Self {
        Self {
            printer: printer.clone(),
            zone: zone.clone(),
            bar: None,
            last_line: String::new(),
            reported_doors: BTreeSet::new(),
            error_shown: false,
        }
    }

    /// Shows the current state of the job.
    pub(crate) fn show(
        &mut self,
        job: &JobResponse,
        rows: &[OutcomeRow],
        wanted: JobGoal,
        now: Timestamp,
    ) {
        self.error_shown = false;
        self.show_failures(rows);
        let tally = Tally::of(rows);
        let (done, all) = counts(job, tally);
        let start = job.start_time.filter(|_| is_before_start(job.status));
        let state = match start {
            // A countdown changes every second, which suits a terminal only.
            Some(start) if self.bar.is_some() => format!("starts {}", time::countdown(start, now)),
            Some(_) => "waits for its start".to_owned(),
            None if job.status == JobStatus::Running && tally.waiting > 0 => {
                waiting_text(job, rows, tally, &self.zone)
            }
            None if all > 0 && !rows.is_empty() => {
                format!("{}: {}", job.status, tally.summary(wanted))
            }
            None => job.status.to_string(),
        };
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{}  {state}", job.job_id));
                if start.is_none() && bar.length() != Some(all) {
                    bar.set_style(style(MESSAGE_AND_BAR));
                    bar.set_length(all);
                }
                bar.set_position(done);
            }
            None => {
                let waiting_text = job.status == JobStatus::Running && tally.waiting > 0;
                let line = match start.is_some() || all == 0 || waiting_text {
                    true => format!("{}  {state}", job.job_id),
                    false => format!("{}  {done} of {all} doors done, {state}", job.job_id),
                };
                if line != self.last_line {
                    self.printer.say(&line);
                    self.last_line = line;
                }
            }
        }
    }

    /// Reports an error of the hub, once until it answers again.
    pub(crate) fn show_error(&mut self, error: &ClientError) {
        if !self.error_shown {
            self.error_shown = true;
            self.line(&format!("{error}; the job continues on the hub, retrying"));
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Prints the doors that failed, each once.
    fn show_failures(&mut self, rows: &[OutcomeRow]) {
        let failures = rows.iter().filter(|row| row.progress == Progress::Failed);
        for row in failures {
            if self.reported_doors.len() < MAX_FAILURES_SHOWN
                && self.reported_doors.insert(row.door.clone())
            {
                self.line(&format!("  {}: {}", row.door, printable(&row.outcome)));
            }
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(printable(text)),
            None => self.printer.say(text),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

fn is_before_start(status: JobStatus) -> bool {
    matches!(
        status,
        JobStatus::Queued | JobStatus::Scheduled | JobStatus::Enqueued
    )
}

/// `999 of 1,000 done; waiting until 12:46:51 for door-0003; Ctrl-C leaves the job running`.
fn waiting_text(job: &JobResponse, rows: &[OutcomeRow], tally: Tally, zone: &TimeZone) -> String {
    let waiting_rows = || rows.iter().filter(|row| row.progress == Progress::Waiting);
    let mut names: Vec<&str> = waiting_rows()
        .take(MAX_NAMES_SHOWN)
        .map(|row| row.door.as_str())
        .collect();
    let more = format!("{} more", grouped(tally.waiting - names.len()));
    if tally.waiting > names.len() {
        names.push(&more);
    }
    let names = match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, names)) => format!("{} and {last}", names.join(", ")),
        None => String::new(),
    };
    let until = waiting_rows().filter_map(|row| timeout_of(job, row)).max();
    let until = until.map_or(String::new(), |until| {
        format!(
            "until {} ",
            until.to_zoned_datetime(zone.clone()).strftime("%T")
        )
    });
    format!(
        "{} of {} done; waiting {until}for {names}; Ctrl-C leaves the job running",
        grouped(tally.doors - tally.waiting),
        grouped(tally.doors),
    )
}

/// When the hub gives up on a door that does not connect or answer: at the end of the job at the
/// latest.
fn timeout_of(job: &JobResponse, row: &OutcomeRow) -> Option<Timestamp> {
    let start = job.start_time.or(job.created_time)?;
    let after = |seconds: u64| {
        let seconds = SignedDuration::from_secs(i64::try_from(seconds).ok()?);
        start.checked_add(seconds).ok()
    };
    let end = job.max_execution_time_in_seconds.and_then(after);
    let call = job.cloud_to_device_method.as_ref().map(|call| {
        let connect = call.connect_timeout();
        // The call may have been sent just before the connect timeout ended.
        match row.status {
            DeviceJobStatus::Running => connect + call.response_timeout(),
            _ => connect,
        }
    });
    match (call.and_then(|call| after(call.as_secs())), end) {
        (Some(call), Some(end)) => Some(call.min(end)),
        (call, end) => call.or(end),
    }
}

/// `1,000`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Doors that are done, and all doors. The device records take precedence, so that these numbers
/// match the words next to them.
fn counts(job: &JobResponse, tally: Tally) -> (u64, u64) {
    match &job.device_job_statistics {
        Some(counts) if tally.doors == 0 => (0, counts.device_count),
        _ => ((tally.doors - tally.waiting) as u64, tally.doors as u64),
    }
}

#[cfg(test)]
mod tests {
    use iothub_protocol::job::DeviceJob;
    use serde_json::json;

    use super::*;

    /// Doors done, doors that wait for a connection, doors that wait for an answer; connect timeout
    /// and limit in seconds; and the line.
    #[test]
    fn names_the_missing_doors_and_their_deadline() {
        let wanted = JobGoal::Answered;
        let three = "w-0000, w-0001, w-0002";
        for (done, absent, sent, connect, limit, counts, until, names) in [
            (999, 1, 0, 120, 300, "999 of 1,000", "46:51", "w-0000"),
            (0, 1, 0, 120, 300, "0 of 1", "46:51", "w-0000"),
            (3, 2, 0, 0, 300, "3 of 5", "44:51", "w-0000 and w-0001"),
            (3, 0, 1, 0, 300, "3 of 4", "45:21", "w-0000"),
            (3, 0, 1, 120, 300, "3 of 4", "48:51", "w-0000"),
            (3, 0, 1, 300, 300, "3 of 4", "49:51", "w-0000"),
            (0, 4, 0, 120, 60, "0 of 4", "45:51", "1 more"),
            (
                1,
                12_003,
                0,
                120,
                300,
                "1 of 12,004",
                "46:51",
                "12,000 more",
            ),
        ] {
            let response = connect.max(30);
            let names = match names.ends_with("more") {
                true => format!("{three} and {names}"),
                false => names.to_owned(),
            };
            let job: JobResponse = serde_json::from_str(&format!(
                r#"{{"jobId":"night","type":"scheduleDeviceMethod","status":"running",
                "startTime":"2026-11-23T12:44:51Z","maxExecutionTimeInSeconds":{limit},
                "cloudToDeviceMethod":{{"methodName":"identify","connectTimeoutInSeconds":{connect},
                "responseTimeoutInSeconds":{response},"payload":null}}}}"#
            ))
            .unwrap();
            let row = |door: String, status: &str| {
                let record: DeviceJob = serde_json::from_value(json!({
                    "deviceId": door, "jobId": "night", "jobType": "scheduleDeviceMethod",
                    "status": status,
                }))
                .unwrap();
                OutcomeRow::new(&record, wanted)
            };
            let mut rows: Vec<OutcomeRow> = Vec::new();
            rows.extend((0..done).map(|n| row(format!("d-{n:04}"), "completed")));
            rows.extend((0..absent).map(|n| row(format!("w-{n:04}"), "pending")));
            rows.extend((0..sent).map(|n| row(format!("w-{n:04}"), "running")));
            let line = waiting_text(&job, &rows, Tally::of(&rows), &TimeZone::UTC);
            assert_eq!(
                line,
                format!(
                    "{counts} done; waiting until 12:{until} for {names}; Ctrl-C leaves the job \
                     running"
                )
            );
        }
    }
}
