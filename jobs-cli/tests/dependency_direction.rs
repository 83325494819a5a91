//! Tests the allowed dependencies between crates (from cargo's graph) and between layers of hub and
//! agent (from the source).
//!
//! A new dependency is a decision: change ARCHITECTURE.md and the tables below in a commit of its
//! own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Crate -> workspace crates that its product code may link. `doorctl` links hub and agent with
/// feature `demo` only.
const CRATE_EDGES: &[(&str, &[&str])] = &[
    ("iothub-protocol", &[]),
    ("iothub-client", &["iothub-protocol"]),
    ("door-core", &[]),
    ("door-dashboard", &[]),
    ("door-agent", &["door-core", "iothub-protocol"]),
    ("door-hub", &["door-dashboard", "iothub-protocol"]),
    (
        "doorctl",
        &[
            "door-agent",
            "door-core",
            "door-dashboard",
            "door-hub",
            "iothub-client",
            "iothub-protocol",
        ],
    ),
];

/// Layer of the hub -> layers below it that it may use. Only `lib.rs` and `main.rs` may use all.
const HUB_LAYERS: &[(&str, &[&str])] = &[
    ("mqtt", &["session", "service", "auth", "tls", "listen"]),
    ("http", &["session", "service", "auth", "tls", "listen"]),
    ("service", &["store", "session"]),
    ("session", &[]),
    ("auth", &[]),
    ("store", &[]),
    ("tls", &[]),
    ("listen", &[]),
    ("pki", &[]),
];

/// Layer of the agent -> layers below it that it may use. Only `lib.rs`, `main.rs`, `agent` and
/// `commands` may use all.
const AGENT_LAYERS: &[(&str, &[&str])] = &[
    (
        "cloud",
        &[
            "tls",
            "config",
            "identify",
            "reboot",
            "controller",
            "storage",
        ],
    ),
    ("tls", &["config", "files"]),
    ("restart", &["config", "status"]),
    ("config", &["reboot", "gpio", "files"]),
    ("identify", &["controller", "storage"]),
    ("reboot", &["controller", "storage", "gpio"]),
    ("controller", &["storage", "gpio"]),
    ("storage", &["event_log", "files"]),
    ("event_log", &["files"]),
    ("selftest", &["gpio", "service"]),
    ("gpio", &[]),
    ("files", &[]),
    ("status", &[]),
    ("service", &[]),
];

/// Verbs of doorctl, which use none of each other: what they share is in modules beside them.
const VERBS: &[(&str, &[&str])] = &[
    ("alarms", &[]),
    ("audit", &[]),
    ("completion", &[]),
    ("context", &[]),
    ("config_view", &[]),
    // `demo --dashboard` serves the page of its hub.
    ("demo", &["dashboard"]),
    ("dashboard", &[]),
    ("devices", &[]),
    ("documents", &[]),
    ("doctor", &[]),
    ("doors", &[]),
    ("events", &[]),
    ("explain", &[]),
    ("invoke", &[]),
    ("jobs", &[]),
    ("policy", &[]),
    ("query", &[]),
    ("twin", &[]),
    ("version", &[]),
    ("whoami", &[]),
];

/// Crates that must not enter the graph, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "one TLS provider: ring"),
    ("aws-lc-sys", "one TLS provider: ring"),
    ("openssl", "one TLS provider: ring"),
    ("native-tls", "one TLS provider: ring"),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .expect("cargo describes the workspace")
}

fn table(rows: &'static [(&str, &[&str])]) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    rows.iter()
        .map(|(from, to)| (*from, to.iter().copied().collect()))
        .collect()
}

#[test]
fn crates_depend_one_way() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = CRATE_EDGES.iter().map(|(name, _)| *name).collect();
    let allowed = table(CRATE_EDGES);
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if ["doorfleet-bench", "doorfleet-fuzz", "doorfleet-testing"].contains(&name) {
            continue; // may link what they measure, fuzz or build
        }
        let allowed = allowed
            .get(name)
            .unwrap_or_else(|| panic!("crate {name} is not in CRATE_EDGES"));
        let linked: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| {
                dependency.kind == DependencyKind::Normal && ours.contains(dependency.name.as_str())
            })
            .map(|dependency| dependency.name.as_str())
            .collect();
        let extra: Vec<_> = linked.difference(allowed).collect();
        assert!(
            extra.is_empty(),
            "{name} links {extra:?}, which CRATE_EDGES does not allow"
        );
    }
    let doorctl = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "doorctl")
        .expect("doorctl");
    for dependency in &doorctl.dependencies {
        if dependency.kind == DependencyKind::Normal
            && ["door-agent", "door-hub"].contains(&dependency.name.as_str())
        {
            assert!(
                dependency.optional,
                "doorctl links {} outside its demo feature",
                dependency.name
            );
        }
    }
}

#[test]
fn one_tls_provider() {
    let metadata = metadata();
    for package in &metadata.packages {
        if let Some((name, why)) = BANNED
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
        {
            let resolved = metadata.resolve.as_ref().expect("cargo resolves the graph");
            let in_use = resolved
                .nodes
                .iter()
                .any(|node| node.dependencies.contains(&package.id));
            assert!(!in_use, "{name} entered the graph: {why}");
        }
    }
}

#[test]
fn hub_layers_point_one_way() {
    layers_point_one_way("hub/src", "crate::", HUB_LAYERS);
}

#[test]
fn agent_layers_point_one_way() {
    layers_point_one_way("agent/src", "crate::", AGENT_LAYERS);
}

#[test]
fn verbs_of_doorctl_use_none_of_each_other() {
    layers_point_one_way("jobs-cli/src/commands", "crate::commands::", VERBS);
}

/// `prefix` is the path of the modules in `folder`.
fn layers_point_one_way(folder: &str, prefix: &str, rows: &'static [(&str, &[&str])]) {
    for (index, (layer, uses)) in rows.iter().enumerate() {
        let below: BTreeSet<_> = rows[index + 1..].iter().map(|(below, _)| below).collect();
        for used in *uses {
            assert!(
                below.contains(used),
                "{layer} uses {used}, which is not below it"
            );
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let layers = table(rows);
    let mut seen = BTreeSet::new();
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).expect("below the source");
        let first = inside
            .components()
            .next()
            .expect("a file name")
            .as_os_str()
            .to_string_lossy();
        let Some((layer, allowed)) = layers.get_key_value(first.trim_end_matches(".rs")) else {
            continue; // knows all layers, or none
        };
        seen.insert(*layer);
        if file.ends_with("tests.rs") {
            continue; // a test may use a layer above
        }
        let text = fs::read_to_string(&file).expect("a readable source file");
        for (number, line) in text.lines().enumerate() {
            // In a file of the folder itself both paths name the same modules.
            let line = match inside.components().count() {
                1 => line.replace("super::", prefix),
                _ => line.to_owned(),
            };
            let used = line.split(prefix).skip(1);
            for used in used.flat_map(|used| match used.strip_prefix('{') {
                Some(list) => list
                    .split('}')
                    .next()
                    .unwrap_or_default()
                    .split(',')
                    .collect(),
                None => vec![used],
            }) {
                let used: String = used
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let other = layers.contains_key(used.as_str()) && used != *layer;
                assert!(
                    !other || allowed.contains(used.as_str()),
                    "{}:{}: layer {layer} names layer {used}",
                    file.display(),
                    number + 1
                );
            }
        }
    }
    assert_eq!(
        seen.len(),
        layers.len(),
        "the layers moved: only {seen:?} were found in {}",
        source.display()
    );
}

#[test]
fn the_hub_knows_nothing_of_doors() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hub/src");
    for file in rust_files(&source) {
        if file.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a readable source file");
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in [
            "door_core",
            "lockDoor",
            "unlockDoor",
            "lockState",
            "doorState",
        ] {
            assert!(
                !product.contains(word),
                "{} speaks of {word}; the hub serves any device",
                file.display()
            );
        }
    }
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a folder entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "no source below {}", directory.display());
    files
}
