//! `door-hub`: runs a hub or manages its data folder.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{
    AuditArguments, BackupArguments, Log, PolicyArguments, RestoreArguments, Settings,
    StartArguments, WebhookArguments,
};

/// A self-hosted hub that is wire-compatible with Azure IoT Hub: MQTT over TLS for devices, HTTPS
/// REST for operators.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub until SIGTERM or Ctrl-C. The first start creates the data folder and prints
    /// where things are. SIGHUP reloads settings and certificates.
    Serve(StartArguments),
    /// Create the data folder with certificates and keys, and save the given settings in its
    /// hub.toml.
    Init(StartArguments),
    /// Manage access: add, list, show, rotate and remove shared access policies, whether or not the
    /// hub is running.
    Policy(PolicyArguments),
    /// Check settings, files, certificates, database and ports, and print a line for each finding;
    /// the exit status is 0 if the hub can run.
    Check(Settings),
    /// List the webhooks of the settings, or send a test document to one.
    Webhook(WebhookArguments),
    /// Show who changed or commanded what, whether or not the hub is running.
    Audit(AuditArguments),
    /// Back up the hub's database, certificates, keys and settings to one file, whether or not the
    /// hub is running.
    Backup(BackupArguments),
    /// Create a data folder from a backup.
    Restore(RestoreArguments),
    /// Write man pages and shell completions to a folder; used to build the packages.
    #[command(hide = true)]
    Documents {
        /// The folder; it must exist.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return commands::exit_with_usage(&error),
    };
    let log = Log::start();
    let done = match cli.command {
        Command::Serve(arguments) => commands::serve(&arguments, &log),
        Command::Init(arguments) => commands::init(&arguments),
        Command::Policy(arguments) => commands::policy(arguments),
        Command::Check(settings) => commands::check(&settings),
        Command::Webhook(arguments) => commands::webhook(arguments),
        Command::Audit(arguments) => commands::audit(arguments),
        Command::Backup(arguments) => commands::backup(&arguments),
        Command::Restore(arguments) => commands::restore(&arguments),
        Command::Documents { folder } => commands::documents(&folder),
    };
    log.finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            commands::print_error(format_args!("door-hub: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
