//! Replays seeds and earlier crashes without the fuzzer: the seeds match the encoders, and no
//! target fails on them, on inputs that once broke one, or on mutations of seeds.

#![expect(
    clippy::unwrap_used,
    reason = "in a test the line that failed is the message"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use doorfleet_fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;

/// Writes the seeds instead of comparing them.
const UPDATE: &str = "UPDATE_SEEDS";

fn folder(kind: &str, target: &Target) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(kind).join(target.name)
}

/// The files of a folder; empty if it does not exist.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn the_seeds_are_what_the_encoders_make() {
    for target in TARGETS {
        let made: BTreeMap<_, _> = (target.seeds)().into_iter().collect();
        assert!(!made.is_empty(), "{} has no seed", target.name);
        let folder = folder("corpus", target);
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(&folder).unwrap();
            for name in files(&folder).keys() {
                fs::remove_file(folder.join(name)).unwrap();
            }
            for (name, seed) in &made {
                fs::write(folder.join(name), seed).unwrap();
            }
        }
        assert!(
            files(&folder) == made,
            "{} differs from the encoders' output; {UPDATE}=1 updates it",
            folder.display()
        );
    }
}

#[test]
fn no_target_breaks_on_its_seeds_and_on_what_once_broke_it() {
    for target in TARGETS {
        for kind in ["corpus", "crashes"] {
            for (name, data) in files(&folder(kind, target)) {
                eprintln!("{kind}/{}/{name}", target.name);
                (target.run)(&data);
            }
        }
    }
}

#[test]
fn crashes_belong_to_targets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for kind in ["corpus", "crashes"] {
        let Ok(entries) = fs::read_dir(root.join(kind)) else {
            continue;
        };
        for entry in entries {
            let name = entry.unwrap().file_name();
            let name = name.to_str().unwrap();
            assert!(
                doorfleet_fuzz::target(name).is_some(),
                "{kind}/{name} has no target"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Seeds with bytes inserted, removed or overwritten.
    #[test]
    fn no_target_breaks_on_changed_seeds(
        target in prop::sample::select(TARGETS),
        seed in any::<Index>(),
        changes in prop::collection::vec(
            (any::<Index>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..4)),
            1..5,
        ),
    ) {
        let seeds = (target.seeds)();
        let mut data = seed.get(&seeds).1.clone();
        for (at, removed, put) in changes {
            let at = at.index(data.len() + 1);
            let end = data.len().min(at + removed);
            data.splice(at..end, put);
        }
        (target.run)(&data);
    }
}
