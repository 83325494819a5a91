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
mod plan;
mod steps;
mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Global;
use crate::cli::demo::DemoArgs;
use crate::commands::{dashboard, shell};
use crate::config::CONFIG_VARIABLE;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Session;
use crate::time::system_zone;

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
    let page = match args.keep || args.dashboard {
        true => Some(serve_page(demo, &environment, &interrupted, args.dashboard).await?),
        false => None,
    };
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
    if let (Some(page), Ok(DemoEnd::Passed | DemoEnd::Failed(_))) = (&page, &result) {
        print_examples(&environment, &page.address, printer);
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

/// The web page of the demo.
struct DemoPage {
    address: String,
    /// Led the browser to the address.
    _redirect: Option<NamedTempFile>,
}

/// Serves the web page until `stop`, and lets `door-agent sim` act on the doors.
async fn serve_page(
    demo: &DemoDoors,
    environment: &Environment,
    stop: &CancellationToken,
    open: bool,
) -> anyhow::Result<DemoPage> {
    environment.fleet.accept_actions(stop)?;
    plan::draw(demo, &environment.client).await?;
    let session = Session {
        context: "demo".to_owned(),
        hub: environment.client.clone(),
        zone: system_zone(),
        printer: environment.printer.clone(),
        ca: None,
        reason: None,
    };
    let server = dashboard::Server::bind(&session, 0).await?;
    let address = server.address();
    environment.say(format!("page     {address}"));
    tokio::spawn(server.run(stop.clone()));
    let redirect = open.then(|| dashboard::open(&session, &address));
    Ok(DemoPage {
        address,
        _redirect: redirect.flatten(),
    })
}

/// Prints commands to try while hub and doors keep running.
fn print_examples(environment: &Environment, address: &str, printer: &Printer) {
    let own = std::env::current_exe().unwrap_or_else(|_| "doorctl".into());
    let program = quoted(&own);
    // Cargo builds it beside this program, if at all.
    let agent = Some(own.with_file_name("door-agent")).filter(|agent| agent.exists());
    let agent = agent.map_or("door-agent".to_owned(), |agent| quoted(&agent));
    let doors = quoted(&environment.fleet.folder);
    printer.say(format!(
        "
hub and doors run until Ctrl-C; in the browser:

  {address}

in a second terminal:

  export {CONFIG_VARIABLE}={}
  {program} devices list --floor 3
  {program} jobs lock --floor 3 --at +10s --for 30s
  {program} jobs watch
  {program} invoke door-0002 getState
  {program} jobs list

as a person at a door (force, jam or prop it):

  {program} lock door-0002 --for 10m
  {agent} sim force --config {doors}/door-0002.toml
  {agent} sim jam --config {doors}/door-0006.toml
  {program} unlock door-0010 --for 1m
  {agent} sim open --config {doors}/door-0010.toml
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
