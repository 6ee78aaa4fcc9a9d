//! `govfs abandon`

use serde_json::{Value, json};

use super::Context;
use crate::app::abandon;
use crate::app::failure::Failure;
use crate::domain::names::AgentName;

/// End an agent's session without a merge; its claims are free, its record stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs abandon alice\n  govfs abandon alice --yes")]
pub(super) struct Args {
    agent: AgentName,
    /// Also where changes are not merged
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = abandon::abandon(&mut context.site()?, &args.agent, args.yes)?;
    if context.out.json {
        let changes: Vec<Value> = report
            .changes
            .iter()
            .map(|(path, status)| json!({ "path": path, "status": status.to_string() }))
            .collect();
        let fields = json!({
            "agent": args.agent,
            "session": report.session,
            "entry": report.entry,
            "changes": changes,
        });
        context.out.document("abandon", fields);
        return Ok(());
    }
    context.out.line(format!(
        "abandoned {} with {} changed paths: entry {}",
        report.session,
        report.changes.len(),
        report.entry
    ));
    Ok(())
}
