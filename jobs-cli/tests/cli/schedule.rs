//! Weeks in files: what is wrong is named with file, line and what was expected.

use std::path::Path;

use super::support::Home;

/// Replaces a part of a good file; the error that follows.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "name = \"office\"",
        "name = ",
        "w.toml:1: string values must be quoted",
    ),
    (
        "name = \"office\"",
        "name = \"\"",
        "w.toml:1: name: \"\" is not a name: expected 1 to 64",
    ),
    (
        "name = \"office\"",
        "title = \"office\"",
        "w.toml:1: title: unknown field `title`",
    ),
    (
        "Europe/Berlin",
        "Europe/Berlim",
        "w.toml:2: zone: \"Europe/Berlim\" is not a time zone",
    ),
    (
        "mon-fri",
        "mon-fro",
        "w.toml:4: window[0].days: \"mon-fro\" is not a set of days",
    ),
    (
        "days = \"mon-fri\"\n",
        "",
        "w.toml:3: window[0].days: it is missing",
    ),
    (
        "\"06:00\"",
        "\"6:00\"",
        "w.toml:5: window[0].from: \"6:00\" is not a time of day",
    ),
    (
        "\"22:00\"",
        "\"06:00\"",
        "w.toml:6: window[0].to: \"06:00\" equals from",
    ),
    (
        "want = \"released\"\n[",
        "want = \"open\"\n[",
        "w.toml:7: window[0].want: unknown variant `open`",
    ),
    (
        "from = \"23:00\"",
        "from = \"21:00\"",
        "w.toml:8: window[1]: \"fri 21:00-23:30 locked\" and \"mon-fri 06:00-22:00 released\" overlap \
         on Friday: expected windows that want the same, or another from or to (the other is \
         window[0], line 3)",
    ),
    (
        "takes_over = true",
        "takes_over = 1",
        "w.toml:13: window[1].takes_over: invalid type: integer",
    ),
    (
        "2026-12-24",
        "24.12.2026",
        "w.toml:15: exception[0].dates[1]: \"24.12.2026\" is not a date",
    ),
    (
        "yearly = [\"12-31\"]",
        "yearly = [\"31-12\"]",
        "w.toml:16: exception[0].yearly[0]: \"31-12\" is not",
    ),
    (
        "yearly = [\"12-31\"]",
        "windows = [{ from = \"00:00\", to = \"00:30\", want = \"locked\", days = \"mon\" }]",
        "w.toml:16: exception[0].windows[0].days: it is unknown here",
    ),
    (
        "file = \"h.ics\"",
        "files = \"h.ics\"",
        "w.toml:18: holidays.files: unknown field `files`",
    ),
    (
        "h.ics",
        "none.ics",
        "w.toml:18: holidays.file: none.ics: No such file",
    ),
    (
        "h.ics",
        "bad.ics",
        "w.toml:18: holidays.file: bad.ics:3: DTSTART is \"tomorrow\": expected",
    ),
    (
        "h.ics",
        "w.toml",
        "w.toml:18: holidays.file: w.toml:1: not a calendar",
    ),
];

const GOOD: &str = r#"name = "office"
zone = "Europe/Berlin"
[[window]]
days = "mon-fri"
from = "06:00"
to = "22:00"
want = "released"
[[window]]
days = "fri"
from = "23:00"
to = "23:30"
want = "locked"
takes_over = true
[[exception]]
dates = ["2026-12-23", "2026-12-24"]
yearly = ["12-31"]
[holidays]
file = "h.ics"
"#;

#[test]
fn every_mistake_in_a_file_has_its_line_and_what_was_expected() {
    let home = Home::new();
    let calendar = |date: &str| {
        format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:{date}\nEND:VEVENT\nEND:VCALENDAR\n")
    };
    home.secret("h.ics", &calendar("20991225"));
    home.secret("bad.ics", &calendar("tomorrow"));
    home.secret("w.toml", GOOD);
    assert!(home.run("schedule check w.toml").starts_with("status: 0\n"));
    for (good, bad, error) in MISTAKES {
        assert!(GOOD.contains(good), "{good}");
        home.secret("w.toml", &GOOD.replacen(good, bad, 1));
        let output = home.run("schedule check w.toml");
        assert!(output.starts_with("status: 1\n"), "{bad}: {output}");
        assert!(
            output.contains(&format!("error: {error}")),
            "{bad}: {output}"
        );
    }
}

#[test]
fn a_week_that_does_nothing_and_holidays_that_are_over_get_a_warning() {
    let home = Home::new();
    let past = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20001225\nEND:VEVENT\nEND:VCALENDAR\n";
    home.secret("h.ics", past);
    let week = "name = \"w\"\nzone = \"UTC\"\n[holidays]\nfile = \"h.ics\"\n";
    home.secret("w.toml", week);
    for verb in ["check", "preview"] {
        let output = home.run(format!("schedule {verb} w.toml"));
        assert!(output.starts_with("status: 0\n"), "{output}");
        for warning in [
            "warning: w.toml: holidays.file: h.ics has no date from today on in ",
            "warning: w.toml: no [[window]]: on all days without an exception the week wants lock",
        ] {
            assert!(output.contains(warning), "{output}");
        }
    }
}

#[test]
fn a_mistake_in_the_windows_of_holidays_is_named_there() {
    let home = Home::new();
    home.secret("h.ics", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20000101\nRRULE:FREQ=YEARLY\nEND:VEVENT\nEND:VCALENDAR\n");
    let windows = "windows = [{ from = \"05:00\", to = \"05:00\", want = \"locked\" }]\n";
    home.secret("w.toml", &format!("{GOOD}{windows}"));
    let output = home.run("schedule check w.toml");
    assert!(
        output.contains("w.toml:19: holidays.windows[0].to: \"05:00\" equals from"),
        "{output}"
    );
}

#[test]
fn a_week_that_is_too_long_is_refused() {
    let home = Home::new();
    let window =
        "[[window]]\ndays = \"mon\"\nfrom = \"06:00\"\nto = \"07:00\"\nwant = \"released\"\n";
    let text = format!("name = \"a\"\nzone = \"UTC\"\n{}", window.repeat(80));
    home.secret("w.toml", &text);
    let output = home.run("schedule check w.toml");
    assert!(
        output.contains("bytes as JSON: expected at most 4000"),
        "{output}"
    );
}

#[test]
fn the_examples_are_valid_weeks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/weeks");
    let home = Home::new();
    let mut checked = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let line = format!("schedule check {} -o json", path.display());
            let output = home.run(line);
            assert!(output.starts_with("status: 0\n"), "{output}");
            let preview = home.run(format!("schedule preview {}", path.display()));
            assert!(preview.starts_with("status: 0\n"), "{preview}");
            checked += 1;
        }
    }
    assert!(checked >= 3);
}
