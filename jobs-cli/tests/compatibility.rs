//! Every test that docs/compatibility.md names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/compatibility.md");
const SECTION: &str = "## Facts and their tests";
const SOURCES: [&str; 7] = [
    "protocol", "hub", "client", "agent", "jobs-cli", "compat", "fuzz",
];

/// Names in backticks in the last column of the tables.
fn named_tests() -> BTreeSet<&'static str> {
    let (_, section) = PAGE.split_once(SECTION).expect("the section is there");
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let tests = rows.filter_map(|row| Some(row.rsplit_once(" | ")?.1));
    tests
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

/// Names after `fn`, `def` or in `test('...')` in every source file below `folder`.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name != "target" && name != "node_modules")
            {
                tests_below(&path, found);
            }
            continue;
        }
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs" | "py" | "js" | "mjs" | "cjs") => {
                fs::read_to_string(&path).expect("a readable source file")
            }
            _ => continue,
        };
        for line in text.lines() {
            let line = line.trim_start();
            for start in [
                "fn ",
                "async fn ",
                // In a suite that several modules instantiate.
                "pub(crate) async fn ",
                "def ",
                "async def ",
                "test('",
                "test(\"",
                "test(`",
                "it('",
                "it(\"",
            ] {
                if let Some(rest) = line.strip_prefix(start) {
                    let end = rest.find(['(', '\'', '"', '`']).unwrap_or(rest.len());
                    found.insert(rest[..end].to_owned());
                }
            }
        }
    }
}

#[test]
fn every_test_on_the_compatibility_page_exists() {
    let mut found = BTreeSet::new();
    for folder in SOURCES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        tests_below(&root.join(folder), &mut found);
    }
    let named = named_tests();
    assert!(
        named.len() > 80,
        "the page names only {} tests",
        named.len()
    );
    let missing: Vec<_> = named
        .into_iter()
        .filter(|name| !found.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/compatibility.md names tests that do not exist: {missing:?}"
    );
}
