//! `doorctl demo`

use clap::Args;

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl demo
  doorctl demo --doors 1000
  doorctl demo --fault jam=door-0007      one door jams: the table shows it, the exit status is not 0
  doorctl demo --keep                     stay afterwards, with commands for a second terminal")]
pub(crate) struct DemoArgs {
    /// How many doors.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(16..=9_999), value_name = "N")]
    pub(crate) doors: u32,
    /// Give a door of floor 3 a fault: jam=DOOR; may be repeated.
    #[arg(long = "fault", value_name = "FAULT=DOOR", value_parser = fault)]
    pub(crate) faults: Vec<Fault>,
    /// Keep everything running until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Show what hub and agents log.
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// A fault of a simulated door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is wrong.
    pub(crate) kind: FaultKind,
    /// With which door.
    pub(crate) door: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The bolt does not move.
    Jam,
}

fn fault(text: &str) -> Result<Fault, String> {
    match text.split_once('=') {
        Some(("jam", door)) if !door.is_empty() => Ok(Fault {
            kind: FaultKind::Jam,
            door: door.to_owned(),
        }),
        _ => Err("expected jam=DOOR, such as jam=door-0007".to_owned()),
    }
}
