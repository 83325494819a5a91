//! `doorctl doctor`: checks settings, connection, clock, rights, versions and doors.

use std::time::Instant;

use iothub_client::HubClient;
use iothub_protocol::health::Health;
use iothub_protocol::twin::{ConnectionState, Twin};
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::Value;

use super::agents::{self, OWN_VERSION};
use crate::acknowledgement::unapplied;
use crate::cli::Global;
use crate::config::{self, Contexts};
use crate::door::reported_door;
use crate::exit_status::ExitStatus;
use crate::failure::{next_step, sentence};
use crate::printer::{Cell, Printer, Row, Tone, doors, plain};
use crate::session::{Session, clock_difference};

/// A clock that is off by more is wrong.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

pub(super) async fn run(global: &Global, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut checks = Checks::default();
    if let Some(session) = checks.settings(global, printer) {
        checks.hub(&session).await;
    }
    printer.rows(&checks.0)?;
    let wrong = checks
        .0
        .iter()
        .filter(|check| check.result == Verdict::Wrong);
    Ok(match wrong.count() {
        0 => ExitStatus::Success,
        wrong => {
            printer.say(format!("{wrong} of {} checks failed", checks.0.len()));
            ExitStatus::Incomplete
        }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Ok,
    /// Worth knowing.
    Note,
    Wrong,
}

#[derive(Debug, Serialize)]
struct CheckRow {
    check: &'static str,
    result: Verdict,
    detail: String,
    /// What to do about it.
    next: String,
}

#[derive(Debug, Default)]
struct Checks(Vec<CheckRow>);

impl Checks {
    fn add(&mut self, check: &'static str, result: Verdict, detail: impl Into<String>, next: &str) {
        self.0.push(CheckRow {
            check,
            result,
            detail: detail.into(),
            next: next.to_owned(),
        });
    }

    /// Adds a failed check.
    fn failed(&mut self, check: &'static str, error: &anyhow::Error) {
        let next = next_step(error).unwrap_or_default();
        self.add(check, Verdict::Wrong, sentence(error), &next);
    }

    /// Checks what needs no hub; `None` when no hub can be asked.
    fn settings(&mut self, global: &Global, printer: &Printer) -> Option<Session> {
        let read = || -> anyhow::Result<(String, Contexts)> {
            let path = config::path()?;
            Ok((path.display().to_string(), Contexts::read(&path)?))
        };
        match read() {
            Ok((path, contexts)) => {
                let count = match contexts.by_name.len() {
                    1 => "1 context".to_owned(),
                    count => format!("{count} contexts"),
                };
                self.add("settings", Verdict::Ok, format!("{path}: {count}"), "");
            }
            Err(error) => {
                self.failed("settings", &error);
                return None;
            }
        }
        let session = match Session::open(global, printer) {
            Ok(session) => session,
            Err(error) => {
                self.failed("context", &error);
                return None;
            }
        };
        let hub = session.hub.host_name();
        let text = format!(
            "{}: {hub}, policy {}",
            session.context,
            session.hub.policy()
        );
        self.add("context", Verdict::Ok, text, "");
        match session.zone.iana_name() {
            _ if session.zone.is_unknown() => self.add(
                "time zone",
                Verdict::Note,
                "unknown: clock times such as --at 22:00 need a zone",
                "doorctl context add NAME --replace --connection-string-file FILE --zone \
                 Europe/Berlin",
            ),
            name => self.add("time zone", Verdict::Ok, name.unwrap_or("POSIX"), ""),
        }
        Some(session)
    }

    /// Checks the hub and what it knows of the doors.
    async fn hub(&mut self, session: &Session) {
        let hub = &session.hub;
        let begun = Instant::now();
        let is_door_hub = match hub.is_door_hub().await {
            Ok(is_door_hub) => is_door_hub,
            Err(error) => {
                self.failed("hub", &error.into());
                return;
            }
        };
        let answered = format!("answers after {} ms", begun.elapsed().as_millis());
        let health = match is_door_hub {
            true => hub.door_hub_health().await,
            false => None,
        };
        match &health {
            Some(health) => self.health(health, &answered),
            None => self.add("hub", Verdict::Ok, format!("not door-hub; {answered}"), ""),
        }
        let ahead = hub.clock_ahead();
        match ahead.abs() > CLOCK_TOLERANCE {
            true => self.add(
                "clock",
                Verdict::Note,
                format!("this machine's clock is {}", clock_difference(ahead)),
                "set this machine's clock; doorctl uses the hub's",
            ),
            false => self.add("clock", Verdict::Ok, "as the hub's", ""),
        }
        match hub.policy_rights().await {
            Ok(rights) if rights.missing.is_empty() => {
                self.add("rights", Verdict::Ok, rights.granted.join(" "), "");
            }
            Ok(rights) => self.add(
                "rights",
                Verdict::Note,
                format!(
                    "{}; without {}",
                    rights.granted.join(" "),
                    rights.missing.join(" ")
                ),
                "doorctl whoami",
            ),
            Err(error) => {
                self.failed("rights", &error.into());
                return;
            }
        }
        self.agents(hub).await;
        self.doors(hub).await;
    }

    fn health(&mut self, health: &Health, answered: &str) {
        let version = &health.version;
        match version.as_str() == OWN_VERSION {
            true => self.add(
                "hub",
                Verdict::Ok,
                format!("door-hub {version} {answered}"),
                "",
            ),
            false => self.add(
                "hub",
                Verdict::Note,
                format!("door-hub {version} {answered}; doorctl is {OWN_VERSION}"),
                "upgrade the older one",
            ),
        }
        match (&health.problem, &health.damage) {
            (Some(problem), _) => self.add(
                "readiness",
                Verdict::Wrong,
                format!("not ready: {problem}"),
                "on the server: journalctl -u door-hub -p warning",
            ),
            (None, Some(damage)) => self.add(
                "readiness",
                Verdict::Wrong,
                format!("ready, with damage: {damage}"),
                "on the server: door-hub check, then restore a backup",
            ),
            (None, None) => self.add("readiness", Verdict::Ok, "ready", ""),
        }
    }

    async fn agents(&mut self, hub: &HubClient) {
        let agents = match agents::agents(hub).await {
            Ok(agents) => agents,
            Err(error) => {
                self.failed("agents", &error.into());
                return;
            }
        };
        let is_other = |agents: &&agents::Agents| {
            // A door that was never online has none.
            !agents.version.is_empty() && agents.version != OWN_VERSION
        };
        let others: u64 = agents
            .iter()
            .filter(is_other)
            .map(|agents| agents.doors)
            .sum();
        match others {
            0 => self.add("agents", Verdict::Ok, format!("all at {OWN_VERSION}"), ""),
            others => self.add(
                "agents",
                Verdict::Note,
                format!("{} of another version than {}", doors(others), OWN_VERSION),
                "doorctl version",
            ),
        }
    }

    async fn doors(&mut self, hub: &HubClient) {
        let twins: Vec<Twin> = match hub.query("SELECT * FROM devices").await {
            Ok(twins) => twins,
            Err(error) => {
                self.failed("doors", &error.into());
                return;
            }
        };
        let count = |is: fn(&Twin) -> bool| twins.iter().filter(|twin| is(twin)).count() as u64;
        let all = doors(twins.len() as u64);
        let offline = count(|twin| twin.connection_state == ConnectionState::Disconnected);
        match offline {
            0 if twins.is_empty() => self.add("doors", Verdict::Ok, "none yet", ""),
            0 => self.add("doors", Verdict::Ok, format!("{all}, each connected"), ""),
            offline => self.add(
                "doors",
                Verdict::Note,
                format!("{offline} of {all} offline"),
                "doorctl devices list --where \"connectionState = 'Disconnected'\"",
            ),
        }
        let alarms = count(|twin| {
            let raised = reported_door(twin).and_then(|door| door.get("alarms")?.as_object());
            raised.is_some_and(|raised| !raised.is_empty())
        });
        match alarms {
            0 => self.add("alarms", Verdict::Ok, "none", ""),
            alarms => self.add("alarms", Verdict::Note, doors(alarms), "doorctl status"),
        }
        match count(|twin| !unapplied(twin).is_empty()) {
            0 => self.add("desired properties", Verdict::Ok, "applied", ""),
            pending => self.add(
                "desired properties",
                Verdict::Note,
                format!("refused or not applied yet at {}", doors(pending)),
                "doorctl status",
            ),
        }
    }
}

impl Row for CheckRow {
    fn titles() -> Vec<&'static str> {
        vec!["check", "result", "detail", "next"]
    }

    fn table_titles() -> Vec<&'static str> {
        vec!["check", "result", "detail"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        let (word, tone) = match self.result {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Note => ("note", Tone::Doubtful),
            Verdict::Wrong => ("WRONG", Tone::Bad),
        };
        match title {
            "result" => Cell::toned(word, tone),
            "detail" if !self.next.is_empty() => {
                Cell::from(&self.detail).shown_as(format!("{}; next: {}", self.detail, self.next))
            }
            _ => Cell::from(plain(member)),
        }
    }
}
