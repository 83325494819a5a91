//! `doorctl demo`: runs the whole system on this machine step by step and checks each step.
//!
//! Only the hardware of the doors is simulated: the hub is the real one with its own authority and
//! database, each door is the real agent with its own identity, key and TLS connection, and every
//! operator action goes through the REST API. Everything is in one temporary folder; the user's own
//! configuration is not touched.

mod check;
mod doors;
mod environment;
mod fleet;
mod log_file;
mod night;
mod steps;
mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::cli::demo::DemoArgs;
use crate::commands::shell;
use crate::config::CONFIG_VARIABLE;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Printer;

use check::Problem;
use doors::DemoDoors;
use environment::Environment;

/// How long hub and agents may take to stop.
const DRAIN: Duration = Duration::from_secs(30);

pub(super) async fn run(
    args: DemoArgs,
    global: &Global,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let demo = DemoDoors::new(args.doors, &args.faults)?;
    fleet::raise_descriptor_limit(args.doors)?;
    let folder = tempfile::Builder::new()
        .prefix("doorfleet-demo-")
        .tempdir()
        .context("cannot create a temporary folder")?;
    let log = folder.path().join("demo.log");
    log_file::start(&log, args.verbose)?;

    let end = run_steps(&demo, &args, global, folder.path(), printer).await;
    if matches!(&end, Err(_) | Ok(DemoEnd::Failed(_))) {
        keep_log(&log, printer);
    }
    match end? {
        DemoEnd::Passed => Ok(ExitStatus::Success),
        DemoEnd::Interrupted => {
            printer.say("interrupted; hub and doors are stopped, and their folder is removed");
            Ok(ExitStatus::Interrupted)
        }
        DemoEnd::Failed(problems) => Err(checks_failed_error(&problems).into()),
    }
}

/// How the demo ended.
enum DemoEnd {
    /// Every check passed.
    Passed,
    /// These checks failed.
    Failed(Vec<Problem>),
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

async fn run_steps(
    demo: &DemoDoors,
    args: &DemoArgs,
    global: &Global,
    folder: &Path,
    printer: &Printer,
) -> anyhow::Result<DemoEnd> {
    let interrupt = CancellationToken::new();
    let interrupted = interrupt.clone();
    tokio::spawn(async move {
        wait_for_stop_signal().await;
        interrupt.cancel();
    });
    // Outside the select below: a half-started stage could not be stopped.
    let environment = Environment::start(demo, global, folder, printer, args.verbose).await?;
    let result = tokio::select! {
        problems = steps::run(demo, &environment) => {
            problems.map(|problems| match problems.is_empty() {
                true => DemoEnd::Passed,
                false => DemoEnd::Failed(problems),
            })
        }
        () = interrupted.cancelled() => Ok(DemoEnd::Interrupted),
    };
    if let Ok(DemoEnd::Passed) = result {
        printer.say("\nevery check passed");
    }
    if args.keep && matches!(result, Ok(DemoEnd::Passed | DemoEnd::Failed(_))) {
        print_examples(&environment, printer);
        interrupted.cancelled().await;
        printer.say("stopping");
    }
    if tokio::time::timeout(DRAIN, environment.shut_down())
        .await
        .is_err()
    {
        printer.warn(format!(
            "hub and doors did not stop within {} s and are aborted",
            DRAIN.as_secs()
        ));
    }
    result
}

/// Ctrl-C, or SIGTERM.
async fn wait_for_stop_signal() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn checks_failed_error(problems: &[Problem]) -> Failure {
    let mut message = "some checks failed:".to_owned();
    for problem in problems {
        message += &format!("\n  {problem}");
    }
    Failure::new(message).status(ExitStatus::Incomplete)
}

/// Prints commands to try while hub and doors keep running.
fn print_examples(environment: &Environment, printer: &Printer) {
    let program = std::env::current_exe().map_or("doorctl".to_owned(), |path| quoted(&path));
    printer.say(format!(
        "
hub and doors run until Ctrl-C; in a second terminal:

  export {CONFIG_VARIABLE}={}
  {program} devices list --floor 3
  {program} jobs lock --floor 3 --at +10s --for 30s
  {program} jobs watch
  {program} invoke door-0002 getState
  {program} jobs list
",
        quoted(&environment.config_file)
    ));
}

/// Copies the log out of the temporary folder, for the analysis of a failure.
fn keep_log(log: &Path, printer: &Printer) {
    let copy = std::env::temp_dir().join(format!("doorfleet-demo-{}.log", std::process::id()));
    if std::fs::copy(log, &copy).is_ok_and(|length| length > 0) {
        printer.say(format!("log of hub and doors: {}", copy.display()));
    }
}

fn quoted(path: &Path) -> String {
    shell::quoted(&path.to_string_lossy())
}
