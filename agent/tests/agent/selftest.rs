//! `door-agent selftest`: in a terminal, with pipes, and where nobody could answer.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;

use doorfleet_testing::{CommandOutput, Process, run_with_input};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::cli::{CONNECTION, Running, program, run_with, status_until, write_config};

fn selftest(config: &str, arguments: &[&str]) -> Command {
    let mut command = program(["selftest", "--config", config]);
    command.args(arguments);
    command.env("DOOR_AGENT__STRIKE__BOND_TIME", "2s");
    command
}

/// Answers from a pipe: the summary is on stdout, the messages on stderr.
fn answered(config: &str, answers: &str) -> CommandOutput {
    let arguments = ["--script", "-", "--wait", "10s"];
    run_with_input(&mut selftest(config, &arguments), answers)
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
    let tested = answered(&config, &answers).expect(0);
    assert_eq!(
        tested.stdout,
        "what        pin        result\n\
         door        simulated  fine      open and closed seen\n\
         rex         simulated  fine      pressed and idle seen\n\
         grant       simulated  fine      active and idle seen\n\
         fire        simulated  fine      active and idle seen\n\
         fire_reset  simulated  fine      active and idle seen\n\
         tamper      simulated  fine      active and idle seen\n\
         strike      simulated  fine      locks and releases\n\
         bond        simulated  fine      thrown and not thrown seen\n\
         fail mode              fine      stays as it is without power, released\n"
    );
    // The levels as they change.
    tested.says(&[
        "  door is low: open\n",
        "  rex is high: pressed\n",
        "  bond is high: thrown\n",
    ]);
    assert!(!home.path().join("state").exists(), "no state is created");
}

#[test]
fn wiring_faults_are_found() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "", "");
    let answers = "invert-sensor grant\nswap-sensors fire fire_reset\ncut-bond\nok\nopen\nclose\n\
        rex on\nstick-sensor rex\n\
                   grant on\ngrant off\nfire\nfire off\nok\nskip\nskip\ndrive\ny\nskip\n";
    let mut selftest = selftest(&config, &["--script", "-", "--wait", "2s"]);
    let tested = run_with_input(&mut selftest, answers).expect(1);
    tested.prints(&[
        "rex         simulated  WRONG     pressed was seen, but it does not go back to idle\n",
        "grant       simulated  WRONG     the wrong way round, idle when it should be active: ",
        "fire        simulated  WRONG     fire_reset moved instead: the wires, or the pins in the \
         configuration, are swapped",
        "fire_reset  simulated  untested  skipped\n",
        "strike      simulated  fine      moves, by your answer\n",
        "bond        simulated  WRONG     stays not thrown while the lock moves: ",
        "fail mode              untested  skipped\n",
    ]);
}

#[test]
fn without_consent_nothing_moves() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "", "");
    let expected = "strike      simulated  untested  not allowed to move\n";
    let tested = answered(&config, &format!("{INPUTS}yes\n")).expect(2);
    let stderr = tested.prints(&[expected]).stderr;
    for sign in ["Locking", "bond is high"] {
        assert!(!stderr.contains(sign), "{stderr}");
    }

    // A bolt does not move in an open door, even with consent.
    let inputs = INPUTS.replace("close\n", "skip\n");
    let expected = "strike      simulated  untested  the door does not read closed\n";
    let tested = answered(&config, &format!("{inputs}skip\n")).expect(1);
    tested.prints(&[expected]);

    // The answers end early: the findings so far are printed.
    let tested = answered(&config, "ok\nopen\nclose\n").expect(1);
    let expected = "door  simulated  fine      open and closed seen\n";
    assert!(tested.stdout.ends_with(expected), "{tested:?}");
    let expected = "error: the self-test was not completed; the strike is de-energised: the \
                    answers end at: Press the exit button and keep it pressed\n";
    assert!(tested.stderr.ends_with(expected), "{tested:?}");
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
        let tested = answered(&config, &answers).expect(0);
        let expected = "fail mode              fine      released without power, as configured\n";
        assert!(tested.stdout.ends_with(expected), "{tested:?}");
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
        let refused = answered(config.to_str().unwrap(), INPUTS).expect(1);
        let refused = refused.says(&mistakes);
        assert_eq!(refused.stdout, "", "{file}");
        let expected = "error: WRONG  configuration; ";
        assert!(refused.stderr.starts_with(expected), "{file}: {refused:?}");
    }
}

#[test]
fn selftest_is_refused_without_a_terminal_or_beside_an_agent() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let refused = run_with_input(&mut selftest(&config, &[]), "ok\n").expect(1);
    let expected = "error: standard input is not a terminal, and a self-test needs somebody at";
    assert!(refused.stderr.starts_with(expected), "{refused:?}");
    assert_eq!(refused.stdout, "");

    let mut agent = Running::start(&config);
    status_until(&config, |_| true);
    let refused = answered(&config, "ok\n").expect(1);
    let expected = "error: the agent of this door is running and holds the pins; stop it first: \
                    systemctl stop door-agent@door\n";
    assert_eq!((&*refused.stdout, &*refused.stderr), ("", expected));
    assert_eq!(agent.terminate(), 0);
    let missing = run_with(&config, "selftest --script missing.txt").expect(1);
    missing.says(&["error: cannot read missing.txt"]);
}

/// The program in its own terminal.
struct Terminal {
    child: Process,
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
        command.stdin(theirs()).stdout(theirs()).stderr(theirs());
        Self {
            child: Process::spawn(&mut command),
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

#[test]
fn in_a_terminal_a_step_ends_when_the_pin_moves() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), "", "");
    let mut terminal = Terminal::start(selftest(&config, &[]));
    terminal.until("Enter when done > ");
    terminal.type_line("");
    let mut step = |instruction: &str, answer: &str, seen: &str| {
        terminal.until(instruction);
        terminal.type_line(answer);
        terminal.until(seen);
    };
    let open = "Open the door (Enter if nothing happens, skip to skip)\n";
    step(open, "open", "  door is low: open\n");
    step("Close the door (", "close", "  door is high: closed\n");
    // Nothing happens, and the person presses Enter.
    let silent = "  WRONG rex: no pin moved, it constantly reads idle";
    step("Press the exit button and keep it pressed (", "", silent);
    step("Let the reader grant access, ", "skip", "");
    step(
        "Set off the fire release (",
        "fire",
        "  fire is high: active\n",
    );
    step(
        "Reset the fire release (",
        "fire off",
        "  fire is low: idle\n",
    );
    step(
        "Turn the key switch",
        "fire-reset for 3s",
        "  fire_reset is low: idle\n",
    );
    step("Open the enclosure", "skip", "");
    let drive = "Type drive to let it move; anything else skips it > ";
    step(drive, "drive", "  bond is high: thrown\n");
    terminal.until("Enter when it is cut, skip to skip > ");
    terminal.child.signal("INT");
    terminal.until("grant       simulated  untested  skipped\n");
    terminal.until("strike      simulated  fine      locks and releases\n");
    terminal.until(
        "error: the self-test was not completed; the strike is de-energised: ended by SIGINT\n",
    );
    assert_eq!(terminal.child.wait().code(), Some(1));
}
