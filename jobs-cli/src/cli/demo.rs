//! `doorctl demo`

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorctl demo
  doorctl demo --doors 1000
  doorctl demo --fault jam=door-0007      one door jams: the table shows it, exit status not 0
  doorctl demo --keep                     keep it running, with commands for a second terminal
  doorctl demo --dashboard                watch it in the browser, and keep it running")]
pub(crate) struct DemoArgs {
    /// Number of doors.
    #[arg(
        long,
        default_value_t = 24,
        value_parser = clap::value_parser!(u32).range(16..=9_999),
        value_name = "N"
    )]
    pub(crate) doors: u32,
    /// Give a door of floor 3 a fault: jam=DOOR (repeatable).
    #[arg(long = "fault", value_name = "FAULT=DOOR", value_parser = fault)]
    pub(crate) faults: Vec<Fault>,
    /// Keep hub and doors running until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Open a web page of the doors in the browser at once, and keep all running until Ctrl-C.
    #[arg(long)]
    pub(crate) dashboard: bool,
    /// Show the logs of hub and agents.
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// A fault of a simulated door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) door: String,
}

/// Kind of a simulated fault.
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
