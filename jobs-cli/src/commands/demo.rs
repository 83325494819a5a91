//! `doorctl demo`: the whole system on this machine, told step by step, and checked.
//!
//! Nothing is pretended but the doors' hardware: the hub is the real one with its own authority and database, each door is the real agent with
//! an identity, a key and a TLS connection of its own, and everything an operator does goes through the REST API. It lives in one temporary
//! folder, and touches no settings of the person who runs it.

mod cast;
mod fleet;
mod log_file;
mod play;
mod stage;
mod table;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::cli::Global;
use crate::cli::demo::DemoArgs;
use crate::config::CONFIG_VARIABLE;
use crate::exit_status::ExitStatus;
use crate::printer::Printer;

use cast::Cast;
use play::Problem;
use stage::Stage;

/// How long hub and agents may take to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs the demo.
pub(super) async fn run(
    args: DemoArgs,
    global: &Global,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let cast = Cast::new(args.doors, &args.faults)?;
    fleet::raise_descriptor_limit(args.doors)?;
    let folder = tempfile::Builder::new()
        .prefix("doorfleet-demo-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let log = folder.path().join("demo.log");
    log_file::start(&log, args.verbose)?;

    let ended = tokio::select! {
        ended = perform(&cast, &args, global, folder.path(), printer) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Ended::Interrupted),
    };
    let failed = !matches!(ended, Ok(Ended::Done(ref problems)) if problems.is_empty());
    if failed && !matches!(ended, Ok(Ended::Interrupted)) {
        keep_log(folder, &log, printer);
    }
    match ended? {
        Ended::Interrupted => {
            printer.say("interrupted; hub and doors are stopped, and their folder is removed");
            Ok(ExitStatus::Interrupted)
        }
        Ended::Done(problems) if problems.is_empty() => Ok(ExitStatus::Success),
        Ended::Done(problems) => {
            for problem in problems {
                printer.warn(format!("not as it should be: {problem}"));
            }
            Ok(ExitStatus::Incomplete)
        }
    }
}

/// How the demo ended.
enum Ended {
    /// It was played to its end; these things were not as they should be.
    Done(Vec<Problem>),
    /// Ctrl-C.
    Interrupted,
}

async fn perform(
    cast: &Cast,
    args: &DemoArgs,
    global: &Global,
    folder: &Path,
    printer: &Printer,
) -> anyhow::Result<Ended> {
    let mut stage = Stage::set(cast, global, folder, printer, args.verbose).await?;
    let played = play::play(cast, &mut stage).await;
    if let Ok(problems) = &played {
        if problems.is_empty() {
            printer.say("\nall of this is what was expected; it took a hub, its doors, and one command to lock them on schedule");
        }
    }
    let kept = match (&played, args.keep) {
        (Ok(_), true) => keep(&stage, printer).await,
        _ => Ok(()),
    };
    if tokio::time::timeout(DRAIN, stage.strike()).await.is_err() {
        printer.warn(format!(
            "hub and doors did not stop within {} s and are cut",
            DRAIN.as_secs()
        ));
    }
    kept?;
    played.map(Ended::Done)
}

/// Stays until Ctrl-C, with what can be tried meanwhile.
async fn keep(stage: &Stage, printer: &Printer) -> anyhow::Result<()> {
    let program =
        std::env::current_exe().map_or("doorctl".to_owned(), |path| Quoted(&path).to_string());
    printer.say(format!(
        "
everything stays until Ctrl-C; in a second terminal:

  export {CONFIG_VARIABLE}={}
  {program} devices list --floor 3
  {program} jobs lock --floor 3 --at +10s --for 30s
  {program} jobs watch
  {program} invoke door-0002 getState
  {program} jobs list
",
        Quoted(&stage.config_file)
    ));
    tokio::signal::ctrl_c()
        .await
        .context("cannot wait for Ctrl-C")?;
    printer.say("stopping");
    Ok(())
}

/// After a failure the log is worth more than a clean folder.
fn keep_log(folder: TempDir, log: &Path, printer: &Printer) {
    let kept = std::env::temp_dir().join(format!("doorfleet-demo-{}.log", std::process::id()));
    if std::fs::copy(log, &kept).is_ok_and(|length| length > 0) {
        printer.say(format!("what hub and doors logged: {}", kept.display()));
    }
    drop(folder);
}

/// A path as a shell takes it.
struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
        match text.chars().all(plain) {
            true => f.write_str(&text),
            false => write!(f, "'{}'", text.replace('\'', "'\\''")),
        }
    }
}
