use super::*;

fn check(settings: DoorSettings, strike: StrikeConfig, fitted: Fitted) -> String {
    match DoorConfig::new(settings, strike, fitted) {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_work_is_refused_by_its_keys() {
    let released = DoorSettings {
        relinquish_default: Want::Released,
        ..DoorSettings::default()
    };
    let motor = StrikeConfig::motor_lock();
    let limited = |fail| StrikeConfig {
        max_on: Some(Duration::from_secs(20)),
        ..StrikeConfig::solenoid_bolt(fail)
    };
    let quiet = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let all = Fitted::ALL;
    let door = DoorSettings::default();
    for (settings, strike, fitted, expected) in [
        (door, motor, all, "fine"),
        (released, motor, all, "fine"),
        (
            door,
            StrikeConfig::solenoid_bolt(FailMode::Safe),
            all,
            "fine",
        ),
        (door, limited(FailMode::Secure), quiet, "fine"),
        (released, limited(FailMode::Safe), all, "fine"),
        (
            door,
            motor,
            Fitted { door: false, ..all },
            "position switch",
        ),
        (
            door,
            motor,
            Fitted {
                fire_reset: false,
                ..all
            },
            "fire_reset",
        ),
        (door, limited(FailMode::Secure), all, "[board.inputs.rex]"),
        (
            door,
            limited(FailMode::Secure),
            Fitted { rex: false, ..all },
            "[board.inputs.fire]",
        ),
        (
            door,
            limited(FailMode::Safe),
            all,
            "keeps the coil energised",
        ),
        (
            released,
            limited(FailMode::Secure),
            quiet,
            "keeps the coil energised",
        ),
        (
            door,
            StrikeConfig {
                fail: Some(FailMode::Safe),
                ..motor
            },
            all,
            "fail does not apply",
        ),
        (
            door,
            StrikeConfig {
                fail: None,
                ..limited(FailMode::Safe)
            },
            all,
            "fail is missing",
        ),
        (door, StrikeConfig::maglock(), all, "fine"),
        (
            DoorSettings {
                egress: Some(Egress::FreeMechanical),
                ..door
            },
            StrikeConfig::maglock(),
            all,
            "free-mechanical",
        ),
        (
            DoorSettings {
                egress: Some(Egress::HardwareRelease),
                ..door
            },
            StrikeConfig::maglock(),
            Fitted { door: false, ..all },
            "fine",
        ),
        (released, StrikeConfig::maglock(), all, "fine"),
        (
            door,
            StrikeConfig {
                fail: Some(FailMode::Secure),
                ..StrikeConfig::maglock()
            },
            all,
            "fail = \"secure\" does not apply",
        ),
        (
            door,
            StrikeConfig {
                max_on: Some(Duration::from_secs(20)),
                ..StrikeConfig::maglock()
            },
            all,
            "keeps the coil energised",
        ),
        (
            door,
            StrikeConfig::hold_strike(FailMode::Secure),
            all,
            "fine",
        ),
        (
            door,
            StrikeConfig {
                fail: None,
                ..StrikeConfig::hold_strike(FailMode::Safe)
            },
            all,
            "fail is missing",
        ),
        (
            door,
            StrikeConfig::pulse_strike(Duration::from_secs(10)),
            quiet,
            "fine",
        ),
        (
            door,
            StrikeConfig::pulse_strike(Duration::from_secs(10)),
            all,
            "[board.inputs.rex]",
        ),
        (
            released,
            StrikeConfig::pulse_strike(Duration::from_secs(10)),
            quiet,
            "keeps the coil energised",
        ),
        (
            door,
            StrikeConfig {
                max_on: None,
                ..StrikeConfig::pulse_strike(Duration::from_secs(10))
            },
            quiet,
            "max_on is missing",
        ),
        (
            DoorSettings {
                held_open_time: Duration::from_secs(15),
                ..door
            },
            motor,
            all,
            "held_open_time",
        ),
        (
            door,
            StrikeConfig {
                pulse: Some(Duration::from_secs(4)),
                ..motor
            },
            all,
            "bond_time",
        ),
        (
            door,
            StrikeConfig {
                max_on: Some(Duration::from_secs(5)),
                ..motor
            },
            all,
            "max_on",
        ),
    ] {
        let found = check(settings, strike, fitted);
        assert!(
            found.contains(expected),
            "{found:?} should say {expected:?}"
        );
    }
}

#[test]
fn times_may_be_shorter_than_a_second() {
    let strike: StrikeConfig = serde_json::from_str(
        r#"{"kind": "motor-lock", "bond_time": "1500ms", "pulse": "800ms", "cool_down": "1m30s"}"#,
    )
    .unwrap();
    assert_eq!(strike.bond_time, Duration::from_millis(1500));
    assert_eq!(strike.cool_down, Some(Duration::from_secs(90)));
    for wrong in [
        r#""0ms""#,
        r#""0""#,
        r#""soon""#,
        "-1",
        r#""99999999999ms""#,
    ] {
        let text = format!(r#"{{"kind": "motor-lock", "pulse": {wrong}}}"#);
        assert!(
            serde_json::from_str::<StrikeConfig>(&text).is_err(),
            "{wrong}"
        );
    }
    let unknown = r#"{"kind": "motor-lock", "bondtime": "3s"}"#;
    assert!(serde_json::from_str::<StrikeConfig>(unknown).is_err());
}

#[test]
fn egress_is_checked_against_the_strike_without_power() {
    let ten = Duration::from_secs(10);
    let strikes = [
        (StrikeConfig::motor_lock(), "stays as it is"),
        (StrikeConfig::solenoid_bolt(FailMode::Secure), "is locked"),
        (StrikeConfig::hold_strike(FailMode::Secure), "is locked"),
        (StrikeConfig::pulse_strike(ten), "is locked"),
        (StrikeConfig::solenoid_bolt(FailMode::Safe), ""),
        (StrikeConfig::hold_strike(FailMode::Safe), ""),
        (StrikeConfig::maglock(), ""),
    ];
    for (strike, without_power) in strikes {
        let judged = |egress| DoorConfig::check_egress(egress, &strike);
        let hardware = judged(Some(Egress::HardwareRelease));
        match hardware {
            Ok(()) => assert_eq!(without_power, "", "{strike:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    !without_power.is_empty()
                        && text.contains(without_power)
                        && text.contains(strike.kind.name()),
                    "{text}"
                );
            }
        }
        let is_maglock = strike.kind == StrikeKind::Maglock;
        assert_eq!(judged(None).is_err(), is_maglock, "{strike:?}");
        assert_eq!(judged(Some(Egress::None)), Ok(()));
    }
}

#[test]
fn a_kind_of_strike_is_named_as_in_the_configuration() {
    for kind in [
        StrikeKind::MotorLock,
        StrikeKind::SolenoidBolt,
        StrikeKind::HoldStrike,
        StrikeKind::PulseStrike,
        StrikeKind::Maglock,
    ] {
        let text = format!("{:?}", kind.name());
        assert_eq!(serde_json::to_string(&kind).unwrap(), text);
        assert!(StrikeKind::EXPECTED.contains(&text), "{text}");
    }
}

#[test]
fn a_configuration_shows_inputs_egress_and_bond_time() {
    let seven = Duration::from_secs(7);
    let strike = StrikeConfig {
        bond_time: seven,
        ..StrikeConfig::motor_lock()
    };
    let without_egress = DoorSettings::default();
    let settings = DoorSettings {
        egress: Some(Egress::FreeMechanical),
        ..without_egress
    };
    let all = [
        "door",
        "bond",
        "rex",
        "grant",
        "fire",
        "fire_reset",
        "tamper",
    ];
    let config = DoorConfig::new(settings, strike, Fitted::ALL).unwrap();
    assert_eq!(config.inputs(), all);
    assert_eq!(config.egress(), Some(Egress::FreeMechanical));
    assert_eq!(config.bond_time(), seven);
    let door_alone = Fitted {
        door: true,
        ..Fitted::default()
    };
    let config = DoorConfig::new(without_egress, strike, door_alone).unwrap();
    assert_eq!(config.inputs(), ["door"]);
    assert_eq!(config.egress(), None);
}

#[test]
fn a_motor_keeps_two_runs_in_reserve_and_needs_a_third_to_start() {
    let strike = StrikeConfig::motor_lock();
    let config = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
    let duty = config.duty.unwrap();
    assert_eq!(duty.reserve, DEFAULT_PULSE * 2);
    assert_eq!(duty.min_remaining, DEFAULT_PULSE * 3);
}
