//! Every example in every help text is an existing command with valid flags.

#[path = "../common/verbs.rs"]
pub(crate) mod verbs;

use super::support::Home;
use verbs::verbs;

pub(crate) fn help(home: &Home, path: &[String]) -> String {
    let output = home.run(format!("{} --help", path.join(" ")));
    assert!(output.starts_with("status: 0\n"), "{path:?}: {output}");
    output
}

/// The words of a shell command, up to a pipe or redirection; `None` if a quote is open.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (Some(open), character) if open == character => quote = None,
            (Some(_), character) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '|' | '>') => break,
            (None, ' ') => words.extend(word.take()),
            (None, character) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[test]
fn every_example_in_every_help_parses() {
    let home = Home::with_absent_hub();
    let mut tried = 0;
    for path in verbs(|path| help(&home, path)) {
        let help = help(&home, &path);
        let examples = help
            .lines()
            .filter_map(|line| line.strip_prefix("  doorctl "));
        for example in examples {
            let command = example.split("   ").next().unwrap();
            let words = words(command);
            let words = words
                .unwrap_or_else(|| panic!("{command}: a quote is open, or the line is too long"));
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["demo" | "dashboard", ..] => continue,
                // Tests must not contact a real machine.
                ["devices", "enroll", ..] if !words.contains(&"--dry-run") => {
                    words.push("--dry-run");
                }
                _ => {}
            }
            let output = home.run(&words);
            assert!(
                !output.contains("try '--help'"),
                "doorctl {command}: {output}"
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried} examples");
}
