//! `door-hub init`.

use anyhow::Context as _;
use door_hub::Hub;
use door_hub::config::{ConfigFile, FILE_NAME};

use super::{StartArguments, print_result};

/// Creates the data folder and saves the settings in it.
#[tokio::main]
pub(crate) async fn init(arguments: &StartArguments) -> anyhow::Result<()> {
    let settings = &arguments.settings;
    let file = settings.file()?;
    let mut config = file.clone().resolve(settings.data.clone())?;
    config.accept_older = arguments.accept_older;
    let created = Hub::init(&config).await?;
    let path = settings.data.join(FILE_NAME);
    let kept = ConfigFile {
        name: Some(config.name.clone()),
        ..file
    };
    kept.write(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    print_result(format_args!(
        "{} is ready for `door-hub serve --data {}`",
        config.name,
        settings.data.display()
    ));
    print_result(format_args!("  settings       {}", path.display()));
    print_result(format_args!(
        "  authority      {}",
        created.ca_file.display()
    ));
    print_result(format_args!(
        "  operator       {} (connection string; keep it secret)",
        created.service_connection_string_file.display()
    ));
    Ok(())
}
