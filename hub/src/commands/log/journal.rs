//! Events as entries of the systemd journal: the message with the fields as on stderr, and each
//! field by its name.

use std::error::Error;
use std::fmt::{self, Debug, Write as _};

use systemd_journal_logger::JournalLog;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::{Line, Lines};

/// Queues events for the journal.
pub(super) struct JournalLayer(pub(super) Lines);

/// An event, copied from the thread that logged it.
pub(super) struct Entry {
    level: log::Level,
    target: &'static str,
    file: Option<&'static str>,
    line: Option<u32>,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.send(Line::Entry(Entry::new(event)));
    }
}

impl Entry {
    fn new(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut entry = Self {
            level: match *metadata.level() {
                Level::ERROR => log::Level::Error,
                Level::WARN => log::Level::Warn,
                Level::INFO => log::Level::Info,
                Level::DEBUG => log::Level::Debug,
                Level::TRACE => log::Level::Trace,
            },
            target: metadata.target(),
            file: metadata.file(),
            line: metadata.line(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut entry);
        for (name, value) in &entry.fields {
            // Writing to a String cannot fail.
            let _ = write!(entry.message, " {name}={value}");
        }
        entry
    }

    /// Blocks while the journal does not read. Errors are ignored: there is nowhere to report them.
    pub(super) fn send(&self, journal: &JournalLog) {
        let record = &mut log::Record::builder();
        let record = record
            .level(self.level)
            .target(self.target)
            .file_static(self.file)
            .line(self.line)
            .key_values(&self.fields);
        let _ = journal.journal_send(&record.args(format_args!("{}", self.message)).build());
    }

    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // Where an event of the crate `log` comes from; not part of its text.
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field, Chain(value).to_string());
    }
}

/// An error with its sources.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        self.0
            .source()
            .map_or(Ok(()), |source| write!(f, ": {}", Chain(source)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_entry_has_the_fields_of_its_event_and_repeats_them_in_the_message() {
        let (queue, lines) = sync_channel(1);
        let lines_of_journal = Lines {
            queue,
            lost: Default::default(),
        };
        let subscriber = tracing_subscriber::registry().with(JournalLayer(lines_of_journal));
        tracing::subscriber::with_default(subscriber, || {
            let error = anyhow::anyhow!("disk full").context("cannot write");
            let error: &(dyn Error + 'static) = error.as_ref();
            tracing::warn!(device = %"lobby-east", row = 7, error, "cannot store {}", "the will");
        });
        let Ok(Line::Entry(entry)) = lines.try_recv() else {
            panic!("no entry");
        };
        assert_eq!(entry.level, log::Level::Warn);
        assert_eq!(
            entry.message,
            "cannot store the will device=lobby-east row=7 error=cannot write: disk full"
        );
        let fields: Vec<_> = entry.fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(
            fields,
            [
                ("device", "lobby-east"),
                ("row", "7"),
                ("error", "cannot write: disk full")
            ]
        );
    }
}
