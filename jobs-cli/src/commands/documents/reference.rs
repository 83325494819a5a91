//! The page `docs/reference/doorctl.md`: every verb with its arguments, options and examples.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::printer::wrapped;

/// Options of every verb, described once at the top.
const GLOBAL: &str = "Global options";

/// Groups whose verbs are those of `jobs`, described there.
const REPEATS_JOBS: [&str; 2] = ["doorctl jobs plan", "doorctl jobs apply"];

const INTRODUCTION: &str = "\
# doorctl: every verb

<!-- Generated from the command line itself: `just reference` rewrites this page. -->

Data goes to standard output, messages to standard error.
Each verb prints the text below with `--help`.
`doorctl completion SHELL` prints a completion script for bash, zsh or fish.
";

/// The page, in Markdown.
pub(super) fn page(mut root: Command) -> String {
    root.build();
    let mut page = INTRODUCTION.to_owned();
    section(&mut page, &mut root, 2);
    page
}

fn section(page: &mut String, command: &mut Command, depth: usize) {
    let is_root = depth == 2;
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let name = name.to_owned();
    let level = if is_root { 2 } else { depth.min(4) - 1 };
    write!(page, "\n{} {name}\n", "#".repeat(level)).expect(INFALLIBLE);
    let about = command.get_long_about().or_else(|| command.get_about());
    if let Some(about) = about {
        let about = format!("{}.", prose(&about.to_string()));
        write!(page, "{}\n\n", wrapped(&about)).expect(INFALLIBLE);
    }
    let aliases: Vec<_> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        write!(page, "Alias: `{}`.\n\n", aliases.join("`, `")).expect(INFALLIBLE);
    }
    let usage = command.render_usage().to_string();
    code(page, usage.trim_start_matches("Usage:").trim());
    options(page, command, is_root);
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        let after = after.to_string();
        let lines = after.trim_end().lines().map(|line| match line {
            example if example.starts_with(' ') => example.to_owned(),
            paragraph => wrapped(paragraph),
        });
        page.push('\n');
        code(page, &lines.collect::<Vec<_>>().join("\n"));
    }
    let shown = |command: &&mut Command| !command.is_hide_set() && command.get_name() != "help";
    if REPEATS_JOBS.contains(&name.as_str()) {
        let verbs: Vec<_> = command
            .get_subcommands()
            .map(Command::get_name)
            .filter(|verb| *verb != "help")
            .collect();
        write!(
            page,
            "\nVerbs: `{}`, with the arguments of `doorctl jobs VERB`.\n",
            verbs.join("`, `")
        )
        .expect(INFALLIBLE);
        return;
    }
    for command in command.get_subcommands_mut().filter(shown) {
        section(page, command, depth + 1);
    }
}

/// Arguments and options, a table for each heading of the help.
fn options(page: &mut String, command: &Command, with_global: bool) {
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
        .filter(|arg| with_global || arg.get_help_heading() != Some(GLOBAL))
        .collect();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in &shown {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        let title = heading.unwrap_or("Arguments and options");
        write!(page, "\n| {} | |\n|---|---|\n", prose(title)).expect(INFALLIBLE);
        for arg in shown.iter().filter(|arg| arg.get_help_heading() == heading) {
            writeln!(page, "| `{}` | {} |", spelling(arg), meaning(arg)).expect(INFALLIBLE);
        }
    }
}

fn spelling(arg: &Arg) -> String {
    let short = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(_)) => format!("-{short}, "),
        _ => String::new(),
    };
    format!("{short}{arg}").replace('|', "\\|")
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map_or(String::new(), |help| prose(&help.to_string()));
    let takes_value = arg.get_action().takes_values();
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if takes_value && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        write!(text, " (default `{}`)", defaults.join(" ")).expect(INFALLIBLE);
    }
    let possible: Vec<_> = arg.get_possible_values();
    if takes_value && !possible.is_empty() && !arg.is_hide_possible_values_set() {
        let names: Vec<_> = possible.iter().map(|value| value.get_name()).collect();
        write!(text, " (`{}`)", names.join("`, `")).expect(INFALLIBLE);
    }
    text
}

const INFALLIBLE: &str = "a String takes whatever is written";

fn code(page: &mut String, text: &str) {
    write!(page, "```text\n{text}\n```\n").expect(INFALLIBLE);
}

/// Text of a help as Markdown on one line: what stands in backticks stays as it is.
fn prose(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = line.split('`').enumerate().map(|(index, part)| {
        let part = part.replace('|', "\\|");
        if index % 2 == 0 {
            part.replace('<', "\\<").replace('*', "\\*")
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("`")
}
