//! `door-agent selftest`: in a terminal, with pipes, and where nobody could answer.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::cli::{CONNECTION, Running, fed, run, status_until, write_config};

fn selftest(config: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    command
        .args(["selftest", "--config", config])
        .args(arguments);
    command.env("DOOR_AGENT__STRIKE__BOND_TIME", "2s");
    command
}

/// Answers from a pipe; returns exit status, summary and messages.
fn answered(config: &str, answers: &str) -> (i32, String, String) {
    fed(
        selftest(config, &["--script", "-", "--wait", "10s"]),
        answers,
    )
}

/// Answers that test every input successfully.
const INPUTS: &str = "ok\nopen\nclose\nrex on\nrex off\ngrant on\ngrant off\nfire\nfire off\n\
    fire-reset on\nfire-reset off\ntamper\ntamper off\n";

#[test]
fn a_correctly_wired_door_passes() {
    let home = tempfile::tempdir().unwrap();
    // No connection string yet: the wiring comes first.
    let config = write_config(home.path(), "", "");
    let answers =
        format!("# the inputs\n{INPUTS}\n# the strike\ndrive\ncut-power\nok\nrestore-power\nok\n");
    let (code, stdout, stderr) = answered(&config, &answers);
    assert_eq!(
        stdout,
        "what        pin        result\n\
         door        simulated  fine      open and closed seen\n\
         rex         simulated  fine      pressed and idle seen\n\
         grant       simulated  fine      active and idle seen\n\
         fire        simulated  fine      active and idle seen\n\
         fire_reset  simulated  fine      active and idle seen\n\
         tamper      simulated  fine      active and idle seen\n\
         strike      simulated  fine      locks and releases\n\
         bond        simulated  fine      thrown and not thrown seen\n\
         fail mode              fine      stays as it is without power, released\n",
        "{stderr}"
    );
    assert_eq!(code, 0);
    // The levels as they change.
    for line in [
        "  door is low: open\n",
        "  rex is high: pressed\n",
        "  bond is high: thrown\n",
    ] {
        assert!(stderr.contains(line), "{stderr}\nlacks {line}");
    }
    assert!(!home.path().join("state").exists(), "no state is created");
}

#[test]
fn wiring_faults_are_found() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "", "");
    let answers = "invert-sensor grant\nswap-sensors fire fire_reset\ncut-bond\nok\nopen\nclose\n\
        rex on\nstick-sensor rex\n\
                   grant on\ngrant off\nfire\nfire off\nok\nskip\nskip\ndrive\ny\nskip\n";
    let (code, stdout, stderr) = fed(
        selftest(&config, &["--script", "-", "--wait", "2s"]),
        answers,
    );
    for row in [
        "rex         simulated  WRONG     pressed was seen, but it does not go back to idle\n",
        "grant       simulated  WRONG     the wrong way round, idle when it should be active: ",
        "fire        simulated  WRONG     fire_reset moved instead: the wires, or the pins in the \
         configuration, are swapped",
        "fire_reset  simulated  untested  skipped\n",
        "strike      simulated  fine      moves, by your answer\n",
        "bond        simulated  WRONG     stays not thrown while the lock moves: ",
        "fail mode              untested  skipped\n",
    ] {
        assert!(stdout.contains(row), "{stdout}{stderr}\nlacks {row}");
    }
    assert_eq!(code, 1);
}

#[test]
fn without_consent_nothing_moves() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "", "");
    let (code, stdout, stderr) = answered(&config, &format!("{INPUTS}yes\n"));
    assert_eq!(code, 2, "{stdout}{stderr}");
    assert!(
        stdout.contains("strike      simulated  untested  not allowed to move\n"),
        "{stdout}"
    );
    assert!(
        !stderr.contains("Locking") && !stderr.contains("bond is high"),
        "{stderr}"
    );

    // A bolt does not move in an open door, even with consent.
    let inputs = INPUTS.replace("close\n", "skip\n");
    let (code, stdout, _) = answered(&config, &format!("{inputs}skip\n"));
    assert_eq!(code, 1);
    assert!(
        stdout.contains("strike      simulated  untested  the door does not read closed\n"),
        "{stdout}"
    );

    // The answers end early: the findings so far are printed.
    let (code, stdout, stderr) = answered(&config, "ok\nopen\nclose\n");
    assert_eq!(code, 1);
    assert!(
        stdout.ends_with("door  simulated  fine      open and closed seen\n"),
        "{stdout}"
    );
    assert!(
        stderr.ends_with(
            "error: the self-test was not completed; the strike is de-energised: the \
            answers end at: Press the exit button and keep it pressed\n"
        ),
        "{stderr}"
    );
}

#[test]
fn a_coil_is_held_while_its_power_is_cut() {
    for kind in [
        "kind = \"solenoid-bolt\"\nfail = \"safe\"",
        "kind = \"maglock\"\n[door]\negress = \"hardware-release\"",
    ] {
        let home = tempfile::tempdir().unwrap();
        let config = write_config(home.path(), "", "");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("kind = \"motor-lock\"", kind)).unwrap();
        let answers = format!("{INPUTS}drive\ncut-power\nok\nrestore-power\nok\n");
        let (code, stdout, stderr) = answered(&config, &answers);
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert!(
            stdout.ends_with(
                "fail mode              fine      released without power, as configured\n"
            ),
            "{stdout}"
        );
    }
}

#[test]
fn selftest_refuses_a_configuration_that_check_refuses() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/0.1/agent");
    for (file, mistakes) in [
        (
            "bare-numbers",
            ["board.inputs.door.debounce: 30 has no unit", "30ms"],
        ),
        (
            "far-times",
            ["door.held_open_time: 604800s, ", "from 1ms to 86400s"],
        ),
        ("hardware-release", ["door.egress: ", "\"free-mechanical\""]),
        ("maglock", ["door.egress: ", "\"hardware-release\""]),
    ] {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("door.toml");
        std::fs::copy(format!("{kept}/{file}.toml"), &config).unwrap();
        let (code, stdout, stderr) = answered(&config.display().to_string(), INPUTS);
        assert_eq!((code, stdout.as_str()), (1, ""), "{file}: {stderr}");
        assert!(
            stderr.starts_with("error: WRONG  configuration; "),
            "{file}: {stderr}"
        );
        for mistake in mistakes {
            assert!(stderr.contains(mistake), "{file}: {stderr}");
        }
    }
}

#[test]
fn selftest_is_refused_without_a_terminal_or_beside_an_agent() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let (code, stdout, stderr) = fed(selftest(&config, &[]), "ok\n");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.starts_with(
            "error: standard input is not a terminal, and a self-test needs somebody at the door"
        ),
        "{stderr}"
    );

    let mut agent = Running::start(&config);
    status_until(&config, |_| true);
    let (code, stdout, stderr) = answered(&config, "ok\n");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "error: the agent of this door is running and holds the pins; stop it first: systemctl \
         stop door-agent@door\n"
    );
    assert_eq!(agent.terminate(), 0);
    let (code, _, stderr) = run(format!("selftest --config {config} --script missing.txt"));
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("error: cannot read missing.txt"),
        "{stderr}"
    );
}

/// The program in its own terminal.
struct Terminal {
    child: Child,
    side: File,
    seen: String,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let side = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&side).unwrap();
        unlockpt(&side).unwrap();
        let path = ptsname(&side, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || File::options().read(true).write(true).open(&path).unwrap();
        let terminal = theirs();
        // Typed lines are not echoed, and line ends are not translated.
        let mut modes = tcgetattr(&terminal).unwrap();
        modes.local_modes.remove(rustix::termios::LocalModes::ECHO);
        modes
            .output_modes
            .remove(rustix::termios::OutputModes::OPOST);
        tcsetattr(&terminal, OptionalActions::Now, &modes).unwrap();
        let child = command
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs())
            .spawn()
            .unwrap();
        Self {
            child,
            side: side.into(),
            seen: String::new(),
        }
    }

    /// Reads until the terminal shows `text` after the previous match.
    fn until(&mut self, text: &str) {
        loop {
            if let Some(place) = self.seen.find(text) {
                self.seen.drain(..place + text.len());
                return;
            }
            let mut bytes = [0; 4096];
            // An error is the end of a terminal whose last user has exited.
            let length = self.side.read(&mut bytes).unwrap_or(0);
            assert!(length > 0, "it ended without {text}: {}", self.seen);
            self.seen
                .push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.side, "{line}").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn in_a_terminal_a_step_ends_when_the_pin_moves() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "", "");
    let mut terminal = Terminal::start(selftest(&config, &[]));
    terminal.until("Enter when done > ");
    terminal.type_line("");
    for (instruction, answer, seen) in [
        (
            "Open the door (Enter if nothing happens, skip to skip)\n",
            "open",
            "  door is low: open\n",
        ),
        ("Close the door (", "close", "  door is high: closed\n"),
        // Nothing happens, and the person presses Enter.
        (
            "Press the exit button and keep it pressed (",
            "",
            "  WRONG rex: no pin moved, it constantly reads idle",
        ),
        ("Let the reader grant access, ", "skip", ""),
        (
            "Set off the fire release (",
            "fire",
            "  fire is high: active\n",
        ),
        (
            "Reset the fire release (",
            "fire off",
            "  fire is low: idle\n",
        ),
        (
            "Turn the key switch",
            "fire-reset for 3s",
            "  fire_reset is low: idle\n",
        ),
        ("Open the enclosure", "skip", ""),
        (
            "Type drive to let it move; anything else skips it > ",
            "drive",
            "  bond is high: thrown\n",
        ),
    ] {
        terminal.until(instruction);
        terminal.type_line(answer);
        terminal.until(seen);
    }
    terminal.until("Enter when it is cut, skip to skip > ");
    let id = terminal.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &id])
            .status()
            .unwrap()
            .success()
    );
    terminal.until("grant       simulated  untested  skipped\n");
    terminal.until("strike      simulated  fine      locks and releases\n");
    terminal.until(
        "error: the self-test was not completed; the strike is de-energised: ended by SIGINT\n",
    );
    assert_eq!(terminal.child.wait().unwrap().code(), Some(1));
}
