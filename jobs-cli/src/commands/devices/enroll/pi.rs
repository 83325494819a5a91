//! Steps of the enrolment on the Pi.

use anyhow::Context as _;

use super::Enrolment;
use super::package::{self, Package};
use super::script::Script;
use super::settings;
use super::ssh::{ScriptOutput, Ssh, tail};
use super::steps::Steps;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use iothub_protocol::identity::DeviceIdentity;

/// Exit status of `door-agent install` when a running door keeps its old program or settings.
const NOT_RESTARTED: i32 = 3;

/// What was found on the Pi.
#[derive(Debug)]
pub(super) struct Pi {
    architecture: String,
    installed: Option<String>,
    has_settings: bool,
    /// Whether the door's service is active.
    pub(super) runs: bool,
}

impl Enrolment<'_> {
    /// Inspects the Pi, and refuses one that cannot run a door.
    pub(super) async fn inspect(&self, ssh: &mut Ssh, steps: &mut Steps<'_>) -> anyhow::Result<Pi> {
        let script = Script::inspect(self.name());
        let result = ssh.run(&script, None).await?;
        let known = |key| result.value(key).filter(|value| !value.is_empty());
        let refused = |output: &str| ssh.failure(script.step, output);
        let machine = known("machine").ok_or_else(|| refused(&result.last_lines()))?;
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
                    "the user is not root, and sudo is missing or asks for a password",
                )
                .next(format!(
                    "connect as root, or allow sudo without a password for that user: {}",
                    ssh.by_hand()
                ))
                .into());
            }
        };
        if known("systemd").is_none() {
            return Err(
                refused("systemd is not running, expected it to run the door's service").into(),
            );
        }
        let installed = known("installed").and_then(|text| text.strip_prefix("installed "));
        let pi = Pi {
            architecture: architecture.to_owned(),
            installed: installed.map(str::to_owned),
            has_settings: known("config").is_some(),
            runs: known("service") == Some("active"),
        };
        let access = if sudo { "root by sudo" } else { "root" };
        let has = match &pi.installed {
            Some(version) => format!("door-agent {version}"),
            None => "no door-agent yet".to_owned(),
        };
        steps.done(
            "pi",
            format!(
                "{} is {machine} ({architecture}), {access}, {has}",
                ssh.host()
            ),
        );
        if sudo {
            ssh.use_sudo();
        }
        Ok(pi)
    }

    /// The package to install, unless that version is installed already.
    pub(super) fn package(&self, pi: &Pi) -> anyhow::Result<Option<Package>> {
        let found = Package::find(self.args.package.as_deref(), &pi.architecture)?;
        match (found, &pi.installed) {
            (Some(package), installed)
                if package.version.is_none() || package.version != *installed =>
            {
                Ok(Some(package))
            }
            (_, Some(_)) => Ok(None),
            (None, None) => Err(Failure::new(format!(
                "no package of door-agent for {} in target/packages or here, and none is \
                 installed on {}",
                pi.architecture, self.args.host
            ))
            .next(package::HOW_TO_BUILD)
            .into()),
            (Some(package), None) => Ok(Some(package)),
        }
    }

    /// The settings for the Pi: those of `--config`, else those on it, with `[hub]` adapted.
    pub(super) async fn settings(&self, ssh: &Ssh, pi: &Pi) -> anyhow::Result<String> {
        if let Some(settings) = &self.settings {
            return Ok(settings.clone());
        }
        let path = format!("/etc/door-agent/{}.toml", self.name());
        if !pi.has_settings {
            return Err(Failure::new(format!(
                "no --config was given, and {} has no {path} yet",
                ssh.host()
            ))
            .next(settings::HOW_TO_WRITE)
            .into());
        }
        let there = ssh.run_checked(&Script::read(self.name()), None).await?;
        let source = format!("{path} on {}", ssh.host());
        settings::for_door(
            &format!("{}\n", there.stdout),
            &source,
            self.name(),
            &self.access,
        )
    }

    pub(super) async fn install(
        &self,
        ssh: &Ssh,
        package: Option<Package>,
        pi: &Pi,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<()> {
        let Some(package) = package else {
            let version = pi.installed.as_deref().unwrap_or_default();
            steps.done(
                "package",
                format!("door-agent {version} is installed already"),
            );
            return Ok(());
        };
        let bytes = package.read()?;
        let result = ssh.run_checked(&Script::install(), Some(&bytes)).await?;
        let version = result.value("version").unwrap_or("of unknown version");
        let from = package.path.display();
        steps.done(
            "package",
            format!("door-agent {version} is installed from {from}"),
        );
        // Forward the messages of the package itself.
        for line in result
            .stdout
            .lines()
            .filter(|line| line.starts_with("door-agent: "))
        {
            self.session.printer.say(format!("          {line}"));
        }
        Ok(())
    }

    /// Sends the files and lets `door-agent install` check them, put them into place and start the
    /// door. Returns whether the door was started or restarted.
    pub(super) async fn set_up(
        &self,
        ssh: &Ssh,
        settings: &str,
        identity: &DeviceIdentity,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<bool> {
        let name = self.name();
        let connection = self.connection_string(identity)?;
        let mut files = vec![("toml", settings), ("connection-string", &connection)];
        files.extend(self.session.ca.as_deref().map(|ca| ("ca.pem", ca)));
        let archive = archive(&files).context("cannot pack the files for the Pi")?;
        let script = Script::set_up(name, self.args.force);
        let result = ssh.run(&script, Some(&archive)).await?;
        let placed: Vec<&str> = result.reports("settings").collect();
        if !placed.is_empty() {
            steps.done(
                "settings",
                format!("in /etc/door-agent {}", placed.join(", ")),
            );
        }
        for line in result
            .stdout
            .lines()
            .filter(|line| line.starts_with("note "))
        {
            self.session.printer.say(format!("          {line}"));
        }
        if !result.succeeded() {
            return Err(self.set_up_failed(ssh, &script, &result).into());
        }
        let service = result.reports("service").last().unwrap_or_default();
        steps.done("service", service);
        Ok(!service.ends_with("is running and not restarted"))
    }

    fn set_up_failed(&self, ssh: &Ssh, script: &Script, result: &ScriptOutput) -> Failure {
        let (name, host, output) = (self.name(), ssh.host(), result.last_lines());
        if result.stdout.lines().any(|line| line.starts_with("WRONG")) {
            return self.check_failed(ssh, result);
        }
        if result.status == Some(NOT_RESTARTED) {
            return Failure::new(format!(
                "door-agent@{name} on {host} keeps running with its old program or settings: \
                 {output}"
            ))
            .next(format!(
                "when its lock may move, run there: door-agent restart --force {name}; or repeat \
                 this command with --force"
            ))
            .status(ExitStatus::Refused);
        }
        if result.stderr.contains("unrecognized subcommand") {
            return Failure::new(format!(
                "door-agent on {host} is older than this doorctl and cannot install doors"
            ))
            .next("install the current package: --package FILE");
        }
        ssh.failure(script.step, &output).next(format!(
            "check on the Pi: {}; then repeat this command",
            ssh.by_hand()
        ))
    }

    fn check_failed(&self, ssh: &Ssh, checked: &ScriptOutput) -> Failure {
        let wrong: Vec<&str> = checked
            .stdout
            .lines()
            .filter(|line| line.starts_with("WRONG"))
            .collect();
        let output = tail(&wrong.join("\n"));
        let next = match output.contains("WRONG  hub") && self.args.hub_host.is_none() {
            true => "check that the Pi can reach the hub under this name and port; else pass \
                     --hub-host HOST, --mqtt-port PORT"
                .to_owned(),
            false => match &self.args.config {
                Some(path) => format!("fix {} and repeat this command", path.display()),
                None => "fix it there, or pass other settings as --config FILE, and repeat this \
                         command"
                    .to_owned(),
            },
        };
        Failure::new(format!(
            "door-agent check on {} rejected the settings, which were not put in place:\n  \
             {output}",
            ssh.host()
        ))
        .next(next)
    }
}

/// A tar archive of texts that only root may read.
fn archive(files: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    archive.into_inner()
}
