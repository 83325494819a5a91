//! `door-hub webhook`: lists the webhooks of the settings, and sends a test document to one.

use clap::{Args, Subcommand};
use door_hub::Target;
use jiff::Timestamp;
use serde_json::json;

use super::{Settings, print, print_result};

/// Flags of `webhook`.
#[derive(Args)]
pub(crate) struct WebhookArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the webhooks of the settings and check their files.
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Send a signed test document to the receiver of a webhook, once.
    Test {
        /// The name of the webhook.
        #[arg(value_name = "NAME")]
        webhook: String,
        #[command(flatten)]
        settings: Settings,
    },
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn webhook(arguments: WebhookArguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::List { settings } => {
            let file = settings.file()?;
            let config = file.resolve(settings.data)?;
            let mut lines = String::new();
            for webhook in &config.webhooks {
                Target::load(webhook)?;
                let kinds = match webhook.kinds.is_empty() {
                    true => "all events".to_owned(),
                    false => webhook.kinds.join(", "),
                };
                let host = webhook.parsed_url()?;
                let host = host.host_str().unwrap_or_default();
                lines += &format!("{}\t{host}\t{kinds}\n", webhook.name);
            }
            if config.webhooks.is_empty() {
                lines = "no webhook: add [[webhook]] to hub.toml\n".to_owned();
            }
            print(lines)
        }
        Action::Test {
            webhook: name,
            settings,
        } => {
            let file = settings.file()?;
            let config = file.resolve(settings.data)?;
            let names = config.webhooks.iter().map(|webhook| webhook.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            let webhook = config.webhooks.iter().find(|webhook| webhook.name == name);
            let webhook = webhook.ok_or_else(|| match names.is_empty() {
                true => anyhow::anyhow!("no webhook `{name}`: hub.toml has no [[webhook]]"),
                false => anyhow::anyhow!("no webhook `{name}`; hub.toml has {names}"),
            })?;
            let now = Timestamp::now();
            let document = json!({"kind": "test", "time": now.to_string(), "hub": config.name});
            let id = format!("test-{}", now.as_microsecond());
            let sent = Target::load(webhook)?
                .send(&id, now, document.to_string().as_bytes())
                .await;
            sent.map_err(|error| anyhow::anyhow!("webhook `{name}`: {error}"))?;
            print_result(format_args!("webhook `{name}`: delivered {id}"));
            Ok(())
        }
    }
}
