//! `doorctl lock`, `unlock`, `relinquish`, `mode`: prepares the calls.

use std::time::Duration;

use anyhow::Context as _;
use door_core::Slot;
use door_core::contract::{Command, LockDoor, Mode, Pulse, Relinquish, SetMode, UnlockDoor};
use jiff::{SignedDuration, Timestamp};

use super::send::{DoorCall, SelectedDoors};
use crate::cli::doors::{
    EndArgs, LockNowArgs, ModeArgs, ModeName, PulseKind, RelinquishArgs, UnlockNowArgs,
};
use crate::commands::confirm::{confirm, confirm_instant};
use crate::commands::schedule::end_by_week;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;
use crate::time::{self, TimeForm};

pub(super) async fn lock(args: &LockNowArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let end = end_by_week(&args.end, &args.target, None, session).await?;
    let end = CommandEnd::parse(&end, args.confirm.yes, session).await?;
    let selected = SelectedDoors::find(&args.target, session).await?;
    confirm("lock", selected.count(), args.confirm)?;
    let call = DoorCall::new("lock", selected, &args.now, session).await?;
    let command = Command::Lock(LockDoor {
        lock_time: end.map(|end| end.length),
        until: end.and_then(|end| end.until),
        header: call.header()?,
    });
    call.send(&command).await
}

pub(super) async fn unlock(args: &UnlockNowArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let end = end_by_week(&args.end, &args.target, None, session).await?;
    let end = CommandEnd::parse(&end, args.confirm.yes, session).await?;
    let selected = SelectedDoors::find(&args.target, session).await?;
    confirm("unlock", selected.count(), args.confirm)?;
    let call = DoorCall::new("unlock", selected, &args.now, session).await?;
    let command = Command::Unlock(UnlockDoor {
        unlock_time: end.map(|end| end.length),
        until: end.and_then(|end| end.until),
        pulse: args.pulse.map(|kind| match kind {
            PulseKind::Strike => Pulse::Strike,
            PulseKind::Extended => Pulse::Extended,
        }),
        header: call.header()?,
    });
    call.send(&command).await
}

pub(super) async fn relinquish(
    args: &RelinquishArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let number = args
        .slot
        .as_deref()
        .map(str::parse::<u8>)
        .transpose()
        .context("--slot")?;
    let slot = number
        .map(Slot::try_from)
        .transpose()
        .map_err(|error| Failure::new(format!("--slot: {error}")))?;
    let selected = SelectedDoors::find(&args.target, session).await?;
    confirm("relinquish", selected.count(), args.confirm)?;
    let call = DoorCall::new("relinquish", selected, &args.now, session).await?;
    let header = call.header()?;
    call.send(&Command::Relinquish(Relinquish { slot, header }))
        .await
}

/// `mode`. Like `lockdown`, mode lockdown asks for no confirmation.
pub(super) async fn mode(args: &ModeArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let mode = match args.mode {
        ModeName::Normal => Mode::Normal,
        ModeName::Passage => Mode::Passage,
        ModeName::Secure => Mode::Secure,
        ModeName::Lockdown => Mode::Lockdown,
        ModeName::Maintenance => Mode::Maintenance,
    };
    let selected = SelectedDoors::find(&args.target, session).await?;
    if mode != Mode::Lockdown {
        confirm(
            &format!("set mode {mode} at"),
            selected.count(),
            args.confirm,
        )?;
    }
    let call = DoorCall::new(mode.as_str(), selected, &args.now, session).await?;
    let header = call.header()?;
    call.send(&Command::SetMode(SetMode { mode, header })).await
}

/// The end of the requested state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CommandEnd {
    /// Counted from when each door acts; sent with an instant too, for doors without a clock.
    length: Duration,
    /// Set when the end was given as a time.
    until: Option<Timestamp>,
}

impl CommandEnd {
    /// Parses and echoes `--for` or `--until`; `None` without either.
    async fn parse(args: &EndArgs, yes: bool, session: &Session) -> anyhow::Result<Option<Self>> {
        let Some(text) = &args.until else {
            return Ok(args.length.map(|length| {
                let for_text = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
                let for_text = time::roughly(for_text);
                session
                    .printer
                    .say(format!("for {for_text} from when each door acts"));
                Self {
                    length,
                    until: None,
                }
            }));
        };
        let at = session.at("--until", text).await?;
        if at.given == TimeForm::Now {
            return Err(Failure::new(format!(
                "--until {text:?}: the end is now; expected a future time"
            ))
            .next("to end an earlier command: doorctl relinquish")
            .into());
        }
        let now = session.hub.now();
        let length = at.when.timestamp().duration_since(now);
        let end = Self {
            // The contract has whole seconds, at least one.
            length: Duration::from_secs(length.as_secs().max(1).unsigned_abs()),
            until: Some(at.when.timestamp().round(jiff::Unit::Second)?),
        };
        if end.length > door_core::contract::duration::MAX {
            return Err(Failure::new(format!(
                "--until: {} is {} ahead; expected at most 7 days",
                time::describe(&at.when),
                time::roughly(length)
            ))
            .next("without --until it stays until doorctl relinquish")
            .into());
        }
        session.echo("until", &at);
        confirm_instant("--until", &at, yes, session)?;
        Ok(Some(end))
    }
}
