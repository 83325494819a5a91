//! `door-hub`: runs a hub, or prepares its data folder.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use door_hub::Hub;
use door_hub::config::{ConfigFile, FILE_NAME, HubConfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A self-hosted hub that speaks Azure IoT Hub's wire: MQTT over TLS to devices, HTTPS REST to operators.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub until SIGTERM or Ctrl-C. The first start makes the data folder and says where things are.
    Serve(Settings),
    /// Make the data folder with the certificates and keys, and keep the settings given here in its hub.toml.
    Init(Settings),
}

#[derive(Args)]
struct Settings {
    /// The data folder; made if it is not there.
    #[arg(long, value_name = "DIR", env = "DOOR_HUB_DATA")]
    data: PathBuf,
    /// The host name that doors and operators dial; goes into connection strings and the certificate. [default: this machine's]
    #[arg(long)]
    name: Option<String>,
    /// A further host name or address for the certificate; may be repeated.
    #[arg(long = "san", value_name = "NAME|IP")]
    sans: Vec<String>,
    /// The address to listen on. [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// The port of MQTT over TLS. [default: 8883]
    #[arg(long, value_name = "PORT")]
    mqtt_port: Option<u16>,
    /// The port of the REST API. [default: 443]
    #[arg(long, value_name = "PORT")]
    https_port: Option<u16>,
    /// The settings file. [default: hub.toml in the data folder, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Settings {
    /// The file's settings with the flags' on top.
    fn file(&self) -> anyhow::Result<ConfigFile> {
        let default = self.data.join(FILE_NAME);
        let file = match &self.config {
            Some(path) => ConfigFile::read(path)?,
            None if default.exists() => ConfigFile::read(&default)?,
            None => ConfigFile::default(),
        };
        Ok(file.overridden_by(ConfigFile {
            name: self.name.clone(),
            aliases: (!self.sans.is_empty()).then(|| self.sans.clone()),
            device_ca_files: None,
            listen: self.listen,
            mqtt_port: self.mqtt_port,
            https_port: self.https_port,
            telemetry: None,
        }))
    }

    fn resolve(&self) -> anyhow::Result<HubConfig> {
        Ok(self.file()?.resolve(self.data.clone())?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = match cli.command {
        Command::Serve(settings) => serve(&settings),
        Command::Init(settings) => init(&settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("door-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.resolve()?;
    raise_descriptor_limit();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let hub = Hub::start(config).await?;
    println!(
        "door-hub {} serves {}",
        env!("CARGO_PKG_VERSION"),
        hub.name()
    );
    println!("  MQTT over TLS  {}", hub.mqtt_address());
    println!("  REST API       https://{}", hub.https_address());
    println!("  authority      {}", hub.ca_file().display());
    println!(
        "  operator       {} (connection string; keep it secret)",
        hub.service_connection_string_file().display()
    );
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot listen for Ctrl-C")?;
            tracing::info!("interrupted: draining");
        }
    }
    hub.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn init(settings: &Settings) -> anyhow::Result<()> {
    let file = settings.file()?;
    let config = file.clone().resolve(settings.data.clone())?;
    let made = Hub::init(&config).await?;
    let path = settings.data.join(FILE_NAME);
    let kept = ConfigFile {
        name: Some(config.name.clone()),
        ..file
    };
    std::fs::write(&path, toml::to_string(&kept)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{} is ready for `door-hub serve --data {}`",
        config.name,
        settings.data.display()
    );
    println!("  settings       {}", path.display());
    println!("  authority      {}", made.ca_file.display());
    println!(
        "  operator       {} (connection string; keep it secret)",
        made.service_connection_string_file.display()
    );
    Ok(())
}

/// A connection is a descriptor; the soft limit is often 1,024.
fn raise_descriptor_limit() {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    match raised {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of descriptors; connections may be refused");
        }
    }
}
