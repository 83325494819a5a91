//! `doorctl events`: recorded events, and new ones with `--follow`.

mod describe;
mod exec;
mod feed;
mod filter;
pub(super) mod logs;
mod screen;

use std::collections::VecDeque;

use iothub_client::{EventStreamItem, HubEvent};
use iothub_protocol::event::{EventFilter, EventRequest};
use jiff::{SignedDuration, Timestamp};

use crate::cli::record::{DEFAULT_EVENT_LIMIT, EventsArgs};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, is_broken_pipe};
use crate::session::Session;
use crate::time::describe as describe_time;
use crate::time::since::Bound;
use exec::Commands;
use feed::Feed;
use filter::Filter;
use screen::Screen;

/// Default of `--since`.
const DEFAULT_SINCE: SignedDuration = SignedDuration::from_hours(24);

pub(super) async fn run(args: &EventsArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    session
        .refuse_unless_door_hub(
            "record events",
            "there, route events to an Event Hub; how the doors are now: doorctl status",
        )
        .await?;
    let until = match &args.until {
        Some(text) => Some(session.past("--until", text, Bound::Until).await?),
        None => None,
    };
    let since = match &args.since {
        Some(text) => Some(session.since(text).await?),
        None if args.follow || args.after.is_some() => None,
        None => {
            let end = until.unwrap_or_else(|| session.hub.now());
            Some(end.saturating_sub(DEFAULT_SINCE)?)
        }
    };
    refuse_empty_period(args, since, until, session)?;
    let filter = Filter::new(args, until, session).await?;
    let request = EventRequest {
        filter: EventFilter {
            device: filter.only_door(),
            kinds: filter.kinds(),
            since,
        },
        after: args.after,
        follow: args.follow,
    };
    let mut feed = Feed::new(request, session);
    let mut screen = Screen::new(session);
    let mut commands = args
        .exec
        .as_ref()
        .map(|command| Commands::new(command, args.exec_timeout, &session.printer));
    let limit = args.limit.map(|limit| limit as usize);
    let shown = async {
        match args.follow {
            true => show_new(&mut feed, &filter, limit, &mut screen, commands.as_mut()).await,
            false => {
                let limit = limit.unwrap_or(DEFAULT_EVENT_LIMIT);
                show_recorded(&mut feed, &filter, limit, &mut screen, commands.as_mut()).await
            }
        }
    };
    let ended = tokio::select! {
        ended = shown => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Some(Ok(())) = ended {
        return Ok(match commands.map(Commands::failed) {
            Some(failed) if failed > 0 => {
                session
                    .printer
                    .warn(format!("the command failed for {failed} events"));
                ExitStatus::Incomplete
            }
            _ => ExitStatus::Success,
        });
    }
    let done = commands.and_then(Commands::stop);
    let hint = resume_hint(args.follow, done, feed.seen());
    match ended {
        Some(Err(error)) => {
            // Before the first event the error alone is enough; after a broken pipe nobody reads
            // the hint.
            let begun = done.or(feed.seen()).is_some() && !is_broken_pipe(&error);
            if let Some(hint) = hint.filter(|_| begun) {
                session.printer.say(hint);
            }
            Err(error)
        }
        _ => {
            if let Some(hint) = hint {
                session.printer.say(hint);
            }
            Ok(ExitStatus::Interrupted)
        }
    }
}

fn refuse_empty_period(
    args: &EventsArgs,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    session: &Session,
) -> Result<(), Failure> {
    match (since, until) {
        (Some(since), Some(until)) if since >= until => {
            // A day means its start or its end: the message shows both the text and the time.
            let given = |text: &Option<String>, time: Timestamp| {
                let time = describe_time(&time.to_zoned_datetime(session.zone.clone()));
                let text = text.as_deref().unwrap_or_default();
                format!("{text:?} ({time})")
            };
            let (since, until) = (given(&args.since, since), given(&args.until, until));
            Err(Failure::new(format!(
                "--until {until} is not after --since {since}; expected a later end"
            )))
        }
        _ => Ok(()),
    }
}

/// Shows recorded events: the newest `limit` of them.
async fn show_recorded(
    feed: &mut Feed<'_>,
    filter: &Filter,
    limit: usize,
    screen: &mut Screen,
    mut commands: Option<&mut Commands>,
) -> anyhow::Result<()> {
    let (newest, left_out) = newest(feed, |event| filter.admits(event), limit, screen).await?;
    screen.show_all(&newest, left_out)?;
    for event in &newest {
        if let Some(commands) = commands.as_mut() {
            commands.queue(event).await;
        }
    }
    if let Some(commands) = commands {
        commands.finish().await;
    }
    Ok(())
}

/// Reads recorded events: the newest `limit` that `admits` takes, and whether there were more.
async fn newest(
    feed: &mut Feed<'_>,
    admits: impl Fn(&HubEvent) -> bool,
    limit: usize,
    screen: &Screen,
) -> anyhow::Result<(Vec<HubEvent>, bool)> {
    let mut newest: VecDeque<HubEvent> = VecDeque::new();
    let mut left_out = false;
    loop {
        match feed.next().await? {
            EventStreamItem::Event(event) if admits(&event) => {
                if newest.len() == limit {
                    newest.pop_front();
                    left_out = true;
                }
                newest.push_back(*event);
            }
            EventStreamItem::Event(_) => {}
            EventStreamItem::Lost { from, to } => screen.warn_of_lost(from, to),
            EventStreamItem::End => return Ok((newest.into(), left_out)),
        }
    }
}

/// Shows events as they happen, until `limit` were shown.
async fn show_new(
    feed: &mut Feed<'_>,
    filter: &Filter,
    limit: Option<usize>,
    screen: &mut Screen,
    mut commands: Option<&mut Commands>,
) -> anyhow::Result<()> {
    let mut shown = 0;
    while limit.is_none_or(|limit| shown < limit) {
        match feed.next().await? {
            EventStreamItem::Event(event) if filter.admits(&event) => {
                screen.show(&event)?;
                shown += 1;
                if let Some(commands) = commands.as_mut() {
                    commands.queue(&event).await;
                }
            }
            EventStreamItem::Event(_) => {}
            EventStreamItem::Lost { from, to } => screen.warn_of_lost(from, to),
            EventStreamItem::End => break,
        }
    }
    if let Some(commands) = commands {
        commands.finish().await;
    }
    Ok(())
}

/// How to continue after an early end: after the last event whose command is `done`, else after the
/// last that was `seen`. Recorded events are shown all at once, so that without commands there is
/// nothing to continue.
fn resume_hint(follow: bool, done: Option<i64>, seen: Option<i64>) -> Option<String> {
    match (follow, done) {
        (true, _) => Some(match done.or(seen) {
            Some(id) => format!(
                "stopped following; to continue after event {id}: doorctl events -f --after {id}"
            ),
            None => "stopped following".to_owned(),
        }),
        (false, Some(id)) => Some(format!(
            "not all commands were run; to continue after event {id}: doorctl events --after {id}"
        )),
        (false, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_event_to_continue_after() {
        let resume_id = |follow, done, seen| {
            let hint = resume_hint(follow, done, seen)?;
            let (_, id) = hint.split_once("--after ")?;
            Some(id.to_owned())
        };
        for (follow, done, seen, expected) in [
            (true, None, Some(9), Some("9")),
            (true, Some(4), Some(9), Some("4")),
            (true, None, None, None),
            (false, Some(0), Some(9), Some("0")),
            // Nothing was shown: what was read does not count.
            (false, None, Some(9), None),
        ] {
            assert_eq!(
                resume_id(follow, done, seen).as_deref(),
                expected,
                "{follow} {done:?} {seen:?}"
            );
        }
    }
}
