//! Snapshots of the help of each verb.

use super::examples::help;
use super::examples::verbs::verbs;
use super::support::Home;

#[test]
fn every_help_matches_its_snapshot() {
    let home = Home::new();
    for path in verbs(|path| help(&home, path)) {
        home.snapshot([path, vec!["--help".to_owned()]].concat());
    }
}

#[test]
fn no_line_of_a_help_or_a_mistake_is_wider_than_the_terminal() {
    let home = Home::new();
    for path in verbs(|path| help(&home, path)) {
        for flag in ["--help", "--not-a-flag"] {
            let line = [path.clone(), vec![flag.to_owned()]].concat().join(" ");
            let output = home.command(&line).env("COLUMNS", "80").output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8(text).unwrap();
            let wide = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{line}");
        }
    }
}

#[test]
fn a_completion_script_calls_doorctl_with_the_words_typed() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(["completion", shell]);
        assert!(script.starts_with("status: 0\n--- stdout\n"), "{script}");
        let asks = format!("DOORCTL_COMPLETE=\"{shell}\"").replace("\"fish\"", "fish");
        assert!(script.contains(&asks), "{script}");
    }
    for (line, expected) in [
        (&["jobs", "wat"][..], "watch"),
        (&["lo"], "lock\nlockdown\nlogs"),
        // The hub does not answer: no candidates and no error message.
        (&["why", "lob"], ""),
    ] {
        let mut command = home.command("-- doorctl");
        let output = command
            .args(line)
            .env("DOORCTL_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", line.len().to_string())
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(stdout, expected, "{line:?}");
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[test]
fn documents_writes_a_script_for_each_shell_and_a_page_for_each_verb() {
    let home = Home::new();
    assert_eq!(home.run("documents ."), "status: 0\n");
    for file in [
        "doorctl.bash",
        "doorctl.fish",
        "_doorctl",
        "doorctl.1",
        "doorctl-jobs-lock.1",
    ] {
        assert!(home.path().join(file).is_file(), "{file}");
    }
    let zsh = std::fs::read_to_string(home.path().join("_doorctl")).unwrap();
    assert!(zsh.starts_with("#compdef doorctl\n"), "{zsh}");
}
