//! A logger with a queue: logging never blocks, even if the line cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Log, Metadata, Record};

/// Capacity of the queue in lines; a door logs a few a minute.
const QUEUE: usize = 512;

/// How long the end of the program waits for queued lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A record copied from the thread that logged it.
struct Line {
    level: Level,
    target: String,
    module: Option<String>,
    file: Option<String>,
    number: Option<u32>,
    text: String,
    fields: Fields,
}

/// Structured fields of a record.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl<'a> VisitSource<'a> for Fields {
    fn visit_pair(&mut self, key: Key<'a>, value: Value<'a>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

enum QueueEntry {
    Line(Line),
    /// Signals that everything before it is written.
    Finish(SyncSender<()>),
}

struct LogQueue {
    inner: Arc<dyn Log>,
    entries: SyncSender<QueueEntry>,
    lost: Arc<AtomicU64>,
}

/// Installs `inner` as the log of this process, written by a separate thread.
pub(super) fn install(inner: Box<dyn Log>) -> anyhow::Result<()> {
    let inner: Arc<dyn Log> = Arc::from(inner);
    let (queue, received) = LogQueue::new(Arc::clone(&inner));
    let lost = Arc::clone(&queue.lost);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write(&received, &*inner, &lost))
        .context("cannot start the log thread")?;
    log::set_boxed_logger(Box::new(queue)).context("cannot install the logger")
}

impl LogQueue {
    fn new(inner: Arc<dyn Log>) -> (Self, Receiver<QueueEntry>) {
        let (entries, received) = sync_channel(QUEUE);
        let lost = Arc::default();
        let queue = Self {
            inner,
            entries,
            lost,
        };
        (queue, received)
    }
}

impl Log for LogQueue {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut fields = Fields::default();
        // Fields accepts every pair: this cannot fail.
        drop(record.key_values().visit(&mut fields));
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            module: record.module_path().map(ToOwned::to_owned),
            file: record.file().map(ToOwned::to_owned),
            number: record.line(),
            text: record.args().to_string(),
            fields,
        };
        if self.entries.try_send(QueueEntry::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a moment for the queued lines.
    fn flush(&self) {
        let (written, done) = sync_channel(1);
        if self.entries.try_send(QueueEntry::Finish(written)).is_ok() {
            // After a timeout there is no place to report it.
            let _ = done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn write(received: &Receiver<QueueEntry>, inner: &dyn Log, lost: &AtomicU64) {
    while let Ok(entry) = received.recv() {
        match entry {
            QueueEntry::Line(line) => inner.log(
                &Record::builder()
                    .level(line.level)
                    .target(&line.target)
                    .module_path(line.module.as_deref())
                    .file(line.file.as_deref())
                    .line(line.number)
                    .key_values(&line.fields.0)
                    .args(format_args!("{}", line.text))
                    .build(),
            ),
            QueueEntry::Finish(written) => {
                inner.flush();
                let _ = written.try_send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            inner.log(
                &Record::builder()
                    .level(Level::Warn)
                    .target(module_path!())
                    .args(format_args!(
                        "{lost} lines of the log are lost: the queue was full"
                    ))
                    .build(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;

    /// A log that blocks until it is released.
    struct BlockingLog {
        go: Mutex<Receiver<()>>,
        texts: Mutex<Sender<String>>,
    }

    impl Log for BlockingLog {
        fn enabled(&self, _: &Metadata) -> bool {
            true
        }

        fn log(&self, record: &Record) {
            // Once released it does not block any more.
            let _ = self.go.lock().unwrap().recv();
            self.texts
                .lock()
                .unwrap()
                .send(record.args().to_string())
                .unwrap();
        }

        fn flush(&self) {}
    }

    #[test]
    fn a_hanging_log_does_not_block_and_lost_lines_are_counted() {
        let ((hold, go), (texts, written)) = (channel(), channel());
        let inner: Arc<dyn Log> = Arc::new(BlockingLog {
            go: Mutex::new(go),
            texts: Mutex::new(texts),
        });
        let (queue, received) = LogQueue::new(Arc::clone(&inner));
        let lost = Arc::clone(&queue.lost);
        let writer = thread::spawn(move || write(&received, &*inner, &lost));
        let began = Instant::now();
        let lines = 2 * QUEUE + 2;
        for number in 0..lines {
            queue.log(
                &Record::builder()
                    .args(format_args!("line {number}"))
                    .build(),
            );
        }
        queue.flush();
        assert!(began.elapsed() < Duration::from_secs(30));
        drop(hold);
        drop(queue);
        writer.join().unwrap();
        let written: Vec<String> = written.try_iter().collect();
        assert_eq!(written[0], "line 0");
        let report = written
            .iter()
            .find(|text| text.contains("are lost"))
            .unwrap();
        let lost: usize = report.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(written.len() - 1 + lost, lines);
    }
}
