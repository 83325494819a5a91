use super::*;

#[test]
fn what_cannot_work_is_refused_by_its_keys() {
    let ten = Duration::from_secs(10);
    let door = DoorSettings::default();
    let released = DoorSettings {
        relinquish_default: Want::Released,
        ..door
    };
    let egress = |egress| DoorSettings {
        egress: Some(egress),
        ..door
    };
    let free = egress(Egress::FreeMechanical);
    let by_hardware = egress(Egress::HardwareRelease);
    let short = DoorSettings {
        held_open_time: Duration::from_secs(15),
        ..door
    };
    let motor = StrikeConfig::motor_lock();
    let magnet = StrikeConfig::maglock();
    let pulse = StrikeConfig::pulse_strike(ten);
    let hold = StrikeConfig::hold_strike;
    let bolt = StrikeConfig::solenoid_bolt;
    let (safe, secure) = (FailMode::Safe, FailMode::Secure);
    let fails = |fail, strike| StrikeConfig { fail, ..strike };
    let limited = |seconds, strike| StrikeConfig {
        max_on: Some(Duration::from_secs(seconds)),
        ..strike
    };
    let without_limit = StrikeConfig {
        max_on: None,
        ..pulse
    };
    let slow = StrikeConfig {
        pulse: Some(Duration::from_secs(4)),
        ..motor
    };
    let all = Fitted::ALL;
    let no_door = Fitted { door: false, ..all };
    let no_rex = Fitted { rex: false, ..all };
    let no_reset = Fitted {
        fire_reset: false,
        ..all
    };
    let quiet = Fitted {
        fire: false,
        ..no_rex
    };
    let energised = "keeps the coil energised";
    for (settings, strike, fitted, expected) in [
        (door, motor, all, "fine"),
        (released, motor, all, "fine"),
        (door, bolt(safe), all, "fine"),
        (door, limited(20, bolt(secure)), quiet, "fine"),
        (released, limited(20, bolt(safe)), all, "fine"),
        (door, motor, no_door, "position switch"),
        (door, motor, no_reset, "fire_reset"),
        (door, limited(20, bolt(secure)), all, "[board.inputs.rex]"),
        (
            door,
            limited(20, bolt(secure)),
            no_rex,
            "[board.inputs.fire]",
        ),
        (door, limited(20, bolt(safe)), all, energised),
        (released, limited(20, bolt(secure)), quiet, energised),
        (door, fails(Some(safe), motor), all, "fail does not apply"),
        (door, fails(None, bolt(safe)), all, "fail is missing"),
        (door, magnet, all, "fine"),
        (free, magnet, all, "free-mechanical"),
        (by_hardware, magnet, no_door, "fine"),
        (released, magnet, all, "fine"),
        (
            door,
            fails(Some(secure), magnet),
            all,
            "fail = \"secure\" does not apply",
        ),
        (door, limited(20, magnet), all, energised),
        (door, hold(secure), all, "fine"),
        (door, fails(None, hold(safe)), all, "fail is missing"),
        (door, pulse, quiet, "fine"),
        (door, pulse, all, "[board.inputs.rex]"),
        (released, pulse, quiet, energised),
        (door, without_limit, quiet, "max_on is missing"),
        (short, motor, all, "held_open_time"),
        (door, slow, all, "bond_time"),
        (door, limited(5, motor), all, "max_on"),
    ] {
        let found = match DoorConfig::new(settings, strike, fitted) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        };
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
    let config = DoorConfig::new(settings, strike, Fitted::ALL).unwrap();
    assert_eq!(config.inputs(), INPUTS);
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
