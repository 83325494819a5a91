//! Runs the commands of the pages with the real programs.
//!
//! Every fenced `sh` block of a page runs, in order, in one bash session per page. A block that
//! cannot run has a comment `<!-- no-run: REASON -->` directly above it. The info string of a block
//! may state `exits: 0 or 2` (default: 0) and `until: WORDS` (repeat the block until it prints
//! these). A `text` block that begins on the line after an `sh` block is what that block prints.
//!
//! After a change of what is printed, `just transcript` writes these `text` blocks.

pub(crate) mod block;
mod messages;
mod steady;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use block::{Block, blocks};
use doorfleet_testing::{DEADLINE, free_port, missing, workspace_program};
use steady::{steady, words};
use tempfile::TempDir;

use super::enroll::{PACKAGE, Pi};
use super::support::{Door, Lab};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const TUTORIAL: &str = "docs/tutorial.md";

/// The self-test needs a door without an agent; the guide then enrolls the door of the others.
const FOR_INSTALLERS: [&str; 7] = [
    "docs/installer/selftest.md",
    "docs/guide-installer.md",
    "docs/installer/life-safety.md",
    "docs/installer/hardware.md",
    "docs/installer/wiring.md",
    "docs/installer/service.md",
    "docs/installer/time.md",
];

const FOR_OPERATORS: [&str; 7] = [
    "README.md",
    "docs/guide-guard.md",
    "docs/guide-operator.md",
    "docs/operator/hub.md",
    "docs/operator/alarms.md",
    "docs/operator/people.md",
    "docs/troubleshooting.md",
];

fn text_of(page: &str) -> String {
    fs::read_to_string(Path::new(REPOSITORY).join(page))
        .unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// A bash session in a folder of its own; the programs are on its PATH.
struct Session {
    bash: Child,
    stdin: ChildStdin,
    home: PathBuf,
    /// Scripts, outputs and statuses of the blocks.
    notes: TempDir,
    runs: usize,
    /// Replacements in a block before it runs, reversed in its output.
    replaced: Vec<(String, String)>,
}

impl Session {
    /// `path` comes before the folder of the programs on the PATH.
    fn new(
        home: &Path,
        path: Option<PathBuf>,
        environment: &[(&str, PathBuf)],
        replaced: Vec<(String, String)>,
    ) -> Self {
        let notes = tempfile::tempdir().unwrap();
        let programs = workspace_program("door-hub").parent().unwrap().to_owned();
        let inherited = std::env::var_os("PATH").unwrap();
        let path = path
            .into_iter()
            .chain([programs])
            .chain(std::env::split_paths(&inherited));
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc"])
            .current_dir(home)
            .env("HOME", home)
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("NO_COLOR", "1")
            // The width of the pages.
            .env("COLUMNS", "100");
        for name in [
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "DOORCTL_CONFIG",
            "DOORCTL_CONTEXT",
        ] {
            command.env_remove(name);
        }
        for (name, value) in environment {
            command.env(name, value);
        }
        let mut bash = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(notes.path().join("bash")).unwrap())
            .spawn()
            .unwrap();
        let mut stdin = bash.stdin.take().unwrap();
        // The first command that fails in a block is its exit status.
        writeln!(stdin, "set -E; trap 'failed=${{failed:-$?}}' ERR").unwrap();
        Self {
            bash,
            stdin,
            home: home.to_owned(),
            notes,
            runs: 0,
            replaced,
        }
    }

    /// Runs a script; gives its exit status, and stdout and stderr as a terminal shows them.
    fn run(&mut self, script: &str) -> (i32, String) {
        self.runs += 1;
        let note = |kind: &str| self.notes.path().join(format!("{kind}-{}", self.runs));
        let (file, output, status) = (note("block"), note("output"), note("status"));
        let script = self
            .replaced
            .iter()
            .fold(script.to_owned(), |text, (from, to)| text.replace(from, to));
        fs::write(&file, &script).unwrap();
        writeln!(
            self.stdin,
            "failed=; . {0} >{1} 2>&1; echo \"${{failed:-0}}\" >{2}.part; mv {2}.part {2}",
            file.display(),
            output.display(),
            status.display()
        )
        .unwrap();
        let begun = Instant::now();
        while !status.exists() {
            assert!(
                begun.elapsed() < DEADLINE,
                "does not end:\n{script}\n{}",
                fs::read_to_string(&output).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = fs::read_to_string(status).unwrap();
        let output = fs::read_to_string(output).unwrap();
        let output = self
            .replaced
            .iter()
            .fold(output, |text, (from, to)| text.replace(to, from))
            .replace(self.home.to_str().unwrap(), "~");
        (status.trim().parse().unwrap(), output)
    }

    /// Runs a block to the end that it states; gives what it printed.
    fn follow(&mut self, block: &Block, expected: Option<&str>) -> String {
        let begun = Instant::now();
        loop {
            let (status, output) = self.run(&block.text);
            let shown = words(&steady(&output)).join(" ");
            let Some(until) = block.until() else {
                assert!(
                    block.exits().contains(&status),
                    "{block}: {status}\n{output}"
                );
                return output;
            };
            let matches = |text| blessing() || words(&steady(text)) == words(&steady(&output));
            if shown.contains(until) && expected.is_none_or(matches) {
                assert!(
                    block.exits().contains(&status),
                    "{block}: {status}\n{output}"
                );
                return output;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{block}: {until:?} is not printed, or not with what the page shows:\n{output}"
            );
            std::thread::sleep(Duration::from_millis(if blessing() { 2000 } else { 100 }));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // All that it started: they are a process group of their own.
        let group = format!("-{}", self.bash.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.bash.wait());
    }
}

/// Whether the pages are written instead of compared.
fn blessing() -> bool {
    std::env::var_os("DOORFLEET_BLESS").is_some()
}

/// Runs all blocks of a page, and compares what they print with the page.
fn run_page(page: &str, session: &mut Session) {
    let text = text_of(page);
    let all = blocks(page, &text);
    let mut blessed = Vec::new();
    for (at, block) in all.iter().enumerate() {
        if block.language != "sh" || block.no_run.is_some() {
            continue;
        }
        let shown = all
            .get(at + 1)
            .filter(|next| next.language == "text" && next.first_line == block.last_line + 1);
        let output = session.follow(block, shown.map(|shown| shown.text.as_str()));
        let Some(shown) = shown else { continue };
        let printed = steady(&output);
        if words(&steady(&shown.text)) == words(&printed) {
            continue;
        }
        assert!(
            blessing(),
            "{shown}: the page shows something else; `just transcript` writes it. \
             It is now:\n{printed}"
        );
        blessed.push((shown, printed));
    }
    if blessed.is_empty() {
        return;
    }
    let mut lines: Vec<&str> = text.lines().collect();
    for (shown, printed) in blessed.iter().rev() {
        let within = shown.first_line..shown.last_line - 1;
        lines.splice(within, printed.trim_end().lines());
    }
    fs::write(Path::new(REPOSITORY).join(page), lines.join("\n") + "\n").unwrap();
}

/// A hub, a Pi that is a folder (enroll/pi.sh), and two doors: `lobby-east` on the Pi, and
/// `lobby-west`.
struct Site {
    session: Session,
    _west: Door,
    _pi: Pi,
    _lab: Lab,
}

impl Site {
    fn new() -> Self {
        let lab = Lab::new();
        let pi = Pi::new();
        let folder = lab.folder();
        fs::write(folder.join(PACKAGE), "0.1.0-1").unwrap();
        fs::write(
            folder.join("lobby-east.toml"),
            "[strike]\nkind = \"motor-lock\"\n[board]\nkind = \"simulated\"\n",
        )
        .unwrap();
        let west = lab.door("lobby-west", "--building 43 --floor 3");
        let environment = [
            ("PI", pi.at("")),
            ("DOOR_AGENT", workspace_program("door-agent")),
            ("DOORCTL_CONFIG", folder.join("doorctl.toml")),
            ("XDG_STATE_HOME", folder.join("state")),
            // In place of /var/lib/door-agent/lobby-east.
            ("DOOR_AGENT__STATE__DIRECTORY", pi.at("state")),
        ];
        let path = |path: &Path| path.display().to_string();
        let replaced = vec![
            ("/etc/door-agent".to_owned(), path(&pi.at("etc/door-agent"))),
            ("/var/lib/door-hub".to_owned(), path(&lab.data)),
            // The hub of this test has free ports, and is dialled as localhost.
            (
                "door-hub check ".to_owned(),
                "door-hub check --mqtt-port 0 --https-port 0 ".to_owned(),
            ),
            (
                "devices enroll ".to_owned(),
                "devices enroll --hub-host localhost ".to_owned(),
            ),
        ];
        let session = Session::new(folder, Some(pi.at("here")), &environment, replaced);
        Self {
            session,
            _west: west,
            _pi: pi,
            _lab: lab,
        }
    }

    /// With `lobby-east` enrolled already.
    fn enrolled() -> Self {
        let mut site = Self::new();
        let (status, output) = site.session.run(
            "doorctl devices enroll pi@10.0.3.7 lobby-east --building 43 --floor 3 \
             --config lobby-east.toml",
        );
        assert_eq!(status, 0, "{output}");
        site
    }
}

/// No bash on this machine: the test is left out.
fn no_bash() -> bool {
    let absent = Command::new("bash").arg("--version").output().is_err();
    if absent {
        missing("bash");
    }
    absent
}

#[test]
fn the_tutorial_runs_and_prints_what_it_shows() {
    if no_bash() {
        return;
    }
    // The page has fixed ports; the test has free ones.
    let replaced = ["18883", "18443"].map(|port| (port.to_owned(), free_port().to_string()));
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::new(folder.path(), None, &[], replaced.into());
    run_page(TUTORIAL, &mut session);
}

#[test]
fn the_pages_for_installers_run() {
    if no_bash() {
        return;
    }
    let mut site = Site::new();
    for page in FOR_INSTALLERS {
        run_page(page, &mut site.session);
    }
}

#[test]
fn the_pages_for_operators_and_guards_run() {
    if no_bash() {
        return;
    }
    let mut site = Site::enrolled();
    for page in FOR_OPERATORS {
        run_page(page, &mut site.session);
    }
}

#[test]
fn the_readme_shows_lines_of_the_tutorial() {
    let tutorial = text_of(TUTORIAL);
    for block in blocks("README.md", &text_of("README.md")) {
        let console = block.language == "console";
        for line in block.text.lines().filter(|_| console) {
            let line = line.strip_prefix("$ ").unwrap_or(line);
            assert!(
                tutorial.contains(line),
                "{block}: not in the tutorial: {line}"
            );
        }
    }
}

#[test]
fn a_block_that_does_not_run_has_a_reason() {
    let mut list = String::new();
    for page in [TUTORIAL]
        .iter()
        .chain(&FOR_INSTALLERS)
        .chain(&FOR_OPERATORS)
    {
        for block in blocks(page, &text_of(page)) {
            let Some(reason) = &block.no_run else {
                continue;
            };
            assert!(
                reason.split_whitespace().count() >= 3,
                "{block}: no-run needs a reason, not {reason:?}"
            );
            writeln!(list, "{block}: {reason}").unwrap();
        }
    }
    println!("blocks that do not run:\n{list}");
}
