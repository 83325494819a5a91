//! Lists every file below `web/`, so that none is forgotten: `FILES` of `src/lib.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let web = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("web");
    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    let mut folders = vec![web.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a folder entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    let mut list = "&[\n".to_owned();
    for file in files {
        let below = file.strip_prefix(&web).expect("a path below the folder");
        let path: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        writeln!(list, "({:?}, include_bytes!({file:?})),", path.join("/")).expect("memory");
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("files.rs");
    fs::write(out, list + "]").expect("a writable folder");
}
