//! The pins of a real board by their roles: which outputs are on, which inputs are active.
//!
//! How a pin is driven or read is the business of each board, through [`OutputDriver`] and
//! [`InputReader`].

use std::path::Path;
use std::time::{Duration, Instant};

use door_core::{Inputs, OutputFault, Outputs, Reading};
use log::{error, info, warn};

use super::config::{self, ActiveLevel, BoardConfig};
use super::debounce::Debounce;
use super::pin_claim::{DIRECTORY, PinClaim};
use super::{Board, BoardError, PinId, PinLevel, PinName, WiredBoard, earlier_of};

/// Interval at which inputs without edges are read: an exit button works without a noticeable
/// delay, and a slow Pi hardly notices.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// A claimed output pin.
pub(super) trait OutputDriver: Send {
    /// Energises or de-energises what the pin drives, or says why it cannot.
    fn set(&mut self, energised: bool) -> Result<(), String>;
}

/// A claimed input pin.
pub(super) trait InputReader: Send {
    /// The present level, or why it cannot be read.
    fn is_high(&self) -> Result<bool, String>;

    /// Whether levels have held for the debounce time before they are read.
    fn is_debounced(&self) -> bool;

    /// Whether an edge pokes the [`super::Wake`]; otherwise it is polled.
    fn has_edges(&self) -> bool;
}

/// The inputs that must let people out: a contact that chatters counts as active (see
/// [`Debounce::for_egress`]), so their raw levels are needed.
pub(super) fn is_egress(role: &str) -> bool {
    matches!(role, "rex" | "fire")
}

/// All pins of a door. Dropping it de-energises the outputs.
#[derive(Debug)]
pub(super) struct Pins<O: OutputDriver, I> {
    outputs: Vec<Output<O>>,
    inputs: Vec<Input<I>>,
    read_at: Instant,
    claims: Vec<PinClaim>,
}

#[derive(Debug)]
struct Output<O> {
    role: &'static str,
    name: PinName,
    driver: O,
    /// It could not be set the last time.
    is_faulty: bool,
}

#[derive(Debug)]
struct Input<I> {
    role: &'static str,
    name: PinName,
    active: ActiveLevel,
    reader: I,
    debounce_time: Duration,
    /// `None` while it cannot be read, and for one that is debounced already.
    debounce: Option<Debounce>,
    /// Why it cannot be read.
    fault: Option<String>,
}

impl<O: OutputDriver, I: InputReader> Pins<O, I> {
    /// Opens every configured pin, outputs first. Each output is recorded as driven right before it
    /// is opened, which may set its level.
    pub(super) fn open(
        config: &BoardConfig,
        mut claims: Vec<PinClaim>,
        output: impl Fn(&'static str, &config::OutputPin) -> Result<O, BoardError>,
        input: impl Fn(&'static str, &config::InputPin) -> Result<I, BoardError>,
    ) -> Result<Self, BoardError> {
        let mut outputs = Vec::new();
        for (role, pin) in config.outputs.all() {
            let Some(pin) = pin else {
                continue;
            };
            let claim = claims.iter_mut().find(|claim| claim.role() == role);
            let opened = match claim {
                Some(claim) => claim.driving(pin.active, || output(role, pin)),
                None => output(role, pin),
            };
            outputs.push(Output {
                role,
                name: pin.pin.clone(),
                driver: opened?,
                is_faulty: false,
            });
        }
        let mut inputs = Vec::new();
        for (role, pin) in config.inputs.pins().all() {
            if let Some(pin) = pin {
                inputs.push(Input::new(role, pin, input(role, pin)?));
            }
        }
        Ok(Self {
            outputs,
            inputs,
            read_at: Instant::now(),
            claims,
        })
    }
}

impl<O: OutputDriver, I> Pins<O, I> {
    /// Switches off before it switches on, so that a motor gets one of its directions. Sets every
    /// output, whatever fails before it: a throw that cannot be switched off must not keep the door
    /// from being released, and it may be off all the same. Returns the problem of the output that
    /// should be on, else the first.
    fn set_outputs(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        let energised = match outputs {
            Outputs::DeEnergised => None,
            Outputs::Throw => Some("throw"),
            Outputs::Retract => Some("retract"),
            Outputs::Energised => Some("coil"),
        };
        let mut fault = None;
        for on in [false, true] {
            for output in &mut self.outputs {
                if (energised == Some(output.role)) != on {
                    continue;
                }
                if let Err(problem) = output.set(on) {
                    if on || fault.is_none() {
                        fault = Some(OutputFault {
                            problem,
                            is_energised: !on,
                        });
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }
}

impl<O: OutputDriver> Output<O> {
    fn set(&mut self, on: bool) -> Result<(), String> {
        let (name, role) = (&self.name, self.role);
        let done = self.driver.set(on);
        let done = done.map_err(|reason| format!("{name} ({role}) cannot be driven: {reason}"));
        match (&done, self.is_faulty) {
            (Err(problem), false) => error!("{problem}"),
            (Ok(()), true) => info!("{name} ({role}) can be driven again"),
            _ => {}
        }
        self.is_faulty = done.is_err();
        done
    }
}

impl<O: OutputDriver, I> Drop for Pins<O, I> {
    fn drop(&mut self) {
        if self.set_outputs(Outputs::DeEnergised).is_err() {
            // The pins stay recorded as driven: the last resort de-energises them once more.
            return;
        }
        for claim in &mut self.claims {
            // If this fails, the pin is de-energised once more later.
            if let Err(error) = claim.forget() {
                warn!("{error}");
            }
        }
    }
}

impl<O: OutputDriver, I: InputReader> Board for Pins<O, I> {
    fn read(&mut self) -> Inputs {
        let now = Instant::now();
        self.read_at = now;
        let mut inputs = Inputs::default();
        for input in &mut self.inputs {
            *reading_of(&mut inputs, input.role) = input.read(now);
        }
        inputs
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        self.set_outputs(outputs)
    }

    fn next_change(&self) -> Option<Instant> {
        let debounces = self
            .inputs
            .iter()
            .filter_map(|input| input.debounce.as_ref());
        let is_polled = self.inputs.iter().any(|input| !input.reader.has_edges());
        let poll = is_polled.then(|| self.read_at + POLL_INTERVAL);
        debounces.map(Debounce::due).fold(poll, earlier_of)
    }
}

/// The configured inputs.
impl<O: OutputDriver, I: InputReader> WiredBoard for Pins<O, I> {
    fn pins(&self) -> Vec<PinLevel> {
        let level = |input: &Input<I>| {
            let level = input.reader.is_high();
            PinLevel {
                role: Some(input.role),
                pin: Some(input.name.clone()),
                high: level == Ok(true),
                active: level == Ok(input.active == ActiveLevel::High),
                fault: level.err(),
            }
        };
        self.inputs.iter().map(level).collect()
    }
}

impl<I: InputReader> Input<I> {
    fn new(role: &'static str, pin: &config::InputPin, reader: I) -> Self {
        Self {
            role,
            name: pin.pin.clone(),
            active: pin.active,
            reader,
            debounce_time: pin.debounce,
            debounce: None,
            fault: None,
        }
    }

    fn read(&mut self, now: Instant) -> Reading {
        let level = match self.reader.is_high() {
            Ok(level) => level,
            Err(error) => {
                if self.fault.as_ref() != Some(&error) {
                    warn!("{} ({}) cannot be read: {error}", self.name, self.role);
                }
                self.fault = Some(error);
                self.debounce = None;
                return None;
            }
        };
        if self.fault.take().is_some() {
            info!("{} ({}) can be read again", self.name, self.role);
        }
        let active = level == (self.active == ActiveLevel::High);
        if self.reader.is_debounced() {
            return Some(active);
        }
        let (role, time) = (self.role, self.debounce_time);
        let debounce = self.debounce.get_or_insert_with(|| {
            if is_egress(role) {
                Debounce::for_egress(time, active)
            } else {
                Debounce::new(time, active)
            }
        });
        Some(debounce.read(active, now))
    }
}

/// Claims pins for `door`.
pub(super) fn claim_all(
    door: &str,
    pins: impl IntoIterator<Item = (&'static str, PinId)>,
) -> Result<Vec<PinClaim>, BoardError> {
    let claim = |(role, pin)| PinClaim::take(Path::new(DIRECTORY), pin, role, door);
    pins.into_iter().map(claim).collect()
}

/// Claims a pin that another door's last resort may hold for a moment.
pub(super) fn claim_with_retry(
    pin: &PinId,
    role: &'static str,
    door: &str,
) -> Result<PinClaim, BoardError> {
    let mut tries = 20;
    loop {
        match PinClaim::take(Path::new(DIRECTORY), pin.clone(), role, door) {
            Err(BoardError::PinHeld { .. }) if tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            taken => return taken,
        }
    }
}

/// The reading of the input with this key in `[board.inputs]`.
fn reading_of<'a>(inputs: &'a mut Inputs, role: &str) -> &'a mut Reading {
    match role {
        "door" => &mut inputs.closed,
        "bond" => &mut inputs.bonded,
        "rex" => &mut inputs.rex,
        "grant" => &mut inputs.grant,
        "fire" => &mut inputs.fire,
        "fire_reset" => &mut inputs.fire_reset,
        _ => &mut inputs.tamper,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Pins in memory: what was set, and what is read.
    #[derive(Debug, Clone, Default)]
    struct Memory(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        set: Vec<String>,
        /// Low, high or unreadable; by role.
        low: Vec<&'static str>,
        unreadable: Vec<&'static str>,
        /// The outputs that cannot be set.
        stuck: Vec<&'static str>,
    }

    #[derive(Debug)]
    struct MemoryPin {
        role: &'static str,
        memory: Memory,
        is_debounced: bool,
        has_edges: bool,
    }

    impl OutputDriver for MemoryPin {
        fn set(&mut self, energised: bool) -> Result<(), String> {
            let mut state = self.memory.0.lock().unwrap();
            if state.stuck.contains(&self.role) {
                return Err("input/output error".to_owned());
            }
            let sign = if energised { "+" } else { "-" };
            state.set.push(format!("{sign}{}", self.role));
            Ok(())
        }
    }

    impl InputReader for MemoryPin {
        fn is_high(&self) -> Result<bool, String> {
            let state = self.memory.0.lock().unwrap();
            if state.unreadable.contains(&self.role) {
                return Err("input/output error".to_owned());
            }
            Ok(!state.low.contains(&self.role))
        }

        fn is_debounced(&self) -> bool {
            self.is_debounced
        }

        fn has_edges(&self) -> bool {
            self.has_edges
        }
    }

    fn pins(memory: &Memory, is_debounced: bool) -> Pins<MemoryPin, MemoryPin> {
        with_edges(memory, is_debounced, true)
    }

    fn with_edges(
        memory: &Memory,
        is_debounced: bool,
        has_edges: bool,
    ) -> Pins<MemoryPin, MemoryPin> {
        let config: BoardConfig = toml::from_str(
            r#"kind = "gpio"
            chip = "test"
            outputs.throw = { line = 1, active = "high" }
            outputs.retract = { line = 2, active = "high" }
            inputs.door = { line = 3, active = "low", bias = "pull-up", debounce = "1s" }
            inputs.rex = { line = 4, active = "low", bias = "pull-up", debounce = "1s" }"#,
        )
        .unwrap();
        let pin = |role, is_debounced| {
            Ok(MemoryPin {
                role,
                memory: memory.clone(),
                is_debounced,
                has_edges,
            })
        };
        Pins::open(
            &config,
            Vec::new(),
            |role, _| pin(role, false),
            |role, _| pin(role, is_debounced),
        )
        .unwrap()
    }

    #[test]
    fn a_motor_never_gets_both_directions_and_the_end_de_energises() {
        let memory = Memory::default();
        let mut pins = pins(&memory, false);
        for outputs in [Outputs::Throw, Outputs::Retract, Outputs::Energised] {
            assert_eq!(pins.drive(outputs), Ok(()));
        }
        drop(pins);
        let set = memory.0.lock().unwrap().set.join(" ");
        assert_eq!(
            set,
            "-retract +throw -throw +retract -throw -retract -throw -retract"
        );
    }

    #[test]
    fn inputs_without_edges_are_polled() {
        for has_edges in [true, false] {
            let mut pins = with_edges(&Memory::default(), true, has_edges);
            let before = Instant::now();
            pins.read();
            let next = pins.next_change();
            assert_eq!(next.is_none(), has_edges);
            assert!(next.is_none_or(|next| next >= before + POLL_INTERVAL));
            assert!(next.is_none_or(|next| next <= Instant::now() + POLL_INTERVAL));
        }
    }

    #[test]
    fn an_output_that_cannot_be_set_is_named_and_the_others_are_set() {
        let memory = Memory::default();
        let mut pins = pins(&memory, false);
        memory.0.lock().unwrap().stuck = vec!["throw"];
        for (outputs, is_energised) in [
            (Outputs::Throw, false),
            (Outputs::Retract, true),
            (Outputs::DeEnergised, true),
        ] {
            let problem = "line 1 (throw) cannot be driven: input/output error".to_owned();
            let fault = OutputFault {
                problem,
                is_energised,
            };
            assert_eq!(pins.drive(outputs), Err(fault), "{outputs:?}");
        }
        memory.0.lock().unwrap().stuck = vec!["throw", "retract"];
        for (outputs, named) in [(Outputs::Throw, "(throw)"), (Outputs::Retract, "(retract)")] {
            let problem = pins.drive(outputs).unwrap_err().problem;
            assert!(problem.contains(named), "{outputs:?}: {problem}");
        }
        memory.0.lock().unwrap().stuck.clear();
        assert_eq!(pins.drive(Outputs::DeEnergised), Ok(()));
        let set = memory.0.lock().unwrap().set.join(" ");
        assert_eq!(set, "-retract +retract -retract -throw -retract");
    }

    #[test]
    fn an_unreadable_input_reads_as_unknown_until_it_can_be_read() {
        for is_debounced in [false, true] {
            let memory = Memory::default();
            let mut pins = pins(&memory, is_debounced);
            let set = |low: &[&'static str], unreadable: &[&'static str]| {
                let mut state = memory.0.lock().unwrap();
                (state.low, state.unreadable) = (low.to_vec(), unreadable.to_vec());
            };
            let mut read = || {
                let inputs = pins.read();
                (inputs.closed, inputs.rex, inputs.fire)
            };
            set(&["door"], &["rex"]);
            assert_eq!(read(), (Some(true), None, None));
            set(&["door", "rex"], &["door"]);
            assert_eq!(read(), (None, Some(true), None), "at once, as at a start");
            set(&["door"], &[]);
            // One level is debounced here, the other by the kernel.
            assert_eq!(read(), (Some(true), Some(!is_debounced), None));
            set(&[], &["door"]);
            let faults: Vec<_> = pins.pins().into_iter().map(|pin| pin.fault).collect();
            assert_eq!(faults, [Some("input/output error".to_owned()), None]);
        }
    }
}
