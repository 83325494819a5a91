//! `door-agent sim script`: runs a script against a running agent.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use door_agent::gpio::simulated::SimCommand;
use door_agent::script::{Condition, Look, Script, Statement, Step, keys};
use serde_json::Value;

/// Poll interval while something is expected.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Exit status when an expectation is not met.
const UNMET: u8 = 2;

const GRAMMAR: &str = "\
One statement per line, executed in order; # begins a comment:
  ACTION                      what `sim` takes: open, rex for 2s, cut-sensor bond
  refused ACTION              the door must refuse the action
  wait TIME
  expect KEY=VALUE ...        all hold now; also KEY!=VALUE, KEY=ONE|OTHER
  expect ... within TIME      all hold at some point within this time
  expect ... for TIME         all hold throughout this time
  at TIME STATEMENT           not before this time after the start
Times are such as 250ms, 5s or 1m30s. The whole script is parsed before it starts.
";

const EXAMPLE: &str = "\
Example: a door in use locks after its visitor:
  rex                                       # a person leaves
  expect lockState=unlocked within 3s
  open
  at 5s close
  expect secured=secured alarm=none within 10s

Each step is printed with its time. The exit status is 2 if an expectation is not met
(what was seen is printed), 1 if the script is invalid or an action is refused, else 0.";

/// The text after the options in `sim script --help`.
pub(crate) fn help() -> String {
    format!(
        "{GRAMMAR}\nKeys, with the words of `status --json`: {}.\n\n{EXAMPLE}",
        keys()
    )
}

/// Parses a script and runs it.
pub(crate) fn run(config: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let (name, text) = read(file)?;
    let script = Script::parse(&text).map_err(|error| anyhow!("{name}:{error}"))?;
    let mut stage = ScriptRun {
        directories: super::super::state_directories(config)?,
        started: Instant::now(),
    };
    // Fail before the first step if there is no simulated door.
    super::send(&stage.directories, SimCommand::Show)?;
    stage.started = Instant::now();
    for step in &script.steps {
        let shown = stage
            .execute(step)
            .with_context(|| format!("{name}:{}", step.line))?;
        match shown {
            Ok(shown) => super::super::print(format_args!(
                "{:>8.3} s  {:>3}  {}{shown}\n",
                stage.started.elapsed().as_secs_f64(),
                step.line,
                step.statement
            )),
            Err(Unmet { seen }) => {
                super::super::print_error(format_args!(
                    "{name}:{}: {}, but seen: {seen}",
                    step.line, step.statement
                ));
                return Ok(ExitCode::from(UNMET));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Name (for messages) and text of the script.
fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let name = file.display().to_string();
    if name == "-" {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(("standard input".to_owned(), text));
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Ok((name, text))
}

/// The running agent and the start time of the script.
struct ScriptRun {
    directories: [PathBuf; 2],
    started: Instant,
}

/// An expectation that was not met.
struct Unmet {
    seen: String,
}

impl ScriptRun {
    /// Returns the text to print after the statement.
    fn execute(&self, step: &Step) -> anyhow::Result<Result<String, Unmet>> {
        if let Some(at) = step.at {
            sleep(at.saturating_sub(self.started.elapsed()));
        }
        match &step.statement {
            Statement::Act(command) => {
                let answer = super::send(&self.directories, *command)?;
                match super::refusal(&answer) {
                    Some(refusal) => bail!("{command}: {refusal}"),
                    None => Ok(Ok(String::new())),
                }
            }
            Statement::Refused(command) => {
                let answer = super::send(&self.directories, *command)?;
                Ok(match super::refusal(&answer) {
                    Some(refusal) => Ok(format!(": {refusal}")),
                    None => Err(Unmet {
                        seen: format!("the action was accepted, {answer}"),
                    }),
                })
            }
            Statement::Wait(time) => {
                sleep(*time);
                Ok(Ok(String::new()))
            }
            Statement::Expect(conditions, look) => self.look(conditions, *look),
        }
    }

    fn look(&self, conditions: &[Condition], look: Look) -> anyhow::Result<Result<String, Unmet>> {
        let began = Instant::now();
        let after = || format!("after {:.3} s", began.elapsed().as_secs_f64());
        loop {
            // Taken before the query: a slow answer must not hide what it shows.
            let passed = began.elapsed();
            let status = super::super::query_running(&self.directories, super::super::status::ask)?;
            let unmet = unmet_values(conditions, &status.document);
            match (unmet, look) {
                (None, Look::Now) => return Ok(Ok(String::new())),
                (None, Look::Within(_)) => return Ok(Ok(format!(": {}", after()))),
                (None, Look::For(time)) if passed >= time => return Ok(Ok(String::new())),
                (Some(seen), Look::Now) => return Ok(Err(Unmet { seen })),
                (Some(seen), Look::For(_)) => {
                    return Ok(Err(Unmet {
                        seen: format!("{seen} {}", after()),
                    }));
                }
                (Some(seen), Look::Within(time)) if passed >= time => {
                    return Ok(Err(Unmet { seen }));
                }
                _ => sleep(POLL_INTERVAL),
            }
        }
    }
}

/// The observed values of the conditions that do not hold; `None` if all hold.
fn unmet_values(conditions: &[Condition], status: &Value) -> Option<String> {
    let seen: Vec<_> = conditions
        .iter()
        .filter(|condition| !condition.holds(status))
        .map(|condition| condition.seen(status))
        .collect();
    (!seen.is_empty()).then(|| seen.join(" "))
}
