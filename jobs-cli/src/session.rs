//! What every command that speaks to a hub needs: the hub, the zone that times are meant in, and where output goes.

use std::time::Duration;

use doorctl::{ClientError, ClientOptions, HubClient, Traffic, Watcher};
use iothub_protocol::twin::Twin;
use iothub_protocol::{DeviceId, ErrorCode};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::cli::Global;
use crate::config::{self, Contexts};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::suggest;

/// A shorter wait is nobody's business.
const NOTICED: Duration = Duration::from_secs(1);

/// A command's connection to its hub.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The hub.
    pub(crate) hub: HubClient,
    /// The zone that times are meant in.
    pub(crate) zone: TimeZone,
    /// Where output goes.
    pub(crate) printer: Printer,
    /// The CA of the context, in PEM.
    pub(crate) ca: Option<String>,
}

impl Session {
    /// Opens the context that the flags choose, else the current one.
    pub(crate) fn open(global: &Global, printer: &Printer) -> anyhow::Result<Self> {
        let contexts = Contexts::read(&config::path()?)?;
        let (_, context) = contexts.select(global.context.as_deref())?;
        let options = ClientOptions {
            ca_pem: context.ca.clone().map(String::into_bytes),
            timeout: global.timeout,
            watcher: Some(watcher(printer)),
        };
        Ok(Self {
            hub: HubClient::new(context.connection()?, &options)?,
            zone: context.time_zone()?,
            printer: printer.clone(),
            ca: context.ca.clone(),
        })
    }

    /// Refuses what only door-hub can do, before anything is asked of another hub. `what` follows "only door-hub can": `stop a job that runs`.
    ///
    /// # Errors
    ///
    /// With [`ExitStatus::Refused`] when the hub is not door-hub, or when nobody answers.
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

    /// What time it is, where the person is.
    pub(crate) fn now(&self) -> Zoned {
        Timestamp::now().to_zoned(self.zone.clone())
    }
}

/// Tells waits that a person notices, and everything when that was asked for.
fn watcher(printer: &Printer) -> Watcher {
    let printer = printer.clone();
    Watcher::new(move |traffic| match traffic {
        Traffic::Waiting { error, wait } if *wait >= NOTICED || printer.is_verbose() => {
            printer.say(format!(
                "{error}; trying again in {} s",
                wait.as_secs_f64().round().max(1.0)
            ));
        }
        Traffic::Sent { method, url, body } if printer.is_verbose() => {
            let body = body.as_deref().unwrap_or_default();
            printer.say(format!("> {method} {url} {body}").trim_end());
        }
        Traffic::Answered {
            status,
            after,
            body,
        } if printer.is_verbose() => {
            printer.say(format!("< {status} after {} ms {body}", after.as_millis()).trim_end());
        }
        _ => {}
    })
}

/// The error for a policy that lacks rights: with those that are needed (`RegistryRead,ServiceConnect`) and how to come by them.
pub(crate) fn explain_rights(error: ClientError, rights: &str) -> anyhow::Error {
    // A key that is not the policy's has the same code.
    let lacks = error.code() == Some(ErrorCode::IotHubUnauthorizedAccess)
        && error.to_string().contains("does not allow access");
    if !lacks {
        return error.into();
    }
    let listed = rights.replace(',', " and ");
    Failure::new(error.to_string())
        .next(format!(
            "it takes a policy with {listed}; on the server: door-hub policy add NAME --rights {rights} --out FILE, then here: doorctl context add NAME --connection-string-file FILE --ca ca.pem"
        ))
        .status(ExitStatus::Refused)
        .into()
}

/// A door's name from the command line.
pub(crate) fn door(text: &str) -> anyhow::Result<DeviceId> {
    Ok(text
        .parse()
        .map_err(|error| Failure::new(format!("DOOR {text:?}: {error}")))?)
}

/// The error for a door that the hub does not know: with the name that was probably meant.
pub(crate) async fn explain_door(
    session: &Session,
    name: &DeviceId,
    error: ClientError,
) -> anyhow::Error {
    if error.code() != Some(ErrorCode::DeviceNotFound) {
        return error.into();
    }
    let known = session
        .hub
        .query::<Twin>("SELECT * FROM devices")
        .await
        .unwrap_or_default();
    let known: Vec<&str> = known.iter().map(|twin| twin.device_id.as_str()).collect();
    unknown_door(name.as_str(), &known).into()
}

/// The error for a door that is not among those known.
pub(crate) fn unknown_door(name: &str, known: &[&str]) -> Failure {
    let meant = suggest::closest(name, known.iter().copied());
    let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
    Failure::new(format!("the hub knows no door `{name}`{meant}")).next("doorctl devices list")
}
