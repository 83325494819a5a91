//! A job as it goes: a bar and counts on a terminal, a line for each change elsewhere.

use std::collections::BTreeSet;

use doorctl::ClientError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use iothub_protocol::job::{JobResponse, JobStatus};
use jiff::Timestamp;

use crate::outcome::{OutcomeRow, Progress, Tally, Wanted};
use crate::printer::{Printer, printable};
use crate::time;

/// While there is nothing to count.
const WORDS: &str = "{msg}";

/// Counts under a line of words.
const BAR: &str = "{msg}\n[{bar:40.green}] {pos}/{len} doors";

/// Doors that are told one by one as they fail; of more, the table tells.
const TOLD: usize = 20;

/// A job as it goes.
#[derive(Debug)]
pub(crate) struct View {
    printer: Printer,
    bar: Option<ProgressBar>,
    said: String,
    told: BTreeSet<String>,
    in_trouble: bool,
}

impl View {
    /// A view on stderr: with a bar when that is a terminal.
    pub(crate) fn new(printer: &Printer) -> Self {
        let bar = printer.is_live().then(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style(WORDS))
        });
        Self {
            bar,
            ..Self::plain(printer)
        }
    }

    /// A view of lines.
    pub(crate) fn plain(printer: &Printer) -> Self {
        Self {
            printer: printer.clone(),
            bar: None,
            said: String::new(),
            told: BTreeSet::new(),
            in_trouble: false,
        }
    }

    /// The job as it is now.
    pub(crate) fn show(
        &mut self,
        job: &JobResponse,
        rows: &[OutcomeRow],
        wanted: Wanted,
        now: Timestamp,
    ) {
        self.in_trouble = false;
        self.tell(rows);
        let tally = Tally::of(rows);
        let (done, all) = counts(job, tally);
        let start = job.start_time.filter(|_| is_ahead(job.status));
        let state = match start {
            // A line that changes with every second is for a terminal alone.
            Some(start) if self.bar.is_some() => format!("starts {}", time::countdown(start, now)),
            Some(_) => "waits for its start".to_owned(),
            None if all > 0 && !rows.is_empty() => {
                format!("{}: {}", job.status, tally.said(wanted))
            }
            None => job.status.to_string(),
        };
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{}  {state}", job.job_id));
                if start.is_none() && bar.length() != Some(all) {
                    bar.set_style(style(BAR));
                    bar.set_length(all);
                }
                bar.set_position(done);
            }
            None => {
                let line = match start.is_some() || all == 0 {
                    true => format!("{}  {state}", job.job_id),
                    false => format!("{}  {done} of {all} doors done, {state}", job.job_id),
                };
                if line != self.said {
                    self.printer.say(&line);
                    self.said = line;
                }
            }
        }
    }

    /// The hub does not answer at the moment.
    pub(crate) fn trouble(&mut self, error: &ClientError) {
        if !self.in_trouble {
            self.in_trouble = true;
            self.line(&format!(
                "{error}; the job goes on without us, trying again"
            ));
        }
    }

    /// The last was shown.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Doors that did not do as told, each once.
    fn tell(&mut self, rows: &[OutcomeRow]) {
        let news = rows.iter().filter(|row| row.progress == Progress::Failed);
        for row in news {
            if self.told.len() < TOLD && self.told.insert(row.door.clone()) {
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

fn is_ahead(status: JobStatus) -> bool {
    matches!(
        status,
        JobStatus::Queued | JobStatus::Scheduled | JobStatus::Enqueued
    )
}

/// Doors that are done, and all. The doors' own records come first, so that these numbers and the words beside them are of one moment.
fn counts(job: &JobResponse, tally: Tally) -> (u64, u64) {
    match &job.device_job_statistics {
        Some(counts) if tally.doors == 0 => (0, counts.device_count),
        _ => ((tally.doors - tally.waiting) as u64, tally.doors as u64),
    }
}
