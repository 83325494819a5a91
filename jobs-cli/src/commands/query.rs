//! `doorctl query`

use doorctl::{ItemType, Page};
use iothub_protocol::query;
use iothub_protocol::twin::Twin;
use serde_json::Value;

use crate::cli::twin::QueryArgs;
use crate::door::DoorRow;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Format;
use crate::session::Session;

/// Asks, and prints what comes.
pub(crate) async fn run(args: &QueryArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    check(&args.text)?;
    let mut continuation = None;
    let mut rows: Vec<Value> = Vec::new();
    let mut item_type;
    loop {
        let page: Page<Value> = session
            .hub
            .query_page(&args.text, continuation.as_deref())
            .await?;
        item_type = page.item_type;
        match session.printer.format() {
            // Lines need not wait for the last page.
            Format::Jsonl => session.printer.values(&page.items)?,
            _ => rows.extend(page.items),
        }
        continuation = page.continuation;
        if continuation.is_none() {
            break;
        }
    }
    match (session.printer.format(), item_type) {
        (Format::Jsonl, _) => {}
        (Format::Table | Format::Csv, ItemType::Twin) => {
            let twins: Result<Vec<Twin>, _> =
                rows.into_iter().map(serde_json::from_value).collect();
            let doors: Vec<DoorRow> = twins?.iter().map(DoorRow::from).collect();
            session.printer.rows(&doors)?;
        }
        _ => session.printer.values(&rows)?,
    }
    Ok(ExitStatus::Success)
}

/// The mistake is shown here, under the text, whatever hub it would go to.
fn check(text: &str) -> anyhow::Result<()> {
    match query::parse(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("QUERY: {error}\n{}", error.caret(text));
            Err(Failure::new(message.trim_end())
                .next("doorctl query \"SELECT * FROM devices WHERE properties.desired.floor = 3\"")
                .into())
        }
    }
}
