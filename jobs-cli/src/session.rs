//! What every command that speaks to a hub needs: the hub, the zone that times are meant in, and where output goes.

use doorctl::{ClientError, ClientOptions, HubClient};
use iothub_protocol::twin::Twin;
use iothub_protocol::{DeviceId, ErrorCode};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::cli::Global;
use crate::config::{self, Contexts};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::suggest;

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
        };
        Ok(Self {
            hub: HubClient::new(context.connection()?, &options)?,
            zone: context.time_zone()?,
            printer: printer.clone(),
            ca: context.ca.clone(),
        })
    }

    /// What time it is, where the person is.
    pub(crate) fn now(&self) -> Zoned {
        Timestamp::now().to_zoned(self.zone.clone())
    }
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
