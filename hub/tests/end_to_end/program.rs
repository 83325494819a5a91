//! Commands of the program under test.

use std::path::Path;
use std::process::Command;

use doorfleet_testing::{CommandLine, CommandOutput};

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_door-hub"))
}

pub(crate) fn run(line: impl CommandLine) -> CommandOutput {
    doorfleet_testing::run(Command::new(program()).args(line.words()))
}

/// Runs a command on a data folder.
pub(crate) fn run_on(data: &Path, line: impl CommandLine) -> CommandOutput {
    let mut command = Command::new(program());
    let command = command.args(line.words()).arg("--data").arg(data);
    doorfleet_testing::run(command)
}
