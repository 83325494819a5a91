//! Confirmation before many doors are changed: a user types their number, a script passes `--yes`.

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal as _};

use jiff::SignedDuration;

use crate::cli::confirm::ConfirmArgs;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::print_message;
use crate::session::{Session, clock_difference};
use crate::time::{TimeArg, TimeForm};

/// From this difference between the clocks on, a time that was read off this machine's clock may be
/// wrong.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Asks for the number of doors to be typed when it is above the limit in `args`. `what` follows
/// "this will": `unlock`.
///
/// # Errors
///
/// With [`ExitStatus::Refused`] when something else is typed, or there is no terminal.
pub(crate) fn confirm(what: &str, doors: usize, args: ConfirmArgs) -> anyhow::Result<()> {
    let terminal = io::stdin().is_terminal();
    Ok(ask(what, doors, args, terminal, &mut io::stdin().lock())?)
}

/// Asks before an irreversible action, however few doors or policies it affects: for the name of
/// the only one, or for their number.
///
/// # Errors
///
/// With [`ExitStatus::Refused`] when something else is typed, or there is no terminal.
pub(crate) fn confirm_irreversible(
    what: &str,
    doors: &[impl Display],
    yes: bool,
) -> anyhow::Result<()> {
    let terminal = io::stdin().is_terminal();
    let input = &mut io::stdin().lock();
    Ok(ask_irreversible(what, doors, yes, terminal, input)?)
}

/// Asks whether an instant is the intended one when this machine's clock is so far off that it may
/// not be.
///
/// # Errors
///
/// With [`ExitStatus::Refused`] when something else than `yes` is typed, or there is no terminal.
pub(crate) fn confirm_instant(
    flag: &str,
    at: &TimeArg,
    yes: bool,
    session: &Session,
) -> anyhow::Result<()> {
    let ahead = session.hub.clock_ahead();
    if yes || at.given != TimeForm::Instant || ahead.abs() < CLOCK_TOLERANCE {
        return Ok(());
    }
    let (off, when) = (clock_difference(ahead), at.echo(session.hub.now()));
    let question = format!(
        "This machine's clock is {off}; {flag} is {when} by the hub's. Type yes to continue:"
    );
    let terminal = io::stdin().is_terminal();
    read_expected(&question, "yes", terminal, &mut io::stdin().lock()).map_err(|why| {
        Failure::new(format!(
            "this machine's clock is {off}, and {flag} is an instant ({when} by the hub's clock), \
             {why}; nothing was changed"
        ))
        .next("set this machine's clock, or pass --yes if that instant is right")
        .status(ExitStatus::Refused)
        .into()
    })
}

fn ask(
    what: &str,
    doors: usize,
    args: ConfirmArgs,
    terminal: bool,
    input: &mut impl BufRead,
) -> Result<(), Failure> {
    if args.yes || doors <= args.confirm_above {
        return Ok(());
    }
    let refused = |why: &str| {
        Failure::new(format!(
            "this would {what} {doors} doors, more than {}, {why}; nothing was changed",
            args.confirm_above
        ))
        .next(
            "type the number of doors when asked, or pass --yes; --confirm-above DOORS moves \
             the limit",
        )
        .status(ExitStatus::Refused)
    };
    let question = format!("This will {what} {doors} doors. Type their number to continue:");
    read_expected(&question, &doors.to_string(), terminal, input).map_err(|why| refused(&why))
}

fn ask_irreversible(
    what: &str,
    doors: &[impl Display],
    yes: bool,
    terminal: bool,
    input: &mut impl BufRead,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let (which, expected, kind) = match doors {
        [door] => (door.to_string(), door.to_string(), "name"),
        doors => (
            format!("{} doors", doors.len()),
            doors.len().to_string(),
            "number",
        ),
    };
    let whose = if doors.len() == 1 { "its" } else { "their" };
    let question = format!("This will {what} {which} for good. Type {whose} {kind} to continue:");
    read_expected(&question, &expected, terminal, input).map_err(|why| {
        Failure::new(format!(
            "this would {what} {which} for good, {why}; nothing was changed"
        ))
        .next(format!("type {whose} {kind} when asked, or pass --yes"))
        .status(ExitStatus::Refused)
    })
}

/// Asks the question and compares the typed answer; the error says why there is no confirmation.
fn read_expected(
    question: &str,
    expected: &str,
    terminal: bool,
    input: &mut impl BufRead,
) -> Result<(), String> {
    if !terminal {
        return Err("and there is no terminal to confirm it".to_owned());
    }
    print_message(question);
    let mut typed = String::new();
    match input.read_line(&mut typed) {
        Ok(_) if typed.trim() == expected => Ok(()),
        Ok(_) => Err(format!("and {:?} was typed", typed.trim())),
        Err(error) => Err(format!("and no answer can be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use iothub_protocol::DeviceId;

    use super::*;

    const ARGS: ConfirmArgs = ConfirmArgs {
        yes: false,
        confirm_above: 20,
    };

    fn asked(doors: usize, args: ConfirmArgs, terminal: bool, typed: &str) -> Option<String> {
        let asked = ask("unlock", doors, args, terminal, &mut typed.as_bytes());
        asked.err().map(|failure| failure.to_string())
    }

    #[test]
    fn few_doors_or_yes_skip_the_question() {
        assert_eq!(asked(20, ARGS, false, ""), None);
        let yes = ConfirmArgs { yes: true, ..ARGS };
        assert_eq!(asked(500, yes, false, ""), None);
    }

    #[test]
    fn only_the_exact_number_confirms() {
        assert_eq!(asked(21, ARGS, true, " 21\n"), None);
        for (typed, part) in [("20\n", "\"20\""), ("y\n", "\"y\""), ("", "\"\"")] {
            let refused = asked(21, ARGS, true, typed).unwrap();
            assert_eq!(
                refused,
                format!(
                    "this would unlock 21 doors, more than 20, and {part} was typed; nothing was \
                     changed"
                )
            );
        }
    }

    #[test]
    fn an_irreversible_action_needs_the_name_or_the_number() {
        let asked = |doors: &[&str], yes: bool, terminal: bool, typed: &str| {
            let doors: Vec<DeviceId> = doors.iter().map(|door| door.parse().unwrap()).collect();
            let asked = ask_irreversible("remove", &doors, yes, terminal, &mut typed.as_bytes());
            asked.err().map(|failure| failure.to_string())
        };
        assert_eq!(asked(&["east"], true, false, ""), None);
        assert_eq!(asked(&["east"], false, true, "east\n"), None);
        assert_eq!(asked(&["east", "west"], false, true, "2\n"), None);
        for (doors, terminal, typed, part) in [
            (
                &["east"][..],
                true,
                "1\n",
                "remove east for good, and \"1\" was typed",
            ),
            (
                &["east"],
                false,
                "east\n",
                "remove east for good, and there is no terminal",
            ),
            (
                &["a", "b"],
                true,
                "",
                "remove 2 doors for good, and \"\" was typed",
            ),
        ] {
            let refused = asked(doors, false, terminal, typed).unwrap();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn without_a_terminal_the_action_is_refused_at_once() {
        let refused = asked(21, ARGS, false, "21\n").unwrap();
        assert!(
            refused.contains("there is no terminal to confirm it"),
            "{refused}"
        );
    }
}
