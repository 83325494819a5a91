//! `door-hub serve`: runs the hub from start to drain and notifies systemd (sd_notify(3);
//! `Type=notify`).

use anyhow::Context as _;
use door_hub::{Hub, RunningHub};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::{Log, Settings, StartArguments, print_result, read_filter};

/// Runs a hub until SIGTERM or Ctrl-C; SIGHUP reloads its settings and certificates.
#[tokio::main]
pub(crate) async fn serve(arguments: &StartArguments, log: &Log) -> anyhow::Result<()> {
    let settings = &arguments.settings;
    let file = settings.file()?;
    log.set(file.log.as_deref())?;
    let mut config = file.resolve(settings.data.clone())?;
    config.accept_older = arguments.accept_older;
    raise_descriptor_limit();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let hub = Hub::start(config).await?;
    let status = format!("serving {} on {}", hub.name(), hub.mqtt_address());
    notify_systemd(&[NotifyState::Ready, NotifyState::Status(&status)]);
    print_addresses(&hub);
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!("SIGTERM: draining");
                break;
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot listen for Ctrl-C")?;
                tracing::info!("interrupted: draining");
                break;
            }
            _ = hang_up.recv() => {
                notify_reloading();
                match reload(settings, log, &hub) {
                    Ok(()) => tracing::info!("SIGHUP: settings and certificates reloaded"),
                    Err(error) => tracing::error!("SIGHUP: nothing changed: {error:#}"),
                }
                notify_systemd(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
        }
    }
    notify_systemd(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    hub.shutdown().await;
    Ok(())
}

fn reload(settings: &Settings, log: &Log, hub: &RunningHub) -> anyhow::Result<()> {
    let file = settings.file()?;
    let requested = file.log.clone();
    read_filter(requested.as_deref())?;
    hub.reload(file.resolve(settings.data.clone())?)?;
    log.set(requested.as_deref())
}

fn print_addresses(hub: &RunningHub) {
    print_result(format_args!(
        "door-hub {} serves {}\n  MQTT over TLS  {}\n  REST API       https://{}\n  authority      \
         {}\n  operator       {} (connection string; keep it secret)",
        env!("CARGO_PKG_VERSION"),
        hub.name(),
        hub.mqtt_address(),
        hub.https_address(),
        hub.ca_file().display(),
        hub.service_connection_string_file().display()
    ));
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify_systemd(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock for systemd"),
    }
}

/// Does nothing without a service manager.
fn notify_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Raises the soft limit of file descriptors, often 1,024: each connection needs one.
fn raise_descriptor_limit() {
    let raised = door_hub::raise_descriptor_limit(u64::MAX);
    match raised {
        Ok(limit) if limit < door_hub::WANTED_DESCRIPTORS => {
            tracing::warn!(
                limit,
                "few file descriptors: a door takes one, and unauthenticated connections get a \
                 quarter of them; raise the hard limit (LimitNOFILE) to {} or more",
                door_hub::WANTED_DESCRIPTORS
            );
        }
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot raise the limit of file descriptors; connections may be refused"
            );
        }
    }
}
