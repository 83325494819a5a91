//! What the pages in `docs/` promise: commands and flags that exist, linked files that exist,
//! settings that the agent accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::documents::block::blocks;
use doorfleet_testing::{run, workspace_program, write_secret};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn in_repository(path: &str) -> PathBuf {
    Path::new(REPOSITORY).join(path)
}

/// README and the pages in `docs/`, each with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![in_repository("README.md")];
    let mut folders = vec![in_repository("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    assert!(paths.len() >= 10, "{paths:?}");
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
    paths
        .iter()
        .map(|path| (path.clone(), text(path)))
        .collect()
}

/// The blocks of a language.
fn blocks_of(language: &str, page: &Path, text: &str) -> Vec<String> {
    blocks(&page.display().to_string(), text)
        .into_iter()
        .filter(|block| block.language == language)
        .map(|block| block.text)
        .collect()
}

/// Commands of this project on a line, from the program's name to the end of the command.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let ours = |word: &str| ["doorctl", "door-agent", "door-hub"].contains(&word);
    let line = line.split(" #").next().unwrap();
    let ends = ["&&", "|", ";", "||"];
    let words: Vec<&str> = line
        .split_whitespace()
        .map(|word| word.trim_matches(['`', '(', ')']))
        .collect();
    // At the start of a command, or after `ssh user@host`: elsewhere it is the name of a unit.
    let starts = (0..words.len()).filter(|&at| {
        let first = at == 0 || ends.contains(&words[at - 1]) || words[at - 1].contains('@');
        first && ours(words[at])
    });
    let command = |at: usize| {
        words[at..]
            .iter()
            .copied()
            .take_while(|word| !ends.contains(word) && !word.starts_with('>'))
            .collect()
    };
    starts.map(command).collect()
}

fn help(words: &[&str]) -> String {
    let path = match words[0] {
        "doorctl" => PathBuf::from(env!("CARGO_BIN_EXE_doorctl")),
        name => workspace_program(name),
    };
    let output = Command::new(path)
        .args(&words[1..])
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?} --help: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails unless the program has the verbs and flags of a command.
fn exists(page: &Path, command: &[&str]) {
    let mut verbs = 1;
    let mut help_text = help(&command[..verbs]);
    while let Some(word) = command.get(verbs) {
        let listed = help_text.lines().any(|line| {
            line.strip_prefix("  ")
                .is_some_and(|line| line.split(' ').next() == Some(word))
        });
        if !listed {
            break;
        }
        verbs += 1;
        help_text = help(&command[..verbs]);
    }
    assert!(
        verbs > 1 || command[0] == "door-agent",
        "{}: {command:?} has no verb that {} knows",
        page.display(),
        command[0]
    );
    // The first line of the usage says what runs without a verb.
    let usage = help_text.split("Usage: ").nth(1).unwrap_or_default();
    let first = usage.lines().next().unwrap_or_default();
    assert!(
        !first.contains("<COMMAND>") || command[0] == "door-agent",
        "{}: {command:?} needs a verb more",
        page.display()
    );
    for flag in command.iter().filter(|word| word.starts_with("--")) {
        let flag = flag.split('=').next().unwrap();
        let known = help_text
            .split_whitespace()
            .any(|word| word.trim_end_matches(',') == flag);
        assert!(
            known,
            "{}: {command:?}: {flag} is not in its --help",
            page.display()
        );
    }
}

#[test]
fn commands_and_links_on_the_pages_exist() {
    let mut seen = 0;
    for (path, text) in pages() {
        for block in blocks_of("sh", &path, &text) {
            for command in block.lines().flat_map(commands) {
                exists(&path, &command);
                seen += 1;
            }
        }
        for link in text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            let file = link.split('#').next().unwrap();
            let there = link.starts_with("https://") || path.parent().unwrap().join(file).exists();
            assert!(there, "{}: {link} leads nowhere", path.display());
        }
    }
    assert!(seen >= 10, "only {seen} commands were found");
}

#[test]
fn settings_on_the_pages_for_installers_are_accepted() {
    let settings: Vec<_> = ["wiring", "hardware"]
        .into_iter()
        .flat_map(|page| {
            let path = in_repository(&format!("docs/installer/{page}.md"));
            blocks_of("toml", &path, &fs::read_to_string(&path).unwrap())
        })
        .collect();
    assert_eq!(settings.len(), 5);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("door.connection-string");
    let text = "HostName=hub.example;DeviceId=door;SharedAccessKey=MDEyMw==\n";
    write_secret(secret, text);
    for text in settings {
        let config = folder.path().join("door.toml");
        let board = match text.contains("[board]\n") {
            true => "",
            false => "[board]\nkind = \"raspberry-pi\"\n",
        };
        let text =
            format!("[hub]\nconnection_string_file = \"door.connection-string\"\n{board}{text}");
        fs::write(&config, &text).unwrap();
        let mut check = Command::new(workspace_program("door-agent"));
        run(check.args(["check", "--config"]).arg(&config))
            .prints(&["fine   configuration", "fine   egress"]);
    }
}

#[test]
fn the_drawings_match_the_wiring_page() {
    let page = fs::read_to_string(in_repository("docs/installer/wiring.md")).unwrap();
    for drawing in ["strike", "maglock", "bolt", "motor-lock"] {
        let svg = in_repository(&format!("docs/installer/wiring/{drawing}.svg"));
        let svg = fs::read_to_string(svg).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{drawing}"
        );
        let section = page
            .split(&format!("](wiring/{drawing}.svg)\n\n```toml"))
            .nth(1)
            .unwrap();
        let section = section.split("```").next().unwrap();
        for pin in svg
            .split(">BCM ")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap())
        {
            assert!(
                section.contains(&format!("pin = {pin},")),
                "{drawing} draws BCM {pin}: {section}"
            );
        }
    }
}
