//! `doorctl context ...`

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use iothub_client::{ClientError, HubClient};
use serde::Serialize;
use serde_json::Value;

use crate::cli::Global;
use crate::cli::context::{AddArgs, ContextCommand};
use crate::config::{self, Context, Contexts};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
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
    let mut contexts = Contexts::read(&path)?;
    if contexts.by_name.contains_key(name) && !args.replace {
        return Err(
            Failure::new(format!("there is a context called `{name}` already"))
                .next("choose another name, or add --replace")
                .into(),
        );
    }
    let file = &args.connection_string_file;
    let text = private_file::read(file).context("--connection-string-file")?;
    let ca = args.ca.as_ref().map(|path| {
        fs::read_to_string(path).with_context(|| format!("--ca: cannot read {}", path.display()))
    });
    let context = Context {
        connection_string: text.trim().to_owned(),
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
    contexts.by_name.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    contexts.write(&path)?;
    printer.say(format!(
        "context {name} is stored in {} and is the current one",
        path.display()
    ));
    match hub.statistics().await {
        Ok(statistics) => printer.say(format!(
            "{} answers: {} connected",
            hub.host_name(),
            doors(statistics.connected_device_count)
        )),
        Err(error) => say_what_is_wrong(printer, error),
    }
    Ok(())
}

/// The context is stored all the same: the hub may be down now, and the key may be replaced later.
fn say_what_is_wrong(printer: &Printer, error: ClientError) {
    let refused = matches!(error.status(), Some(401 | 403));
    let text = sentence(&error.into());
    match refused {
        true => printer.warn(format!("the hub refuses this connection string: {text}")),
        false => printer.warn(format!("the hub does not answer: {text}")),
    }
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
    let path = config::path()?;
    let mut contexts = Contexts::read(&path)?;
    if !contexts.by_name.contains_key(name) {
        return Err(contexts.unknown(name).into());
    }
    contexts.current = Some(name.to_owned());
    contexts.write(&path)?;
    printer.say(format!("{name} is the current context"));
    Ok(())
}

fn remove(name: &str, printer: &Printer) -> anyhow::Result<()> {
    let path = config::path()?;
    let mut contexts = Contexts::read(&path)?;
    if contexts.by_name.remove(name).is_none() {
        return Err(contexts.unknown(name).into());
    }
    let was_current = contexts
        .current
        .take_if(|current| current == name)
        .is_some();
    contexts.write(&path)?;
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
