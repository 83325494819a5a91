//! `doorctl devices enroll`: sets up a Pi that has ssh as a door, registered already or new. Every
//! step checks the current state first, so that the command can be repeated.

mod hub;
mod package;
mod pi;
mod plan;
mod script;
mod settings;
mod ssh;
mod steps;

use std::fs;

use anyhow::Context as _;
use iothub_protocol::DeviceId;
use iothub_protocol::connection_string::HostName;
use iothub_protocol::text_file::decode;
use iothub_protocol::twin::Twin;

use super::add;
use crate::cli::enroll::EnrollArgs;
use crate::door::DoorRow;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;
use settings::HubAccess;
use ssh::Ssh;
use steps::Steps;

/// Everything that is known before anything changes.
#[derive(Debug)]
struct Enrolment<'a> {
    args: &'a EnrollArgs,
    session: &'a Session,
    door: DeviceId,
    hub_host: HostName,
    access: HubAccess,
    /// The settings of `--config`, adapted to this door.
    settings: Option<String>,
}

pub(super) async fn run(args: &EnrollArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let enrolment = Enrolment::prepare(args, session).await?;
    if args.dry_run {
        plan::print(&enrolment)?;
        return Ok(ExitStatus::Success);
    }
    let mut ssh = Ssh::new(args)?;
    let ended = enrolment.carry_out(&mut ssh).await;
    ssh.close().await;
    let twin = ended?;
    session
        .printer
        .rows(&[DoorRow::new(&twin, session.hub.now())])?;
    Ok(ExitStatus::Success)
}

impl<'a> Enrolment<'a> {
    async fn prepare(args: &'a EnrollArgs, session: &'a Session) -> anyhow::Result<Self> {
        let door = add::parse_name(&args.name)?;
        let host = &args.host;
        if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
            return Err(Failure::new(format!(
                "invalid HOST {host:?}: expected an ssh host name or address, such as pi@10.0.3.7"
            ))
            .into());
        }
        let hub_host = hub_host(args, session)?;
        let mqtt_port = super::mqtt_port(args.mqtt_port, session).await;
        let access = HubAccess {
            has_ca: session.ca.is_some(),
            mqtt_port,
        };
        let settings = match &args.config {
            Some(path) => {
                let source = settings::config_name(path);
                let read = fs::read(path).map_err(anyhow::Error::from);
                let text = read.and_then(|bytes| Ok(decode(bytes)?));
                let text = text.with_context(|| format!("cannot read {source}"))?;
                Some(settings::for_door(&text, &source, door.as_str(), &access)?)
            }
            None => None,
        };
        Ok(Self {
            args,
            session,
            door,
            hub_host,
            access,
            settings,
        })
    }

    async fn carry_out(&self, ssh: &mut Ssh) -> anyhow::Result<Twin> {
        let mut steps = Steps::new(&self.session.printer);
        let pi = self.inspect(ssh, &mut steps).await?;
        let package = self.package(&pi)?;
        let settings = self.settings(ssh, &pi).await?;
        let identity = self.register(&mut steps).await?;
        let before = self.assign(&pi, &mut steps).await?;
        self.install(ssh, package, &pi, &mut steps).await?;
        let started = self.set_up(ssh, &settings, &identity, &mut steps).await?;
        let seen = started.then_some(before.properties.reported.version);
        self.wait(ssh, seen, &mut steps).await
    }

    fn name(&self) -> &str {
        self.door.as_str()
    }
}

/// The hub's host name as the Pi uses it.
fn hub_host(args: &EnrollArgs, session: &Session) -> anyhow::Result<HostName> {
    let Some(text) = &args.hub_host else {
        let host = super::without_port(session.hub.host_name())?;
        let address = host.host().parse::<std::net::IpAddr>();
        let here = host.host().eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback());
        if here {
            return Err(Failure::new(format!(
                "the context reaches the hub as {host}, which on the \
                 Pi is the Pi itself"
            ))
            .next(
                "pass the name by which the Pi reaches it: --hub-host NAME-OR-ADDRESS (one \
                 of the hub's `name` and `aliases`)",
            )
            .into());
        }
        return Ok(host);
    };
    let host: HostName = text
        .parse()
        .with_context(|| format!("--hub-host {text:?}"))?;
    match host.port() {
        None => Ok(host),
        Some(_) => Err(Failure::new(format!(
            "--hub-host {text:?} has a port, expected a name or address"
        ))
        .next("pass the MQTT port as --mqtt-port")
        .into()),
    }
}
