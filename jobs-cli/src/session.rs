//! What every command with a hub needs: the client, the time zone of its arguments, and the
//! printer.

use std::env;
use std::time::Duration;

use iothub_client::{ClientError, ClientOptions, HubClient, Traffic, Watcher};
use iothub_protocol::query;
use iothub_protocol::{DeviceId, ErrorCode, JobId};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

use crate::cli::Global;
use crate::config::{self, Contexts};
use crate::door::DoorName;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Printer, first_names, printable};
use crate::suggest;
use crate::time::since::{Bound, SinceError, past};
use crate::time::{TimeArg, TimeArgError, roughly};

/// Shorter waits are not reported.
const MIN_REPORTED_WAIT: Duration = Duration::from_secs(1);

/// Clock differences from this on are reported.
const MIN_REPORTED_CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_secs(5);

/// Most unknown doors that are named; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// A command's connection to its hub.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Name of the context.
    pub(crate) context: String,
    pub(crate) hub: HubClient,
    /// Time zone of time arguments.
    pub(crate) zone: TimeZone,
    pub(crate) printer: Printer,
    /// CA of the context, in PEM.
    pub(crate) ca: Option<String>,
    /// `--reason`.
    pub(crate) reason: Option<String>,
}

/// Options of all clients, with the CA of a context.
pub(crate) fn client_options(ca: Option<&str>, timeout: Duration) -> ClientOptions {
    ClientOptions {
        ca_pem: ca.map(|ca| ca.as_bytes().to_vec()),
        timeout,
        user_agent: concat!("doorctl/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ClientOptions::default()
    }
}

impl Session {
    /// Opens the context that is selected by flag, else the current one.
    pub(crate) fn open(global: &Global, printer: &Printer) -> anyhow::Result<Self> {
        let contexts = Contexts::read(&config::path()?)?;
        let (name, context) = contexts.select(global.context.as_deref())?;
        let zone = context.time_zone()?;
        let options = ClientOptions {
            watcher: Some(watcher(printer, zone.clone())),
            reason: global.reason.clone(),
            ..client_options(context.ca.as_deref(), global.timeout)
        };
        Ok(Self {
            context: name.to_owned(),
            hub: HubClient::new(context.connection()?, &options)?,
            zone,
            printer: printer.clone(),
            ca: context.ca.clone(),
            reason: global.reason.clone(),
        })
    }

    /// Refuses a command of door-hub before anything is sent to another hub. `what` continues "only
    /// door-hub can", for example `stop a running job`.
    ///
    /// # Errors
    ///
    /// With [`ExitStatus::Refused`] if the hub is not door-hub; or when there is no response.
    pub(crate) async fn refuse_unless_door_hub(
        &self,
        what: &str,
        next: impl Into<String>,
    ) -> anyhow::Result<()> {
        if self.hub.is_door_hub().await? {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} is not door-hub: only door-hub can {what}, Azure IoT Hub cannot",
            self.hub.host_name()
        ))
        .next(next)
        .status(ExitStatus::Refused)
        .into())
    }

    /// The names of all doors.
    pub(crate) async fn door_names(&self) -> Result<Vec<String>, ClientError> {
        let doors: Vec<DoorName> = self.hub.query("SELECT deviceId FROM devices").await?;
        let names = doors.into_iter().map(|door| door.device_id.to_string());
        Ok(names.collect())
    }

    /// The answer of a request about a door; an unknown door is explained.
    pub(crate) async fn of_door<T>(
        &self,
        door: &DeviceId,
        answer: Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(explain_door(self, door, error).await),
        }
    }

    /// Warns of a keyword without brackets in a query: door-hub accepts it, Azure IoT Hub does not.
    pub(crate) async fn warn_of_keyword(&self, text: &str) -> Result<(), ClientError> {
        if let Some(word) = query::bare_keyword(text) {
            if !self.hub.is_door_hub().await? {
                self.printer.warn(format!(
                    "{word} is a keyword: Azure IoT Hub accepts it as a name only in double \
                     brackets, as in tags.[[{word}]]"
                ));
            }
        }
        Ok(())
    }

    /// Warns of what door-hub accepts in a job and Azure IoT Hub does not.
    pub(crate) async fn warn_of_job(
        &self,
        id: &JobId,
        start: &ZonedDateTime,
    ) -> Result<(), ClientError> {
        let ahead = start.timestamp().duration_since(self.hub.now());
        let warnings = [
            (
                id.as_str()
                    .contains(|letter: char| letter.is_ascii_uppercase()),
                "Azure IoT Hub accepts no capitals in a job's id",
            ),
            (
                ahead > SignedDuration::from_hours(168),
                "Azure IoT Hub accepts a start within 168 hours only",
            ),
        ];
        let warnings = warnings.into_iter().filter(|(applies, _)| *applies);
        for (_, warning) in warnings {
            if !self.hub.is_door_hub().await? {
                self.printer.warn(warning);
            }
        }
        Ok(())
    }

    /// The time of the hub's clock in the zone of the session.
    pub(crate) async fn now(&self) -> Result<ZonedDateTime, ClientError> {
        self.hub.ask_time().await?;
        Ok(self.hub.now().to_zoned_datetime(self.zone.clone()))
    }

    /// Parses a time argument such as `--at`; now is the hub's time.
    pub(crate) async fn at(&self, flag: &str, text: &str) -> anyhow::Result<TimeArg> {
        let failure = |error: TimeArgError| {
            let failure = Failure::new(format!("{flag} {text:?}: {error}"));
            match error {
                TimeArgError::NoZone => self.unknown_zone(failure),
                _ => failure,
            }
        };
        // A malformed time needs no request. A time that is past by the local clock may not be past
        // by the hub's.
        match TimeArg::parse(text, &self.hub.now().to_zoned_datetime(self.zone.clone())) {
            Ok(_) | Err(TimeArgError::Past(..)) => {}
            Err(error) => return Err(failure(error).into()),
        }
        let now = self.now().await?;
        Ok(TimeArg::parse(text, &now).map_err(failure)?)
    }

    /// Prints a time argument after this word, and what may surprise about it.
    pub(crate) fn echo(&self, word: &str, at: &TimeArg) {
        self.printer
            .say(format!("{word} {}", at.echo(self.hub.now())));
        if let Some(note) = &at.note {
            self.printer.say(format!("note: {note}"));
        }
    }

    /// Parses `--since`.
    pub(crate) async fn since(&self, text: &str) -> anyhow::Result<Timestamp> {
        self.past("--since", text, Bound::Since).await
    }

    /// Parses a past time; `flag` names its source in errors.
    pub(crate) async fn past(
        &self,
        flag: &str,
        text: &str,
        bound: Bound,
    ) -> anyhow::Result<Timestamp> {
        let now = self.now().await?;
        Ok(past(text, bound, &now).map_err(|error| {
            let failure = Failure::new(format!("{flag} {text:?}: {error}"));
            match error {
                SinceError::NoZone => self.unknown_zone(failure),
                _ => failure,
            }
        })?)
    }

    /// Adds what to do if this machine's time zone is unknown.
    fn unknown_zone(&self, failure: Failure) -> Failure {
        let failure = match env::var_os("TZ") {
            Some(zone) => failure.and(&format!("TZ is {zone:?}")),
            None => failure,
        };
        failure.next(
            "give the context the doors' zone: doorctl context add NAME --replace \
             --connection-string-file FILE --zone Europe/Berlin",
        )
    }
}

/// Reports noticeable waits, and all traffic when verbose.
fn watcher(printer: &Printer, zone: TimeZone) -> Watcher {
    let printer = printer.clone();
    Watcher::new(move |traffic| match traffic {
        Traffic::Waiting { error, wait } if *wait >= MIN_REPORTED_WAIT || printer.is_verbose() => {
            printer.say(format!(
                "{error}; trying again in {} s",
                wait.as_secs_f64().round().max(1.0)
            ));
        }
        Traffic::Sent { method, url, body } if printer.is_verbose() => {
            let body = body.as_ref().map(ToString::to_string).unwrap_or_default();
            printer.say(format!("> {method} {url} {body}").trim_end());
        }
        Traffic::Answered {
            status,
            after,
            body,
        } if printer.is_verbose() => {
            printer.say(format!("< {status} after {} ms {body}", after.as_millis()).trim_end());
        }
        Traffic::Skipped { what, error } => {
            let error = printable(&error.to_string());
            printer.warn(format!("the hub lists {what} that is left out: {error}"));
        }
        Traffic::Clock { local, hub } => {
            let ahead = local.duration_since(*hub);
            if ahead.abs() >= MIN_REPORTED_CLOCK_DIFFERENCE {
                printer.warn(clock_warning(ahead, *local, *hub, &zone));
            }
        }
        _ => {}
    })
}

/// `this machine's clock is 20 min ahead of the hub's: 22:20:00 here, 22:00:00 there; ...`.
fn clock_warning(
    ahead: SignedDuration,
    local: Timestamp,
    hub: Timestamp,
    zone: &TimeZone,
) -> String {
    let on_clock = |at: Timestamp| {
        at.to_zoned_datetime(zone.clone())
            .strftime("%F %T %Z")
            .to_string()
    };
    format!(
        "this machine's clock is {}: {} here, {} there; doorctl uses the hub's clock",
        clock_difference(ahead),
        on_clock(local),
        on_clock(hub)
    )
}

/// `20 min ahead of the hub's`.
pub(crate) fn clock_difference(ahead: SignedDuration) -> String {
    let word = match ahead.is_negative() {
        true => "behind",
        false => "ahead of",
    };
    format!("{} {word} the hub's", roughly(ahead.abs()))
}

/// Parses a door's name from the command line.
pub(crate) fn door(text: &str) -> anyhow::Result<DeviceId> {
    Ok(text
        .parse()
        .map_err(|error| Failure::new(format!("DOOR {text:?}: {error}")))?)
}

/// Explains an unknown door, with the closest name that exists.
pub(crate) async fn explain_door(
    session: &Session,
    name: &DeviceId,
    error: ClientError,
) -> anyhow::Error {
    if error.code() != Some(ErrorCode::DeviceNotFound) {
        return error.into();
    }
    let known = session.door_names().await.unwrap_or_default();
    unknown_door(name.as_str(), &known).into()
}

/// The error of unknown doors, at least one.
pub(crate) fn unknown_doors(names: &[String], known: &[String]) -> Failure {
    match names {
        [name] => unknown_door(name, known),
        names => Failure::new(format!(
            "the hub has no doors {}",
            first_names(names, MAX_NAMES_SHOWN)
        ))
        .next("doorctl devices list"),
    }
}

/// The error of an unknown door.
pub(crate) fn unknown_door(name: &str, known: &[String]) -> Failure {
    let hint = suggest::hint(name, known.iter().map(String::as_str));
    Failure::new(format!("the hub has no door `{name}`{hint}")).next("doorctl devices list")
}
