//! `govfs agent`

use serde_json::json;

use super::Context;
use crate::app::agent;
use crate::app::failure::Failure;
use crate::domain::names::{AgentName, RoleName};
use crate::domain::state::AgentRow;

/// Describe agents, or list them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs agent add alice --role worker --engine claude\n  govfs agent list --json"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make an agent known, or describe it anew
    #[command(
        after_help = "Examples:\n  govfs agent add alice --role worker --engine claude\n  govfs agent add carol --person"
    )]
    Add {
        name: AgentName,
        /// Its lane, one of the charter's roles
        #[arg(long)]
        role: Option<RoleName>,
        /// What drives it: claude, codex, human …
        #[arg(long)]
        engine: Option<String>,
        /// It is a person
        #[arg(long)]
        person: bool,
    },
    /// List all agents
    #[command(after_help = "Examples:\n  govfs agent list\n  govfs agent list --json")]
    List,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    match args.verb {
        Verb::Add {
            name,
            role,
            engine,
            person,
        } => {
            let row = agent::add(&mut site, &name, role, engine, person)?;
            if context.out.json {
                let fields = json!({ "agents": [fields(&name, &row)] });
                context.out.document("agent", fields);
            } else {
                context.out.line(words(&name, &row));
            }
        }
        Verb::List => {
            let agents = agent::list(&mut site)?;
            if context.out.json {
                let rows: Vec<_> = agents.iter().map(|(name, row)| fields(name, row)).collect();
                context.out.document("agent", json!({ "agents": rows }));
            } else {
                for (name, row) in &agents {
                    context.out.line(words(name, row));
                }
            }
        }
    }
    Ok(())
}

fn fields(name: &AgentName, row: &AgentRow) -> serde_json::Value {
    json!({
        "agent": name,
        "role": row.role,
        "engine": row.engine,
        "person": row.person,
        "session": row.session,
        "since": row.since,
    })
}

fn words(name: &AgentName, row: &AgentRow) -> String {
    let engine = row.engine.as_deref().unwrap_or("-");
    let person = if row.person { "  person" } else { "" };
    let session = row
        .session
        .as_ref()
        .map(|id| format!("  session {id}"))
        .unwrap_or_default();
    format!(
        "{name:<16} role {:<12} engine {engine}{person}{session}",
        row.role
    )
}
