//! `govfs role`

use serde_json::json;

use super::Context;
use crate::app::brief::{For, brief};
use crate::app::failure::Failure;
use crate::domain::names::{AgentName, PlanId, RoleName};

/// Roles: what an agent of a lane is told when it starts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs role brief core\n  govfs role brief core --agent alice --plan auth"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print the startup text for an agent of a role
    #[command(
        after_help = "Examples:\n  govfs role brief core\n  govfs role brief core --agent alice --plan auth"
    )]
    Brief {
        role: RoleName,
        /// With this agent's claims and plan
        #[arg(long)]
        agent: Option<AgentName>,
        /// With this plan
        #[arg(long, value_name = "ID")]
        plan: Option<PlanId>,
    },
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let Verb::Brief { role, agent, plan } = args.verb;
    let whom = For { role, agent, plan };
    let text = brief(&mut context.site()?, &whom)?;
    if context.out.json {
        let fields =
            json!({"role": whom.role, "agent": whom.agent, "plan": whom.plan, "text": text});
        context.out.document("role-brief", fields);
    } else {
        context.out.text(&text);
    }
    Ok(())
}
