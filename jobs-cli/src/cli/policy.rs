//! `doorctl policy ...`

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use iothub_protocol::id::{MethodName, PolicyName};
use iothub_protocol::policy::PolicyKey;

use super::target::tag_filter;
use crate::role::Role;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Add a policy for a person or a program, and write its connection string.
    #[command(after_help = "\
Examples:
  doorctl policy add anna --role guard --building 43 --out anna.connection-string
  doorctl policy add wall --role viewer --tag group=public --as-context wall
  doorctl policy add porter --role guard --method unlockDoor --out porter.connection-string

The roles, with what each may call and write: doorctl policy show. Doors that are not selected do \
not exist for the policy; without a selection it reaches every door. The connection string goes \
to a file of mode 0600 or into a context of this machine, never to the screen.")]
    Add(AddArgs),
    /// List the policies with their roles and bounds.
    #[command(after_help = "\
Examples:
  doorctl policy list
  doorctl policy list -o json")]
    List,
    /// Show a policy with its jobs that are not over, or what each role may do.
    #[command(after_help = "\
Examples:
  doorctl policy show                             what each role may do
  doorctl policy show anna")]
    Show {
        /// Name of the policy [default: show the roles].
        name: Option<PolicyName>,
    },
    /// Replace role and doors of a policy; its keys stay valid.
    #[command(after_help = "\
Examples:
  doorctl policy change anna --role guard --building 43 --building 44
  doorctl policy change anna --role operator

What is not given is gone: without a selection the policy reaches every door. The change counts \
for the next request, and for jobs that the policy has created when they start.")]
    Change(ChangeArgs),
    /// Give a policy a new key; the old one is refused at once, the other key stays valid.
    #[command(after_help = "\
Examples:
  doorctl policy rotate anna --key primary --out anna-2.connection-string
  doorctl policy rotate wall --key primary --as-context wall --yes

`add` hands out the primary key. Jobs and timed entries of the policy go on: they are listed first.")]
    Rotate(RotateArgs),
    /// Remove a policy; its keys are refused at once.
    #[command(after_help = "\
Examples:
  doorctl policy remove anna
  doorctl policy remove anna --yes

Its jobs that have not started fail with PolicyRemoved. A timed entry that a door has already \
stays there and is carried out: `doorctl jobs cancel JOB` takes it back. Both are listed first.")]
    Remove(RemoveArgs),
}

/// What a policy may do.
#[derive(Debug, Args)]
pub(crate) struct BoundsArgs {
    /// Role: viewer, guard, operator or admin.
    #[arg(long, value_enum, value_name = "ROLE", hide_possible_values = true)]
    pub(crate) role: Role,
    /// Method that it may call besides those of the role (repeatable).
    #[arg(long = "method", value_name = "METHOD")]
    pub(crate) methods: Vec<MethodName>,
    /// Only doors assigned to this building (repeatable).
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "BUILDING",
        help_heading = "Doors (all given filters must match)"
    )]
    pub(crate) building: Vec<String>,
    /// Only doors assigned to this floor (repeatable).
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "FLOOR",
        help_heading = "Doors (all given filters must match)"
    )]
    pub(crate) floor: Vec<String>,
    /// Only doors with this tag (repeatable; a name given twice: either value).
    #[arg(
        long = "tag",
        value_name = "NAME=VALUE",
        value_parser = tag_filter,
        help_heading = "Doors (all given filters must match)"
    )]
    pub(crate) tags: Vec<(String, String)>,
    /// Only doors that match this condition on deviceId, tags and desired properties.
    #[arg(
        long = "where",
        value_name = "CONDITION",
        help_heading = "Doors (all given filters must match)"
    )]
    pub(crate) condition: Option<String>,
    /// Continue if no door has a given building, floor or tag.
    #[arg(long, help_heading = "Doors (all given filters must match)")]
    pub(crate) allow_none: bool,
}

/// Where the connection string goes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("destination").required(true).args(["out", "as_context"]))]
pub(crate) struct DestinationArgs {
    /// File to create with the connection string (mode 0600).
    #[arg(long, value_name = "FILE", help_heading = "Connection string")]
    pub(crate) out: Option<PathBuf>,
    /// Add it as a context of this machine instead; its name.
    #[arg(
        id = "as_context",
        long = "as-context",
        value_name = "NAME",
        help_heading = "Connection string"
    )]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of the policy.
    pub(crate) name: PolicyName,
    #[command(flatten)]
    pub(crate) bounds: BoundsArgs,
    #[command(flatten)]
    pub(crate) destination: DestinationArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Name of the policy.
    pub(crate) name: PolicyName,
    #[command(flatten)]
    pub(crate) bounds: BoundsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Name of the policy.
    pub(crate) name: PolicyName,
    /// Key to replace: primary or secondary.
    #[arg(long, value_enum, value_name = "KEY", hide_possible_values = true)]
    pub(crate) key: KeyName,
    #[command(flatten)]
    pub(crate) destination: DestinationArgs,
    /// Skip the confirmation.
    #[arg(long, help_heading = "Confirmation")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Name of the policy.
    pub(crate) name: PolicyName,
    /// Skip the confirmation.
    #[arg(long, help_heading = "Confirmation")]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KeyName {
    Primary,
    Secondary,
}

impl From<KeyName> for PolicyKey {
    fn from(key: KeyName) -> Self {
        match key {
            KeyName::Primary => Self::Primary,
            KeyName::Secondary => Self::Secondary,
        }
    }
}
