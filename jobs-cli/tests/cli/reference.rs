//! `docs/reference/doorctl.md` is what the command line says of itself.
//!
//! After a change of a verb, an option or a help text, `just reference` rewrites the page.

use std::fs;

use super::support::Home;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/doorctl.md");

#[test]
fn the_reference_page_is_generated_from_the_command_line() {
    let home = Home::new();
    assert_eq!(home.run("documents ."), "status: 0\n");
    let generated = fs::read_to_string(home.path().join("doorctl.md")).unwrap();
    assert!(
        generated.contains("\n### doorctl jobs lock\n"),
        "{generated}"
    );
    let page = fs::read_to_string(PAGE).unwrap_or_default();
    if page == generated {
        return;
    }
    if std::env::var_os("DOORFLEET_BLESS").is_some() {
        fs::write(PAGE, generated).unwrap();
        return;
    }
    panic!("docs/reference/doorctl.md is outdated: `just reference` rewrites it");
}
