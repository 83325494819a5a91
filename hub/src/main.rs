//! `door-hub`: runs a hub, or looks after its data folder.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{
    AuditArguments, BackupArguments, Log, PolicyArguments, RestoreArguments, Settings,
    StartArguments,
};

/// A self-hosted hub that speaks Azure IoT Hub's wire: MQTT over TLS to devices, HTTPS REST to
/// operators.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub until SIGTERM or Ctrl-C. The first start makes the data folder and says where
    /// things are. SIGHUP reads settings and certificates again.
    Serve(StartArguments),
    /// Make the data folder with the certificates and keys, and keep the settings given here in its
    /// hub.toml.
    Init(StartArguments),
    /// Say who may do what: add, list, show, rotate and remove shared access policies, whether the
    /// hub runs or not.
    Policy(PolicyArguments),
    /// Look over settings, files, certificates, database and ports, and print a line for each
    /// finding; the exit status is 0 when a hub can run.
    Check(Settings),
    /// Show who changed or commanded what, whether the hub runs or not.
    Audit(AuditArguments),
    /// Put the hub's database, certificates, keys and settings into one file, while it runs or not.
    Backup(BackupArguments),
    /// Make a data folder of a backup.
    Restore(RestoreArguments),
    /// Write man pages and completions into a folder; for the packages.
    #[command(hide = true)]
    Documents {
        /// The folder, which is there.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return commands::explain(&error),
    };
    let log = Log::start();
    let done = match cli.command {
        Command::Serve(arguments) => commands::serve(&arguments, &log),
        Command::Init(arguments) => commands::init(&arguments),
        Command::Policy(arguments) => commands::policy(arguments),
        Command::Check(settings) => commands::check(&settings),
        Command::Audit(arguments) => commands::audit(arguments),
        Command::Backup(arguments) => commands::backup(&arguments),
        Command::Restore(arguments) => commands::restore(&arguments),
        Command::Documents { folder } => commands::documents(&folder),
    };
    log.finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            commands::complain(format_args!("door-hub: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
