//! The pages under `docs/reference` that describe the agent: they name every key of the settings,
//! verb, method, event kind and word of the protocol, and no other.

use std::collections::BTreeSet;

use door_core::contract::{
    Alarm, CheckResult, DoorState, Identity, InputFault, LockState, METHODS, Mode, Proof, Reboot,
    ReplyError, Secured, Source,
};
use door_core::{DropReason, EventName, Setting, Slot};

use crate::cli::{CONNECTION, program, run};
use crate::examples::{install, repository};

fn page(name: &str) -> String {
    std::fs::read_to_string(repository(&format!("docs/reference/{name}.md"))).unwrap()
}

/// The words in backticks in the first column of the table whose header row is `header`.
fn first_column(page: &str, header: &str) -> BTreeSet<String> {
    let (_, table) = page.split_once(header).expect(header);
    table
        .lines()
        .skip(1)
        .map_while(|line| line.strip_prefix("| "))
        .flat_map(|row| in_backticks(row.split(" | ").next().unwrap_or_default()))
        .collect()
}

fn in_backticks(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    words.map(ToOwned::to_owned).collect()
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(ToOwned::to_owned).collect()
}

#[test]
fn every_method_and_verb_is_documented() {
    let methods = METHODS
        .into_iter()
        .chain([Identity::METHOD, Reboot::METHOD]);
    assert_eq!(
        first_column(&page("protocol"), "\n| method | payload | what it does |\n"),
        set(methods)
    );
    let help = run("--help").expect(0).stdout;
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let verbs = verbs
        .lines()
        .map_while(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next())
        .filter(|verb| !verb.is_empty() && *verb != "help");
    let documented = first_column(
        &page("agent"),
        "\n| `door-agent ... --config FILE` | what it does |\n",
    );
    let documented = documented
        .iter()
        .map(|verb| verb.split(' ').next().unwrap());
    assert_eq!(set(documented), set(verbs));
}

#[test]
fn every_event_kind_is_documented() {
    assert_eq!(
        first_column(&page("protocol"), "\n| kind | members | when |\n"),
        set(EventName::ALL.map(EventName::as_str))
    );
}

#[test]
fn every_word_of_the_contract_is_documented() {
    let page = page("protocol");
    for (header, expected) in [
        (
            "\n| mode | what it does |\n",
            set(Mode::ALL.map(Mode::as_str)),
        ),
        (
            "\n| alarm | raised | cleared |\n",
            set(Alarm::ALL.map(Alarm::as_str)),
        ),
        (
            "\n| `error` | status | meaning |\n",
            set(ReplyError::ALL.map(ReplyError::as_str)),
        ),
    ] {
        assert_eq!(first_column(&page, header), expected, "{header}");
    }
    let lists = [
        set(LockState::ALL.map(LockState::as_str)),
        set(DoorState::ALL.map(DoorState::as_str)),
        set(Secured::ALL.map(Secured::as_str)),
        set(Proof::ALL.map(Proof::as_str)),
        set(Source::ALL.map(Source::as_str)),
        set(InputFault::ALL.map(InputFault::as_str)),
        set(CheckResult::ALL.map(CheckResult::as_str)),
        set(DropReason::ALL.map(DropReason::as_str)),
    ];
    for word in lists.iter().flatten() {
        assert!(page.contains(&format!("`{word}`")), "no `{word}`");
    }
    let refusal = Setting::from_name("xyzzy").unwrap_err();
    let (_, settings) = refusal.split_once("expected one of ").unwrap();
    for setting in settings.split(", ") {
        let name = format!("`settings.{setting}`");
        assert!(page.contains(&name), "no {name}");
    }
    for slot in Slot::ALL {
        let row = format!("\n| {} | ", slot.number());
        assert!(page.contains(&row), "no slot {}", slot.number());
    }
}

/// The keys of a table, as the error for an unknown one lists them.
fn keys(config: &str, table: &str) -> Vec<String> {
    let variable = format!(
        "DOOR_AGENT__{}__XYZZY",
        table.to_ascii_uppercase().replace('.', "__")
    );
    let mut check = program(["check", "--config", config]);
    let stdout = doorfleet_testing::run(check.env(&variable, "1")).stdout;
    let line = stdout
        .lines()
        .find(|line| line.contains("xyzzy"))
        .expect(&stdout)
        .to_owned();
    let (_, expected) = line.split_once("expected").expect(&line);
    // `one of: a, b`, or serde's own "one of `a`, `b`".
    let expected = expected
        .trim_start()
        .trim_start_matches("one of")
        .trim_start_matches(':');
    let keys: Vec<_> = expected
        .split([',', ' ', '`'])
        .filter(|key| !key.is_empty() && *key != "or")
        .map(ToOwned::to_owned)
        .collect();
    assert!(!keys.is_empty(), "{line}");
    keys
}

#[test]
fn every_key_is_in_the_example_and_documented() {
    let home = tempfile::tempdir().unwrap();
    let config = install(home.path(), "lobby-east", CONNECTION);
    let example = std::fs::read_to_string(repository("deploy/examples/lobby-east.toml")).unwrap();
    let mut expected = BTreeSet::new();
    for table in [
        "hub",
        "door",
        "strike",
        "board",
        "board.outputs",
        "board.inputs",
        "state",
        "log",
        "machine",
    ] {
        let heading = format!("\n[{table}]\n");
        let from = example
            .find(&heading)
            .or_else(|| example.find(&format!("\n# [{table}]\n")))
            .expect(&heading);
        let text = &example[from + heading.len()..];
        let text = text.find("\n[").map_or(text, |end| &text[..end]);
        for key in keys(&config, table) {
            // The pins have tables of their own.
            if table == "board" && ["outputs", "inputs"].contains(&key.as_str()) {
                continue;
            }
            let named = text.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))
            });
            assert!(named, "[{table}] {key} is not in the example");
            expected.insert(format!("{table}.{key}"));
        }
    }
    for (table, documented) in [
        ("board.outputs.throw", "board.outputs.NAME"),
        ("board.inputs.door", "board.inputs.NAME"),
    ] {
        let keys = keys(&config, table).into_iter();
        expected.extend(keys.map(|key| format!("{documented}.{key}")));
    }
    let documented: BTreeSet<_> = page("agent")
        .split("\n| key | default | meaning |\n")
        .skip(1)
        .flat_map(|table| first_column(&format!("\n{table}"), "\n"))
        .collect();
    assert_eq!(documented, expected);
}
