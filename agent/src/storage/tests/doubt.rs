//! Starts with state files that are damaged, missing or older than what was answered: no loss
//! releases the lock, and nobody is locked in.

use std::collections::BTreeMap;

use door_core::contract::{Mode, ReplyError};
use door_core::{
    Action, BootId, ClockQuality, Command, DesiredDoor, DesiredMode, Door, DoorConfig,
    DoorSettings, EventKind, Fitted, Generation, Inputs, MethodReply, Now, SavedDoor, StrikeConfig,
    Ticket, Want,
};
use jiff::SignedDuration;

use super::*;
use crate::storage::state_file::encode;

const STATES: [&str; 2] = ["state.0", "state.1"];
const LEDGER: &str = "events/acknowledged";

fn config(default: Want) -> DoorConfig {
    let settings = DoorSettings {
        relinquish_default: default,
        ..DoorSettings::default()
    };
    DoorConfig::new(settings, StrikeConfig::motor_lock(), Fitted::ALL).unwrap()
}

fn idle() -> Inputs {
    Inputs {
        closed: Some(true),
        bonded: Some(false),
        rex: Some(false),
        grant: Some(false),
        fire: Some(false),
        fire_reset: Some(false),
        tamper: Some(false),
    }
}

/// A door with a real folder and a clock moved by hand.
struct TestDoor {
    door: Door,
    storage: DoorStorage,
    /// The state that is still to be saved.
    persist: Option<(Generation, SavedDoor)>,
    events: Vec<EventKind>,
    answers: Vec<MethodReply>,
    now: Now,
}

impl TestDoor {
    /// Starts as the agent does.
    fn start(shared: &Storage, path: &Path, default: Want) -> Self {
        let now = Now {
            boottime: Duration::from_secs(100).into(),
            boot_id: BootId::new(BOOT),
            wall: Some("2026-11-23T22:00:00Z".parse().unwrap()),
            quality: ClockQuality::Synchronized,
        };
        let (storage, mut restored) = shared.open(&directory(path, BOOT)).unwrap();
        let found: Vec<SavedDoor> = restored.doors_or_aside(&storage, SavedDoor::fire_latch);
        let saved = match restored.doubt {
            Some(reason) => Some(SavedDoor::in_doubt(found, reason, &now)),
            None => found.into_iter().next(),
        };
        let (door, actions) = Door::new(config(default), saved.as_ref(), &now);
        let mut test_door = Self {
            door,
            storage,
            persist: None,
            events: Vec::new(),
            answers: Vec::new(),
            now,
        };
        test_door.handle_actions(actions);
        test_door.read(idle());
        test_door
    }

    fn handle_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(event) => self.events.push(event.kind),
                Action::Answer { reply, .. } => self.answers.push(reply),
                Action::Persist { generation, saved } => self.persist = Some((generation, saved)),
                Action::Drive(_) | Action::Report => {}
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        let time = Duration::from_secs(seconds);
        self.now.boottime = self.now.boottime + time;
        let time = SignedDuration::try_from(time).unwrap();
        self.now.wall = self.now.wall.map(|wall| wall.checked_add(time).unwrap());
    }

    fn read(&mut self, inputs: Inputs) {
        self.pass(1);
        let actions = self.door.handle_inputs(&self.now, inputs);
        self.handle_actions(actions);
    }

    /// Writes the pending states to disk.
    fn save(&mut self) {
        while let Some((generation, saved)) = self.persist.take() {
            let (tx, rx) = mpsc::sync_channel(1);
            self.storage
                .save_door(&saved, move |result| tx.send(result).unwrap());
            rx.recv_timeout(DEADLINE).unwrap().unwrap();
            let actions = self.door.handle_persisted(&self.now, generation, Ok(()));
            self.handle_actions(actions);
        }
    }

    fn call(&mut self, method: &str, payload: &str) {
        let command = Command::parse(method, payload.as_bytes()).unwrap();
        self.pass(10);
        let actions = self.door.handle_command(&self.now, Ticket(0), &command);
        self.handle_actions(actions);
        self.save();
    }

    fn desire(&mut self, mode: Mode) {
        let desired = DesiredDoor {
            mode: DesiredMode::Mode(mode),
            ..DesiredDoor::default()
        };
        let actions = self.door.handle_desired(&self.now, Ticket(0), &desired);
        self.handle_actions(actions);
        self.save();
    }

    fn slots(&self) -> Vec<(u8, Want)> {
        let entries = self.door.authority().entries();
        entries
            .map(|(slot, entry)| (slot.number(), entry.want))
            .collect()
    }

    /// Asserts that in doubt only entries that lock the door, and the fire latch, are in force.
    fn assert_in_doubt(&self, what: &str, default: Want, latched: bool, lockdown: bool) {
        let array = self.door.authority();
        let mut expected = Vec::new();
        expected.extend(latched.then_some((1, Want::Released)));
        expected.extend(lockdown.then_some((5, Want::Locked)));
        expected.extend((default == Want::Released).then_some((8, Want::Locked)));
        assert_eq!(self.slots(), expected, "{what}");
        assert!(array.in_doubt().is_some(), "{what}");
        let mode = lockdown.then_some(Mode::Lockdown);
        assert_eq!(array.mode(), mode.unwrap_or(Mode::Secure), "{what}");
        assert_eq!(array.desired_mode(), None, "{what}");
        let want = latched.then_some(Want::Released);
        assert_eq!(array.want(), want.unwrap_or(Want::Locked), "{what}");
        let is_doubt = |event: &EventKind| matches!(event, EventKind::StateInDoubt { .. });
        let events = &self.events;
        assert!(events.iter().any(is_doubt), "{what}: {events:?}");
    }

    /// Asserts that exit button and fire release still work.
    fn assert_exits_work(&mut self, what: &str) {
        for (rex, fire) in [(true, false), (false, true)] {
            self.read(Inputs {
                rex: Some(rex),
                fire: Some(fire),
                ..idle()
            });
            assert_eq!(self.door.authority().want(), Want::Released, "{what}");
        }
    }
}

/// The files of a state folder; `None` instead of bytes stands for a folder.
#[derive(Clone)]
struct Folder {
    files: BTreeMap<String, Option<Vec<u8>>>,
    newest: &'static str,
    older: &'static str,
}

impl Folder {
    /// State of a killed door that was released in slots 7, 8 and 9, also by a desired mode, and
    /// then put under a lockdown, which only the newest file contains. `latched`: there was a fire
    /// before.
    fn of_a_killed_door(shared: &Storage, default: Want, latched: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state");
        let mut test_door = TestDoor::start(shared, &path, default);
        for fire in [latched, false, false] {
            test_door.read(Inputs {
                fire: Some(fire),
                ..idle()
            });
            test_door.save();
        }
        test_door.desire(Mode::Passage);
        test_door.call("unlockDoor", r#"{"unlockTime":"1h"}"#);
        test_door.call("unlockDoor", r#"{"commandId":"u"}"#);
        test_door.call("setMode", r#"{"mode":"lockdown"}"#);
        let mut files = BTreeMap::new();
        for folder in [path.clone(), path.join("events")] {
            for entry in fs::read_dir(folder).unwrap() {
                let file = entry.unwrap().path();
                if file.is_file() {
                    let name = file.strip_prefix(&path).unwrap().to_str().unwrap();
                    files.insert(name.to_owned(), Some(fs::read(&file).unwrap()));
                }
            }
        }
        let lockdown = |name: &&str| {
            let bytes = files[*name].as_ref().unwrap();
            String::from_utf8_lossy(bytes).contains("\"slot\":5")
        };
        let newest = STATES.into_iter().find(|name| lockdown(name)).unwrap();
        let older = STATES.into_iter().find(|name| !lockdown(name)).unwrap();
        Self {
            files,
            newest,
            older,
        }
    }

    fn write(&self, path: &Path) {
        fs::create_dir_all(path.join("events")).unwrap();
        for (name, bytes) in &self.files {
            match bytes {
                Some(bytes) => fs::write(path.join(name), bytes).unwrap(),
                None => fs::create_dir(path.join(name)).unwrap(),
            }
        }
    }

    fn bytes(&mut self, name: &str) -> &mut Vec<u8> {
        self.files.get_mut(name).unwrap().as_mut().unwrap()
    }

    fn flip(&mut self, name: &str) -> &mut Self {
        let bytes = self.bytes(name);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self
    }

    fn cut(&mut self, name: &str) -> &mut Self {
        self.bytes(name).truncate(200);
        self
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        *self.bytes(name) = bytes.to_vec();
        self
    }

    fn copy(&mut self, from: &str, to: &str) -> &mut Self {
        let bytes = self.bytes(from).clone();
        self.replace(to, &bytes)
    }

    fn remove(&mut self, name: &str) -> &mut Self {
        self.files.remove(name);
        self
    }

    /// Does the same to both state files.
    fn both(&mut self, harm: for<'a> fn(&'a mut Self, &str) -> &'a mut Self) -> &mut Self {
        for name in STATES {
            harm(self, name);
        }
        self
    }

    /// Writes a valid file with changed content.
    fn change(&mut self, name: &str, change: fn(&mut Value)) -> &mut Self {
        let bytes = self.bytes(name).clone();
        let body = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut envelope: Value = serde_json::from_slice(&bytes[body..]).unwrap();
        change(&mut envelope);
        let generation = envelope["generation"].as_u64().unwrap();
        let bytes = encode(generation, &envelope["content"]).unwrap();
        self.replace(name, &bytes)
    }

    /// Writes a valid file whose door state this version cannot parse.
    fn another_form(&mut self, name: &str) -> &mut Self {
        self.change(name, |envelope| {
            envelope["content"]["door"]["slots"] = "as another version has them".into();
        })
    }

    fn unknown_slot(&mut self, name: &str) -> &mut Self {
        self.change(name, |envelope| {
            let slots = envelope["content"]["door"]["slots"].as_array_mut();
            let slot = serde_json::json!({"slot": 4, "want": "released", "since": 1});
            slots.unwrap().push(slot);
        })
    }

    /// The ledger's line up to the generation of the state, and that generation.
    fn ledger(&mut self) -> (String, u64) {
        let text = String::from_utf8(self.bytes(LEDGER).clone()).unwrap();
        let (log, state) = text.split_once(" state=").unwrap();
        (
            log.to_owned(),
            state.split_once(' ').unwrap().0.parse().unwrap(),
        )
    }

    /// Makes the ledger name a generation `by` higher than the newest file's.
    fn ledger_ahead(&mut self, by: u64) -> &mut Self {
        let (_, generation) = self.ledger();
        self.ledger_says(generation + by)
    }

    fn ledger_says(&mut self, generation: u64) -> &mut Self {
        let line = format!("{} state={generation} crc=", self.ledger().0);
        let crc = crc32fast::hash(line.as_bytes());
        self.replace(LEDGER, format!("{line}{crc:08x}\n").as_bytes())
    }

    fn ledger_of_0_1(&mut self) -> &mut Self {
        let (log, _) = self.ledger();
        self.replace(LEDGER, format!("{log}\n").as_bytes())
    }
}

/// What a start uses of the files.
#[derive(Debug, Clone, Copy, PartialEq)]
enum StartUse {
    /// Everything; it is not in doubt.
    All,
    /// In doubt: the entries of the newest file that lock the door.
    Newest,
    /// In doubt: those of the older file, which has no lockdown.
    Older,
    /// In doubt: only the fire latch.
    Latch,
    /// In doubt: nothing.
    Nothing,
}

type Loss = (&'static str, fn(&mut Folder) -> &mut Folder, StartUse);

use StartUse::{All, Latch, Newest, Nothing, Older};

const LOSSES: [Loss; 29] = [
    ("nothing", |it| it, All),
    ("ledger damaged", |it| it.replace(LEDGER, b"\0\0\0"), All),
    ("ledger flipped", |it| it.flip(LEDGER), All),
    ("ledger missing", |it| it.remove(LEDGER), All),
    ("ledger of 0.1", Folder::ledger_of_0_1, All),
    ("newest flipped", |it| it.flip(it.newest), Older),
    ("newest cut", |it| it.cut(it.newest), Older),
    ("newest empty", |it| it.replace(it.newest, b""), Older),
    ("newest missing", |it| it.remove(it.newest), Older),
    (
        "newest missing, ledger of 0.1",
        |it| it.remove(it.newest).ledger_of_0_1(),
        Older,
    ),
    (
        "newest flipped, ledger missing",
        |it| it.flip(it.newest).remove(LEDGER),
        Older,
    ),
    (
        "newest a folder",
        |it| {
            it.files.insert(it.newest.to_owned(), None);
            it
        },
        Older,
    ),
    (
        "newest of a later layout",
        |it| {
            it.bytes(it.newest)[17] = b'9';
            it
        },
        Older,
    ),
    (
        "newest of another form",
        |it| it.another_form(it.newest),
        Older,
    ),
    ("older flipped", |it| it.flip(it.older), Newest),
    ("older torn on a full disk", |it| it.cut(it.older), Newest),
    ("older missing", |it| it.remove(it.older), Newest),
    ("both older copies", |it| it.ledger_ahead(2), Newest),
    (
        "ledger beyond every generation",
        |it| it.ledger_says(u64::MAX),
        Newest,
    ),
    (
        "newest beyond every generation",
        |it| it.change(it.newest, |file| file["generation"] = u64::MAX.into()),
        Older,
    ),
    (
        "newest overwritten by the older, ledger of 0.1",
        |it| it.copy(it.older, it.newest).ledger_of_0_1(),
        Older,
    ),
    (
        "older overwritten by the newest",
        |it| it.copy(it.newest, it.older),
        Newest,
    ),
    ("both missing", |it| it.both(Folder::remove), Nothing),
    ("both flipped", |it| it.both(Folder::flip), Nothing),
    (
        "both empty, ledger of 0.1",
        |it| it.both(|it, name| it.replace(name, b"")).ledger_of_0_1(),
        Nothing,
    ),
    (
        "both flipped, ledger missing",
        |it| it.both(Folder::flip).remove(LEDGER),
        Nothing,
    ),
    (
        "both with a slot that is not known",
        |it| it.both(Folder::unknown_slot),
        Latch,
    ),
    (
        "both of another form",
        |it| it.both(Folder::another_form),
        Nothing,
    ),
    (
        "newest of another form, older flipped",
        |it| {
            let older = it.older;
            it.another_form(it.newest).flip(older)
        },
        Nothing,
    ),
];

#[tokio::test]
async fn lost_state_never_restores_a_release_except_the_fire_latch() {
    let shared = Storage::spawn().unwrap();
    for default in [Want::Locked, Want::Released] {
        for latched in [false, true] {
            let whole = Folder::of_a_killed_door(&shared, default, latched);
            for (lost, harm, takes) in LOSSES {
                let what = format!("{lost}, default {default}, latched {latched}");
                let mut folder = whole.clone();
                harm(&mut folder);
                let home = tempfile::tempdir().unwrap();
                folder.write(home.path());
                if takes == All {
                    let test_door = TestDoor::start(&shared, home.path(), default);
                    let mut slots = vec![1, 5, 7, 8, 9];
                    slots.retain(|slot| latched || *slot != 1);
                    let found: Vec<_> = test_door.slots().iter().map(|(slot, _)| *slot).collect();
                    assert_eq!(found, slots, "{what}");
                    assert_eq!(test_door.door.authority().in_doubt(), None, "{what}");
                    continue;
                }
                let latched = latched && takes != Nothing;
                let lockdown = takes == Newest;
                // Killed before anything is saved, stopped before anything is saved, and stopped
                // after everything is saved.
                for saves in [None, Some(false), Some(true), Some(true)] {
                    let mut test_door = TestDoor::start(&shared, home.path(), default);
                    test_door.assert_in_doubt(&what, default, latched, lockdown);
                    if saves == Some(true) {
                        test_door.save();
                    }
                    if saves.is_some() {
                        within(test_door.storage.close()).await;
                    }
                }
                let mut test_door = TestDoor::start(&shared, home.path(), default);
                test_door.assert_in_doubt(&what, default, latched, lockdown);
                test_door.call("unlockDoor", "{}");
                let refusal = test_door.answers.pop().unwrap();
                let refused = (refusal.status, refusal.body.error);
                assert_eq!(refused, (409, Some(ReplyError::Refused)), "{what}");
                test_door.assert_in_doubt(&what, default, latched, lockdown);
                test_door.call("lockDoor", "{}");
                assert_eq!(test_door.door.authority().in_doubt(), None, "{what}");
                let mode = if lockdown {
                    Mode::Lockdown
                } else {
                    Mode::Normal
                };
                assert_eq!(test_door.door.authority().mode(), mode, "{what}");
                within(test_door.storage.close()).await;
                // The doubt is over, also for the next start; and exits work.
                let mut test_door = TestDoor::start(&shared, home.path(), default);
                assert_eq!(test_door.door.authority().in_doubt(), None, "{what}");
                assert_eq!(test_door.door.authority().mode(), mode, "{what}");
                test_door.assert_exits_work(&what);
            }
        }
    }
}

#[tokio::test]
async fn each_flipped_bit_of_a_state_file_leaves_the_door_in_doubt() {
    let shared = Storage::spawn().unwrap();
    for (latched, newest) in [(false, true), (true, true), (false, false)] {
        let folder = Folder::of_a_killed_door(&shared, Want::Released, latched);
        let home = tempfile::tempdir().unwrap();
        folder.write(home.path());
        let name = if newest { folder.newest } else { folder.older };
        let bytes = folder.files[name].clone().unwrap();
        let file = home.path().join(name);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &flipped).unwrap();
            let mut test_door = TestDoor::start(&shared, home.path(), Want::Released);
            let what = format!("{name}, bit {bit}, latched {latched}");
            test_door.assert_in_doubt(&what, Want::Released, latched, !newest);
            if bit % 64 == 0 {
                test_door.assert_exits_work(&what);
            }
            let kept = test_door.storage.disk().borrow().kept_aside.clone();
            assert_eq!(kept.len(), 1, "{what}");
            fs::remove_file(&kept[0]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_desired_mode_acts_in_doubt_and_does_not_end_it() {
    let shared = Storage::spawn().unwrap();
    let mut folder = Folder::of_a_killed_door(&shared, Want::Locked, false);
    folder.flip(folder.newest);
    for mode in [Mode::Lockdown, Mode::Normal, Mode::Secure] {
        let home = tempfile::tempdir().unwrap();
        folder.write(home.path());
        let mut test_door = TestDoor::start(&shared, home.path(), Want::Locked);
        test_door.desire(mode);
        assert_eq!(test_door.door.authority().mode(), mode);
        assert!(test_door.door.authority().in_doubt().is_some(), "{mode}");
        // The mode that doubt imposed ends with it; one that was set since does not.
        test_door.call("relinquish", "{}");
        assert_eq!(test_door.door.authority().in_doubt(), None, "{mode}");
        assert_eq!(test_door.door.authority().mode(), mode);
        within(test_door.storage.close()).await;
    }
}
