//! `govfs merge`

use serde_json::{Value, json};

use super::Context;
use super::output::Ink;
use crate::app::failure::Failure;
use crate::app::merge::{self, Report, Wish};
use crate::domain::event::{Finding, MergedPath};
use crate::domain::names::AgentName;

/// Promote an agent's session to the branch, if every rule allows it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs merge alice --dry-run\n  govfs merge alice -m 'Sessions expire'"
)]
pub(super) struct Args {
    agent: AgentName,
    /// Another branch than the charter's merge target
    #[arg(long, value_name = "BRANCH")]
    into: Option<String>,
    /// The commit's message; else the plan's, else that of the session's own commits
    #[arg(short, long, value_name = "MSG")]
    message: Option<String>,
    /// Say what would come of it, and move nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let wish = Wish {
        agent: args.agent,
        into: args.into,
        message: args.message,
        dry_run: args.dry_run,
    };
    let report = merge::merge(&mut context.site()?, &wish)?;
    if context.out.json {
        context.out.document("merge", fields(&report));
    } else {
        show(&report, &wish, context);
    }
    for remark in &report.remarks {
        context.out.note(format!("warning: {remark}"));
    }
    if report.refusals.is_empty() {
        return Ok(());
    }
    let count = report.refusals.len();
    let rules = if count == 1 { "rule" } else { "rules" };
    Err(Failure::refused(format!(
        "{} is not merged: {count} {rules} refused",
        wish.agent
    ))
    .hint("each line says what to do; nothing was moved"))
}

fn fields(report: &Report) -> Value {
    json!({
        "merged": report.merged,
        "branch": report.branch,
        "commit": report.commit,
        "entry": report.entry,
        "changes": report.changes.iter().map(change).collect::<Vec<_>>(),
        "refusals": report.refusals.iter().map(finding).collect::<Vec<_>>(),
        "advice": report.advice.iter().map(finding).collect::<Vec<_>>(),
        "checks": report.checks,
        "leftovers": report.leftovers,
        "checkout_ms": u64::try_from(report.checkout.as_millis()).unwrap_or(u64::MAX),
    })
}

fn change(path: &MergedPath) -> Value {
    let mut fields = json!({ "path": path.path, "status": path.status });
    if let Some(from) = &path.from {
        fields["from"] = json!(from);
    }
    fields
}

fn finding(line: &Finding) -> Value {
    json!({ "rule": line.rule, "path": line.path, "reason": line.reason, "hint": line.hint })
}

fn show(report: &Report, wish: &Wish, context: &mut Context) {
    for path in &report.changes {
        let status = format!("{:?}", path.status);
        let from = match &path.from {
            Some(from) => format!("  (from {from})"),
            None => String::new(),
        };
        context.out.line(format!("{status}  {}{from}", path.path));
    }
    for line in &report.refusals {
        let line = words(line, context, Ink::Red, "refused");
        context.out.line(line);
    }
    for line in &report.advice {
        let line = words(line, context, Ink::Bold, "note");
        context.out.line(line);
    }
    for path in &report.leftovers {
        context.out.line(format!("left over, not merged: {path}"));
    }
    match (report.merged, &report.commit) {
        (true, Some(commit)) => {
            let line = format!("merged {} into {}: {commit}", wish.agent, report.branch);
            context.out.line(line);
        }
        _ if !report.refusals.is_empty() => {}
        _ if report.changes.is_empty() => {
            context
                .out
                .line(format!("{} has nothing to merge", wish.agent));
        }
        _ => {
            let line = format!("{} can be merged into {}", wish.agent, report.branch);
            context.out.line(line);
        }
    }
}

fn words(line: &Finding, context: &Context, ink: Ink, word: &str) -> String {
    let path = match &line.path {
        Some(path) => format!("{path}: "),
        None => String::new(),
    };
    let hint = if line.hint.is_empty() {
        String::new()
    } else {
        format!(" ({})", line.hint)
    };
    let word = context.out.paint(ink, word);
    format!("{word}  {path}{}: {}{hint}", line.rule, line.reason)
}
