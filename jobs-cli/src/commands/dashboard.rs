//! `doorctl dashboard`: the web page of the context's hub, on this machine.

mod server;

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::cli::DashboardArgs;
use crate::exit_status::ExitStatus;
use crate::session::Session;

pub(super) use server::Server;

/// Opens a file in the person's browser.
const OPENER: &str = if cfg!(windows) {
    "explorer"
} else if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

pub(super) async fn run(args: &DashboardArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let printer = &session.printer;
    let server = Server::bind(session, args.port).await?;
    let address = server.address();
    printer.text_or(&format!("{address}\n"), &json!({ "address": address }))?;
    printer.say(format!(
        "dashboard of {} as policy {}; everybody with this address may do what the policy may; \
         Ctrl-C ends it",
        session.context,
        session.hub.policy()
    ));
    let _redirect = match args.no_open {
        true => None,
        false => open(session, &address),
    };
    let stop = CancellationToken::new();
    let interrupt = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    server.run(stop).await;
    Ok(ExitStatus::Success)
}

/// Opens the address in a browser. The file that is returned must outlive the start of the browser.
///
/// Every user of this machine may read the arguments of a program, and the address is a secret: the
/// browser opens a file that only this user may read, and which leads there.
pub(super) fn open(session: &Session, address: &str) -> Option<NamedTempFile> {
    let opened = redirect_to(address).and_then(|file| {
        Command::new(OPENER)
            .arg(file.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {OPENER}"))?;
        Ok(file)
    });
    let cannot = |error| {
        session.printer.warn(format!(
            "no browser was opened: {error:#}; open the address in one"
        ));
    };
    opened.map_err(cannot).ok()
}

/// A page in a file of mode 0600 that leads to `address`.
fn redirect_to(address: &str) -> anyhow::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let file = builder
        .prefix("doorctl-dashboard-")
        .suffix(".html")
        .tempfile();
    let mut file = file.context("cannot create a temporary file")?;
    let page = format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={address}\">");
    file.write_all(page.as_bytes())?;
    Ok(file)
}
