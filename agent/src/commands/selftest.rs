//! `door-agent selftest`.

use std::io::{self, BufRead, BufReader, Cursor, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use door_agent::selftest::{Person, SelfTest};
use door_agent::service::Signals;
use door_agent::{AgentConfig, gpio};
use door_core::contract::duration::with_unit;
use iothub_protocol::text_file::decode;
use tokio::runtime;

/// Exit status when nothing is wrong but something was skipped.
const INCOMPLETE: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The answers, a line for each question; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    wait: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    with_unit(text).map_err(|error| error.to_string())?;
    gpio::simulated::parse_time(text)
        .ok_or_else(|| "expected a time such as 500ms, 30s or 2m".to_owned())
}

/// Tests the wiring; the exit status is the result.
pub(crate) fn selftest(config: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let input: Box<dyn BufRead + Send> = match options.script.as_deref() {
        None if io::stdin().is_terminal() => Box::new(BufReader::new(io::stdin())),
        None => bail!(
            "standard input is not a terminal, and a self-test needs somebody at the door who \
             reads and answers; start it in a terminal, or give the answers with --script FILE \
             (or --script - for standard input)"
        ),
        Some(file) if file == Path::new("-") => Box::new(BufReader::new(io::stdin())),
        Some(file) => {
            let read = std::fs::read(file).map_err(anyhow::Error::from);
            let text = read.and_then(|bytes| Ok(decode(bytes)?));
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            Box::new(Cursor::new(text))
        }
    };
    let (board, strike) =
        AgentConfig::load_wiring(config).context("WRONG  configuration; nothing is tested")?;
    let door = config.file_stem().unwrap_or_default().to_string_lossy();
    // The status socket shows a running agent on a simulated board too, which has no pins to claim.
    let directories = super::state_directories(config)?;
    if directories
        .iter()
        .any(|state| super::status::ask(state).is_ok())
    {
        bail!(
            "the agent of this door is running and holds the pins; {}",
            stop_hint(&door)
        );
    }
    let wired = gpio::open_wired(&board, &strike, &door).with_context(|| {
        format!(
            "cannot open the pins; if an agent runs, {}",
            stop_hint(&door)
        )
    })?;
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async {
            let out = Box::new(io::stderr());
            let person = Person::new(input, out, Signals::catch()?, options.script.is_some())?;
            let test = SelfTest::new(wired, strike, board.outputs, person, options.wait);
            let (summary, ended) = test.run().await;
            super::print_error("");
            super::print(&summary);
            ended.context("the self-test was not completed; the strike is de-energised")?;
            Ok(match (summary.is_wrong(), summary.is_complete()) {
                (true, _) => ExitCode::FAILURE,
                (false, true) => ExitCode::SUCCESS,
                (false, false) => ExitCode::from(INCOMPLETE),
            })
        })
}

fn stop_hint(door: &str) -> String {
    format!("stop it first: systemctl stop door-agent@{door}")
}
