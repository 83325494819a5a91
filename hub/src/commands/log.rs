//! Logging: to the journal with fields and priorities if stderr is connected to it, else to stderr.
//! The filter is `RUST_LOG` if it is set, else `log` of the settings, else `info`.
//!
//! A separate thread writes the lines, so that the hub neither blocks on nor ends with the reader
//! of its log.

mod journal;

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, reload};

use journal::{Entry, JournalLayer};

/// Lines that may be queued, for example while a terminal is scrolled back.
const QUEUE: usize = 4096;

/// How long the end of the program waits for queued lines.
const FINISH: Duration = Duration::from_secs(1);

/// The log's filter, which can be changed while the hub runs.
pub(crate) struct Log {
    /// `None` if `RUST_LOG` is set.
    replace: Option<Box<dyn Fn(EnvFilter) -> anyhow::Result<()>>>,
    lines: Lines,
}

impl Log {
    pub(crate) fn start() -> Self {
        let journal = connected_to_journal().then(JournalLog::new).transpose();
        let (journal, missing) = match journal {
            Ok(journal) => (
                journal.map(|log| log.with_extra_fields([("VERSION", env!("CARGO_PKG_VERSION"))])),
                None,
            ),
            Err(error) => (None, Some(error)),
        };
        let to_journal = journal.is_some();
        let (lines, started) = Lines::start(journal);
        let from_environment = EnvFilter::try_from_default_env().ok();
        let is_fixed = from_environment.is_some();
        let (filter, handle) =
            reload::Layer::new(from_environment.unwrap_or_else(|| EnvFilter::new("info")));
        let output = if to_journal {
            JournalLayer(lines.clone()).boxed()
        } else {
            let lines = lines.clone();
            fmt::layer()
                .log_internal_errors(false)
                .with_writer(move || lines.clone())
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal())
                .boxed()
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(output)
            .init();
        if let Some(error) = missing {
            tracing::warn!(%error, "cannot connect to the journal, logging to stderr");
        }
        if let Err(error) = started {
            tracing::error!(%error, "cannot start the log thread; nothing else is logged");
        }
        let replace = move |filter| {
            handle
                .reload(filter)
                .context("cannot change the log filter")
        };
        Self {
            replace: (!is_fixed).then(|| Box::new(replace) as _),
            lines,
        }
    }

    /// Waits until the queued lines are written, for at most [`FINISH`].
    pub(crate) fn finish(&self) {
        let (written, done) = sync_channel(1);
        if self.lines.queue.try_send(Line::Finish(written)).is_ok() {
            // There is no channel left on which to report a timeout.
            let _ = done.recv_timeout(FINISH);
        }
    }

    /// Sets the filter to `log` of the settings; fails like [`read_filter`] and then changes
    /// nothing.
    pub(crate) fn set(&self, requested: Option<&str>) -> anyhow::Result<()> {
        let filter = read_filter(requested)?;
        self.replace
            .as_ref()
            .map_or(Ok(()), |replace| replace(filter))
    }
}

/// Parses `log` of the settings.
pub(crate) fn read_filter(requested: Option<&str>) -> anyhow::Result<EnvFilter> {
    let requested = requested.unwrap_or("info");
    EnvFilter::try_new(requested).with_context(|| {
        format!(
            "`log` is `{requested}` in the settings; expected a level (`error`, `warn`, `info`, \
             `debug`, `trace`) or levels of modules (`info,door_hub=debug`)"
        )
    })
}

enum Line {
    /// For stderr.
    Text(Vec<u8>),
    /// For the journal.
    Entry(Entry),
    /// Acknowledges that all lines before it were written.
    Finish(SyncSender<()>),
}

/// The queue of the log. Never blocks; drops lines when the queue is full.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn start(journal: Option<JournalLog>) -> (Self, io::Result<()>) {
        let (queue, lines) = sync_channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        let started = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(&lines, journal.as_ref(), &counted));
        (Self { queue, lost }, started.map(drop))
    }

    fn send(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.send(Line::Text(text.to_vec()));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Errors of stderr are ignored: there is nowhere to report them.
fn write_lines(lines: &Receiver<Line>, journal: Option<&JournalLog>, lost: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        match line {
            Line::Text(text) => drop(io::stderr().write_all(&text)),
            Line::Entry(entry) => {
                if let Some(journal) = journal {
                    entry.send(journal);
                }
            }
            Line::Finish(written) => {
                let _ = written.try_send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            super::print_error(format_args!(
                "{lost} lines of the log were dropped: the log was not read in time"
            ));
        }
    }
}
