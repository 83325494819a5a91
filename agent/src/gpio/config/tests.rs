use door_core::config::FailMode;

use super::*;

fn pi(text: &str) -> BoardConfig {
    toml::from_str(&format!("kind = \"raspberry-pi\"\n{text}")).unwrap()
}

const MOTOR: &str = r#"
    outputs.throw = { pin = 17, active = "high" }
    outputs.retract = { pin = 27, active = "low" }
"#;

#[test]
fn the_board_table_parses() {
    let board = pi(&format!(
        r#"{MOTOR}
        [inputs.door]
        pin = 22
        active = "low"
        bias = "pull-up"
        debounce = "20ms"
        "#
    ));
    assert_eq!(board.check(&StrikeConfig::motor_lock()), Ok(()));
    assert!(board.fitted().door && !board.fitted().rex);
    let door = board.inputs.pins().door.as_ref();
    assert_eq!(
        door.map(|input| input.debounce),
        Some(Duration::from_millis(20))
    );
    assert_eq!(board.clock_trust(), ClockTrust::Synchronized);
    assert!(toml::from_str::<BoardConfig>("kind = \"simulated\"\nbolt_travle = \"1s\"").is_err());
}

#[test]
fn pins_driven_before_the_agent_starts_are_reported() {
    let hazard = |bcm, active| {
        let pin = PinName::Bcm(bcm);
        OutputPin { pin, active }.hazard_at_boot(bcm)
    };
    for (pin, active, expected) in [
        (1, ActiveLevel::Low, "HAT"),
        (8, ActiveLevel::High, "pulled up until"),
        (9, ActiveLevel::Low, "pulled down until"),
        (14, ActiveLevel::High, "serial console"),
    ] {
        let hazard_text = hazard(pin, active).unwrap();
        assert!(hazard_text.contains(expected), "BCM {pin}: {hazard_text}");
    }
    for (pin, active) in [
        (2, ActiveLevel::Low),
        (8, ActiveLevel::Low),
        (9, ActiveLevel::High),
        (17, ActiveLevel::High),
    ] {
        assert_eq!(hazard(pin, active), None, "BCM {pin}");
    }
}

#[test]
fn a_simulated_board_lists_its_inputs() {
    let board = |text: &str| toml::from_str::<BoardConfig>(text);
    let quiet = board("kind = \"simulated\"\ninputs = [\"door\", \"fire_reset\"]").unwrap();
    let expected = Fitted {
        door: true,
        fire_reset: true,
        ..Fitted::default()
    };
    assert_eq!(quiet.fitted(), expected);
    let pulse = StrikeConfig::pulse_strike(Duration::from_secs(10));
    assert_eq!(quiet.check(&pulse), Ok(()));
    assert_eq!(board("kind = \"simulated\"").unwrap().fitted(), Fitted::ALL);
    for (text, expected) in [
        ("inputs = [\"bell\"]", "unknown variant `bell`"),
        (
            "inputs = \"door\"",
            "a list of inputs for a simulated board",
        ),
        ("inputs.bell = {}", "unknown field `bell`"),
    ] {
        let error = board(&format!("kind = \"simulated\"\n{text}")).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_exit_button_may_only_report() {
    for (releases, reports_only) in [
        ("", false),
        ("releases = true", false),
        ("releases = false", true),
    ] {
        let rex = "[inputs.rex]\npin = 24\nactive = \"low\"\nbias = \"pull-up\"\n";
        let board = pi(&format!("{MOTOR}\n{rex}{releases}"));
        assert_eq!(board.check(&StrikeConfig::motor_lock()), Ok(()));
        assert_eq!(board.fitted().rex_reports_only, reports_only, "{releases}");
        assert!(board.fitted().rex);
    }
}

#[test]
fn an_impossible_board_is_refused_with_its_keys() {
    let motor = StrikeConfig::motor_lock();
    let coil = StrikeConfig::solenoid_bolt(FailMode::Safe);
    let input = r#"{ pin = 27, active = "low", bias = "pull-up" }"#;
    for (board, strike, expected) in [
        (pi(""), motor, "outputs.throw] is missing"),
        (pi(MOTOR), coil, "outputs.throw] is not used"),
        (
            pi(&format!("{MOTOR}\ninputs.bond = {input}")),
            motor,
            "BCM 27 is both retract and bond",
        ),
        (
            pi("outputs.coil = { pin = 28, active = \"high\" }"),
            coil,
            "[board.outputs.coil] pin = 28",
        ),
        (
            pi(&format!("{MOTOR}\ninputs = [\"door\"]")),
            motor,
            "inputs is a list",
        ),
        (
            pi(&format!(
                "{MOTOR}\ninputs.door = {{ releases = false, {}",
                input.trim_start_matches('{').replace("27", "22")
            )),
            motor,
            "[board.inputs.door] releases",
        ),
        (
            BoardConfig {
                kind: BoardKind::Simulated,
                ..pi(MOTOR)
            },
            motor,
            "has no pins",
        ),
    ] {
        let error = board.check(&strike).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} should contain {expected:?}"
        );
    }
}

fn gpio(text: &str) -> BoardConfig {
    toml::from_str(&format!("kind = \"gpio\"\n{text}")).unwrap()
}

#[test]
fn a_line_is_an_offset_or_a_name_on_a_chip_by_label_or_name() {
    let board = gpio(
        r#"chip = "pinctrl-rp1"
        outputs.coil = { line = 17, active = "high" }
        inputs.door = { line = "GPIO22", active = "low", bias = "pull-up" }"#,
    );
    let strike = StrikeConfig::solenoid_bolt(FailMode::Safe);
    assert_eq!(board.check(&strike), Ok(()));
    assert_eq!(board.chip, Some(Chip::Label("pinctrl-rp1".to_owned())));
    let names: Vec<_> = board.pins().map(|(_, _, pin)| pin.to_string()).collect();
    assert_eq!(names, ["line 17", "line \"GPIO22\""]);
    assert!(board.fitted().door && !board.fitted().rex);
    assert_eq!(board.clock_trust(), ClockTrust::Synchronized);
    let named = gpio(r#"chip = "gpiochip4""#);
    assert_eq!(named.chip, Some(Chip::Name("gpiochip4".to_owned())));
}

#[test]
fn wrong_chips_and_lines_are_refused_with_what_was_expected() {
    let line = "expected the offset of a line such as 17, or its name such as \"GPIO17\"";
    let chip = "expected the label of a GPIO chip";
    let long = format!("\"{}\"", "x".repeat(32));
    for (text, expected) in [
        ("chip = \"\"".to_owned(), chip),
        ("chip = 0".to_owned(), "expected a string"),
        ("chip = \"/dev/gpiochip0\"".to_owned(), chip),
        (format!("chip = {long}"), chip),
        ("outputs.coil.line = -1".to_owned(), line),
        ("outputs.coil.line = 4294967296".to_owned(), line),
        ("outputs.coil.line = \"\"".to_owned(), line),
        ("outputs.coil.line = \"a\\u0000b\"".to_owned(), line),
        (format!("outputs.coil.line = {long}"), line),
        ("outputs.coil.line = true".to_owned(), line),
        ("outputs.coil.line = 1.5".to_owned(), line),
        (
            "outputs.coil = { pin = 1, line = 1, active = \"low\" }".to_owned(),
            "both `pin` and `line` are set, expected `line` with [board] kind = \"gpio\"",
        ),
        (
            "inputs.rex = { active = \"low\", bias = \"off\" }".to_owned(),
            "missing field `pin`, or `line` with [board] kind = \"gpio\"",
        ),
        (
            "outputs.coil = { line = 1, active = \"low\", bias = \"off\" }".to_owned(),
            "unknown field `bias`, expected one of `pin`, `line`, `active`",
        ),
    ] {
        let error = toml::from_str::<BoardConfig>(&format!("kind = \"gpio\"\n{text}"));
        let error = error.expect_err(&text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let coil = StrikeConfig::solenoid_bolt(FailMode::Safe);
    let chip = "chip = \"pinctrl-rp1\"\n";
    for (board, expected) in [
        (gpio(""), "[board] chip is missing, expected the label"),
        (
            gpio(&format!(
                "{chip}outputs.coil = {{ pin = 17, active = \"high\" }}"
            )),
            "[board.outputs.coil] pin = 17: [board] kind = \"gpio\" expects `line`",
        ),
        (
            pi("outputs.coil = { line = \"GPIO17\", active = \"high\" }"),
            "[board.outputs.coil] line = \"GPIO17\": [board] kind = \"raspberry-pi\" expects \
             `pin`, a BCM number",
        ),
        (
            pi(chip),
            "[board] chip = \"pinctrl-rp1\" is not used by kind = \"raspberry-pi\": remove it",
        ),
        (
            gpio(&format!(
                "{chip}outputs.coil = {{ line = 4, active = \"high\" }}\n\
                 inputs.rex = {{ line = 4, active = \"low\", bias = \"off\" }}"
            )),
            "line 4 is both coil and rex",
        ),
        (
            BoardConfig {
                kind: BoardKind::Simulated,
                ..gpio(chip)
            },
            "is not used by kind = \"simulated\"",
        ),
    ] {
        let error = board.check(&coil).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?}, expected {expected:?}");
    }
}

#[test]
fn the_level_of_a_line_before_the_agent_starts_is_known_on_the_header_only() {
    for (chip, line, expected) in [
        ("pinctrl-bcm2711", "17", None),
        ("pinctrl-bcm2711", "\"GPIO17\"", None),
        ("pinctrl-bcm2711", "14", Some("serial console")),
        ("pinctrl-rp1", "\"GPIO4\"", Some("pulled up until")),
        ("pinctrl-bcm2711", "42", Some("is not known")),
        ("pinctrl-bcm2711", "\"STATUS\"", Some("is not known")),
        ("gpiochip0", "17", Some("is not known")),
        ("pcf8574", "4", Some("is not known")),
    ] {
        let board = gpio(&format!(
            "chip = \"{chip}\"\noutputs.coil = {{ line = {line}, active = \"high\" }}"
        ));
        let hazards: Vec<_> = board.hazards_at_boot().map(|(.., text)| text).collect();
        match expected {
            None => assert!(hazards.is_empty(), "{chip} {line}: {hazards:?}"),
            Some(text) => assert!(hazards[0].contains(text), "{chip} {line}: {hazards:?}"),
        }
    }
}
