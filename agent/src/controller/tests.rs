//! The controller with a simulated door, and with a board that records its calls.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use door_core::contract::{Alarm, LockState, Mode, ReplyError, Secured};
use door_core::{
    ClockQuality, DoorConfig, DoorSettings, Fitted, Inputs, OutputFault, Outputs, StrikeConfig,
    Want,
};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Clock, ControllerHandle, ControllerParts, Snapshot, boot_id, spawn};
use crate::gpio::simulated::{Sensor, SimCommand, SimHandle};
use crate::gpio::{self, Board, BoardConfig, ClockTrust, OpenBoard, Wake};
use crate::storage::{DoorDirectory, DoorStorage, Storage};

const TIMEOUT: Duration = Duration::from_secs(20);

struct Running {
    controller: ControllerHandle,
    task: JoinHandle<()>,
    shutdown: CancellationToken,
    storage: Storage,
    door: DoorStorage,
    sim: Option<SimHandle>,
}

impl Running {
    /// A released motor lock with short times.
    fn start(directory: &Path) -> Self {
        let (board, want) = quick_board(LockState::Unlocked);
        Self::with_board(directory, board, want)
    }

    fn with_board(directory: &Path, board: OpenBoard, default: Want) -> Self {
        Self::with_clock(directory, board, default, Clock::new(ClockTrust::System))
    }

    fn with_clock(directory: &Path, board: OpenBoard, default: Want, clock: Clock) -> Self {
        let storage = Storage::spawn().unwrap();
        let boot = boot_id();
        let (door, restored) = storage
            .open(&DoorDirectory {
                path: directory,
                door: "lobby-east",
                boot_id: boot.as_str(),
                event_log_bytes: 1 << 20,
            })
            .unwrap();
        let settings = DoorSettings {
            relinquish_default: default,
            strike_time: Duration::from_millis(100),
            settle_time: Duration::from_millis(10),
            ..DoorSettings::default()
        };
        let strike = StrikeConfig {
            bond_time: Duration::from_secs(2),
            pulse: Some(Duration::from_millis(60)),
            ..StrikeConfig::motor_lock()
        };
        let shutdown = CancellationToken::new();
        let sim = board.sim.clone();
        let (controller, task) = spawn(ControllerParts {
            door: DoorConfig::new(settings, strike, Fitted::ALL).unwrap(),
            restored: restored.door().unwrap(),
            board,
            clock,
            storage: door.clone(),
            watchdog: None,
            shutdown: shutdown.clone(),
        });
        Self {
            controller,
            task,
            shutdown,
            storage,
            door,
            sim,
        }
    }

    async fn call(&self, method: &str, payload: &str) -> (u16, Option<ReplyError>) {
        let reply = self.controller.invoke(method, payload.as_bytes()).await;
        (reply.status, reply.body.error)
    }

    async fn is_secured(&self) {
        self.until(|seen| seen.report.status.secured == Secured::Secured)
            .await;
    }

    /// Waits for a state of the lock.
    async fn reaches(&self, state: LockState) {
        self.until(|seen| lock_state(seen) == state).await;
    }

    async fn until(&self, what: impl FnMut(&Snapshot) -> bool) {
        let mut snapshot = self.controller.snapshot();
        let seen = timeout(TIMEOUT, snapshot.wait_for(what)).await;
        let is_seen = seen.is_ok_and(|seen| seen.is_ok());
        assert!(is_seen, "{:?}", self.controller.snapshot());
    }

    fn act(&self, command: SimCommand) {
        self.sim.as_ref().unwrap().apply(command).unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(TIMEOUT, self.task).await.unwrap().unwrap();
        timeout(TIMEOUT, self.door.close()).await.unwrap();
        self.storage.shutdown();
    }
}

fn lock_state(snapshot: &Snapshot) -> LockState {
    snapshot.report.status.lock_state
}

#[tokio::test]
async fn a_lock_is_proven_saved_and_restored_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path());
    running.reaches(LockState::Unlocked).await;
    let answer = running.call("lockDoor", r#"{"commandId":"a"}"#).await;
    assert_eq!(answer, (200, None));
    assert_eq!(running.sim.as_ref().unwrap().show().bolt, "thrown");
    let records = running.door.records_after(0, 100).await.unwrap();
    let commands = records
        .iter()
        .filter(|record| String::from_utf8_lossy(&record.body).contains(r#""commandId":"a""#));
    assert_eq!(commands.count(), 1);
    running.stop().await;

    let running = Running::start(directory.path());
    running.is_secured().await;
    let slots = running.controller.snapshot().borrow().slots.clone();
    let id = slots[0].command_id.as_ref();
    assert_eq!(id.map(|id| id.as_str()), Some("a"));
    running.stop().await;
}

#[tokio::test]
async fn a_closing_door_locks_and_a_request_to_exit_unlocks() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path());
    running.act(SimCommand::Open);
    assert_eq!(running.call("lockDoor", "{}").await, (202, None));
    running.act(SimCommand::Close);
    running.is_secured().await;
    running.act(SimCommand::press(Sensor::Rex));
    running.reaches(LockState::Unlocked).await;
    running.is_secured().await;
    running.act(SimCommand::Jam);
    let jammed = (500, Some(ReplyError::Jammed));
    assert_eq!(running.call("unlockDoor", "{}").await, jammed);
    running.stop().await;
}

#[tokio::test]
async fn an_invalid_call_is_answered_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path());
    assert_eq!(running.call("openDoor", "{}").await.0, 404);
    assert_eq!(running.call("lockDoor", "[]").await.0, 400);
    assert_eq!(running.call("getState", "").await.0, 200);
    let controller = running.controller.clone();
    running.stop().await;
    let reply = controller.invoke("getState", b"").await;
    let no_answer = (500, Some(ReplyError::NoAnswer));
    assert_eq!((reply.status, reply.body.error), no_answer);
}

#[tokio::test]
async fn without_a_disk_a_lock_acts_and_an_unlock_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path());
    running.reaches(LockState::Unlocked).await;
    running.door.close().await;
    let not_stored = (500, Some(ReplyError::NotStored));
    assert_eq!(running.call("lockDoor", "{}").await, not_stored);
    running.reaches(LockState::Locked).await;
    assert_eq!(running.call("unlockDoor", "{}").await, not_stored);
    assert_eq!(running.sim.as_ref().unwrap().show().bolt, "thrown");
    running.stop().await;
}

#[tokio::test]
async fn clock_steps_of_years_do_not_change_the_length_of_a_hold() {
    const YEARS: SignedDuration = SignedDuration::from_hours(24 * 365 * 9);
    let sync = ClockQuality::Synchronized;
    for (method, by_length, other) in [
        ("lockDoor", r#"{"lockTime":"2s"}"#, LockState::Unlocked),
        ("unlockDoor", r#"{"unlockTime":"2s"}"#, LockState::Locked),
    ] {
        for by_length in [Some(by_length), None] {
            let directory = tempfile::tempdir().unwrap();
            let (clock, test_clock) = Clock::for_test();
            let (board, default) = quick_board(other);
            let running = Running::with_clock(directory.path(), board, default, clock);
            running.reaches(other).await;
            let end = Timestamp::now() + Duration::from_secs(2);
            let until = format!(r#"{{"until":"{end}"}}"#);
            let begin = Instant::now();
            let payload = by_length.unwrap_or(&until);
            assert_eq!(running.call(method, payload).await, (200, None));
            test_clock.step(YEARS, sync);
            let mut steps = [SignedDuration::ZERO, -YEARS * 5, YEARS]
                .into_iter()
                .cycle();
            let mut snapshot = running.controller.snapshot();
            // Step the clock with every look at the door until it is back in its old state.
            while lock_state(&snapshot.borrow_and_update()) != other {
                test_clock.step(steps.next().unwrap(), sync);
                assert_eq!(running.call("getState", "").await.0, 200);
                assert!(begin.elapsed() < TIMEOUT, "{method} {payload}");
            }
            let lasted = begin.elapsed();
            let expected = Duration::from_millis(1900)..Duration::from_secs(6);
            assert!(expected.contains(&lasted), "{method} {payload}: {lasted:?}");
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn without_a_trusted_clock_an_unlock_with_not_after_is_refused_and_a_lock_acts() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, test_clock) = Clock::for_test();
    test_clock.step(SignedDuration::ZERO, ClockQuality::Unsynchronized);
    let (board, default) = quick_board(LockState::Unlocked);
    let running = Running::with_clock(directory.path(), board, default, clock);
    let not_after = format!(r#"{{"notAfter":"{}"}}"#, Timestamp::now() + TIMEOUT);
    assert_eq!(running.call("lockDoor", &not_after).await, (200, None));
    let expired = (410, Some(ReplyError::Expired));
    assert_eq!(running.call("unlockDoor", &not_after).await, expired);
    test_clock.step(SignedDuration::ZERO, ClockQuality::Synchronized);
    assert_eq!(running.call("unlockDoor", &not_after).await, (200, None));
    running.stop().await;
}

/// A simulated door with short times whose relinquish default is `at_rest`.
fn quick_board(at_rest: LockState) -> (OpenBoard, Want) {
    let config = BoardConfig {
        bolt_travel: Duration::from_millis(30),
        ..BoardConfig::simulated()
    };
    let board = gpio::open(&config, &StrikeConfig::motor_lock(), "lobby-east").unwrap();
    let want = match at_rest {
        LockState::Locked => Want::Locked,
        _ => Want::Released,
    };
    (board, want)
}

/// A board that records its calls, and panics on request.
#[derive(Clone, Default)]
struct RecordingBoard(Arc<Mutex<BoardLog>>);

#[derive(Default)]
struct BoardLog {
    inputs: Inputs,
    reads: usize,
    drives: Vec<Outputs>,
    output_fault: Option<&'static str>,
    panic: bool,
}

impl Board for RecordingBoard {
    fn read(&mut self) -> Inputs {
        let mut log = self.0.lock().unwrap();
        log.reads += 1;
        let (inputs, panic) = (log.inputs, log.panic);
        drop(log);
        assert!(!panic, "requested by the test");
        inputs
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        let mut log = self.0.lock().unwrap();
        log.drives.push(outputs);
        let problem = log.output_fault.map_or(Ok(()), |it| Err(it.to_owned()));
        problem.map_err(|problem| OutputFault {
            problem,
            is_energised: outputs == Outputs::DeEnergised,
        })
    }

    fn next_change(&self) -> Option<Instant> {
        None
    }
}

impl RecordingBoard {
    /// A closed door with a stuck bolt: the motor runs for its whole pulse.
    fn stuck() -> Self {
        let board_log = Self::default();
        board_log.0.lock().unwrap().inputs = Inputs {
            closed: Some(true),
            bonded: Some(true),
            rex: Some(false),
            grant: Some(false),
            fire: Some(false),
            fire_reset: Some(false),
            tamper: Some(false),
        };
        board_log
    }

    fn open(&self) -> (OpenBoard, Wake) {
        let wake = Wake::default();
        let board = OpenBoard {
            board: Box::new(self.clone()),
            wake: wake.clone(),
            sim: None,
        };
        (board, wake)
    }

    fn drives(&self) -> Vec<Outputs> {
        self.0.lock().unwrap().drives.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_are_read_every_second_and_outputs_set_every_3_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let board_log = RecordingBoard::stuck();
    // Locked as wanted: the door has no deadlines of its own, which would count in real time.
    let (board, _wake) = board_log.open();
    let running = Running::with_board(directory.path(), board, Want::Locked);
    tokio::time::sleep(Duration::from_secs(31)).await;
    let reads = board_log.0.lock().unwrap().reads;
    assert!((30..60).contains(&reads), "{reads}");
    assert!(board_log.drives().len() >= 10, "{:?}", board_log.drives());
    running.shutdown.cancel();
    running.task.await.unwrap();
    running.storage.shutdown();
}

#[tokio::test]
async fn a_lock_at_an_output_that_cannot_be_driven_is_no_success_until_a_later_write_succeeds() {
    const FAULT: &str = "line 4 (throw) cannot be driven: input/output error";
    let directory = tempfile::tempdir().unwrap();
    let board_log = RecordingBoard::stuck();
    let (board, _wake) = board_log.open();
    let running = Running::with_board(directory.path(), board, Want::Locked);
    running.is_secured().await;
    board_log.0.lock().unwrap().output_fault = Some(FAULT);
    running
        .until(|seen| lock_state(seen) == LockState::Unknown)
        .await;
    let seen = running.controller.snapshot().borrow().report.clone();
    assert!(seen.alarms.contains_key(&Alarm::LockFault), "{seen:?}");
    let reply = running.controller.invoke("lockDoor", b"{}").await;
    assert_eq!(
        (reply.status, reply.body.error),
        (500, Some(ReplyError::LockFault))
    );
    assert!(
        reply.body.response.contains(FAULT),
        "{}",
        reply.body.response
    );
    board_log.0.lock().unwrap().output_fault = None;
    running.is_secured().await;
    let seen = running.controller.snapshot().borrow().report.clone();
    assert!(seen.alarms.is_empty(), "{seen:?}");
    running.stop().await;
}

#[tokio::test]
async fn the_strike_is_de_energised_at_the_start_at_the_end_and_on_a_panic() {
    for panic in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let board_log = RecordingBoard::stuck();
        let (board, wake) = board_log.open();
        let running = Running::with_board(directory.path(), board, Want::Released);
        // Bonded while released is wanted: it retracts at once.
        let expected = [Outputs::DeEnergised, Outputs::Retract];
        assert_eq!(board_log.drives()[..2], expected);
        board_log.0.lock().unwrap().panic = panic;
        if panic {
            wake.poke();
        } else {
            running.shutdown.cancel();
        }
        let ended = timeout(TIMEOUT, running.task).await.unwrap();
        assert_eq!(ended.is_err_and(|error| error.is_panic()), panic);
        assert_eq!(board_log.drives().last(), Some(&Outputs::DeEnergised));
        running.storage.shutdown();
    }
}

/// A board whose program gets no time for a while, once, right after it has looked at a strike
/// that moves.
struct LateBoard {
    board: Box<dyn Board>,
    is_late: bool,
}

impl Board for LateBoard {
    fn read(&mut self) -> Inputs {
        let inputs = self.board.read();
        if std::mem::take(&mut self.is_late) {
            std::thread::sleep(Duration::from_secs(3));
        }
        inputs
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        self.is_late = outputs != Outputs::DeEnergised;
        self.board.drive(outputs)
    }

    fn next_change(&self) -> Option<std::time::Instant> {
        match self.is_late {
            true => Some(std::time::Instant::now()),
            false => self.board.next_change(),
        }
    }
}

#[tokio::test]
async fn an_old_look_at_the_bolt_is_not_taken_for_a_jam() {
    let directory = tempfile::tempdir().unwrap();
    let (board, default) = quick_board(LockState::Unlocked);
    let late = LateBoard {
        board: board.board,
        is_late: false,
    };
    let board = OpenBoard {
        board: Box::new(late),
        ..board
    };
    let running = Running::with_board(directory.path(), board, default);
    assert_eq!(running.call("lockDoor", "").await, (200, None));
    running.stop().await;
}

#[tokio::test]
async fn a_snapshot_contains_the_mode_displaced_by_a_lockdown() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path());
    for mode in ["passage", "lockdown"] {
        let payload = format!(r#"{{"mode":"{mode}"}}"#);
        assert_eq!(running.call("setMode", &payload).await.0, 200);
    }
    running
        .until(|seen| seen.report.mode == Mode::Lockdown)
        .await;
    let seen = running.controller.snapshot().borrow().clone();
    assert_eq!(seen.displaced_mode, Some(Mode::Passage));
    let slots: Vec<_> = seen.slots.iter().map(|slot| slot.slot.number()).collect();
    assert_eq!(slots, [5, 9]);
    running.stop().await;
}
