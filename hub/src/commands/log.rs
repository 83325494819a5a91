//! What is logged, to stderr: `RUST_LOG` if it is set, else what the settings say, else `info`.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// The log's filter, which the settings may change while the hub runs.
pub(crate) struct Log {
    /// `None` when the environment has decided.
    replace: Option<Box<dyn Fn(EnvFilter) -> anyhow::Result<()>>>,
}

impl Log {
    /// Starts to log.
    pub(crate) fn start() -> Self {
        let given = EnvFilter::try_from_default_env().ok();
        let fixed = given.is_some();
        let log = tracing_subscriber::fmt()
            .with_env_filter(given.unwrap_or_else(|| EnvFilter::new("info")))
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        let replace = move |filter| {
            handle
                .reload(filter)
                .context("cannot change what is logged")
        };
        Self {
            replace: (!fixed).then(|| Box::new(replace) as _),
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
