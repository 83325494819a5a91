//! Answers to a shell's completion requests. The script that `doorctl completion` prints calls
//! doorctl with the words typed so far.
//!
//! Door names and job ids come from the hub, within [`HUB_TIMEOUT`]. An error gives no candidates
//! and no message.

use std::env;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use door_core::contract::Alarm;
use iothub_client::HubClient;

use crate::cli::Cli;
use crate::commands::explain;
use crate::config::{self, Contexts};
use crate::door::DoorName;
use crate::session::client_options;
use crate::target;

/// Set by the script to the name of the shell.
const VARIABLE: &str = "DOORCTL_COMPLETE";

/// Time for the hub to answer.
const HUB_TIMEOUT: Duration = Duration::from_secs(1);

/// Most candidates: a longer list is of no use.
const MAX_CANDIDATES: usize = 300;

/// Answers a completion request; `false` if this is not one.
pub(crate) fn handle_request() -> bool {
    let answered = CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(env::args_os(), env::current_dir().ok().as_deref());
    // An error message would disturb the prompt.
    answered.unwrap_or(true)
}

/// The completion script of a shell.
///
/// # Errors
///
/// When the shell is not supported.
pub(crate) fn script(shell: &str) -> io::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| io::Error::other(format!("there is no completion for {shell}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "doorctl", "doorctl", "doorctl", &mut script)?;
    if shell == "zsh" {
        // An autoloaded function is first run by a Tab that already needs an answer.
        writeln!(
            script,
            "if [ \"$funcstack[1]\" = _doorctl ]; then\n    _clap_dynamic_completer_doorctl \
             \"$@\"\nfi"
        )?;
    }
    Ok(script)
}

/// The command line with completers, chosen by the names of values, so that new verbs get them
/// automatically.
fn command() -> Command {
    with_completers(Cli::command(), "")
}

fn with_completers(command: Command, path: &str) -> Command {
    let path = format!("{path} {}", command.get_name());
    let is_context_verb = path.starts_with(" doorctl context");
    command
        .mut_args(|arg| {
            let values = completer_for(&arg, is_context_verb);
            match values {
                Some(values) => arg.add(ArgValueCompleter::new(values)),
                None => arg,
            }
        })
        .mut_subcommands(|command| with_completers(command, &path))
}

type Completer = fn(&OsStr) -> Vec<CompletionCandidate>;

fn completer_for(arg: &Arg, is_context_verb: bool) -> Option<Completer> {
    let id = arg.get_id().as_str();
    let value = match arg.get_value_names() {
        Some([name]) => name.to_ascii_uppercase(),
        _ => id.to_ascii_uppercase(),
    };
    match (value.as_str(), id) {
        ("DOOR" | "DOOR|KEY=VALUE", _) => Some(doors),
        ("JOB", _) => Some(jobs),
        ("WORD", _) => Some(words),
        ("ALARM", _) => Some(alarms),
        (_, "context") => Some(contexts),
        ("NAME", "name") if is_context_verb => Some(contexts),
        _ => None,
    }
}

fn doors(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str().filter(|typed| needs_no_quoting(typed)) else {
        return Vec::new();
    };
    let query = match typed {
        "" => "SELECT deviceId FROM devices".to_owned(),
        typed => format!(
            "SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, {})",
            target::quote(typed)
        ),
    };
    let mut names = query_hub(async move |hub: HubClient| {
        let mut names = Vec::new();
        let mut pages = hub.query_pages::<DoorName>(&query).ok()?;
        while let Some(page) = pages.next().await.ok()? {
            names.extend(page.items.into_iter().map(|row| row.device_id.to_string()));
            if names.len() >= MAX_CANDIDATES {
                break;
            }
        }
        Some(names)
    });
    names.sort();
    candidates(names, typed)
}

/// Ids of jobs, newest first.
fn jobs(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_str().unwrap_or_default();
    let ids = query_hub(async move |hub: HubClient| {
        let mut jobs = hub.jobs(None).await.ok()?;
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created_time));
        Some(jobs.iter().map(|job| job.job_id.to_string()).collect())
    });
    candidates(ids, typed)
}

fn words(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(explain::words(), typed.to_str().unwrap_or_default())
}

fn alarms(typed: &OsStr) -> Vec<CompletionCandidate> {
    let names = Alarm::ALL.map(|alarm| alarm.as_str().to_owned());
    candidates(names.to_vec(), typed.to_str().unwrap_or_default())
}

fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_str().unwrap_or_default();
    let contexts = config::path().and_then(|path| Contexts::read(&path));
    let contexts = contexts.unwrap_or_default();
    candidates(contexts.by_name.into_keys().collect(), typed)
}

fn candidates(names: Vec<String>, typed: &str) -> Vec<CompletionCandidate> {
    let fit = names
        .into_iter()
        .filter(|name| name.starts_with(typed) && needs_no_quoting(name));
    fit.take(MAX_CANDIDATES)
        .map(CompletionCandidate::new)
        .collect()
}

/// Whether no shell interprets the name: quoting would differ from shell to shell.
fn needs_no_quoting(name: &str) -> bool {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "-_.:@%+=,".contains(character);
    name.chars().all(plain)
}

/// Queries the hub of the context on the command line; empty on any error or timeout.
fn query_hub<F>(question: impl FnOnce(HubClient) -> F) -> Vec<String>
where
    F: Future<Output = Option<Vec<String>>>,
{
    let answer = || {
        let contexts = Contexts::read(&config::path().ok()?).ok()?;
        let words: Vec<OsString> = env::args_os().collect();
        let named = context_in(&words).or_else(|| env::var("DOORCTL_CONTEXT").ok());
        let (_, context) = contexts.select(named.as_deref()).ok()?;
        let options = client_options(context.ca.as_deref(), HUB_TIMEOUT);
        let hub = HubClient::new(context.connection().ok()?, &options).ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let query = async { tokio::time::timeout(HUB_TIMEOUT, question(hub)).await };
        let answer = runtime.block_on(query).ok().flatten();
        runtime.shutdown_background();
        answer
    };
    answer().unwrap_or_default()
}

/// The last `--context NAME` or `--context=NAME`.
fn context_in(words: &[OsString]) -> Option<String> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let apart = words.windows(2).filter(|pair| pair[0] == "--context");
    let joined = words
        .iter()
        .filter_map(|word| word.strip_prefix("--context="));
    let named = apart.map(|pair| pair[1]).chain(joined).last();
    named.filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_completer(words: &[&str], id: &str) -> bool {
        let mut command = command();
        for word in words {
            command = command.find_subcommand(word).unwrap().clone();
        }
        let arg = command.get_arguments().find(|arg| arg.get_id() == id);
        arg.unwrap().get::<ArgValueCompleter>().is_some()
    }

    #[test]
    fn doors_jobs_and_contexts_are_completed_in_every_verb() {
        for (words, id) in [
            (&["why"][..], "door"),
            (&["lock"], "doors"),
            (&["jobs", "lock"], "doors"),
            (&["jobs", "plan", "lock"], "doors"),
            (&["events"], "doors"),
            (&["devices", "show"], "door"),
            (&["twin", "set"], "door"),
            (&["invoke"], "door"),
            (&["alarms", "ack"], "alarm"),
            (&["jobs", "show"], "job"),
            (&["jobs", "watch"], "job"),
            (&["jobs", "retry"], "job"),
            (&["context", "use"], "name"),
            (&[], "context"),
        ] {
            assert!(has_completer(words, id), "{words:?} {id}");
        }
        assert!(!has_completer(&["devices", "add"], "names"));
    }

    #[test]
    fn the_last_context_on_the_line_is_used() {
        let context = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            context_in(&words)
        };
        assert_eq!(context("doorctl why "), None);
        assert_eq!(context("doorctl --context a why ").as_deref(), Some("a"));
        assert_eq!(
            context("doorctl --context a --context=b why ").as_deref(),
            Some("b")
        );
    }

    #[test]
    fn names_that_need_quoting_are_left_out() {
        assert!(needs_no_quoting("lobby-east_2") && needs_no_quoting(""));
        for name in ["a$b", "it's", "a b", "x;y", "(z)", "*", "ü"] {
            assert!(!needs_no_quoting(name), "{name}");
        }
    }
}
