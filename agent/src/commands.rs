//! The subcommands of `door-agent`, one file each. Data goes to stdout, messages to stderr.

pub(crate) mod check;
pub(crate) mod de_energise;
pub(crate) mod documents;
pub(crate) mod install;
pub(crate) mod reboot_requested;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod sim;
pub(crate) mod status;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use door_agent::AgentConfig;

/// How long a completed command waits for a slow reader of its output.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Set when requested output could not be printed.
static OUTPUT_FAILED: AtomicBool = AtomicBool::new(false);

/// Prints requested output. A failure does not end the command, but [`exit_code`] turns it into an
/// error; a reader that closed the pipe (`| head -1`) has what it wants.
fn print(text: impl Display) {
    match write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            if !OUTPUT_FAILED.swap(true, Ordering::Relaxed) {
                print_error(format_args!(
                    "error: cannot write to standard output: {error}"
                ));
            }
        }
        Ok(()) | Err(_) => {}
    }
}

/// Prints what a command has done. The work is complete, so a failure to print is ignored.
fn print_done(text: impl Display) {
    let line = format!("{text}\n");
    with_output_timeout(move || io::stdout().write_all(line.as_bytes()));
}

/// Prints a line to stderr; a failure is ignored.
pub(crate) fn print_error(text: impl Display) {
    let line = wrapped(&text.to_string()) + "\n";
    with_output_timeout(move || io::stderr().write_all(line.as_bytes()));
}

/// The lines of a message, wrapped at words to `COLUMNS` or the terminal of stderr.
fn wrapped(text: &str) -> String {
    let set = std::env::var("COLUMNS").ok();
    let set = set.and_then(|columns| columns.trim().parse().ok());
    let of_terminal = || {
        let (width, _) = terminal_size::terminal_size_of(io::stderr())?;
        Some(usize::from(width.0))
    };
    let width = set.filter(|columns| *columns > 0).or_else(of_terminal);
    let Some(width) = width else {
        return text.to_owned();
    };
    filled(text, width)
}

/// The same for a width. A command that it names, such as `door-agent`, stays whole.
fn filled(text: &str, width: usize) -> String {
    let lines = text.split('\n').map(|line| {
        let indent = &line[..line.len() - line.trim_start_matches(' ').len()];
        let options = textwrap::Options::new(width)
            .subsequent_indent(indent)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(line, options.break_words(false))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs `write`, and stops waiting for it when the reader does not read.
fn with_output_timeout(write: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (done, finished) = sync_channel(1);
    let started = thread::Builder::new().spawn(move || {
        // A failure of the output itself cannot be reported.
        drop(write());
        let _ = done.send(());
    });
    if started.is_ok() {
        let _ = finished.recv_timeout(OUTPUT_TIMEOUT);
    }
}

/// The exit status of a command: failure if requested output could not be printed.
pub(crate) fn exit_code(status: ExitCode) -> ExitCode {
    if status == ExitCode::SUCCESS && OUTPUT_FAILED.load(Ordering::Relaxed) {
        ExitCode::FAILURE
    } else {
        status
    }
}

/// Prints help, version or a usage error of clap.
pub(crate) fn print_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render();
        let styled = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print_error(match styled {
            true => text.ansi().to_string().trim_end().to_owned(),
            false => text.to_string().trim_end().to_owned(),
        });
    } else {
        let help = error.render();
        let styled = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match styled {
            true => print(help.ansi()),
            false => print(help),
        }
    }
    exit_code(u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Possible state directories of a running agent with this configuration: the configured one, and
/// the one that a service uses.
fn state_directories(config: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let configured = AgentConfig::load_state_directory(config)?;
    Ok([configured, AgentConfig::service_state(config)])
}

/// Queries the agent in one of `directories`. The error is that of the first, and names both
/// directories.
fn query_running<T>(
    directories: &[PathBuf; 2],
    ask: impl Fn(&Path) -> std::io::Result<T>,
) -> anyhow::Result<T> {
    let [configured, service] = directories;
    match ask(configured) {
        Ok(answer) => Ok(answer),
        Err(error) => ask(service).or(Err(error)).with_context(|| {
            let mut text = format!("no running agent answers in {}", configured.display());
            if configured != service {
                text.push_str(&format!(" or {}", service.display()));
            }
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn a_message_is_wrapped_between_words_and_never_inside_a_command() {
        for width in 1..40 {
            let text = filled("  start it with: door-agent run lobby-east", width);
            for word in ["door-agent", "lobby-east"] {
                assert!(text.contains(word), "{width}: {text}");
            }
        }
    }
}
