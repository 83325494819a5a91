//! What is logged, to stderr: `RUST_LOG` if it is set, else what the settings say, else `info`.
//!
//! A thread of its own writes it, so that the hub neither waits for who reads its log nor ends with
//! them.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Lines that may wait to be written: what a busy hub logs while a terminal is scrolled back.
const QUEUE: usize = 4096;

/// How long the end of the program waits for them.
const FINISH: Duration = Duration::from_secs(1);

/// The log's filter, which the settings may change while the hub runs.
pub(crate) struct Log {
    /// `None` when the environment has decided.
    replace: Option<Box<dyn Fn(EnvFilter) -> anyhow::Result<()>>>,
    lines: Lines,
}

impl Log {
    /// Starts to log.
    pub(crate) fn start() -> Self {
        let (lines, begun) = Lines::start();
        let given = EnvFilter::try_from_default_env().ok();
        let fixed = given.is_some();
        let log = tracing_subscriber::fmt()
            .with_env_filter(given.unwrap_or_else(|| EnvFilter::new("info")))
            .log_internal_errors(false)
            .with_writer({
                let lines = lines.clone();
                move || lines.clone()
            })
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        if let Err(error) = begun {
            tracing::error!(%error, "cannot start the thread of the log; nothing else is logged");
        }
        let replace = move |filter| {
            handle
                .reload(filter)
                .context("cannot change what is logged")
        };
        Self {
            replace: (!fixed).then(|| Box::new(replace) as _),
            lines,
        }
    }

    /// Writes what is logged already, if stderr takes it.
    pub(crate) fn finish(&self) {
        let (written, done) = sync_channel(1);
        if self.lines.queue.try_send(Line::Finish(written)).is_ok() {
            // Nobody is left to hear that it took too long.
            let _ = done.recv_timeout(FINISH);
        }
    }

    /// Logs what the settings' `log` says from now on.
    ///
    /// # Errors
    ///
    /// As those of [`read_filter`]; then nothing changes.
    pub(crate) fn set(&self, wanted: Option<&str>) -> anyhow::Result<()> {
        let filter = read_filter(wanted)?;
        self.replace
            .as_ref()
            .map_or(Ok(()), |replace| replace(filter))
    }
}

/// Reads the settings' `log`.
///
/// # Errors
///
/// When it cannot be read as a filter.
pub(crate) fn read_filter(wanted: Option<&str>) -> anyhow::Result<EnvFilter> {
    let wanted = wanted.unwrap_or("info");
    EnvFilter::try_new(wanted).with_context(|| {
        format!("`log` is `{wanted}` in the settings; expected a level (`error`, `warn`, `info`, `debug`, `trace`) or levels of modules (`info,door_hub=debug`)")
    })
}

enum Line {
    Text(Vec<u8>),
    /// All before it is written.
    Finish(SyncSender<()>),
}

/// The way to stderr. It takes everything at once, and drops what the queue has no room for.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn start() -> (Self, io::Result<()>) {
        let (queue, lines) = sync_channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        let started = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(&lines, &counted));
        (Self { queue, lost }, started.map(drop))
    }
}

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Line::Text(text.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What stderr does not take is lost: a log that cannot be written has nowhere to say so.
fn write_lines(lines: &Receiver<Line>, lost: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        match line {
            Line::Text(text) => drop(io::stderr().write_all(&text)),
            Line::Finish(written) => {
                let _ = written.try_send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            super::complain(format_args!(
                "{lost} lines of the log are lost: nobody read them in time"
            ));
        }
    }
}
