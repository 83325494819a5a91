//! Embeds the build time, the lower bound of the program's clock. `SOURCE_DATE_EPOCH` makes builds
//! reproducible.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    let built = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_secs())
        })
        .unwrap_or(0);
    println!("cargo::rustc-env=DOOR_AGENT_BUILT_UNIX_S={built}");
}
