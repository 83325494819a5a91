//! `doorctl devices export`.

use anyhow::Context as _;
use iothub_protocol::identity::{Authentication, Thumbprints};
use iothub_protocol::twin::Twin;

use super::record::{DoorRecord, table};
use crate::cli::devices::file::ExportArgs;
use crate::commands::{many, out_file};
use crate::failure::Failure;
use crate::printer::{Format, write};
use crate::private_file;
use crate::session::Session;
use crate::target::Target;

pub(super) async fn export(args: &ExportArgs, session: &Session) -> anyhow::Result<()> {
    let out = args.out.as_deref();
    let format = out_file::format(out, session.printer.format(), Format::Jsonl)?;
    if let Some(path) = out.filter(|path| path.exists()) {
        let message = format!("--out {} exists and is not overwritten", path.display());
        return Err(Failure::new(message)
            .next("choose another file, or remove that one")
            .into());
    }
    let mut twins = match Target::from_args(&args.target)? {
        Some(_) => many::select(&args.target, session).await?.1,
        None => session.hub.query("SELECT * FROM devices").await?,
    };
    twins.sort_by(|a, b| a.device_id.cmp(&b.device_id));
    let mut records: Vec<DoorRecord> = twins.into_iter().map(DoorRecord::from).collect();
    if args.with_keys {
        add_keys(&mut records, session).await?;
    }
    let text = match format {
        Format::Csv => table::write(&records, args.with_keys)?,
        Format::Json => serde_json::to_string_pretty(&records)? + "\n",
        Format::Table | Format::Jsonl => lines(&records)?,
    };
    match out {
        None => write(&text)?,
        Some(path) if args.with_keys => private_file::create(path, &text)?,
        Some(path) => out_file::create(path, &text).context("--out")?,
    }
    if let Some(path) = out {
        let (path, doors) = (path.display(), records.len());
        session.printer.say(match args.with_keys {
            true => format!("{path}: wrote {doors} doors with their keys; keep it secret"),
            false => format!("{path}: wrote {doors} doors, without keys"),
        });
    }
    Ok(())
}

async fn add_keys(records: &mut [DoorRecord], session: &Session) -> anyhow::Result<()> {
    let names = records.iter().map(|record| (record.id.clone(), ()));
    let read = many::for_each_counted(
        names.collect(),
        "reading keys",
        session,
        |hub, door, ()| async move { hub.device(&door).await },
    );
    let mut read = read.await.into_iter();
    for record in records {
        // Both are sorted by name.
        let (door, identity) = read.next().context("an answer for each door")?;
        let identity = identity.with_context(|| format!("cannot read the keys of {door}"))?;
        let authentication = identity.authentication;
        let without_keys = authentication.as_ref().is_none_or(|given| {
            given.kind == "sas"
                && given
                    .symmetric_key
                    .as_ref()
                    .is_none_or(|keys| keys.primary_key.is_none())
        });
        if without_keys {
            return Err(Failure::new(format!(
                "the hub returned no keys of {door}; nothing was written"
            ))
            .next("use a policy that may read the registry, or omit --with-keys")
            .into());
        }
        record.authentication = authentication.map(|mut given| {
            given.x509_thumbprint = given
                .x509_thumbprint
                .filter(|given| *given != Thumbprints::default());
            given.symmetric_key = given
                .symmetric_key
                .filter(|keys| keys.primary_key.is_some());
            given
        });
    }
    Ok(())
}

fn lines(records: &[DoorRecord]) -> anyhow::Result<String> {
    let mut text = String::new();
    for record in records {
        text += &serde_json::to_string(record)?;
        text.push('\n');
    }
    Ok(text)
}

impl From<Twin> for DoorRecord {
    fn from(twin: Twin) -> Self {
        let kind = match twin.authentication_type.as_str() {
            "" => "sas".to_owned(),
            kind => kind.to_owned(),
        };
        let thumbprints = twin.x509_thumbprint;
        let mut record = Self::new(0, twin.device_id);
        record.status = Some(twin.status);
        record.status_reason = twin.status_reason;
        record.authentication = Some(Authentication {
            kind,
            symmetric_key: None,
            x509_thumbprint: (thumbprints != Thumbprints::default()).then_some(thumbprints),
        });
        record.capabilities = twin.capabilities.iot_edge.then_some(twin.capabilities);
        record.tags = twin.tags;
        record.properties.desired = twin.properties.desired.values;
        record
    }
}
