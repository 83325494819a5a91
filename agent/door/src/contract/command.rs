//! Method payloads: written by `doorctl`, read by the door.

mod fields;
mod identify;
mod reboot;
mod set_mode;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use thiserror::Error;

use super::duration;
use super::lockdown::LockdownOrder;
use super::reply::MethodReply;
use super::{Mode, Slot, words};
pub(super) use fields::Fields;
pub use identify::Identity;
pub use reboot::Reboot;
pub use set_mode::SetMode;

/// The methods of a door. [`Reboot`] and [`Identity`] are methods of its machine.
pub const METHODS: [&str; 8] = [
    "lockDoor",
    "unlockDoor",
    "relinquish",
    "setMode",
    "lockdown",
    "allClear",
    "getState",
    "selfTest",
];

const MAX_COMMAND_ID: usize = 128;

/// Identifies one command over all its deliveries, so that a duplicate does not act again: 1 to 128
/// visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandId(Box<str>);

/// The text is not a command id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a command id has 1 to {MAX_COMMAND_ID} visible ASCII characters")]
pub struct InvalidCommandId;

impl CommandId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommandId {
    type Err = InvalidCommandId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=MAX_COMMAND_ID).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidCommandId)
        }
    }
}

impl TryFrom<String> for CommandId {
    type Error = InvalidCommandId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommandId> for String {
    fn from(id: CommandId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Members that every command that acts may have: its id, its validity and a reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandHeader {
    /// The command's id, the same in all deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// By a trusted clock, the command does not act after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Why the command was given, for the event log: 1 to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Payload of `lockDoor`. Without a time the hold lasts until it is relinquished or replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockDoor {
    /// How long, counted from acceptance. Applies if `until` is absent or no clock is trusted.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "duration_text"
    )]
    pub lock_time: Option<Duration>,
    /// Until when, by a trusted clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Id, validity and reason.
    #[serde(flatten)]
    pub header: CommandHeader,
}

words! {
    /// A release for one passage, for a time of the door's settings.
    pub enum Pulse {
        /// The strike time.
        Strike = "strike",
        /// The extended strike time.
        Extended = "extended",
    }
}

/// Payload of `unlockDoor`. With a time or a pulse it is an operator grant, else an operator hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnlockDoor {
    /// How long, counted from acceptance. Applies if `until` is absent or no clock is trusted.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "duration_text"
    )]
    pub unlock_time: Option<Duration>,
    /// Until when, by a trusted clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Instead of the two: a time of the door's settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
    /// Id, validity and reason.
    #[serde(flatten)]
    pub header: CommandHeader,
}

/// Payload of `relinquish`: empties one slot, or the operator's slots 7 and 8.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Relinquish {
    /// The slot to empty. Slot 5 ends a lockdown, and the displaced mode returns; slot 9 ends
    /// passage mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Id, validity and reason.
    #[serde(flatten)]
    pub header: CommandHeader,
}

/// A direct method of a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Locks, for a time or until further notice.
    Lock(LockDoor),
    /// Releases, for a time or until further notice.
    Unlock(UnlockDoor),
    /// Empties slots, so that lower ones decide.
    Relinquish(Relinquish),
    /// Changes the mode.
    SetMode(SetMode),
    /// Locks against entry, whatever the mode.
    Lockdown(LockdownOrder),
    /// Ends every lockdown; the mode decides again.
    AllClear(LockdownOrder),
    /// Returns the state; changes nothing.
    GetState,
    /// Checks the hardware as far as possible without moving the bolt.
    SelfTest,
}

/// What a door must show for a command to count as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// That it is secured.
    Secured,
    /// That it is unlocked.
    Released,
    /// Nothing but a successful answer.
    Answered,
}

impl Command {
    /// Parses a method call. The payload is an object, a JSON string that contains one, `null` or
    /// empty.
    ///
    /// # Errors
    /// The reply to send: 404 for an unknown method, 400 with the invalid field, its value and what
    /// was expected.
    pub fn parse(method: &str, payload: &[u8]) -> Result<Self, MethodReply> {
        let fields = |allowed| Fields::read(method, payload, allowed);
        match method {
            "lockDoor" => {
                let fields = fields(&["lockTime", "until", "commandId", "notAfter", "reason"])?;
                Ok(Self::Lock(LockDoor {
                    lock_time: fields.duration("lockTime")?,
                    until: fields.timestamp("until")?,
                    header: fields.header_with_reason()?,
                }))
            }
            "unlockDoor" => {
                let fields = fields(&[
                    "unlockTime",
                    "until",
                    "pulse",
                    "commandId",
                    "notAfter",
                    "reason",
                ])?;
                Ok(Self::Unlock(UnlockDoor {
                    unlock_time: fields.duration("unlockTime")?,
                    until: fields.timestamp("until")?,
                    pulse: fields.pulse("pulse", &["unlockTime", "until"])?,
                    header: fields.header_with_reason()?,
                }))
            }
            "relinquish" => {
                let fields = fields(&["slot", "commandId", "notAfter", "reason"])?;
                Ok(Self::Relinquish(Relinquish {
                    slot: fields.slot("slot")?,
                    header: fields.header_with_reason()?,
                }))
            }
            "setMode" => SetMode::read(&fields(SetMode::FIELDS)?).map(Self::SetMode),
            "lockdown" | "allClear" => {
                let order = LockdownOrder::read(&fields(LockdownOrder::FIELDS)?)?;
                Ok(match method {
                    "lockdown" => Self::Lockdown(order),
                    _ => Self::AllClear(order),
                })
            }
            "getState" => fields(&[]).map(|_| Self::GetState),
            "selfTest" => fields(&[]).map(|_| Self::SelfTest),
            _ => Err(MethodReply::unknown_method(method)),
        }
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Lock(_) => "lockDoor",
            Self::Unlock(_) => "unlockDoor",
            Self::Relinquish(_) => "relinquish",
            Self::SetMode(_) => "setMode",
            Self::Lockdown(_) => "lockdown",
            Self::AllClear(_) => "allClear",
            Self::GetState => "getState",
            Self::SelfTest => "selfTest",
        }
    }

    /// The call as it is sent: method and payload. A command that only reads has no payload. The
    /// inverse of [`Command::parse`] for what that accepts.
    #[must_use]
    pub fn to_call(&self) -> (&'static str, Option<Box<RawValue>>) {
        let payload = match self {
            Self::Lock(lock) => to_raw_value(lock),
            Self::Unlock(unlock) => to_raw_value(unlock),
            Self::Relinquish(relinquish) => to_raw_value(relinquish),
            Self::SetMode(set) => to_raw_value(set),
            Self::Lockdown(order) | Self::AllClear(order) => to_raw_value(order),
            Self::GetState | Self::SelfTest => return (self.method(), None),
        };
        let payload = payload.expect("a payload has string keys only");
        (self.method(), Some(payload))
    }

    /// What a door must show for the command to count as done.
    #[must_use]
    pub fn goal(&self) -> Goal {
        match self {
            Self::Lock(_) | Self::Lockdown(_) => Goal::Secured,
            Self::Unlock(_) => Goal::Released,
            Self::SetMode(set) => match set.mode {
                Mode::Lockdown | Mode::Secure => Goal::Secured,
                Mode::Passage => Goal::Released,
                Mode::Normal | Mode::Maintenance => Goal::Answered,
            },
            Self::Relinquish(_) | Self::AllClear(_) | Self::GetState | Self::SelfTest => {
                Goal::Answered
            }
        }
    }

    /// Digest (FNV-1a) that tells commands with the same `commandId` apart. It covers the parsed
    /// payload without id, validity, reason, name and time of order, which a repetition may change.
    /// It is saved, so it must not change between versions.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut command = self.clone();
        if let Some(header) = command.header_mut() {
            *header = CommandHeader::default();
        }
        if let Self::Lockdown(order) | Self::AllClear(order) = &mut command {
            (order.by, order.at) = (None, None);
        }
        let (_, payload) = command.to_call();
        let payload = payload.as_deref().map_or("", RawValue::get);
        let step =
            |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        payload.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// Id, validity and reason; `None` for a command that only reads.
    #[must_use]
    pub fn header(&self) -> Option<&CommandHeader> {
        match self {
            Self::Lock(lock) => Some(&lock.header),
            Self::Unlock(unlock) => Some(&unlock.header),
            Self::Relinquish(relinquish) => Some(&relinquish.header),
            Self::SetMode(set) => Some(&set.header),
            Self::Lockdown(order) | Self::AllClear(order) => Some(&order.header),
            Self::GetState | Self::SelfTest => None,
        }
    }

    fn header_mut(&mut self) -> Option<&mut CommandHeader> {
        match self {
            Self::Lock(lock) => Some(&mut lock.header),
            Self::Unlock(unlock) => Some(&mut unlock.header),
            Self::Relinquish(relinquish) => Some(&mut relinquish.header),
            Self::SetMode(set) => Some(&mut set.header),
            Self::Lockdown(order) | Self::AllClear(order) => Some(&mut order.header),
            Self::GetState | Self::SelfTest => None,
        }
    }
}

#[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
fn duration_text<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(duration::to_text).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(payload: &str) -> LockDoor {
        match Command::parse("lockDoor", payload.as_bytes()) {
            Ok(Command::Lock(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_payload_is_an_object_a_string_that_holds_one_or_nothing() {
        let ten_minutes = LockDoor {
            lock_time: Some(Duration::from_secs(600)),
            ..LockDoor::default()
        };
        for payload in [
            r#"{"lockTime":"10m"}"#,
            r#""{\"lockTime\":\"10m\"}""#,
            r#"{"lockTime":600}"#,
            r#"{"lockTime":"600","until":null}"#,
            r#" {"lockTime":"PT10M"} "#,
        ] {
            assert_eq!(lock(payload), ten_minutes, "{payload}");
        }
        for payload in ["", " ", "null", "{}", r#""""#, r#""{}""#, r#""null""#] {
            assert_eq!(lock(payload), LockDoor::default(), "{payload}");
        }
    }

    #[test]
    fn a_digest_leaves_out_id_validity_and_reason_and_never_changes() {
        let digest = |method, payload: &str| {
            let command = Command::parse(method, payload.as_bytes());
            command.unwrap().digest()
        };
        let header = r#""commandId":"a","notAfter":"2026-11-23T22:00:00Z","reason":"fire drill""#;
        for (method, payload) in [
            ("lockDoor", r#""lockTime":"10m""#),
            ("unlockDoor", r#""unlockTime":"10m""#),
            ("relinquish", r#""slot":8"#),
            ("setMode", r#""mode":"secure""#),
            ("lockdown", r#""by":"alice","at":"2026-11-23T22:00:00Z""#),
        ] {
            let alone = digest(method, &format!("{{{payload}}}"));
            let with_header = digest(method, &format!("{{{header},{payload}}}"));
            assert_eq!(alone, with_header, "{method}");
        }
        // FNV-1a of `{"lockTime":"10m"}`.
        let expected = 0x1a10_8df4_1142_ff8d;
        assert_eq!(digest("lockDoor", r#"{"lockTime":"600"}"#), expected);
    }

    #[test]
    fn a_payload_is_written_in_the_order_of_its_fields() {
        let lock = Command::Lock(LockDoor {
            lock_time: Some(Duration::from_secs(5400)),
            until: Some("2026-11-23T22:10:00Z".parse().unwrap()),
            header: CommandHeader {
                command_id: Some("lock-20261123-220000-x7k2".parse().unwrap()),
                not_after: Some("2026-11-23T22:05:00Z".parse().unwrap()),
                reason: Some("drill, \u{e4}\u{1b}".to_owned()),
            },
        });
        let (method, payload) = lock.to_call();
        assert_eq!(method, "lockDoor");
        assert_eq!(
            payload.unwrap().get(),
            r#"{"lockTime":"1h30m","until":"2026-11-23T22:10:00Z","commandId":"lock-20261123-220000-x7k2","notAfter":"2026-11-23T22:05:00Z","reason":"drill, ä\u001b"}"#
        );
    }

    #[test]
    fn the_goal_of_a_mode_is_what_it_does_to_the_lock() {
        for (mode, goal) in [
            (Mode::Normal, Goal::Answered),
            (Mode::Passage, Goal::Released),
            (Mode::Secure, Goal::Secured),
            (Mode::Lockdown, Goal::Secured),
            (Mode::Maintenance, Goal::Answered),
        ] {
            let header = CommandHeader::default();
            assert_eq!(Command::SetMode(SetMode { mode, header }).goal(), goal);
        }
        assert_eq!(Command::Lock(LockDoor::default()).goal(), Goal::Secured);
        assert_eq!(
            Command::Unlock(UnlockDoor::default()).goal(),
            Goal::Released
        );
        assert_eq!(
            Command::Relinquish(Relinquish::default()).goal(),
            Goal::Answered
        );
        assert_eq!(Command::GetState.goal(), Goal::Answered);
    }

    fn time() -> impl Strategy<Value = Option<Timestamp>> {
        // From 1970 to 9999, with fractions of a second.
        let time = (0..253_402_000_000_i64, 0..1_000_000_000_i32)
            .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap());
        proptest::option::of(time)
    }

    fn length() -> impl Strategy<Value = Option<Duration>> {
        let length = (1..=duration::MAX.as_secs()).prop_map(Duration::from_secs);
        proptest::option::of(length)
    }

    fn header() -> impl Strategy<Value = CommandHeader> {
        let id = proptest::option::of("[!-~]{1,128}".prop_map(|id| id.parse().unwrap()));
        let reason = proptest::option::of("\\PC{1,64}");
        (id, time(), reason).prop_map(|(command_id, not_after, reason)| CommandHeader {
            command_id,
            not_after,
            reason,
        })
    }

    fn command() -> impl Strategy<Value = Command> {
        let lock = (length(), time(), header()).prop_map(|(lock_time, until, header)| {
            Command::Lock(LockDoor {
                lock_time,
                until,
                header,
            })
        });
        let unlock = (length(), time(), header()).prop_map(|(unlock_time, until, header)| {
            Command::Unlock(UnlockDoor {
                unlock_time,
                until,
                pulse: None,
                header,
            })
        });
        let pulse =
            (proptest::sample::select(&Pulse::ALL), header()).prop_map(|(pulse, header)| {
                Command::Unlock(UnlockDoor {
                    pulse: Some(pulse),
                    header,
                    ..UnlockDoor::default()
                })
            });
        let slots = Slot::ALL.into_iter().filter(|slot| slot.is_of_commands());
        let slot = proptest::option::of(proptest::sample::select(slots.collect::<Vec<_>>()));
        let relinquish = (slot, header())
            .prop_map(|(slot, header)| Command::Relinquish(Relinquish { slot, header }));
        let set_mode = (proptest::sample::select(&Mode::ALL), header())
            .prop_map(|(mode, header)| Command::SetMode(SetMode { mode, header }));
        let by = proptest::option::of("\\PC{1,64}");
        let lockdown = (by, time(), header(), any::<bool>());
        let lockdown = lockdown.prop_map(|(by, at, header, begins)| {
            let order = LockdownOrder { by, at, header };
            match begins {
                true => Command::Lockdown(order),
                false => Command::AllClear(order),
            }
        });
        let reads = proptest::sample::select(vec![Command::GetState, Command::SelfTest]);
        prop_oneof![lock, unlock, pulse, relinquish, set_mode, lockdown, reads]
    }

    #[test]
    fn a_refusal_names_the_field_its_value_and_what_was_expected() {
        for (method, payload, field, value) in [
            (
                "lockDoor",
                r#"{"lockTime":"-5m"}"#,
                Some("lockTime"),
                r#""-5m""#,
            ),
            ("lockDoor", r#"{"lockTime":1.5}"#, Some("lockTime"), "1.5"),
            ("lockDoor", r#"{"lockTime":0}"#, Some("lockTime"), "0"),
            (
                "lockDoor",
                r#"{"lokTime":"10m"}"#,
                Some("lokTime"),
                r#""10m""#,
            ),
            (
                "lockDoor",
                r#"{"until":"22:00"}"#,
                Some("until"),
                r#""22:00""#,
            ),
            ("lockDoor", r#"{"until":5}"#, Some("until"), "5"),
            ("unlockDoor", r#"{"lockTime":5}"#, Some("lockTime"), "5"),
            (
                "relinquish",
                r#"{"commandId":""}"#,
                Some("commandId"),
                r#""""#,
            ),
            ("relinquish", r#"{"commandId":7}"#, Some("commandId"), "7"),
            ("relinquish", r#"{"reason":7}"#, Some("reason"), "7"),
            ("lockDoor", r#"{"reason":""}"#, Some("reason"), r#""""#),
            ("relinquish", r#"{"slot":2}"#, Some("slot"), "2"),
            ("relinquish", r#"{"slot":16}"#, Some("slot"), "16"),
            ("relinquish", r#"{"slot":"5"}"#, Some("slot"), r#""5""#),
            ("setMode", "", Some("mode"), "null"),
            ("setMode", r#"{"mode":5}"#, Some("mode"), "5"),
            (
                "setMode",
                r#"{"mode":"Lockdown"}"#,
                Some("mode"),
                r#""Lockdown""#,
            ),
            (
                "setMode",
                r#"{"mode":"secure","until":"2026-11-23T22:10:00Z"}"#,
                Some("until"),
                r#""2026-11-23T22:10:00Z""#,
            ),
            ("lockdown", r#"{"by":7}"#, Some("by"), "7"),
            ("allClear", r#"{"slot":5}"#, Some("slot"), "5"),
            ("allClear", r#"{"at":"22:00"}"#, Some("at"), r#""22:00""#),
            ("getState", r#"{"a":1}"#, Some("a"), "1"),
            ("selfTest", r#"{"a":1}"#, Some("a"), "1"),
            ("lockDoor", "[1]", None, "[1]"),
            ("lockDoor", "{", None, "{"),
            ("lockDoor", r#""Door 3""#, None, r#""Door 3""#),
            ("lockDoor", r#""\"{}\"""#, None, r#""{}""#),
            ("lockDoor", "\u{fffd}", None, "\u{fffd}"),
        ] {
            let reply = Command::parse(method, payload.as_bytes()).unwrap_err();
            assert_eq!(reply.status, 400, "{payload}");
            assert_eq!(reply.body.field.as_deref(), field, "{payload}");
            assert_eq!(reply.body.value.as_deref(), Some(value), "{payload}");
            assert!(reply.body.expected.is_some(), "{payload}");
        }
        assert_eq!(Command::parse("openDoor", b"{}").unwrap_err().status, 404);
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_back(command in command()) {
            let (method, payload) = command.to_call();
            let payload = payload.as_deref().map_or("", RawValue::get);
            prop_assert_eq!(Command::parse(method, payload.as_bytes()), Ok(command));
        }

        #[test]
        fn no_payload_panics(method in 0..METHODS.len(), payload in "\\PC{0,64}|[{}\\[\\]\":,a-zA-Z0-9\\\\ -]{0,48}") {
            if let Err(reply) = Command::parse(METHODS[method], payload.as_bytes()) {
                prop_assert_eq!(reply.status, 400);
            }
        }

        #[test]
        fn no_bytes_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let parsed = Command::parse("lockDoor", &payload);
            prop_assert!(parsed.is_ok() || parsed.is_err_and(|reply| reply.status == 400));
        }
    }
}
