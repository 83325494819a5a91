//! `doorctl devices enroll`: from a registered or unknown name and a Pi with ssh to a door that reports. Every step looks at what is there
//! first, so that all of it may be repeated.

mod package;
mod plan;
mod script;
mod settings;
mod ssh;
mod steps;

use std::fs;

use anyhow::Context as _;
use doorctl::{DeviceIdentity, NewDevice};
use iothub_protocol::connection_string::{DeviceConnectionString, DeviceCredential, HostName};
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode};
use tokio::time::Instant;

use super::add;
use crate::cli::enroll::EnrollArgs;
use crate::commands::twin;
use crate::door::DoorRow;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;
use package::Package;
use script::Script;
use settings::HubAccess;
use ssh::{Ran, Ssh, tail};
use steps::Steps;

/// Azure's port for MQTT over TLS.
const MQTT_PORT: u16 = 8883;

/// How often the hub is asked for the door's report.
const ASK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What is known before anything is touched.
#[derive(Debug)]
struct Enrolment<'a> {
    args: &'a EnrollArgs,
    session: &'a Session,
    door: DeviceId,
    hub_host: HostName,
    access: HubAccess,
    /// The settings of `--config`, made right for this door.
    settings: Option<String>,
}

/// What the Pi is and has.
#[derive(Debug)]
struct Pi {
    architecture: String,
    installed: Option<String>,
    has_settings: bool,
    runs: bool,
}

/// Enrolls the door.
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
    session.printer.rows(&[DoorRow::from(&twin)])?;
    Ok(ExitStatus::Success)
}

impl<'a> Enrolment<'a> {
    async fn prepare(args: &'a EnrollArgs, session: &'a Session) -> anyhow::Result<Self> {
        let door = add::name(&args.name)?;
        let host = &args.host;
        if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
            return Err(Failure::new(format!(
                "HOST {host:?} is none; expected a name or address of ssh, such as pi@10.0.3.7"
            ))
            .into());
        }
        let hub_host = hub_host(args, session)?;
        let mqtt_port = match args.mqtt_port {
            Some(port) => port,
            None => session
                .hub
                .door_hub_health()
                .await
                .map_or(MQTT_PORT, |health| health.mqtt_port),
        };
        let access = HubAccess {
            has_ca: session.ca.is_some(),
            mqtt_port,
        };
        let settings = match &args.config {
            Some(path) => {
                let whence = settings::given(path);
                let text =
                    fs::read_to_string(path).with_context(|| format!("{whence} cannot be read"))?;
                Some(settings::for_door(&text, &whence, door.as_str(), &access)?)
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
        let pi = self.look(ssh, &mut steps).await?;
        let package = self.package(&pi)?;
        let settings = self.settings(ssh, &pi).await?;
        let identity = self.register(&mut steps).await?;
        let before = self.assign(&pi, &mut steps).await?;
        self.install(ssh, package, &pi, &mut steps).await?;
        self.configure(ssh, &settings, &identity, &mut steps)
            .await?;
        let started = self.start(ssh, &mut steps).await?;
        let seen = started.then_some(before.properties.reported.version);
        self.wait(ssh, seen, &mut steps).await
    }

    fn name(&self) -> &str {
        self.door.as_str()
    }

    /// Looks at the Pi, and refuses one that cannot be a door.
    async fn look(&self, ssh: &mut Ssh, steps: &mut Steps<'_>) -> anyhow::Result<Pi> {
        let script = Script::look(self.name());
        let ran = ssh.run(&script, None).await?;
        let known = |key| ran.value(key).filter(|value| !value.is_empty());
        let refused = |said: &str| ssh.failure(script.step, said);
        let machine = known("machine").ok_or_else(|| refused(&ran.last_words()))?;
        let architecture = known("architecture").ok_or_else(|| {
            refused("it has no dpkg, expected Raspberry Pi OS or Debian")
                .next("install Raspberry Pi OS (64-bit) on it")
        })?;
        if machine == "armv6l" {
            return Err(refused(
                "it is ARMv6 (Pi 1 or Zero), expected ARMv7 or ARM64 (Pi 2 or newer)",
            )
            .into());
        }
        let sudo = match known("root") {
            Some("user") => false,
            Some(_) => true,
            None => {
                return Err(refused(
                    "its user is not root, and sudo there wants a password or is missing",
                )
                .next(format!(
                    "connect as root, or let that user use sudo without a password: {}",
                    ssh.by_hand()
                ))
                .into());
            }
        };
        if known("systemd").is_none() {
            return Err(refused("systemd does not run there, and doors are services of it").into());
        }
        let installed = known("installed").and_then(|text| text.strip_prefix("installed "));
        let pi = Pi {
            architecture: architecture.to_owned(),
            installed: installed.map(str::to_owned),
            has_settings: known("config").is_some(),
            runs: known("service") == Some("active"),
        };
        let by = if sudo { "root by sudo" } else { "root" };
        let has = match &pi.installed {
            Some(version) => format!("door-agent {version}"),
            None => "no door-agent yet".to_owned(),
        };
        steps.done(
            "pi",
            format!("{} is {machine} ({architecture}), {by}, {has}", ssh.host()),
        );
        if sudo {
            ssh.use_sudo();
        }
        Ok(pi)
    }

    /// The package to install, when one has to be.
    fn package(&self, pi: &Pi) -> anyhow::Result<Option<Package>> {
        let found = Package::find(self.args.package.as_deref(), &pi.architecture)?;
        match (found, &pi.installed) {
            (Some(package), installed) if package.version.is_none() || package.version != *installed => Ok(Some(package)),
            (_, Some(_)) => Ok(None),
            (None, None) => Err(Failure::new(format!(
                "there is no package of door-agent for {} in target/packages or here, and none is installed on {}",
                pi.architecture, self.args.host
            ))
            .next(package::MAKE_ONE)
            .into()),
            (Some(package), None) => Ok(Some(package)),
        }
    }

    /// The settings to have on the Pi: those given, else those there, with the hub set right.
    async fn settings(&self, ssh: &Ssh, pi: &Pi) -> anyhow::Result<String> {
        if let Some(settings) = &self.settings {
            return Ok(settings.clone());
        }
        let path = format!("/etc/door-agent/{}.toml", self.name());
        if !pi.has_settings {
            return Err(Failure::new(format!(
                "no --config is given, and {} has no {path} yet",
                ssh.host()
            ))
            .next(settings::WRITE_SOME)
            .into());
        }
        let there = ssh.done(&Script::read(self.name()), None).await?;
        let whence = format!("{path} on {}", ssh.host());
        settings::for_door(
            &format!("{}\n", there.stdout),
            &whence,
            self.name(),
            &self.access,
        )
    }

    /// The door at the hub: the one there, else a new one.
    async fn register(&self, steps: &mut Steps<'_>) -> anyhow::Result<DeviceIdentity> {
        let hub = &self.session.hub;
        let identity = match hub.device(&self.door).await {
            Ok(identity) => {
                steps.done("registered", format!("the hub has {} already", self.door));
                identity
            }
            Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {
                let new = NewDevice::with_generated_keys(self.door.clone());
                let made = hub.device_create(&new).await;
                let made = made.with_context(|| format!("cannot register {}", self.door))?;
                steps.done("registered", format!("{} is new at the hub", self.door));
                made
            }
            Err(error) => return Err(error.into()),
        };
        if identity.status == "disabled" {
            return Err(Failure::new(format!(
                "{} is disabled at the hub, which would not let it connect",
                self.door
            ))
            .next(format!("doorctl devices enable {}", self.door))
            .status(ExitStatus::Refused)
            .into());
        }
        Ok(identity)
    }

    /// Building and floor, as far as they are given and differ. Gives the twin as it is then.
    async fn assign(&self, pi: &Pi, steps: &mut Steps<'_>) -> anyhow::Result<Twin> {
        let hub = &self.session.hub;
        let twin = hub.twin(&self.door).await?;
        let mut desired = Vec::new();
        let mut said = Vec::new();
        for (key, text) in [
            ("building", &self.args.building),
            ("floor", &self.args.floor),
        ] {
            let Some(text) = text else { continue };
            let wanted = add::place(text);
            said.push(format!("{key} {text}"));
            if twin.properties.desired.values.get(key) != Some(&wanted) {
                desired.push((key.to_owned(), wanted));
            }
        }
        let said = said.join(", ");
        if twin.connection_state == ConnectionState::Connected && !pi.runs {
            self.session.printer.warn(format!(
                "something else is connected to the hub as {} just now; this Pi will take its place",
                self.door
            ));
        }
        if desired.is_empty() {
            if !said.is_empty() {
                steps.done("assigned", format!("{said} already"));
            }
            return Ok(twin);
        }
        let twin = hub
            .twin_patch(&self.door, &twin::patch(&desired, &[])?, None)
            .await;
        let twin = twin.with_context(|| format!("cannot assign {}", self.door))?;
        steps.done("assigned", said);
        Ok(twin)
    }

    async fn install(
        &self,
        ssh: &Ssh,
        package: Option<Package>,
        pi: &Pi,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<()> {
        let Some(package) = package else {
            let version = pi.installed.as_deref().unwrap_or_default();
            steps.done("package", format!("door-agent {version} is there already"));
            return Ok(());
        };
        let bytes = package.read()?;
        let ran = ssh.done(&Script::install(), Some(&bytes)).await?;
        let version = ran.value("version").unwrap_or("of unknown version");
        let from = package.path.display();
        steps.done(
            "package",
            format!("door-agent {version} is installed from {from}"),
        );
        // What the package itself has to say.
        for line in ran
            .stdout
            .lines()
            .filter(|line| line.starts_with("door-agent: "))
        {
            self.session.printer.say(format!("          {line}"));
        }
        Ok(())
    }

    /// Sends the files, has them checked, and puts them in place: in this order, so that files that are wrong replace none that are right.
    async fn configure(
        &self,
        ssh: &Ssh,
        settings: &str,
        identity: &DeviceIdentity,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<()> {
        let name = self.name();
        let connection = self.connection_string(identity)?;
        let mut files = vec![
            ("connection-string", connection.as_str()),
            ("toml", settings),
        ];
        files.extend(self.session.ca.as_deref().map(|ca| ("ca.pem", ca)));
        for (suffix, text) in files {
            ssh.done(&Script::stage(name, suffix), Some(text.as_bytes()))
                .await?;
        }
        let checked = ssh.run(&Script::check(name), None).await?;
        if !checked.succeeded {
            // They hold the key; that they could not be removed is not the error to tell.
            drop(ssh.run(&Script::unstage(name), None).await);
            return Err(self.check_failed(ssh, &checked).into());
        }
        steps.done("checked", "door-agent check finds nothing wrong on the Pi");
        for line in checked
            .stdout
            .lines()
            .filter(|line| line.starts_with("note "))
        {
            self.session.printer.say(format!("          {line}"));
        }
        let placed = ssh.done(&Script::place(name), None).await?;
        let what = [
            ("config", "toml"),
            ("key", "connection-string"),
            ("ca", "ca.pem"),
        ]
        .map(|(key, suffix)| {
            placed.value(key).map(|what| match (what, suffix) {
                ("same", _) => format!("{name}.{suffix} is there already"),
                ("changed", "toml") => {
                    format!("{name}.toml is replaced (the one before: {name}.toml.bak)")
                }
                ("changed", _) => format!("{name}.{suffix} is replaced"),
                _ => format!("{name}.{suffix} is new"),
            })
        });
        let what: Vec<String> = what.into_iter().flatten().collect();
        steps.done(
            "settings",
            format!("in /etc/door-agent {}", what.join(", ")),
        );
        Ok(())
    }

    fn check_failed(&self, ssh: &Ssh, checked: &Ran) -> Failure {
        let wrong: Vec<&str> = checked
            .stdout
            .lines()
            .filter(|line| line.starts_with("WRONG"))
            .collect();
        let said = match wrong.is_empty() {
            true => checked.last_words(),
            false => tail(&wrong.join("\n")),
        };
        let next = match said.contains("WRONG  hub") && self.args.hub_host.is_none() {
            true => "is the hub to be reached from the Pi under this name and port? else --hub-host HOST, --mqtt-port PORT".to_owned(),
            false => match &self.args.config {
                Some(path) => format!("mend {} and repeat this command", path.display()),
                None => "mend it there, or name better settings by --config FILE, and repeat this command".to_owned(),
            },
        };
        Failure::new(format!(
            "door-agent check on {}, of settings that were not put in place:\n  {said}",
            ssh.host()
        ))
        .next(next)
    }

    fn connection_string(&self, identity: &DeviceIdentity) -> anyhow::Result<String> {
        let keys = identity
            .authentication
            .as_ref()
            .and_then(|auth| auth.symmetric_key.as_ref());
        let key = keys
            .and_then(|keys| keys.primary_key.as_ref())
            .filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| {
            Failure::new(format!("the hub shows no key of {}", self.door))
                .next("doors with certificates have none and are set up by hand; else use a policy that may read the registry")
        })?;
        let connection = DeviceConnectionString {
            host_name: self.hub_host.clone(),
            device_id: self.door.clone(),
            gateway_host_name: None,
            credential: DeviceCredential::Key(SharedAccessKey::from_base64(key)?),
        };
        Ok(format!("{}\n", connection.expose_secret()))
    }

    /// Whether the door was started, or started anew.
    async fn start(&self, ssh: &Ssh, steps: &mut Steps<'_>) -> anyhow::Result<bool> {
        let name = self.name();
        let started = ssh.done(&Script::start(name), None).await?;
        match started.value("state") {
            Some("running") => {
                steps.done(
                    "service",
                    format!("door-agent@{name} runs already and is not restarted"),
                );
                return Ok(false);
            }
            Some("stale") => {}
            _ => {
                steps.done("service", format!("door-agent@{name} is started"));
                return Ok(true);
            }
        }
        let restarted = ssh
            .run(&Script::restart(name, self.args.force), None)
            .await?;
        if !restarted.succeeded {
            return Err(Failure::new(format!(
                "door-agent@{name} on {} goes on with its old program or settings: {}",
                ssh.host(),
                restarted.last_words()
            ))
            .next(format!(
                "when its lock may move, there: door-agent restart --force {name}; or repeat this command with --force"
            ))
            .status(ExitStatus::Refused)
            .into());
        }
        steps.done(
            "service",
            format!("door-agent@{name} is restarted with what has changed"),
        );
        Ok(true)
    }

    /// Waits until the door is connected and has reported, anew when `seen` is the version of its report before.
    async fn wait(
        &self,
        ssh: &Ssh,
        seen: Option<u64>,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<Twin> {
        let ends = Instant::now() + self.args.deadline;
        loop {
            let twin = self.session.hub.twin(&self.door).await?;
            let reported = &twin.properties.reported;
            let anew = seen.is_none_or(|seen| reported.version > seen);
            if twin.connection_state == ConnectionState::Connected
                && anew
                && reported.values.contains_key("door")
            {
                steps.done(
                    "reports",
                    format!("{} is connected and has reported", self.door),
                );
                return Ok(twin);
            }
            if Instant::now() >= ends {
                let lacks = match twin.connection_state {
                    ConnectionState::Connected => "is connected and has not reported",
                    ConnectionState::Disconnected => "is not connected to the hub",
                };
                let said = ssh
                    .run(&Script::status(self.name()), None)
                    .await
                    .map(|ran| ran.last_words());
                return Err(Failure::new(format!(
                    "{} {lacks} after {} s; on {} it says:\n  {}",
                    self.door,
                    self.args.deadline.as_secs(),
                    ssh.host(),
                    said.unwrap_or_else(|error| error.to_string())
                ))
                .next(format!(
                    "{} journalctl -u door-agent@{} -f; then repeat this command",
                    ssh.by_hand(),
                    self.door
                ))
                .status(ExitStatus::Deadline)
                .into());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// The hub as the Pi is to reach it.
fn hub_host(args: &EnrollArgs, session: &Session) -> anyhow::Result<HostName> {
    let Some(text) = &args.hub_host else {
        let host = super::without_port(session.hub.host_name())?;
        let address = host.host().parse::<std::net::IpAddr>();
        let here = host.host().eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback());
        if here {
            return Err(Failure::new(format!("the context reaches the hub as {host}, which on the Pi is the Pi itself"))
                .next("say how the Pi reaches it: --hub-host NAME-OR-ADDRESS (one of the hub's `name` and `aliases`)")
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
        .next("the port of MQTT is --mqtt-port")
        .into()),
    }
}
