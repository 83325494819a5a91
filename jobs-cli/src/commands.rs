//! One function per command of the CLI.

mod acknowledge;
mod agents;
mod alarms;
mod audit;
mod completion;
mod config_view;
pub(crate) mod confirm;
mod context;
mod dashboard;
#[cfg(all(unix, feature = "demo"))]
mod demo;
mod devices;
mod digest;
mod doctor;
mod documents;
mod doors;
mod events;
pub(crate) mod explain;
mod interrupt;
mod invoke;
mod job_draft;
mod job_follow;
mod job_group;
mod job_report;
mod job_view;
mod job_wait;
mod jobs;
mod many;
mod method_call;
mod out_file;
mod policy;
mod progress;
mod query;
mod reported;
mod schedule;
mod shell;
mod staged;
mod twin;
mod twin_patch;
mod version;
mod whoami;

use crate::cli::context::ConfigCommand;
use crate::cli::doors::DoorsCommand;
use crate::cli::{Cli, Command};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::session::Session;

/// Runs the command of the command line.
pub(crate) async fn run(cli: Cli, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Cli { global, command } = cli;
    let session = || Session::open(&global, printer);
    if printer.is_prometheus() && !matches!(command, Command::Doors(DoorsCommand::Status(_))) {
        return Err(Failure::new("-o prometheus: this verb has no metrics")
            .next("doorctl status -o prometheus")
            .into());
    }
    match command {
        Command::Context(command) => context::run(command, &global, printer).await,
        Command::Completion { shell } => completion::run(shell),
        Command::Documents { folder } => documents::run(&folder),
        #[cfg(all(unix, feature = "demo"))]
        Command::Demo(args) => Box::pin(demo::run(args, &global, printer)).await,
        Command::Dashboard(args) => dashboard::run(&args, &session()?).await,
        Command::Devices(command) => devices::run(command, &session()?).await,
        Command::Twin(command) => twin::run(command, &session()?).await,
        Command::Query(args) => query::run(&args, &session()?).await,
        Command::Invoke(args) => invoke::run(&args, &session()?).await,
        Command::Doors(command) => Box::pin(doors::run(command, &session()?)).await,
        Command::Alarms(args) => alarms::run(args, &session()?).await,
        Command::Events(args) => Box::pin(events::run(&args, &session()?)).await,
        Command::Audit(args) => audit::run(&args, &session()?).await,
        Command::Logs(args) => Box::pin(events::logs::run(&args, &session()?)).await,
        Command::Doctor => Box::pin(doctor::run(&global, printer)).await,
        Command::Policy(command) => policy::run(command, &session()?).await,
        Command::Whoami => whoami::run(&session()?).await,
        Command::Version => version::run(&global, printer).await,
        Command::Explain { word } => explain::run(word.as_deref(), printer),
        Command::Config(ConfigCommand::View) => config_view::run(&global, printer),
        Command::Schedule(command) => Box::pin(schedule::run(command, printer, session)).await,
        Command::Jobs(command) => Box::pin(jobs::run(command, &session()?)).await,
    }
}
