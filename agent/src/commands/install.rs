//! `door-agent install`: makes this machine a door. Checks the settings, puts them into place,
//! starts the service and waits until the door is connected.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use door_agent::AgentConfig;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::check::{check, service_user};
use super::restart::{parse_name, restart};

/// How long a started door may take to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);

/// Unit that carries out reboot requests of doors; enabled with the first door.
const REBOOT_UNIT: &str = "door-agent-reboot.path";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The door: the instance of door-agent@.service
    #[arg(value_name = "NAME")]
    name: String,
    /// File with the connection string of the door
    #[arg(long, value_name = "FILE")]
    connection_string: PathBuf,
    /// File with the CA of the hub in PEM, unless this machine trusts it already
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Restart a running door even if its lock moves
    #[arg(long)]
    force: bool,
    /// Do not wait until the door is connected
    #[arg(long)]
    no_wait: bool,
    /// The root of another system, for tests
    #[arg(long, value_name = "FOLDER", hide = true)]
    root: Option<PathBuf>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    New,
    Replaced,
    Unchanged,
}

/// The settings of one door in `/etc/door-agent`.
struct Installation<'a> {
    name: &'a str,
    /// `door-agent@NAME`.
    unit: String,
    /// `/etc/door-agent`.
    folder: PathBuf,
    /// A folder for root alone beside the settings in force, which replace them once they are
    /// checked. The package's purge removes it and the mark.
    stage: PathBuf,
    /// The invocation of the service that runs with replaced files; an agent reads them once.
    mark: PathBuf,
}

/// Installs `config`, or the settings that are there already, and the other files of `options`. The
/// exit status is that of `restart` when a running door cannot be restarted without moving its
/// lock.
pub(crate) fn install(options: &Options, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let door = Installation::new(options)?;
    remove_when_ended(&door.stage)?;
    let placed = door
        .stage(options, config)
        .and_then(|()| door.check(options))
        .and_then(|()| door.place());
    let removed = fs::remove_dir_all(&door.stage);
    placed?;
    removed.with_context(|| format!("cannot remove {}", door.stage.display()))?;
    let started = door.start(options.force)?;
    if started != ExitCode::SUCCESS || options.no_wait {
        return Ok(started);
    }
    door.wait()?;
    Ok(ExitCode::SUCCESS)
}

impl<'a> Installation<'a> {
    fn new(options: &'a Options) -> anyhow::Result<Self> {
        let name = parse_name(&options.name)?;
        let root = options.root.as_deref();
        if root.is_none() && !rustix::process::geteuid().is_root() {
            bail!("only root installs a door: repeat this with sudo");
        }
        let root = root.unwrap_or(Path::new("/"));
        if !root.join("run/systemd/system").is_dir() {
            bail!("systemd is not running, expected it to run the door's service");
        }
        let folder = root.join("etc/door-agent");
        Ok(Self {
            name,
            unit: format!("door-agent@{name}"),
            stage: folder.join(format!(".enroll-{name}")),
            mark: folder.join(format!(".enroll-{name}.running")),
            folder,
        })
    }

    fn config(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    /// Copies all files of the door under their final names into the stage.
    fn stage(&self, options: &Options, config: Option<&Path>) -> anyhow::Result<()> {
        let present = self.config();
        let config = match config {
            Some(config) => config,
            None if present.exists() => &present,
            None => bail!(
                "--config is missing, and {} does not exist yet: expected --config FILE with \
                 settings like those of /etc/door-agent/example.toml",
                present.display()
            ),
        };
        match fs::remove_dir_all(&self.stage) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot remove {}", self.stage.display()));
            }
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.stage)
            .with_context(|| format!("cannot create {}", self.stage.display()))?;
        self.copy(config, "toml")?;
        self.copy(&options.connection_string, "connection-string")?;
        let present = self.folder.join(format!("{}.ca.pem", self.name));
        match &options.ca {
            Some(ca) => self.copy(ca, "ca.pem")?,
            None if present.exists() => self.copy(&present, "ca.pem")?,
            None => {}
        }
        self.copy_drop_ins()?;
        self.copy_named_files(config.parent().unwrap_or(Path::new("")))
    }

    /// Copies the files that the settings name by relative paths: those beside the given settings,
    /// or else those of an earlier installation. A missing one is left to the check.
    fn copy_named_files(&self, beside: &Path) -> anyhow::Result<()> {
        for (file, _) in AgentConfig::relative_hub_files(&self.staged_config()) {
            let to = self.stage.join(&file);
            let sources = [beside.join(&file), self.folder.join(&file)];
            let source = sources.iter().find(|source| source.is_file());
            if let Some(source) = source.filter(|_| !to.exists()) {
                create_parent(&to)?;
                copy_private(source, &to)?;
            }
        }
        Ok(())
    }

    fn staged_config(&self) -> PathBuf {
        self.stage.join(format!("{}.toml", self.name))
    }

    fn copy(&self, from: &Path, suffix: &str) -> anyhow::Result<()> {
        copy_private(from, &self.stage.join(format!("{}.{suffix}", self.name)))
    }

    /// Drop-ins stay where they are, but apply to the settings that are checked.
    fn copy_drop_ins(&self) -> anyhow::Result<()> {
        let folder = format!("{}.toml.d", self.name);
        let from = self.folder.join(&folder);
        let entries = match fs::read_dir(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| format!("cannot read {}", from.display()))?,
        };
        let to = self.stage.join(folder);
        fs::create_dir(&to).with_context(|| format!("cannot create {}", to.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
            if entry.path().is_file() {
                copy_private(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// Prints the result of `door-agent check` for the staged settings; fails if they are wrong or
    /// do not use the files beside them.
    fn check(&self, options: &Options) -> anyhow::Result<()> {
        let config = self.staged_config();
        let not_installed = "the settings are not installed";
        if check(&config)? != ExitCode::SUCCESS {
            bail!("{not_installed}: fix what is WRONG and repeat this");
        }
        let checked = AgentConfig::load(&config).context(not_installed)?;
        let service = AgentConfig::load_for_service(&config).context(not_installed)?;
        let name = self.name;
        if checked.hub.connection != service.hub.connection {
            bail!(
                "{not_installed}: hub.connection_string_file names another file, expected \
                 \"{name}.connection-string\""
            );
        }
        let ca = self.stage.join(format!("{name}.ca.pem"));
        if options.ca.is_some() && checked.hub.ca_file != Some(ca) {
            bail!("{not_installed}: --ca was given, expected hub.ca_file = \"{name}.ca.pem\"");
        }
        Ok(())
    }

    /// Moves the staged files into place. Those that are the same already stay.
    fn place(&self) -> anyhow::Result<()> {
        // Before the first change: the next attempt must know that the running agent is outdated
        // even if this one ends half way.
        let marks = self.is_active()? && !self.is_marked()?;
        if marks {
            fs::write(&self.mark, self.invocation()?)
                .with_context(|| format!("cannot write {}", self.mark.display()))?;
        }
        let name = self.name;
        // The service gets its connection string as a credential, and reads the other files itself.
        let reader = service_user().filter(|_| rustix::process::geteuid().is_root());
        let mut files = vec![
            (format!("{name}.connection-string"), 0o600, None, false),
            (format!("{name}.ca.pem"), 0o644, None, false),
        ];
        for (file, is_secret) in AgentConfig::relative_hub_files(&self.staged_config()) {
            let (mode, owner) = if is_secret {
                (0o600, reader)
            } else {
                (0o644, None)
            };
            let file = file.to_string_lossy().into_owned();
            if files.iter().all(|(known, ..)| *known != file) {
                create_parent(&self.folder.join(&file))?;
                files.push((file, mode, owner, false));
            }
        }
        // The settings last: they name the others.
        files.push((format!("{name}.toml"), 0o644, None, true));
        let mut changed = false;
        for (file, mode, owner, keep) in files {
            let Some(placed) = self
                .place_file(&file, mode, owner, keep)
                .with_context(|| format!("cannot write {}", self.folder.join(&file).display()))?
            else {
                continue;
            };
            changed |= placed != Placement::Unchanged;
            let what = match placed {
                Placement::New => "is new".to_owned(),
                Placement::Replaced if keep => format!("is replaced (backup: {file}.bak)"),
                Placement::Replaced => "is replaced".to_owned(),
                Placement::Unchanged => "is unchanged".to_owned(),
            };
            super::print(format_args!("settings: {file} {what}\n"));
        }
        if marks && !changed {
            fs::remove_file(&self.mark)
                .with_context(|| format!("cannot remove {}", self.mark.display()))?;
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot write {}", self.folder.display()))
    }

    fn place_file(
        &self,
        file: &str,
        mode: u32,
        owner: Option<(u32, u32)>,
        keep: bool,
    ) -> io::Result<Option<Placement>> {
        let (from, to) = (self.stage.join(file), self.folder.join(file));
        let staged = match fs::read(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            staged => staged?,
        };
        let present = match fs::read(&to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            present => Some(present?),
        };
        let permissions = Permissions::from_mode(mode);
        let own = |file: &Path| match owner {
            Some((user, group)) => chown(file, Some(user), Some(group)),
            None => Ok(()),
        };
        if present.as_ref() == Some(&staged) {
            fs::set_permissions(&to, permissions)?;
            own(&to)?;
            return Ok(Some(Placement::Unchanged));
        }
        if present.is_some() && keep {
            fs::copy(&to, self.folder.join(format!("{file}.bak")))?;
        }
        fs::set_permissions(&from, permissions)?;
        own(&from)?;
        fs::rename(&from, &to)?;
        Ok(Some(match present {
            Some(_) => Placement::Replaced,
            None => Placement::New,
        }))
    }

    /// Starts the service, or restarts it if it runs with replaced files or a replaced program and
    /// its lock stays still.
    fn start(&self, force: bool) -> anyhow::Result<ExitCode> {
        let (name, unit) = (self.name, &self.unit);
        run_systemctl(&["enable", "--quiet", unit, REBOOT_UNIT])?;
        run_systemctl(&["start", REBOOT_UNIT])?;
        if !self.is_active()? {
            // Fails if the unit is not loaded yet.
            drop(systemctl(&["reset-failed", unit]).output());
            run_systemctl(&["restart", unit])
                .map_err(|error| anyhow!("{error:#}; the log ends with\n{}", self.log()))?;
            super::print(format_args!("service: {unit} is started\n"));
            return Ok(ExitCode::SUCCESS);
        }
        if !self.is_outdated()? {
            super::print(format_args!(
                "service: {unit} is running and not restarted\n"
            ));
            return Ok(ExitCode::SUCCESS);
        }
        let restarted = restart(Some(&self.config()), name, force)?;
        if restarted == ExitCode::SUCCESS {
            // A new invocation differs from the mark, too.
            let _ = fs::remove_file(&self.mark);
            super::print(format_args!(
                "service: {unit} is restarted with the changes\n"
            ));
        }
        Ok(restarted)
    }

    /// Whether the service runs with files or a program that were replaced since.
    fn is_outdated(&self) -> anyhow::Result<bool> {
        if self.is_marked()? {
            return Ok(true);
        }
        let process = self.show("MainPID")?;
        let program = fs::read_link(format!("/proc/{process}/exe"));
        Ok(program.is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)")))
    }

    fn is_marked(&self) -> anyhow::Result<bool> {
        match fs::read_to_string(&self.mark) {
            Ok(mark) => Ok(mark == self.invocation()?),
            Err(_) => Ok(false),
        }
    }

    fn is_active(&self) -> anyhow::Result<bool> {
        let state = systemctl(&["is-active", "--quiet", &self.unit]).output();
        Ok(state.context(NO_SYSTEMCTL)?.status.success())
    }

    fn invocation(&self) -> anyhow::Result<String> {
        self.show("InvocationID")
    }

    /// A property of the service.
    fn show(&self, property: &str) -> anyhow::Result<String> {
        let shown = systemctl(&["show", "-P", property, &self.unit]).output();
        let shown = shown.context(NO_SYSTEMCTL)?;
        Ok(String::from_utf8_lossy(&shown.stdout).trim().to_owned())
    }

    /// The end of the service's log.
    fn log(&self) -> String {
        let log = Command::new("journalctl")
            .args(["-u", &self.unit, "-n", "8", "-o", "cat", "--no-pager"])
            .output();
        log.map_or_else(
            |error| format!("cannot run journalctl: {error}"),
            |log| String::from_utf8_lossy(&log.stdout).trim_end().to_owned(),
        )
    }

    /// Waits until the door is connected, and prints its state.
    fn wait(&self) -> anyhow::Result<()> {
        let directories = super::state_directories(&self.config())?;
        let deadline = Instant::now() + CONNECT_DEADLINE;
        loop {
            let status = super::query_running(&directories, super::status::ask);
            match status {
                Ok(status) if status.document["link"]["state"] == "connected" => {
                    super::print(&status.text);
                    return Ok(());
                }
                status if Instant::now() > deadline => {
                    let seen = status.map_or_else(|error| format!("{error:#}"), |it| it.text);
                    bail!(
                        "{} is not connected after {} s: see `journalctl -u {}`\n{seen}",
                        self.name,
                        CONNECT_DEADLINE.as_secs(),
                        self.unit
                    );
                }
                _ => thread::sleep(Duration::from_secs(1)),
            }
        }
    }
}

/// Removes the stage, which contains the key, when a signal ends this program.
fn remove_when_ended(stage: &Path) -> anyhow::Result<()> {
    let stage = stage.to_path_buf();
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot watch for signals")?;
    let context = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(context);
    thread::spawn(move || {
        let status = runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => 129,
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        // It may not exist yet or any more.
        drop(fs::remove_dir_all(&stage));
        std::process::exit(status);
    });
    Ok(())
}

const NO_SYSTEMCTL: &str = "cannot run systemctl";

fn systemctl(arguments: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    command
}

fn run_systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let ended = systemctl(arguments).output().context(NO_SYSTEMCTL)?;
    if !ended.status.success() {
        bail!(
            "`systemctl {}` failed with {}: {}",
            arguments.join(" "),
            ended.status,
            String::from_utf8_lossy(&ended.stderr).trim()
        );
    }
    Ok(())
}

/// Creates the folder of a file.
fn create_parent(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Copies a file that only its owner may read, and waits until it is on disk.
fn copy_private(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        })
        .with_context(|| format!("cannot write {}", to.display()))
}
