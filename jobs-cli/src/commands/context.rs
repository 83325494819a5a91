//! `doorctl context ...`

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use iothub_client::{ClientError, HubClient};
use iothub_protocol::text_file::{decode_pem, decode_value};
use serde::Serialize;
use serde_json::Value;

use crate::cli::Global;
use crate::cli::context::{AddArgs, ContextCommand};
use crate::config::{self, Context, Contexts};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, next_step, sentence};
use crate::printer::{Cell, Printer, Row, Tone, doors, plain};
use crate::private_file;
use crate::session::client_options;

/// Timeout of the probe after `add`.
const PROBE: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    command: ContextCommand,
    global: &Global,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        ContextCommand::Add(args) => add(&args, global, printer).await?,
        ContextCommand::List => list(printer)?,
        ContextCommand::Use { name } => select(&name, printer)?,
        ContextCommand::Remove { name } => remove(&name, printer)?,
    }
    Ok(ExitStatus::Success)
}

async fn add(args: &AddArgs, global: &Global, printer: &Printer) -> anyhow::Result<()> {
    let name = &args.name;
    let path = config::path()?;
    refuse_taken(&Contexts::read(&path)?, args)?;
    let file = &args.connection_string_file;
    let connection_string =
        private_file::read_with(file, decode_value).context("--connection-string-file")?;
    let ca = args.ca.as_ref().map(|path| {
        let bytes = fs::read(path).map_err(anyhow::Error::from);
        let pem = bytes.and_then(|bytes| Ok(decode_pem(bytes)?));
        pem.with_context(|| format!("--ca: cannot read {}", path.display()))
    });
    let context = Context {
        connection_string,
        ca: ca.transpose()?,
        zone: args.zone.clone(),
    };
    if context.zone.is_some() {
        context.time_zone().context("--zone")?;
    }
    let connection = context
        .connection()
        .with_context(|| format!("--connection-string-file {}", file.display()))?;
    let options = client_options(context.ca.as_deref(), global.timeout.min(PROBE));
    let hub = HubClient::new(connection, &options).with_context(|| match &args.ca {
        Some(path) => format!("--ca {}", path.display()),
        None => "cannot set up a connection".to_owned(),
    })?;
    let answer = hub.statistics().await;
    // It is stored all the same: the hub may learn of the policy in a moment.
    let is_refused = answer.as_ref().err().is_some_and(is_refused);
    let current = Contexts::change(&path, |contexts| {
        // Another doorctl may have changed the file meanwhile.
        refuse_taken(contexts, args)?;
        contexts.by_name.insert(name.clone(), context);
        if !is_refused {
            contexts.current = Some(name.clone());
        }
        Ok(contexts.current.clone())
    })?;
    let file = path.display();
    printer.say(match (is_refused, current) {
        (false, _) => format!("context {name} is stored in {file} and is the current one"),
        (true, Some(current)) => {
            format!("context {name} is stored in {file}; the current one is still {current}")
        }
        (true, None) => format!("context {name} is stored in {file}, and is not the current one"),
    });
    match answer {
        Ok(statistics) => printer.say(format!(
            "{} answers: {} connected",
            hub.host_name(),
            doors(statistics.connected_device_count)
        )),
        Err(error) if error.needed_rights().is_some() => printer.say(format!(
            "{} answers; what this policy may do: doorctl whoami",
            hub.host_name()
        )),
        Err(error) if is_refused => {
            let why = sentence(&error.into());
            printer.warn(format!("the hub refuses this connection string: {why}"));
            printer.say(format!("once it is right: doorctl context use {name}"));
        }
        Err(error) => {
            let error = error.into();
            printer.warn(format!("the hub does not answer: {}", sentence(&error)));
            if let Some(next) = next_step(&error) {
                printer.say(format!("  next: {next}"));
            }
        }
    }
    Ok(())
}

/// Only `--replace` replaces a context.
fn refuse_taken(contexts: &Contexts, args: &AddArgs) -> Result<(), Failure> {
    let name = &args.name;
    match contexts.by_name.contains_key(name) && !args.replace {
        true => Err(
            Failure::new(format!("there is a context called `{name}` already"))
                .next("choose another name, or add --replace"),
        ),
        false => Ok(()),
    }
}

/// Whether the hub refuses the key; a policy that lacks a right has a valid one.
fn is_refused(error: &ClientError) -> bool {
    matches!(error.status(), Some(401 | 403)) && error.needed_rights().is_none()
}

fn list(printer: &Printer) -> anyhow::Result<()> {
    let contexts = Contexts::read(&config::path()?)?;
    let mut rows = Vec::new();
    for (name, context) in &contexts.by_name {
        let connection = context
            .connection()
            .with_context(|| format!("context {name}"))?;
        rows.push(ContextRow {
            current: contexts.current.as_ref() == Some(name),
            name: name.clone(),
            hub: connection.host_name.to_string(),
            policy: connection.policy.to_string(),
            zone: context.zone.clone(),
        });
    }
    if rows.is_empty() {
        printer.say("no context yet: doorctl context add NAME --connection-string-file FILE");
    }
    Ok(printer.rows(&rows)?)
}

fn select(name: &str, printer: &Printer) -> anyhow::Result<()> {
    Contexts::change(&config::path()?, |contexts| {
        if !contexts.by_name.contains_key(name) {
            return Err(contexts.unknown(name).into());
        }
        contexts.current = Some(name.to_owned());
        Ok(())
    })?;
    printer.say(format!("{name} is the current context"));
    Ok(())
}

fn remove(name: &str, printer: &Printer) -> anyhow::Result<()> {
    let was_current = Contexts::change(&config::path()?, |contexts| {
        if contexts.by_name.remove(name).is_none() {
            return Err(contexts.unknown(name).into());
        }
        let was_current = contexts.current.take_if(|current| current == name);
        Ok(was_current.is_some())
    })?;
    printer.say(format!("context {name} is removed"));
    if was_current {
        printer.say("no context selected: doorctl context use NAME");
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct ContextRow {
    current: bool,
    name: String,
    hub: String,
    policy: String,
    zone: Option<String>,
}

impl Row for ContextRow {
    fn titles() -> Vec<&'static str> {
        vec!["current", "name", "hub", "policy", "zone"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match (title, self.current) {
            ("current", true) => Cell::toned("*", Tone::Good),
            ("current", false) => Cell::from(""),
            _ => Cell::from(plain(member)),
        }
    }
}
