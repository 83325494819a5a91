//! The page on troubleshooting quotes messages that the sources have.

use std::fs;
use std::path::Path;

use super::{REPOSITORY, text_of};

const PAGE: &str = "docs/troubleshooting.md";

/// The parts of a message lie within this many bytes of a source.
const WITHIN: usize = 600;

/// Every source of the programs and of the scripts that install them, its string literals on one
/// line.
fn sources() -> Vec<String> {
    let mut folders: Vec<_> = [
        "agent",
        "agent/door",
        "hub",
        "client",
        "jobs-cli",
        "protocol",
    ]
    .map(|krate| Path::new(REPOSITORY).join(krate).join("src"))
    .into();
    folders.push(Path::new(REPOSITORY).join("deploy"));
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|kind| kind == "rs" || kind == "sh")
            {
                sources.push(literals_on_one_line(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    sources
}

/// Joins what a `\` at the line end, or `concat!`, has split; removes escapes.
fn literals_on_one_line(source: &str) -> String {
    let mut joined = String::with_capacity(source.len());
    for line in source.lines() {
        let line = line.trim_start();
        let literal_goes_on = joined.ends_with("\",\n") && line.starts_with('"');
        if joined.ends_with("\\\n") {
            joined.truncate(joined.len() - 2);
            joined.push_str(line);
        } else if literal_goes_on {
            joined.truncate(joined.len() - 3);
            joined.push_str(&line[1..]);
        } else {
            joined.push_str(line);
        }
        joined.push('\n');
    }
    joined.replace("\\\"", "\"")
}

/// Whether the parts follow each other in a source, close together.
fn has(source: &str, parts: &[&str]) -> bool {
    source.match_indices(parts[0]).any(|(at, _)| {
        let mut rest: &str = source[at..]
            .char_indices()
            .nth(WITHIN)
            .map_or(&source[at..], |(end, _)| &source[at..at + end]);
        parts.iter().all(|part| {
            let found = rest.find(part);
            rest = found.map_or("", |at| &rest[at + part.len()..]);
            found.is_some()
        })
    })
}

/// The messages that the page quotes, in headings: ``### `cannot reach <host>` ``.
fn quoted(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect()
}

/// What stands between the placeholders, such as `<host>`, of a message.
fn fixed_parts(message: &str) -> Vec<&str> {
    message
        .split('<')
        .enumerate()
        .map(|(number, part)| match number {
            0 => part,
            _ => part.split_once('>').expect("a placeholder ends with >").1,
        })
        .map(str::trim)
        .filter(|part| part.len() > 2)
        .collect()
}

#[test]
fn quoted_messages_exist_in_the_sources() {
    let page = text_of(PAGE);
    let quoted = quoted(&page);
    assert!(quoted.len() >= 30, "only {} messages", quoted.len());
    let sources = sources();
    let missing: Vec<_> = quoted
        .into_iter()
        .filter(|message| {
            let parts = fixed_parts(message);
            !sources.iter().any(|source| has(source, &parts))
        })
        .collect();
    assert!(missing.is_empty(), "no source has {missing:#?}");
}

#[test]
fn literals_and_messages_are_split_as_rust_splits_them() {
    let source = "error(\"a `{0}` \\\n    b \\\"c\\\"\")\nconcat!(\n  \"one \",\n  \"two\",\n)";
    let joined = literals_on_one_line(source);
    assert_eq!(
        joined,
        "error(\"a `{0}` b \"c\"\")\nconcat!(\n\"one two\",\n)\n"
    );
    assert_eq!(fixed_parts("a `<name>` b <why>"), ["a `", "` b"]);
    assert!(has(&joined, &["a `", "` b"]) && !has(&joined, &["b", "a `"]));
}
