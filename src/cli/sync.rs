//! `govfs sync`

use serde_json::json;

use super::Context;
use crate::app::failure::Failure;
use crate::app::sync;
use crate::domain::names::AgentName;

/// Move a session's base to today's branch
///
/// Refused where the branch and the session changed the same paths. The mount is taken down for it and stands
/// again at its place; the agent's private git directory starts anew, and the one before stays in the session's
/// directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs sync alice\n  govfs sync alice --json")]
pub(super) struct Args {
    agent: AgentName,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = sync::sync(&mut context.site()?, &args.agent)?;
    let moved = report.conflicts.is_empty();
    if context.out.json {
        let fields = json!({
            "agent": args.agent,
            "synced": moved,
            "from": report.from,
            "base": report.base,
            "entry": report.entry,
            "conflicts": report.conflicts,
        });
        context.out.document("sync", fields);
    } else if moved {
        let line = match report.entry {
            Some(_) => format!("{} stands on {} now", args.agent, report.base),
            None => format!("{} stands on {} already", args.agent, report.base),
        };
        context.out.line(line);
    }
    if moved {
        return Ok(());
    }
    let paths: Vec<String> = report.conflicts.iter().map(ToString::to_string).collect();
    Err(Failure::refused(format!(
        "{} stays on {}: the branch changed what the session changed: {}",
        args.agent,
        report.from,
        paths.join(" ")
    ))
    .hint(format!(
        "take the branch's changes over in the session, or merge line by line as it is: govfs merge {} --dry-run",
        args.agent
    )))
}
