//! `doorctl events`: what happened, and what happens.

mod exec;
mod feed;
mod filter;
mod form;
mod screen;

use std::collections::VecDeque;

use doorctl::{EventNews, EventRequest, HubEvent};
use jiff::SignedDuration;
use jiff::Timestamp;

use crate::cli::record::{EVENTS_SHOWN, EventsArgs};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;
use crate::time::since::since;
use exec::Commands;
use feed::Feed;
use filter::Filter;
use screen::Screen;

/// How far is looked back when nothing is said.
const LOOKED_BACK: SignedDuration = SignedDuration::from_hours(24);

/// `events`.
pub(super) async fn run(args: &EventsArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    session
        .refuse_unless_door_hub(
            "tell what happens",
            "there, route events to an Event Hub; how the doors are now: doorctl status",
        )
        .await?;
    let since = match &args.since {
        Some(text) => Some(
            since(text, &session.now())
                .map_err(|error| Failure::new(format!("--since {text:?}: {error}")))?,
        ),
        None if args.follow || args.after.is_some() => None,
        None => Some(Timestamp::now().saturating_sub(LOOKED_BACK)?),
    };
    let filter = Filter::new(args, session).await?;
    let request = EventRequest {
        device: filter.only_door(),
        kinds: filter.kinds(),
        since,
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
            true => follow(&mut feed, &filter, limit, &mut screen, commands.as_mut()).await,
            false => {
                let limit = limit.unwrap_or(EVENTS_SHOWN);
                kept(&mut feed, &filter, limit, &mut screen, commands.as_mut()).await
            }
        }
    };
    let ended = tokio::select! {
        ended = shown => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(ended) = ended else {
        let seen = match commands {
            Some(commands) => commands.stop().or(args.after),
            None => feed.seen(),
        };
        tell_how_to_go_on(seen, session);
        return Ok(ExitStatus::Interrupted);
    };
    ended?;
    match commands.map(Commands::failed) {
        Some(failed) if failed > 0 => {
            session
                .printer
                .warn(format!("the command failed for {failed} events"));
            Ok(ExitStatus::Incomplete)
        }
        _ => Ok(ExitStatus::Success),
    }
}

/// Shows what is kept: the newest of it.
async fn kept(
    feed: &mut Feed<'_>,
    filter: &Filter,
    limit: usize,
    screen: &mut Screen,
    mut commands: Option<&mut Commands>,
) -> anyhow::Result<()> {
    let mut newest: VecDeque<HubEvent> = VecDeque::new();
    let mut left_out = false;
    while let Some(news) = feed.next().await? {
        match news {
            EventNews::Event(event) if filter.admits(&event) => {
                if newest.len() == limit {
                    newest.pop_front();
                    left_out = true;
                }
                newest.push_back(*event);
            }
            EventNews::Event(_) => {}
            EventNews::Lost { from, to } => screen.lost(from, to),
        }
    }
    let newest: Vec<HubEvent> = newest.into();
    screen.all(&newest, left_out)?;
    for event in &newest {
        if let Some(commands) = commands.as_mut() {
            commands.hand_over(event).await;
        }
    }
    if let Some(commands) = commands {
        commands.finish().await;
    }
    Ok(())
}

/// Shows what happens, until `limit` events were shown.
async fn follow(
    feed: &mut Feed<'_>,
    filter: &Filter,
    limit: Option<usize>,
    screen: &mut Screen,
    mut commands: Option<&mut Commands>,
) -> anyhow::Result<()> {
    let mut shown = 0;
    while limit.is_none_or(|limit| shown < limit) {
        match feed.next().await? {
            Some(EventNews::Event(event)) if filter.admits(&event) => {
                screen.show(&event)?;
                shown += 1;
                if let Some(commands) = commands.as_mut() {
                    commands.hand_over(&event).await;
                }
            }
            Some(EventNews::Event(_)) => {}
            Some(EventNews::Lost { from, to }) => screen.lost(from, to),
            None => break,
        }
    }
    if let Some(commands) = commands {
        commands.finish().await;
    }
    Ok(())
}

fn tell_how_to_go_on(seen: Option<i64>, session: &Session) {
    let how = match seen {
        Some(id) => format!("; to go on behind event {id}: doorctl events -f --after {id}"),
        None => String::new(),
    };
    session.printer.say(format!("not following any more{how}"));
}
