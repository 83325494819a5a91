//! `doorctl policy`: who may do what on door-hub.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::{PolicyDocument, PolicyRequest};
use iothub_protocol::sas::SharedAccessKey;
use serde::Serialize;
use serde_json::Value;

use super::confirm::confirm_irreversible;
use crate::cli::policy::{
    AddArgs, BoundsArgs, ChangeArgs, DestinationArgs, PolicyCommand, RemoveArgs, RotateArgs,
};
use crate::cli::target::TargetArgs;
use crate::config::{self, Context, Contexts};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Cell, Row, doors, facts, first_names, plain};
use crate::private_file;
use crate::role::{Permissions, Role, RoleRow};
use crate::session::Session;
use crate::target::{Target, count_doors};

/// Jobs that are named; the others are counted.
const MAX_JOBS_SHOWN: usize = 20;

pub(super) async fn run(command: PolicyCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    if let PolicyCommand::Show { name: None } = command {
        session.printer.rows(&RoleRow::all())?;
        return Ok(ExitStatus::Success);
    }
    session
        .refuse_unless_door_hub(
            "manage policies and bound what they may do",
            "policies of Azure IoT Hub have rights alone: \"Shared access policies\" in the portal",
        )
        .await?;
    match command {
        PolicyCommand::Add(args) => add(&args, session).await?,
        PolicyCommand::List => list(session).await?,
        PolicyCommand::Show { name } => {
            if let Some(name) = name {
                let policy = session.hub.door_hub_policy(&name).await?;
                print(&policy, session)?;
            }
        }
        PolicyCommand::Change(args) => change(&args, session).await?,
        PolicyCommand::Rotate(args) => rotate(&args, session).await?,
        PolicyCommand::Remove(args) => remove(&args, session).await?,
    }
    Ok(ExitStatus::Success)
}

async fn list(session: &Session) -> anyhow::Result<()> {
    let policies = session.hub.door_hub_policies().await?;
    let rows: Vec<PolicyRow> = policies.iter().map(PolicyRow::of).collect();
    Ok(session.printer.rows(&rows)?)
}

fn print(policy: &PolicyDocument, session: &Session) -> anyhow::Result<()> {
    let row = PolicyRow::of(policy);
    let rows = std::slice::from_ref(&row);
    Ok(session.printer.text_or_rows(&facts(&row), rows)?)
}

async fn add(args: &AddArgs, session: &Session) -> anyhow::Result<()> {
    let request = request(&args.bounds, session).await?;
    let destination = Destination::open(&args.destination, None, session)?;
    let created = session
        .hub
        .door_hub_policy_create(&args.name, &request)
        .await;
    let policy = created.inspect_err(|_| destination.remove())?;
    destination.fill(&policy.name, policy.primary_key.as_ref(), session)?;
    print(&policy, session)
}

async fn change(args: &ChangeArgs, session: &Session) -> anyhow::Result<()> {
    let request = request(&args.bounds, session).await?;
    let changed = session.hub.door_hub_policy_change(&args.name, &request);
    print(&changed.await?, session)
}

async fn rotate(args: &RotateArgs, session: &Session) -> anyhow::Result<()> {
    let RotateArgs { name, .. } = args;
    let policy = session.hub.door_hub_policy(name).await?;
    say_what_goes_on(&policy, "go on", session).await?;
    let key = args.key.into();
    let what = format!("replace the {key} key of the policy");
    confirm_irreversible(&what, std::slice::from_ref(name), args.yes)?;
    let destination = Destination::open(&args.destination, Some(name), session)?;
    let rotated = session.hub.door_hub_policy_rotate(name, key).await;
    let policy = rotated.inspect_err(|_| destination.remove())?;
    let key = policy
        .primary_key
        .as_ref()
        .or(policy.secondary_key.as_ref());
    destination.fill(name, key, session)
}

async fn remove(args: &RemoveArgs, session: &Session) -> anyhow::Result<()> {
    let RemoveArgs { name, yes } = args;
    let policy = session.hub.door_hub_policy(name).await?;
    say_what_goes_on(&policy, "fail with PolicyRemoved unless they run", session).await?;
    confirm_irreversible("remove the policy", std::slice::from_ref(name), *yes)?;
    session.hub.door_hub_policy_delete(name).await?;
    session.printer.say(format!("policy {name} is removed"));
    Ok(())
}

/// Names the jobs of a policy, and the doors that have a timed entry of one.
async fn say_what_goes_on(
    policy: &PolicyDocument,
    fate: &str,
    session: &Session,
) -> anyhow::Result<()> {
    let (name, jobs) = (&policy.name, policy.jobs.as_deref().unwrap_or_default());
    if jobs.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = jobs.iter().map(AsRef::as_ref).collect();
    let names = first_names(&names, MAX_JOBS_SHOWN);
    session
        .printer
        .say(format!("jobs of {name}, which {fate}: {names}"));
    for job in jobs.iter().take(MAX_JOBS_SHOWN) {
        let entry = format!("IS_DEFINED(properties.desired.timed.[[{job}]])");
        let count = count_doors(&entry, session).await?;
        if count > 0 {
            let count = doors(count as u64);
            session.printer.say(format!(
                "timed entry {job} of {count}, which act by their own clock; to take it back: \
                 doorctl jobs cancel {job}"
            ));
        }
    }
    Ok(())
}

/// Rights and bounds that the flags ask for.
async fn request(args: &BoundsArgs, session: &Session) -> anyhow::Result<PolicyRequest> {
    let target = Target::from_args(&TargetArgs {
        building: args.building.clone(),
        floor: args.floor.clone(),
        tags: args.tags.clone(),
        condition: args.condition.clone(),
        allow_none: args.allow_none,
        ..TargetArgs::default()
    })?;
    let mut bounds = args.role.bounds();
    let is_narrowed = target.is_some() || !args.methods.is_empty();
    let Some(bounds) = &mut bounds else {
        return match is_narrowed {
            false => Ok(PolicyRequest {
                rights: args.role.rights().to_owned(),
                bounds: None,
            }),
            true => Err(Failure::new(
                "--role admin has no bounds; expected neither a selection of doors nor --method",
            )
            .into()),
        };
    };
    for name in &args.methods {
        if !bounds.methods.contains(name) {
            bounds.methods.push(name.clone());
        }
    }
    bounds.condition = target.as_ref().map(|target| target.condition.clone());
    if args.role == Role::Viewer && !args.methods.is_empty() {
        return Err(Failure::new("--method: a viewer calls none; expected another --role").into());
    }
    bounds
        .check()
        .map_err(|error| Failure::new(error.to_string()))?;
    if let Some(target) = &target {
        let found = count_doors(&target.condition, session).await?;
        target.refuse_empty_places(found, session).await?;
    }
    Ok(PolicyRequest {
        rights: args.role.rights().to_owned(),
        bounds: Some(bounds.clone()),
    })
}

/// A file that exists by now, or a context that will.
enum Destination<'a> {
    File(&'a Path),
    Context(&'a str),
}

impl<'a> Destination<'a> {
    /// Refuses what exists before the hub changes anything: its keys are shown once. A context of
    /// the policy `replaced` may exist.
    fn open(
        args: &'a DestinationArgs,
        replaced: Option<&PolicyName>,
        session: &Session,
    ) -> anyhow::Result<Self> {
        if let Some(path) = &args.out {
            private_file::create(path, "").context("--out")?;
            return Ok(Self::File(path));
        }
        let name = args.context.as_deref().unwrap_or_default();
        let contexts = Contexts::read(&config::path()?)?;
        if let Some(known) = contexts.by_name.get(name) {
            let known = known.connection()?;
            let is_same =
                Some(&known.policy) == replaced && known.host_name == *session.hub.host_name();
            if !is_same {
                let message = format!("--as-context: there is a context called `{name}` already");
                return Err(Failure::new(message).next("choose another name").into());
            }
        }
        Ok(Self::Context(name))
    }

    /// After a refusal of the hub.
    fn remove(&self) {
        if let Self::File(path) = self {
            // Best effort: the refusal is the error to report.
            drop(fs::remove_file(path));
        }
    }

    fn fill(
        &self,
        policy: &PolicyName,
        key: Option<&SharedAccessKey>,
        session: &Session,
    ) -> anyhow::Result<()> {
        let key = key.context("the hub's answer has no key")?.clone();
        let text = ServiceConnectionString {
            host_name: session.hub.host_name().clone(),
            policy: policy.clone(),
            key,
        }
        .expose_secret();
        let lost = || {
            format!(
                "the key of {policy} is lost: doorctl policy rotate {policy} --key primary --out \
                 FILE"
            )
        };
        match self {
            Self::File(path) => {
                private_file::replace(path, &format!("{text}\n")).with_context(lost)?;
                let path = path.display();
                session.printer.say(format!("wrote {path}; keep it secret"));
            }
            Self::Context(name) => {
                Contexts::change(&config::path()?, |contexts| {
                    let zone = contexts.by_name.get(&session.context);
                    let context = Context {
                        connection_string: text,
                        ca: session.ca.clone(),
                        zone: zone.and_then(|context| context.zone.clone()),
                    };
                    contexts.by_name.insert((*name).to_owned(), context);
                    Ok(())
                })
                .with_context(lost)?;
                session
                    .printer
                    .say(format!("context {name} is stored: --context {name}"));
            }
        }
        Ok(())
    }
}

/// A policy as a line or, of one alone, as a list of facts.
#[derive(Debug, Serialize)]
struct PolicyRow {
    policy: String,
    rights: String,
    #[serde(flatten)]
    permissions: Permissions,
    /// Not over.
    jobs: Option<Vec<String>>,
}

impl PolicyRow {
    fn of(policy: &PolicyDocument) -> Self {
        let jobs = policy.jobs.as_ref();
        Self {
            policy: policy.name.to_string(),
            rights: policy.rights.clone(),
            permissions: Permissions::of(&policy.rights, policy.bounds.as_ref()),
            jobs: jobs.map(|jobs| jobs.iter().map(ToString::to_string).collect()),
        }
    }
}

impl Row for PolicyRow {
    const LEAST_IMPORTANT: &'static [&'static str] = &["jobs", "tags", "desired", "methods"];

    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["policy"];
        titles.extend(Permissions::TITLES);
        titles.extend(["rights", "jobs"]);
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match (title, &self.jobs) {
            ("jobs", Some(jobs)) => Cell::from(jobs.join(" ")),
            _ => Cell::from(plain(member)),
        }
    }
}
