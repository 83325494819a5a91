//! Logs of hub and agents go to a file: on the terminal they would hide the demo's own output.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Sends all logging of this process to `path`, or to stderr.
pub(super) fn start(path: &Path, to_stderr: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    // This also captures the agents' `log` records.
    let started = match to_stderr {
        true => builder.with_writer(io::stderr).try_init(),
        false => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            builder.with_writer(Mutex::new(file)).try_init()
        }
    };
    started
        .map_err(|error| anyhow::anyhow!(error))
        .context("cannot start logging")
}
