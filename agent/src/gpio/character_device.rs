//! Lines of a GPIO chip, through its character device. No other module uses gpiocdev.
//!
//! The kernel gives a line to one program at a time, frees it when the program ends, however it
//! ends, and debounces inputs. Each line is requested by itself, so that an error names its role.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpiocdev::line::{Bias, EdgeDetection, Info, Value};
use gpiocdev::request::Builder;
use gpiocdev::{Error, Request, chip};
use log::warn;

use super::config::{self, ActiveLevel, BoardConfig, Chip, PinBias, PinName, is_header};
use super::pin_claim::{DIRECTORY, LAST_RESORT, PinClaim};
use super::pins::{
    InputReader, OutputDriver, POLL_INTERVAL, Pins, claim_all, claim_with_retry, is_egress,
};
use super::{BoardError, PinId, Wake};

/// How long a thread waits for an edge until it looks whether its input was dropped.
const EDGE_WAIT: Duration = Duration::from_secs(10);

/// How many waits in a row may fail until an input is polled only.
const MAX_FAILURES: u32 = 10;

/// The lines of a door.
pub(super) type CharacterDevice = Pins<Output, Input>;

#[derive(Debug)]
pub(super) struct Output(Request);

#[derive(Debug)]
pub(super) struct Input {
    request: Arc<Request>,
    is_debounced: bool,
    /// The thread that forwards edges sets it to false when it fails.
    has_edges: Arc<AtomicBool>,
}

/// The chip of a configuration.
struct OpenChip {
    chip: gpiocdev::Chip,
    /// `gpiochip0`.
    name: String,
    lines: u32,
    is_header: bool,
}

/// Claims the lines of `door`, its outputs de-energised. Edges poke `wake`; without one, there are
/// none.
pub(super) fn open(
    config: &BoardConfig,
    door: &str,
    wake: Option<&Wake>,
) -> Result<CharacterDevice, BoardError> {
    let chip = OpenChip::find(config)?;
    let claims = claim_all(door, chip.lines_of(config)?)?;
    let consumer = consumer(door);
    Pins::open(
        config,
        claims,
        |role, output| Output::open(&chip, role, output, &consumer),
        |role, input| Input::open(&chip, role, input, &consumer, wake),
    )
}

/// Looks at every line and requests none: even a request that sets nothing may end what the pin
/// does for another part of the machine.
pub(super) fn probe(config: &BoardConfig, door: &str) -> Result<Vec<String>, BoardError> {
    let chip = OpenChip::find(config)?;
    let mut found = Vec::new();
    // Kept until the end: an offset and a name may be the same line.
    let mut claims = Vec::new();
    for (role, pin) in chip.lines_of(config)? {
        claims.push(PinClaim::take(
            Path::new(DIRECTORY),
            pin.clone(),
            role,
            door,
        )?);
        let info = chip.info(&pin, role)?;
        if info.used {
            return Err(held(pin, role, &info));
        }
        let name = match info.name.as_str() {
            "" => String::new(),
            name => format!(" ({name:?})"),
        };
        found.push(format!("{pin}{name} as {role}, free"));
    }
    Ok(found)
}

/// Last resort: no process holds the lines, and their levels are unknown. `except` is done already.
pub(super) fn de_energise(
    config: &BoardConfig,
    door: &str,
    except: &[PinId],
) -> Result<(), BoardError> {
    let chip = OpenChip::find(config)?;
    let de_energise = |role, output: &config::OutputPin| {
        let pin = chip.line(role, &output.pin)?;
        if except.iter().any(|done| pin.is_same(done)) {
            return Ok(());
        }
        let mut claim = claim_with_retry(&pin, role, door)?;
        // The request sets the safe level.
        drop(Output::open(&chip, role, output, &consumer(door))?);
        claim.forget()
    };
    let outputs = config.outputs.all().into_iter();
    // All of them, even if one fails.
    let done = outputs.filter_map(|(role, output)| Some(de_energise(role, output?)));
    done.fold(Ok(()), Result::and)
}

/// De-energises a line that a killed process drove and that is claimed now.
pub(super) fn release(chip: &str, offset: u32, active: ActiveLevel) -> Result<(), BoardError> {
    let chip = OpenChip::by_name(chip)?;
    let pin = PinName::Offset(offset);
    let output = config::OutputPin { pin, active };
    drop(Output::open(&chip, LAST_RESORT, &output, "door-agent")?);
    Ok(())
}

/// What the kernel shows other programs that want the line; it keeps 31 bytes.
fn consumer(door: &str) -> String {
    format!("door-agent {door}")
}

impl OpenChip {
    fn find(config: &BoardConfig) -> Result<Self, BoardError> {
        match &config.chip {
            None => Err(config::BoardConfigError::ChipMissing.into()),
            Some(Chip::Name(name)) => Self::by_name(name),
            Some(Chip::Label(label)) => Self::by_label(label),
        }
    }

    fn by_name(name: &str) -> Result<Self, BoardError> {
        let chip = gpiocdev::Chip::from_name(name);
        let opened = chip.and_then(|chip| Self::new(chip).map(|(chip, _)| chip));
        opened.map_err(|error| BoardError::Chip {
            chip: name.to_owned(),
            reason: reason(&error),
        })
    }

    /// The only chip with this label: with two of them, which one a door has is not left to chance.
    fn by_label(label: &str) -> Result<Self, BoardError> {
        let failed = |reason| BoardError::Chip {
            chip: format!("{label:?}"),
            reason,
        };
        let mut found = Vec::new();
        let mut others = Vec::new();
        for path in chip::chips().map_err(|error| failed(reason(&error)))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match gpiocdev::Chip::from_path(&path).and_then(Self::new) {
                Ok((chip, its)) if its == label => found.push(chip),
                Ok((_, its)) => others.push(format!("{name} is {its:?}")),
                Err(error) => others.push(format!("{name}: {}", reason(&error))),
            }
        }
        match (found.pop(), found.as_slice()) {
            (Some(chip), []) => Ok(chip),
            (Some(chip), more) => {
                let names: Vec<_> = more.iter().chain([&chip]).map(|chip| &*chip.name).collect();
                let names = names.join(" and ");
                Err(failed(format!(
                    "{names} have this label, expected one; set a name"
                )))
            }
            (None, _) if others.is_empty() => Err(failed("this machine has no GPIO chip".into())),
            (None, _) => Err(failed(format!(
                "no chip has this label: {}",
                others.join(", ")
            ))),
        }
    }

    /// A chip, with its label.
    fn new(chip: gpiocdev::Chip) -> Result<(Self, String), Error> {
        let info = chip.info()?;
        let opened = Self {
            name: chip.name(),
            lines: info.num_lines,
            is_header: is_header(&info.label),
            chip,
        };
        Ok((opened, info.label))
    }

    /// Every configured line with its role.
    fn lines_of(&self, config: &BoardConfig) -> Result<Vec<(&'static str, PinId)>, BoardError> {
        let line = |(_, role, name)| Ok((role, self.line(role, name)?));
        config.pins().map(line).collect()
    }

    fn line(&self, role: &'static str, name: &PinName) -> Result<PinId, BoardError> {
        let missing = |found| BoardError::NoSuchLine {
            name: name.clone(),
            role,
            chip: self.name.clone(),
            found,
        };
        let offset = match name {
            PinName::Offset(offset) if *offset < self.lines => *offset,
            PinName::Offset(_) => {
                let last = self.lines.saturating_sub(1);
                return Err(missing(format!("the lines 0 to {last}")));
            }
            PinName::Line(wanted) => {
                let lines = (0..self.lines).filter_map(|offset| self.chip.line_info(offset).ok());
                let named: Vec<_> = lines.filter(|info| info.name == *wanted).collect();
                match named.as_slice() {
                    [info] => info.offset,
                    [] => return Err(missing("no line of this name".to_owned())),
                    [one, other, ..] => {
                        return Err(missing(format!(
                            "several lines of this name, such as {} and {}: set an offset",
                            one.offset, other.offset
                        )));
                    }
                }
            }
            PinName::Bcm(_) => {
                return Err(missing("lines: write `line` instead of `pin`".to_owned()));
            }
        };
        Ok(PinId::Line {
            chip: self.name.clone(),
            offset,
            is_header: self.is_header,
        })
    }

    fn info(&self, pin: &PinId, role: &'static str) -> Result<Info, BoardError> {
        let info = self.chip.line_info(offset_of(pin));
        info.map_err(|error| pin_error(pin.clone(), role, &error))
    }

    /// Requests one line; `set` says how. An error of a line in use names who uses it.
    fn request(
        &self,
        role: &'static str,
        name: &PinName,
        consumer: &str,
        set: impl Fn(&mut Builder),
    ) -> Result<Request, BoardError> {
        let pin = self.line(role, name)?;
        let mut builder = Request::builder();
        builder
            .on_chip(self.chip.path())
            .with_consumer(consumer)
            .with_line(offset_of(&pin));
        set(&mut builder);
        builder
            .request()
            .map_err(|error| match self.info(&pin, role) {
                Ok(info) if info.used => held(pin, role, &info),
                _ => pin_error(pin, role, &error),
            })
    }
}

fn offset_of(pin: &PinId) -> u32 {
    match pin {
        PinId::Line { offset, .. } => *offset,
        PinId::Bcm(number) => u32::from(*number),
    }
}

/// `EBUSY`, with the consumer that the kernel knows.
fn held(pin: PinId, role: &'static str, info: &Info) -> BoardError {
    let holder = match info.consumer.as_str() {
        "" => "the kernel or a program without a name".to_owned(),
        consumer => format!("{consumer:?}"),
    };
    BoardError::PinHeld { pin, role, holder }
}

fn pin_error(pin: PinId, role: &'static str, error: &Error) -> BoardError {
    BoardError::Pin {
        pin,
        role,
        reason: reason(error),
    }
}

/// What the kernel answered, without the name of the call.
fn reason(error: &Error) -> String {
    match error {
        Error::Uapi(_, source) => source.to_string(),
        other => other.to_string(),
    }
}

impl Output {
    fn open(
        chip: &OpenChip,
        role: &'static str,
        config: &config::OutputPin,
        consumer: &str,
    ) -> Result<Self, BoardError> {
        let request = chip.request(role, &config.pin, consumer, |line| {
            // The kernel sets the level with the direction: the line never shows another one.
            line.as_output(Value::Inactive);
            if config.active == ActiveLevel::Low {
                line.as_active_low();
            }
        })?;
        Ok(Self(request))
    }
}

impl OutputDriver for Output {
    fn set(&mut self, energised: bool) -> Result<(), String> {
        let value = if energised {
            Value::Active
        } else {
            Value::Inactive
        };
        let done = self.0.set_lone_value(value);
        done.map_err(|error| reason(&error))
    }
}

impl Input {
    fn open(
        chip: &OpenChip,
        role: &'static str,
        config: &config::InputPin,
        consumer: &str,
        wake: Option<&Wake>,
    ) -> Result<Self, BoardError> {
        let request = |has_edges: bool| {
            chip.request(role, &config.pin, consumer, |line| {
                line.as_input().with_bias(match config.bias {
                    PinBias::PullUp => Bias::PullUp,
                    PinBias::PullDown => Bias::PullDown,
                    PinBias::Off => Bias::Disabled,
                });
                if has_edges {
                    line.with_edge_detection(EdgeDetection::BothEdges);
                    if !is_egress(role) {
                        line.with_debounce_period(config.debounce);
                    }
                }
            })
        };
        let (request, has_edges) = match request(true) {
            Ok(request) => (request, true),
            Err(error @ BoardError::PinHeld { .. }) => return Err(error),
            // A chip without interrupts has neither edges nor debounce.
            Err(error) => match request(false) {
                Ok(request) => {
                    warn!("{error}: without interrupts it is polled every {POLL_INTERVAL:?}");
                    (request, false)
                }
                Err(_) => return Err(error),
            },
        };
        let input = Self {
            request: Arc::new(request),
            is_debounced: has_edges && !is_egress(role),
            has_edges: Arc::new(AtomicBool::new(has_edges)),
        };
        if let Some(wake) = wake.filter(|_| has_edges) {
            if let Err(error) = input.forward_edges(wake.clone(), &config.pin, role) {
                warn_polled(&config.pin, role, &error.to_string());
                input.has_edges.store(false, Ordering::Relaxed);
            }
        }
        Ok(input)
    }

    /// Pokes `wake` after each edge, in a thread of its own, until the input is dropped or fails.
    fn forward_edges(&self, wake: Wake, name: &PinName, role: &'static str) -> io::Result<()> {
        let request = Arc::downgrade(&self.request);
        let has_edges = Arc::clone(&self.has_edges);
        let name = name.clone();
        let forward = move || {
            let mut failures = 0;
            while let Some(request) = request.upgrade() {
                // Levels are read after an edge: which edge it was does not matter.
                let edge = request
                    .wait_edge_event(EDGE_WAIT)
                    .and_then(|has_edge| has_edge.then(|| request.read_edge_event()).transpose());
                match edge {
                    Ok(edge) => {
                        failures = 0;
                        if edge.is_some() {
                            wake.poke();
                        }
                    }
                    // A signal interrupts a wait too.
                    Err(_) if failures < MAX_FAILURES => {
                        failures += 1;
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    Err(error) => {
                        warn_polled(&name, role, &reason(&error));
                        has_edges.store(false, Ordering::Relaxed);
                        return wake.poke();
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("edges of {role}"));
        thread.spawn(forward).map(drop)
    }
}

impl InputReader for Input {
    fn is_high(&self) -> Result<bool, String> {
        let value = self.request.lone_value();
        value
            .map(|value| value == Value::Active)
            .map_err(|error| reason(&error))
    }

    fn is_debounced(&self) -> bool {
        self.is_debounced
    }

    fn has_edges(&self) -> bool {
        self.has_edges.load(Ordering::Relaxed)
    }
}

fn warn_polled(name: &PinName, role: &str, error: &str) {
    warn!("{name} ({role}) has no edges and is polled every {POLL_INTERVAL:?}: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_of_a_missing_chip_names_it() {
        for (chip, expected) in [
            ("gpiochip99999", "cannot open gpiochip99999, [board] chip: "),
            (
                "no such chip",
                "cannot open \"no such chip\", [board] chip: ",
            ),
        ] {
            let config = toml::from_str(&format!(
                "kind = \"gpio\"\nchip = {chip:?}\noutputs.coil = {{ line = 4, active = \"low\" }}"
            ));
            let config: BoardConfig = config.unwrap();
            for failed in [
                open(&config, "lobby-east", None).map(drop),
                probe(&config, "lobby-east").map(drop),
                de_energise(&config, "lobby-east", &[]),
            ] {
                let error = failed.unwrap_err().to_string();
                assert!(error.starts_with(expected), "{error}");
            }
        }
        let error = release("gpiochip99999", 4, ActiveLevel::High).unwrap_err();
        let expected = "cannot open gpiochip99999, [board] chip: ";
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn a_line_in_use_names_its_consumer() {
        let pin = PinId::Line {
            chip: "gpiochip0".to_owned(),
            offset: 24,
            is_header: true,
        };
        for (consumer, holder) in [
            ("gpiomon", "\"gpiomon\""),
            ("", "the kernel or a program without a name"),
        ] {
            let info = Info {
                consumer: consumer.to_owned(),
                used: true,
                ..Info::default()
            };
            assert_eq!(
                held(pin.clone(), "rex", &info).to_string(),
                format!("cannot use line 24 of gpiochip0 as rex: held by {holder}")
            );
        }
    }
}
