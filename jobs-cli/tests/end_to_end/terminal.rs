//! doorctl on a terminal: progress bars, colours, Ctrl-C, and the confirmation for many doors.
//!
//! The terminal is provided by `script` of util-linux, which every Debian has. Without it the tests
//! are skipped, except in CI.
#![cfg(target_os = "linux")]

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use door_agent::gpio::simulated::SimCommand;
use doorfleet_testing::{DEADLINE, Process, missing};

use super::support::{Lab, Operator, same_environment};

/// A program on a terminal.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    shown: Arc<Shown>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Shown {
    text: Mutex<String>,
    more: Condvar,
}

impl Terminal {
    /// Runs doorctl; `None` without `script`.
    fn run(operator: &Operator, arguments: &[&str], colour: bool) -> Option<Self> {
        let doorctl = operator.command(arguments);
        let words = std::iter::once(doorctl.get_program()).chain(doorctl.get_args());
        let words = words.map(|word| format!("'{}'", word.to_str().unwrap()));
        let command: Vec<String> = words.collect();
        let mut script = Command::new("script");
        same_environment(&mut script, &doorctl);
        script
            .args([
                "--quiet",
                "--return",
                "--flush",
                "--command",
                &command.join(" "),
                "/dev/null",
            ])
            .current_dir(operator.folder())
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if colour {
            script.env_remove("NO_COLOR");
        }
        let Ok(mut script) = script.spawn() else {
            missing("script");
            return None;
        };
        let keys = script.stdin.take().unwrap();
        let mut screen = script.stdout.take().unwrap();
        let shown = Arc::new(Shown::default());
        let all = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                all.text.lock().unwrap().push_str(&text);
                all.more.notify_all();
            }
        });
        Some(Self {
            script,
            keys,
            shown,
            reader,
        })
    }

    /// Waits until the text was shown.
    #[track_caller]
    fn until(&self, wanted: &str) {
        let text = self.shown.text.lock().unwrap();
        let waited = self
            .shown
            .more
            .wait_timeout_while(text, DEADLINE, |text| !text.contains(wanted));
        let (text, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{wanted:?} is not shown: {text:?}");
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the end; returns the exit status and everything shown.
    fn end(mut self) -> (i32, String) {
        let status = self.script.wait().unwrap();
        drop(self.keys);
        // The end of the output may still be in the pipe.
        self.reader.join().unwrap();
        let shown = self.shown.text.lock().unwrap().clone();
        (status.code().unwrap(), shown)
    }
}

/// Whether a text contains a colour: `ESC [ .. m`.
fn is_coloured(text: &str) -> bool {
    text.split("\u{1b}[").skip(1).any(|code| {
        let end = code.find(|character: char| !character.is_ascii_digit() && character != ';');
        end.is_some_and(|end| code[end..].starts_with('m') && end > 0 && &code[..end] != "0")
    })
}

#[test]
fn a_job_is_watched_with_a_bar_on_a_terminal_and_with_lines_elsewhere() {
    let lab = Lab::new();
    let _good = lab.door("good", "");
    let stuck = lab.door("stuck", "");
    stuck.at(SimCommand::Jam);
    lab.run("devices add absent").expect(0);
    let job = [
        "jobs",
        "lock",
        "good",
        "stuck",
        "absent",
        "--at",
        "+5s",
        "--connect-timeout",
        "10s",
        "--id",
        "night",
    ];
    lab.run(job).expect(0);

    let watch = ["jobs", "watch", "night"];
    let Some(coloured) = Terminal::run(&lab, &watch, true) else {
        return;
    };
    let plain = Terminal::run(&lab, &watch, false).unwrap();
    let quiet = Terminal::run(&lab, &[&watch[..], &["--quiet"]].concat(), false).unwrap();
    let mut left = Terminal::run(&lab, &watch, false).unwrap();
    coloured.until("night  ");
    left.until("night  ");
    left.press("\u{3}");
    let piped = lab.run(watch).expect(2);

    let (status, shown) = left.end();
    assert_eq!(status, 130, "{shown:?}");
    assert!(
        shown.contains("stopped watching; job night continues: doorctl jobs watch night"),
        "{shown:?}"
    );
    let (status, shown) = coloured.end();
    assert_eq!(status, 2, "{shown:?}");
    for part in [
        "=====",
        "/3 doors",
        "stuck: ",
        "absent: ",
        "job night completed",
    ] {
        assert!(shown.contains(part), "{part:?} is not shown: {shown:?}");
    }
    assert!(is_coloured(&shown), "{shown:?}");
    let (status, shown) = plain.end();
    assert_eq!(status, 2);
    assert!(shown.contains("/3 doors"), "{shown:?}");
    assert!(!is_coloured(&shown), "{shown:?}");
    let (status, shown) = quiet.end();
    assert_eq!(status, 2);
    assert!(
        !shown.contains("/3 doors") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
    assert!(shown.starts_with("DOOR "), "{shown:?}");
    assert!(
        !piped.stderr.contains('\u{1b}') && !piped.stderr.contains("[="),
        "{piped:?}"
    );
    assert!(
        piped.stderr.contains("night  3 of 3 doors done"),
        "{piped:?}"
    );
}

#[test]
fn status_is_watched_in_place_on_a_terminal_and_in_changes_elsewhere() {
    let lab = Lab::new();
    lab.run("devices add a").expect(0);
    let watch = ["status", "--watch"];
    let Some(mut terminal) = Terminal::run(&lab, &watch, false) else {
        return;
    };
    let mut changes = lab.command([&watch[..], &["-o", "csv"]].concat());
    let mut changes = Process::spawn(changes.stdout(Stdio::piped()));
    let mut lines = changes.stdout();
    terminal.until("all ");
    let (titles, first) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(titles.starts_with("time,building,floor,doors,"), "{titles}");
    assert!(first.contains(",,,1,0,0,0,1,"), "{first}");
    lab.run("devices add b --floor 7").expect(0);
    terminal.until(" 7 ");
    let changed = [lines.next().unwrap(), lines.next().unwrap()];
    assert!(changed[0].contains(",,7,1,"), "{changed:?}");
    terminal.press("\u{3}");
    let (status, shown) = terminal.end();
    assert_eq!(status, 130, "{shown:?}");
    assert!(shown.contains("\u{1b}[2J"), "{shown:?}");
    assert_eq!(changes.interrupt().code(), Some(130));
    assert_eq!(lines.next(), None);
}

#[test]
fn many_doors_need_their_number_typed() {
    let lab = Lab::new();
    lab.run("devices add a b c").expect(0);
    let lock = |id| {
        let job = [
            "jobs",
            "lock",
            "--all",
            "--confirm-above",
            "2",
            "--at",
            "+1h",
            "--id",
            id,
        ];
        Terminal::run(&lab, &job, false)
    };
    let Some(mut wrong) = lock("wrong") else {
        return;
    };
    wrong.until("This will lock 3 doors. Type their number to continue:");
    wrong.press("y\n");
    let (status, shown) = wrong.end();
    assert_eq!(status, 4, "{shown:?}");
    assert!(
        shown.contains(
            "this would lock 3 doors, more than 2, and \"y\" was typed; nothing was changed"
        ),
        "{shown:?}"
    );
    let mut right = lock("right").unwrap();
    right.until("Type their number to continue:");
    right.press("3\n");
    let (status, shown) = right.end();
    assert_eq!(status, 0, "{shown:?}");
    assert!(shown.contains("job right is queued"), "{shown:?}");
    // Ctrl-C at the question cancels, too.
    let mut left = lock("left").unwrap();
    left.until("Type their number to continue:");
    left.press("\u{3}");
    assert_ne!(left.end().0, 0);
    let jobs = lab.json("jobs list");
    assert_eq!(jobs.as_array().unwrap().len(), 1, "{jobs}");
}
