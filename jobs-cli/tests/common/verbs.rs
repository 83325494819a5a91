//! The verbs that there are, by what each help lists.

/// All of them, the groups too; `help` gives the help of a verb.
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

/// The verbs below that of a help.
pub(crate) fn listed(help: &str) -> Vec<String> {
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    // A name stands behind two spaces; what it is said to be behind more.
    let names = listed.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}
