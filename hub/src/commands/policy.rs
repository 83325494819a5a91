//! `door-hub policy`: manages shared access policies. Keys go to files, never to the screen.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use door_hub::PolicyKey;
use door_hub::identity::{Policy, Rights};
use door_hub::policies::{Policies, SecretFile, TokenOptions};
use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::Bounds;
use jiff::Timestamp;

use super::{print, print_result};

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

/// Flags of `policy`.
#[derive(Args)]
pub(crate) struct PolicyArguments {
    /// The data folder.
    #[arg(long, value_name = "DIR", env = "DOOR_HUB_DATA", global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Add a policy for a person or a program, and write its connection string to a file of mode
    /// 0600.
    Add {
        /// The name of the policy.
        name: PolicyName,
        /// Its rights: some of RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect,
        /// separated by commas.
        #[arg(long)]
        rights: Rights,
        /// What limits it beside its rights: a JSON document, or a file with one.
        #[arg(long, value_name = "JSON|FILE", value_parser = bounds)]
        bounds: Option<Bounds>,
        #[command(flatten)]
        out: Out,
    },
    /// List the policies with their rights and bounds.
    List,
    /// Show a policy's rights and bounds; with --out, write its connection string to a file of mode
    /// 0600.
    Show {
        /// The name of the policy.
        name: PolicyName,
        /// The key for the connection string.
        #[arg(long, default_value = "primary")]
        key: Key,
        /// The file for the connection string.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Overwrite an existing file.
        #[arg(long)]
        force: bool,
    },
    /// Give a policy a new key. Tokens signed with the old one become invalid; the other key stays
    /// valid.
    Rotate {
        /// The name of the policy.
        name: PolicyName,
        /// The key to replace.
        #[arg(long)]
        key: Key,
        #[command(flatten)]
        out: Out,
    },
    /// Write a token of a policy to a file of mode 0600, for a program that can send a token but
    /// not sign one: a monitor, a script.
    Token {
        /// The name of the policy.
        name: PolicyName,
        /// The path that it grants access to, with everything below, e.g. /metrics.
        #[arg(long, value_name = "PATH", default_value = "/", value_parser = path)]
        path: String,
        /// Validity in days.
        #[arg(
            long,
            value_name = "N",
            default_value_t = 30,
            value_parser = clap::value_parser!(u16).range(1..=3650)
        )]
        days: u16,
        /// Leave out the scheme, as in a Prometheus credentials file with the type
        /// SharedAccessSignature.
        #[arg(long)]
        bare: bool,
        /// The file for the token. [default: NAME.token in the data folder]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Overwrite an existing file.
        #[arg(long)]
        force: bool,
    },
    /// Remove a policy. A running hub rejects its tokens and disconnects its clients within a
    /// second.
    Remove {
        /// The name of the policy.
        name: PolicyName,
    },
}

#[derive(Args)]
struct Out {
    /// The file for the connection string. [default: NAME.connection-string in the data folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite an existing file.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    Primary,
    Secondary,
}

impl From<Key> for PolicyKey {
    fn from(key: Key) -> Self {
        match key {
            Key::Primary => Self::Primary,
            Key::Secondary => Self::Secondary,
        }
    }
}

pub(crate) fn policy(arguments: PolicyArguments) -> anyhow::Result<()> {
    let data = super::data_folder(arguments.data)?;
    let mut policies = Policies::open(&data)?;
    let file = |name: &PolicyName, out: Out| SecretFile {
        path: out
            .out
            .unwrap_or_else(|| data.join(format!("{name}.connection-string"))),
        force: out.force,
    };
    match arguments.action {
        Action::Add {
            name,
            rights,
            bounds,
            out,
        } => {
            let out = file(&name, out);
            policies.add(&name, rights, bounds, &out)?;
            print_result(format_args!("{name} may {}", extent(&policies.get(&name)?)));
            print_secret_path(&out);
        }
        Action::List => {
            print(policies.list()?.iter().map(line).collect::<String>())?;
        }
        Action::Show {
            name,
            key,
            out,
            force,
        } => {
            let policy = policies.get(&name)?;
            match out {
                None => print(line(&policy))?,
                Some(path) => {
                    let out = SecretFile { path, force };
                    policies.export(&name, key.into(), &out)?;
                    print_result(line(&policy).trim_end());
                    print_secret_path(&out);
                }
            }
        }
        Action::Rotate { name, key, out } => {
            let out = file(&name, out);
            policies.rotate(&name, key.into(), &out)?;
            print_result(format_args!("{name} has a new key"));
            print_secret_path(&out);
        }
        Action::Token {
            name,
            path,
            days,
            bare,
            out,
            force,
        } => {
            let now = Timestamp::now().as_second();
            let expires = now + i64::from(days) * SECONDS_OF_A_DAY;
            let form = TokenOptions {
                path: &path,
                expires_unix_s: u64::try_from(expires).unwrap_or_default(),
                scheme: !bare,
            };
            let out = SecretFile {
                path: out.unwrap_or_else(|| data.join(format!("{name}.token"))),
                force,
            };
            policies.token(&name, &form, &out)?;
            print_result(format_args!(
                "token of {name} for {path}, valid for {days} days"
            ));
            print_result(format_args!(
                "  token  {} (keep it secret)",
                out.path.display()
            ));
        }
        Action::Remove { name } => {
            policies.remove(&name)?;
            print_result(format_args!("{name} is removed"));
        }
    }
    Ok(())
}

fn line(policy: &Policy) -> String {
    format!("{:<24} {}\n", policy.name.as_str(), extent(policy))
}

/// The rights, and the bounds as their document.
fn extent(policy: &Policy) -> String {
    let bounds = policy.bounds.as_ref().map(serde_json::to_string);
    match bounds.and_then(Result::ok) {
        Some(bounds) => format!("{} within {bounds}", policy.rights),
        None => policy.rights.to_string(),
    }
}

/// Reads bounds from a JSON object, or from a file with one.
fn bounds(text: &str) -> Result<Bounds, String> {
    let document = match text.trim_start().starts_with('{') {
        true => text.to_owned(),
        false => std::fs::read_to_string(text).map_err(|error| {
            format!("expected a JSON object or a file with one; cannot read the file: {error}")
        })?,
    };
    serde_json::from_str(&document).map_err(|error| {
        format!("{error}; expected {{\"access\":\"read\"|\"operate\", \"where\":..}}")
    })
}

/// Parses a path of the API.
fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("expected a path of the API that begins with `/`".to_owned())
    }
}

fn print_secret_path(out: &SecretFile) {
    print_result(format_args!(
        "  connection string  {} (keep it secret)",
        out.path.display()
    ));
}
