//! The existing verbs, as listed in the help.

/// All verbs, including groups; `help` returns the help of a verb.
pub(crate) fn verbs(help: impl Fn(&[String]) -> String) -> Vec<Vec<String>> {
    let mut verbs = vec![Vec::new()];
    let mut next = 0;
    while let Some(path) = verbs.get(next).cloned() {
        next += 1;
        verbs.extend(
            listed(&help(&path))
                .into_iter()
                .map(|name| [path.clone(), vec![name]].concat()),
        );
    }
    verbs
}

/// The subcommands listed in a help.
pub(crate) fn listed(help: &str) -> Vec<String> {
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    // Names are indented by two spaces, continued descriptions by more.
    let names = listed.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}
