//! Asking before many doors are touched: a person types their number, a script says `--yes`.

use std::io::{self, BufRead, IsTerminal as _};

use crate::cli::confirm::ConfirmArgs;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::talk;

/// Asks for the number of doors to be typed when it is more than `args` let through unasked. `what` follows "this will": `unlock`.
///
/// # Errors
///
/// With [`ExitStatus::Refused`] when another number is typed, or nobody is there to type one.
pub(crate) fn confirm(what: &str, doors: usize, args: ConfirmArgs) -> anyhow::Result<()> {
    let terminal = io::stdin().is_terminal();
    Ok(ask(what, doors, args, terminal, &mut io::stdin().lock())?)
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
        .next("type the number of doors when asked, or say --yes; --confirm-above DOORS moves the limit")
        .status(ExitStatus::Refused)
    };
    if !terminal {
        return Err(refused("and nobody is there to confirm it"));
    }
    talk(&format!(
        "This will {what} {doors} doors. Type their number to go on:"
    ));
    let mut typed = String::new();
    match input.read_line(&mut typed) {
        Ok(_) if typed.trim() == doors.to_string() => Ok(()),
        Ok(_) => Err(refused(&format!("and {:?} was typed", typed.trim()))),
        Err(error) => Err(refused(&format!("and no answer can be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
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
    fn few_doors_and_yes_need_no_answer() {
        assert_eq!(asked(20, ARGS, false, ""), None);
        let yes = ConfirmArgs { yes: true, ..ARGS };
        assert_eq!(asked(500, yes, false, ""), None);
    }

    #[test]
    fn the_number_has_to_be_typed() {
        assert_eq!(asked(21, ARGS, true, " 21\n"), None);
        for (typed, told) in [("20\n", "\"20\""), ("y\n", "\"y\""), ("", "\"\"")] {
            let refused = asked(21, ARGS, true, typed).unwrap();
            assert_eq!(
                refused,
                format!(
                    "this would unlock 21 doors, more than 20, and {told} was typed; nothing was changed"
                )
            );
        }
    }

    #[test]
    fn a_script_is_refused_rather_than_kept_waiting() {
        let refused = asked(21, ARGS, false, "21\n").unwrap();
        assert!(
            refused.contains("nobody is there to confirm it"),
            "{refused}"
        );
    }
}
