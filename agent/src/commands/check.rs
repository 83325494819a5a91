//! `door-agent check`: one line for each precondition of a working door.

use std::fmt::Display;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use door_agent::config::HubConfig;
use door_agent::controller::Clock;
use door_agent::gpio::{self, BoardConfig, BoardKind, ClockTrust};
use door_agent::storage::saved_door;
use door_agent::tls::{CertificateAge, TlsCache, certificate_end};
use door_agent::{AgentConfig, cloud};
use door_core::config::{Egress, FailMode, Rest};
use door_core::schedule::zoneinfo;
use door_core::{DoorConfig, SavedDoor, StrikeConfig, TimedReport};
use jiff::Timestamp;

/// The user of door-agent@.service.
const SERVICE_USER: &str = "door-agent";

/// Prints the result lines and remembers whether any was WRONG.
#[derive(Default)]
struct CheckReport {
    wrong: bool,
}

impl CheckReport {
    fn fine(&self, what: &str, detail: impl Display) {
        super::print(format_args!("fine   {what}: {detail}\n"));
    }

    fn note(&self, what: &str, detail: impl Display) {
        super::print(format_args!("note   {what}: {detail}\n"));
    }

    fn wrong(&mut self, what: &str, detail: impl Display) {
        self.wrong = true;
        super::print(format_args!("WRONG  {what}: {detail}\n"));
    }
}

/// Checks everything and drives nothing; the exit status is a failure if anything is wrong.
pub(crate) fn check(path: &Path) -> anyhow::Result<ExitCode> {
    let mut report = CheckReport::default();
    match AgentConfig::load(path) {
        Ok(config) => {
            let hub = &config.hub;
            report.fine("configuration", path.display());
            report.fine(
                "connection string",
                format_args!(
                    "device {} of {}; no other user may read the file",
                    hub.connection.device_id, hub.connection.host_name
                ),
            );
            let running = running_in(&[
                config.state.directory.clone(),
                AgentConfig::service_state(path),
            ]);
            check_egress(&report, &config);
            check_inputs(&report, &config);
            check_strike(&report, &config.strike);
            check_state(
                &mut report,
                &config.state.directory,
                path,
                running.as_deref(),
            );
            check_saved(&mut report, &config, path);
            check_pins(&mut report, &config.board, path, running.is_some());
            check_clock(&report, &config.board);
            check_certificate(&mut report, hub);
            check_hub(&mut report, hub);
        }
        Err(errors) => {
            for mistake in errors.texts() {
                report.wrong("configuration", mistake);
            }
            // Check what can still be checked, so that one mistake does not hide the next.
            if let Ok(board) = AgentConfig::load_board(path) {
                let running = AgentConfig::load_state_directory(path)
                    .ok()
                    .and_then(|state| running_in(&[state, AgentConfig::service_state(path)]));
                check_pins(&mut report, &board, path, running.is_some());
                check_clock(&report, &board);
            }
        }
    }
    check_writable_settings(&report, path);
    Ok(if report.wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The state directory of the agent that runs with this configuration, if any.
fn running_in(directories: &[PathBuf; 2]) -> Option<PathBuf> {
    directories
        .iter()
        .find(|state| super::status::ask(state).is_ok())
        .cloned()
}

fn check_egress(report: &CheckReport, config: &AgentConfig) {
    let fitted = config.board.fitted();
    match config.door.egress {
        Some(Egress::FreeMechanical) => report.fine(
            "egress",
            "a handle or bar opens the door from inside, whatever this program does",
        ),
        Some(Egress::HardwareRelease) => report.fine(
            "egress",
            "exit button and fire release cut the lock's power in hardware: test both while \
             the door is locked, with this machine disconnected from them",
        ),
        Some(Egress::None)
            if config.board.kind != BoardKind::Simulated && (fitted.rex || fitted.fire) =>
            report.note(
            "egress",
            "none, but an exit button or a fire release is wired: people can be inside this door",
        ),
        Some(Egress::None) => report.note(
            "egress",
            "none: nobody may be inside while the door is locked",
        ),
        None => report.note(
            "egress",
            "[door] egress is not set, expected \"free-mechanical\", \"hardware-release\" or \
             \"none\": how people get out, which is never by this program",
        ),
    }
}

/// What an installer may expect of the reader or of the exit contact, and does not get.
fn check_inputs(report: &CheckReport, config: &AgentConfig) {
    let fitted = config.board.fitted();
    if fitted.grant {
        let during = if config.door.grant_in_lockdown {
            "under a lockdown the reader opens this door (door.grant_in_lockdown)"
        } else {
            "under a lockdown the reader does not open this door"
        };
        let detail = format!("{during}; a button inside must be wired as rex");
        report.note("grant", detail);
    }
    if fitted.rex_reports_only {
        let detail = "releases nothing (releases = false): people get out as [door] egress says";
        report.note("rex", detail);
    }
}

fn check_strike(report: &CheckReport, strike: &StrikeConfig) {
    let Some(max_on) = strike.max_on.filter(|_| strike.rest() != Rest::Stays) else {
        return;
    };
    let what = match strike.fail_mode() {
        FailMode::Safe => "lock",
        FailMode::Secure => "unlock",
    };
    report.note(
        "strike",
        format_args!("no {what} lasts longer than {max_on:?} (strike.max_on)"),
    );
}

fn check_state(report: &mut CheckReport, configured: &Path, path: &Path, running: Option<&Path>) {
    let shown = configured.display();
    if let Some(state) = running {
        let state = state.display();
        return report.fine(
            "state",
            format_args!("{state}, in use by the running agent"),
        );
    }
    let exists = configured.symlink_metadata().is_ok();
    // The service manager creates that of a service.
    if exists || configured != AgentConfig::service_state(path) {
        if let Err(problem) = try_to_write(configured) {
            return report.wrong(
                "state",
                format_args!("{shown} cannot be written: {problem}"),
            );
        }
    }
    match exists {
        true => report.fine("state", shown),
        false => report.note(
            "state",
            format_args!("{shown} does not exist yet: the first start creates it"),
        ),
    }
}

/// Creates and removes a file in a folder, or in the nearest one above that exists; as root on
/// behalf of the user of the service.
fn try_to_write(folder: &Path) -> Result<(), String> {
    let existing = folder
        .ancestors()
        .find(|above| above.symlink_metadata().is_ok());
    let existing = existing.filter(|above| !above.as_os_str().is_empty());
    let mut probe = Command::new("sh");
    probe
        .args(["-c", "file=$(mktemp -p \"$0\") && rm \"$file\""])
        .arg(existing.unwrap_or(Path::new(".")));
    let user = service_user().filter(|_| rustix::process::geteuid().is_root());
    if let Some((user, group)) = user {
        probe.uid(user).gid(group);
    }
    let output = probe.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    Err(match user {
        Some(_) => format!("as user {SERVICE_USER}: {error}"),
        None => error,
    })
}

/// The user and group id of the service; `None` if this machine does not have that user.
pub(super) fn service_user() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let user = users
        .lines()
        .find_map(|line| line.strip_prefix(SERVICE_USER)?.strip_prefix(':'))?;
    let mut fields = user.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Warns of saved slots and settings that the configuration no longer supports.
fn check_saved(report: &mut CheckReport, config: &AgentConfig, path: &Path) {
    let folders = [
        config.state.directory.clone(),
        AgentConfig::service_state(path),
    ];
    let found = folders.iter().find_map(|folder| saved_door(folder));
    let Some(saved): Option<SavedDoor> = found else {
        return;
    };
    let fitted = config.board.fitted();
    for slot in saved.unfitted_slots(fitted) {
        let (number, input) = (slot.number(), slot.input().unwrap_or_default());
        report.note(
            "state",
            format_args!(
                "slot {number} is occupied and [board.inputs.{input}] is not configured: the \
                 next start empties it"
            ),
        );
    }
    if let Some(week) = saved.desired().schedule {
        let zones = zoneinfo();
        match week.calendar() {
            Ok(calendar) => report.note(
                "week",
                format_args!(
                    "{} is assigned; rules of time zones: {zones}",
                    calendar.week().name
                ),
            ),
            Err(error) => report.wrong(
                "week",
                format_args!("the door cannot carry it out: {error}; slot 16 is locked"),
            ),
        }
    }
    for (id, TimedReport { entry, progress }) in saved.timed() {
        let until = entry.until.map(|until| format!(" until {until}"));
        let (want, from, state) = (entry.want, entry.from, progress.state);
        let until = until.unwrap_or_default();
        report.note(
            "timed",
            format_args!("{id}: {want} from {from}{until}, {state}"),
        );
    }
    let door = DoorConfig::new(config.door, config.strike, fitted);
    let refused = door.map_or_else(
        |_| Vec::new(),
        |door| door.with_overrides(&saved.desired().settings).1,
    );
    let refused = refused.iter().map(|(setting, _)| setting.name());
    for setting in saved.unknown_settings().chain(refused) {
        report.note(
            "state",
            format_args!(
                "the saved settings.{setting} is unknown or does not fit this configuration: \
                 the next start ignores it"
            ),
        );
    }
}

fn check_pins(report: &mut CheckReport, board: &BoardConfig, path: &Path, running: bool) {
    if board.kind == BoardKind::Simulated {
        return report.note(
            "pins",
            "none: the board is simulated and locks no real door",
        );
    }
    for (role, output, hazard) in board.hazards_at_boot() {
        report.note("pins", format_args!("{} as {role}: {hazard}", output.pin));
    }
    if let Some(module) = gpio::kept_after_exit(board) {
        report.note(
            "pins",
            format_args!(
                "this kernel leaves a line as it was when the agent is killed, until `door-agent \
                 de-energise` runs ({module}.persist_gpio_outputs is Y): set \
                 dtparam=strict_gpiod in config.txt"
            ),
        );
    }
    if running {
        return report.note("pins", "in use by the running agent");
    }
    let door = path.file_stem().unwrap_or_default().to_string_lossy();
    match gpio::probe(board, &door) {
        Ok(pins) => {
            for pin in pins {
                report.fine("pins", pin);
            }
        }
        Err(error) => report.wrong("pins", format_args!("{:#}", anyhow::Error::from(error))),
    }
}

fn check_clock(report: &CheckReport, board: &BoardConfig) {
    let now = Clock::new(board.clock_trust()).now();
    let shown = now
        .wall
        .map_or_else(|| "none".to_owned(), |wall| format!("{wall:.0}"));
    match (board.clock_trust(), now.trusted_wall()) {
        (ClockTrust::System, _) => report.fine(
            "clock",
            format_args!("{shown}, trusted as the configuration says"),
        ),
        (ClockTrust::Synchronized, Some(_)) => {
            report.fine("clock", format_args!("{shown}, synchronised"));
        }
        (ClockTrust::Synchronized, None) => report.note(
            "clock",
            format_args!(
                "{shown}, not synchronised: the door works and timed holds count elapsed time, \
                 but an unlock with a notAfter is refused (if a program other than \
                 systemd-timesyncd keeps the time, set [board] clock = \"system\")"
            ),
        ),
    }
}

/// Reminds of settings that others may change: they say which pin is the fire release.
fn check_writable_settings(report: &CheckReport, path: &Path) {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let drop_ins = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let mut files = vec![
        path.to_path_buf(),
        PathBuf::from(&folder),
        above.to_path_buf(),
    ];
    files.extend(drop_ins.map(|entry| entry.path()));
    for file in files {
        let Ok(metadata) = std::fs::metadata(&file) else {
            continue;
        };
        let shown = file.display();
        for (who, mend) in who_may_change(&metadata) {
            report.note(
                "settings",
                format_args!(
                    "{shown}: mode {:04o} lets {who} change the settings, which say which pin is \
                     the fire release: {mend} {shown}",
                    metadata.mode() & 0o7777,
                ),
            );
        }
    }
}

/// Who may change a file beside root and its reader, with the command that ends it. A shared folder
/// with the sticky bit, such as `/tmp`, keeps the files of others.
fn who_may_change(metadata: &Metadata) -> Vec<(String, &'static str)> {
    let (mode, owner, group) = (metadata.mode(), metadata.uid(), metadata.gid());
    let is_shared = metadata.is_dir() && mode & 0o1000 != 0;
    let reader = rustix::process::geteuid().as_raw();
    let service = service_user().map(|(user, _)| user);
    let is_trusted = owner == 0 || owner == reader || service == Some(owner);
    let mut others = Vec::new();
    if !is_trusted {
        others.push((format!("user {owner}"), "chown root"));
    }
    if mode & 0o020 != 0 && group != 0 && !is_shared {
        others.push((format!("group {group}"), "chmod g-w"));
    }
    if mode & 0o002 != 0 && !is_shared {
        others.push(("every user".to_owned(), "chmod o-w"));
    }
    others
}

fn check_certificate(report: &mut CheckReport, hub: &HubConfig) {
    let Some(files) = &hub.certificate else {
        return;
    };
    // What is wrong with the file itself is reported with the hub.
    let Ok(end) = certificate_end(files) else {
        return;
    };
    let file = files.certificate.display();
    match CertificateAge::of(end, Timestamp::now()) {
        CertificateAge::Valid => report.fine(
            "certificate",
            format_args!("{file} is valid until {end:.0}"),
        ),
        CertificateAge::EndsSoon => report.note(
            "certificate",
            format_args!("{file} ends at {end:.0}: replace it before that"),
        ),
        CertificateAge::Ended => report.wrong(
            "certificate",
            format_args!("{file} ended at {end:.0}, expected one that is valid now"),
        ),
    }
}

fn check_hub(report: &mut CheckReport, hub: &HubConfig) {
    let tls =
        match TlsCache::default().client_config(hub.ca_file.as_deref(), hub.certificate.as_ref()) {
            Ok(tls) => tls,
            Err(error) => {
                return report.wrong("hub", format_args!("{:#}", anyhow::Error::from(error)));
            }
        };
    match cloud::reach(hub, tls) {
        Ok(address) => report.fine(
            "hub",
            format_args!("{address} answers, and its certificate is trusted (no login was tried)"),
        ),
        Err(problem) => report.wrong("hub", problem),
    }
}
