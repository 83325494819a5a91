//! `doorctl explain`: words of the glossary, the protocol and the week, read from the tables of the
//! pages, and the hub's errors.

use std::collections::BTreeMap;

use iothub_protocol::ErrorCode;
use serde::Serialize;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Printer, Row};
use crate::suggest;

/// The pages whose tables explain words, in the order of the output.
const PAGES: [&str; 3] = [
    include_str!("../../../docs/glossary.md"),
    include_str!("../../../docs/reference/protocol.md"),
    include_str!("../../../docs/operator/schedules.md"),
];

/// Titles of columns that need no title before their text.
const PLAIN_TITLES: [&str; 5] = ["meaning", "what it does", "content", "values", "when"];

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Explanation {
    word: String,
    /// The heading of its table.
    topic: String,
    meaning: String,
}

impl Row for Explanation {
    fn titles() -> Vec<&'static str> {
        vec!["word", "topic", "meaning"]
    }
}

/// Explains a word, or lists every word.
pub(super) fn run(word: Option<&str>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let all = explanations();
    let Some(word) = word else {
        let text: String = words().iter().map(|word| format!("{word}\n")).collect();
        printer.text_or_rows(&text, &all)?;
        return Ok(ExitStatus::Success);
    };
    let is_asked = |explanation: &&Explanation| explanation.word.eq_ignore_ascii_case(word.trim());
    let found: Vec<Explanation> = all.iter().filter(is_asked).cloned().collect();
    if found.is_empty() {
        let hint = suggest::hint(word, all.iter().map(|known| known.word.as_str()));
        return Err(Failure::new(format!("no page explains {word:?}{hint}"))
            .next("the words: doorctl explain")
            .into());
    }
    let text: String = found.iter().map(Explanation::text).collect();
    printer.text_or_rows(&printer.prose(&text), &found)?;
    Ok(ExitStatus::Success)
}

/// Every word, sorted; for completion too.
pub(crate) fn words() -> Vec<String> {
    let mut words: Vec<String> = explanations().into_iter().map(|known| known.word).collect();
    words.sort_by_key(|word| word.to_lowercase());
    words.dedup();
    words
}

impl Explanation {
    fn text(&self) -> String {
        let Self { word, topic, .. } = self;
        format!("{word} ({topic})\n  {}\n", self.meaning)
    }
}

fn explanations() -> Vec<Explanation> {
    let pages = PAGES.iter().flat_map(|page| in_page(page));
    pages.chain(errors_of_hub()).collect()
}

/// The hub's errors by name, and by the status of the answer.
fn errors_of_hub() -> impl Iterator<Item = Explanation> {
    let row = |word: String, meaning: String| {
        let topic = "Errors of the hub".to_owned();
        Explanation {
            word,
            topic,
            meaning,
        }
    };
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in ErrorCode::ALL {
        by_status
            .entry(code.http_status())
            .or_default()
            .push(code.name());
    }
    let by_name = ErrorCode::ALL.iter().map(move |code| {
        let meaning = format!("{} (status {})", code.meaning(), code.http_status());
        row(code.name().to_owned(), meaning)
    });
    by_name.chain(by_status.into_iter().map(move |(status, names)| {
        let meaning = format!("an answer of the hub: {}", names.join(", "));
        row(status.to_string(), meaning)
    }))
}

/// The rows of all tables of a page.
fn in_page(page: &str) -> Vec<Explanation> {
    let mut explanations = Vec::new();
    let (mut topic, mut titles) = (String::new(), Vec::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            topic = heading.trim_start_matches('#').trim().to_owned();
        }
        let Some(cells) = cells(line) else {
            titles = Vec::new();
            continue;
        };
        if titles.is_empty() {
            titles = cells;
            continue;
        }
        let is_rule = cells.iter().all(|cell| cell.trim_matches('-').is_empty());
        let Some((first, rest)) = cells.split_first().filter(|_| !is_rule) else {
            continue;
        };
        let meaning = meaning(&titles[1..], rest);
        // Cells as `lockTime`, `unlockTime` explain several words at once.
        explanations.extend(first.split(", ").map(|word| Explanation {
            word: word.trim_end_matches(']').to_owned(),
            topic: topic.clone(),
            meaning: meaning.clone(),
        }));
    }
    explanations.retain(|explanation| !explanation.meaning.is_empty());
    explanations
}

/// The cells of a line of a table, without Markdown.
fn cells(line: &str) -> Option<Vec<String>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    let row = row.replace("\\|", "\u{0}");
    let cells = row
        .split('|')
        .map(|cell| plain(&cell.replace('\u{0}', "|")));
    Some(cells.collect())
}

/// Text without backticks, asterisks and the targets of links.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell.trim();
    while let Some((before, link)) = rest.split_once("](") {
        text += before;
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text += rest;
    text.retain(|character| !"`*[".contains(character));
    text
}

fn meaning(titles: &[String], cells: &[String]) -> String {
    let filled = titles.iter().zip(cells);
    let filled = filled.filter(|(_, cell)| !cell.is_empty() && *cell != "–");
    let parts: Vec<String> = filled
        .map(
            |(title, cell)| match PLAIN_TITLES.contains(&title.as_str()) {
                true => cell.clone(),
                false => format!("{title}: {cell}"),
            },
        )
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_tables_become_words_without_markdown() {
        let page = "# Page\n## Alarms\ntext\n| alarm | raised | cleared |\n|---|---|---|\n\
            | `a`, `b` | the [door](x.md#y) *opens* | never |\n| `c` | | |\n\n\
            ### Words\n| word | meaning |\n|---|---|\n| x | one \\| two |\n";
        let read: Vec<(String, String, String)> = in_page(page)
            .into_iter()
            .map(|known| (known.word, known.topic, known.meaning))
            .collect();
        let row = |word: &str, topic: &str, meaning: &str| {
            (word.to_owned(), topic.to_owned(), meaning.to_owned())
        };
        let alarm = "raised: the door opens; cleared: never";
        assert_eq!(
            read,
            [
                row("a", "Alarms", alarm),
                row("b", "Alarms", alarm),
                row("x", "Words", "one | two"),
            ]
        );
    }

    #[test]
    fn every_word_of_the_contract_is_explained() {
        use door_core::contract::{Alarm, DoorState, LockState, METHODS, Mode, Secured};
        use door_core::schedule::TimedState;
        let words = words();
        let of_doors = METHODS.iter().copied().chain(Mode::ALL.map(Mode::as_str));
        let statuses = [
            "200", "202", "400", "401", "403", "404", "409", "410", "429", "500",
        ];
        let of_week = [
            "week",
            "override",
            "window",
            "exception",
            "first_person_in",
            "takes_over",
        ];
        let states = (LockState::ALL.map(LockState::as_str).into_iter())
            .chain(DoorState::ALL.map(DoorState::as_str))
            .chain(Secured::ALL.map(Secured::as_str))
            .chain(TimedState::ALL.map(TimedState::as_str));
        for word in of_doors
            .chain(Alarm::ALL.map(Alarm::as_str))
            .chain(states)
            .chain(statuses)
            .chain(of_week)
            .chain(ErrorCode::ALL.iter().map(|code| code.name()))
        {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
    }
}
