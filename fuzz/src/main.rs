//! Entry point of libFuzzer: one program for all targets; `DOORFLEET_FUZZ_TARGET` selects one.
//! `fuzz/run` builds and starts it.
#![no_main]

use std::sync::OnceLock;

use doorfleet_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("DOORFLEET_FUZZ_TARGET").unwrap_or_default();
        doorfleet_fuzz::target(&name).unwrap_or_else(|| {
            let names: Vec<_> = doorfleet_fuzz::TARGETS
                .iter()
                .map(|known| known.name)
                .collect();
            panic!(
                "invalid DOORFLEET_FUZZ_TARGET {name:?}: expected one of {}",
                names.join(", ")
            )
        })
    })
}

fuzz_target!(init: { chosen(); }, |data: &[u8]| (chosen().run)(data));
