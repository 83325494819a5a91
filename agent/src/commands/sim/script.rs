//! `door-agent sim script`: carries a script out beside a running agent.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use door_agent::gpio::simulated::SimCommand;
use door_agent::script::{Condition, Look, Script, Statement, Step, keys};
use serde_json::Value;

/// How often the agent is looked at while something is expected.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Exit status when what was expected is not seen.
const UNMET: u8 = 2;

const GRAMMAR: &str = "\
A statement a line, one after the other; # begins a comment:
  ACTION                      what `sim` takes: open, rex for 2s, cut-sensor bond
  refused ACTION              the door must not let itself be treated like that
  wait TIME
  expect KEY=VALUE ...        all of it is seen now; KEY!=VALUE, KEY=ONE|OTHER
  expect ... within TIME      it is seen before so much time has passed
  expect ... for TIME         it stays like that for so long
  at TIME STATEMENT           not before so much time has passed since the start
Times are such as 250ms, 5s or 1m30s. The whole script is read before anything is done.
";

const EXAMPLE: &str = "\
Example, which shows that a door in use locks behind its visitor:
  rex                                       # somebody leaves
  expect lockState=unlocked within 3s
  open
  at 5s close
  expect secured=secured alarm=none within 10s

Each step is printed with the time at which it was done. The exit status is 2 when
something expected is not seen, with what was; 1 when the script is wrong or an action
is refused; else 0.";

/// What follows the options in `sim script --help`.
pub(crate) fn help() -> String {
    format!(
        "{GRAMMAR}\nKeys, with the words of `status --json`: {}.\n\n{EXAMPLE}",
        keys()
    )
}

/// Reads a script, and carries it out.
pub(crate) fn run(config: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let (name, text) = read(file)?;
    let script = Script::parse(&text).map_err(|error| anyhow!("{name}:{error}"))?;
    let mut stage = Stage {
        directories: super::super::state_directories(config)?,
        started: Instant::now(),
    };
    // Before anything is done: is there a simulated door to do it to?
    super::send(&stage.directories, SimCommand::Show)?;
    stage.started = Instant::now();
    for step in &script.steps {
        let shown = stage
            .carry_out(step)
            .with_context(|| format!("{name}:{}", step.line))?;
        match shown {
            Ok(shown) => super::super::print(format_args!(
                "{:>8.3} s  {:>3}  {}{shown}\n",
                stage.started.elapsed().as_secs_f64(),
                step.line,
                step.statement
            )),
            Err(Unmet { seen }) => {
                super::super::complain(format_args!(
                    "{name}:{}: {}, but seen: {seen}",
                    step.line, step.statement
                ));
                return Ok(ExitCode::from(UNMET));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The script's name for messages, and its text.
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

/// A running agent and the time since the script began.
struct Stage {
    directories: [PathBuf; 2],
    started: Instant,
}

/// What was seen in the place of what was expected.
struct Unmet {
    seen: String,
}

impl Stage {
    /// Gives what is to be shown after the statement.
    fn carry_out(&self, step: &Step) -> anyhow::Result<Result<String, Unmet>> {
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
                        seen: format!("it was done, {answer}"),
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
            // Before the look: a slow answer is no reason to miss what it shows.
            let passed = began.elapsed();
            let status = super::super::ask_running(&self.directories, super::super::status::ask)?;
            let unmet = seen_instead(conditions, &status.document);
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
                _ => sleep(LOOK_EVERY),
            }
        }
    }
}

/// What is seen of the conditions that do not hold; nothing when all do.
fn seen_instead(conditions: &[Condition], status: &Value) -> Option<String> {
    let seen: Vec<_> = conditions
        .iter()
        .filter(|condition| !condition.holds(status))
        .map(|condition| condition.seen(status))
        .collect();
    (!seen.is_empty()).then(|| seen.join(" "))
}
