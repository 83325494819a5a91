//! Steps of the enrolment on the Pi.

use super::Enrolment;
use super::package::{self, Package};
use super::script::Script;
use super::settings;
use super::ssh::{ScriptOutput, Ssh, tail};
use super::steps::Steps;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use iothub_protocol::identity::DeviceIdentity;

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

    /// Uploads the files, has them checked, and then puts them in place, so that invalid files
    /// never replace valid ones. The upload contains the key and is removed when a step fails.
    pub(super) async fn configure(
        &self,
        ssh: &Ssh,
        settings: &str,
        identity: &DeviceIdentity,
        steps: &mut Steps<'_>,
    ) -> anyhow::Result<()> {
        let placed = self.check_and_place(ssh, settings, identity, steps).await;
        if placed.is_err() {
            // Report the original error, not a failed clean-up.
            drop(ssh.run(&Script::unstage(self.name()), None).await);
        }
        placed
    }

    async fn check_and_place(
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
            ssh.run_checked(&Script::stage(name, suffix), Some(text.as_bytes()))
                .await?;
        }
        let checked = ssh.run(&Script::check(name), None).await?;
        if !checked.succeeded {
            return Err(self.check_failed(ssh, &checked).into());
        }
        steps.done("checked", "door-agent check found no problem on the Pi");
        for line in checked
            .stdout
            .lines()
            .filter(|line| line.starts_with("note "))
        {
            self.session.printer.say(format!("          {line}"));
        }
        let placed = ssh.run_checked(&Script::place(name), None).await?;
        let what = [
            ("config", "toml"),
            ("key", "connection-string"),
            ("ca", "ca.pem"),
        ]
        .map(|(key, suffix)| {
            placed.value(key).map(|what| match (what, suffix) {
                ("same", _) => format!("{name}.{suffix} is unchanged"),
                ("changed", "toml") => {
                    format!("{name}.toml is replaced (backup: {name}.toml.bak)")
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

    fn check_failed(&self, ssh: &Ssh, checked: &ScriptOutput) -> Failure {
        let wrong: Vec<&str> = checked
            .stdout
            .lines()
            .filter(|line| line.starts_with("WRONG"))
            .collect();
        let output = match wrong.is_empty() {
            true => checked.last_lines(),
            false => tail(&wrong.join("\n")),
        };
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

    /// Returns whether the door was started or restarted.
    pub(super) async fn start(&self, ssh: &Ssh, steps: &mut Steps<'_>) -> anyhow::Result<bool> {
        let name = self.name();
        let started = ssh.run_checked(&Script::start(name), None).await?;
        match started.value("state") {
            Some("running") => {
                steps.done(
                    "service",
                    format!("door-agent@{name} is running and not restarted"),
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
            let (host, output) = (ssh.host(), restarted.last_lines());
            let log = format!("ssh {host} journalctl -u door-agent@{name}");
            return Err(match restarted.value("door") {
                Some("alone") => Failure::new(format!(
                    "door-agent@{name} on {host} keeps running with its old program or settings: \
                     {output}"
                ))
                .next(format!(
                    "when its lock may move, run there: door-agent restart --force {name}; or \
                     repeat this command with --force"
                ))
                .status(ExitStatus::Refused),
                Some("down") => Failure::new(format!(
                    "door-agent@{name} on {host} did not start after the restart: {output}"
                ))
                .next(log),
                _ => Failure::new(format!(
                    "door-agent@{name} on {host} could not be restarted: {output}"
                ))
                .next(log),
            }
            .into());
        }
        steps.done(
            "service",
            format!("door-agent@{name} is restarted with the changes"),
        );
        Ok(true)
    }
}
