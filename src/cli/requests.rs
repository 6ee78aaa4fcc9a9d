//! `govfs requests`, `approve`, `deny`

use serde_json::{Value, json};

use super::{Context, claim, text};
use crate::app::failure::Failure;
use crate::app::requests::{self, Approved};
use crate::domain::names::AgentName;
use crate::domain::request::Standing;
use crate::domain::state::RequestRow;

/// Show what sealed agents have asked for
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs requests\n  govfs approve 41\n  govfs deny 41 -m 'not this week'"
)]
pub(super) struct Args {
    /// Those that were answered or are over, too
    #[arg(long)]
    all: bool,
}

/// Grant a request
#[derive(Debug, clap::Args)]
pub(super) struct AnswerArgs {
    /// The request's number, as `govfs requests` shows it
    number: u64,
    /// Why
    #[arg(short, long, default_value = "")]
    message: String,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let found = requests::list(&mut context.site()?, args.all)?;
    let out = &mut context.out;
    if out.json {
        let rows: Vec<Value> = found
            .iter()
            .map(|(number, row, standing)| fields(*number, row, *standing))
            .collect();
        out.document("requests", json!({ "requests": rows }));
        return Ok(());
    }
    for (number, row, standing) in &found {
        out.line(line(*number, row, *standing));
    }
    if found.is_empty() {
        out.note("nobody asks for anything");
    }
    Ok(())
}

/// A request as people read it. A merge has no paths and no end.
fn line(number: u64, row: &RequestRow, standing: Standing) -> String {
    let (agent, wish, standing) = (&row.agent, row.wish(), standing.text());
    if row.is_merge() {
        return format!("{number:<6} {agent:<16} {wish:<36}  {standing}");
    }
    let (ttl, reason) = (text::duration(row.ttl_ms), row.reason.trim());
    format!("{number:<6} {agent:<16} {wish:<36} for {ttl}  {standing}  {reason}")
}

fn fields(number: u64, row: &RequestRow, standing: Standing) -> Value {
    json!({
        "number": number,
        "kind": row.kind(),
        "agent": row.agent,
        "session": row.session,
        "mode": crate::app::claim::mode_text(row.mode),
        "patterns": row.patterns,
        "ttl_ms": row.ttl_ms,
        "reason": row.reason,
        "state": standing.text(),
        "answer": row.answer,
        "since": row.since,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn approve(args: AnswerArgs, context: &mut Context) -> Result<(), Failure> {
    match requests::approve(&mut context.site()?, args.number, &args.message)? {
        Approved::Claims(claims) => claim::granted("approve", &claims, context),
        Approved::Merge(agent) => merge_next(args.number, &agent, context),
        Approved::Refused(refusal) => return Err(claim::refused("approve", refusal, context)),
    }
    Ok(())
}

/// Nothing is merged by an approval alone: that is the operator's next command.
fn merge_next(number: u64, agent: &AgentName, context: &mut Context) {
    let next = format!("govfs merge {agent}");
    if context.out.json {
        let fields = json!({ "request": number, "kind": "merge", "claims": [], "next": next });
        context.out.document("approve", fields);
        return;
    }
    context
        .out
        .line(format!("approved request {number}, which asks for a merge"));
    context.out.line(format!("next: {next}"));
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn deny(args: AnswerArgs, context: &mut Context) -> Result<(), Failure> {
    requests::deny(&mut context.site()?, args.number, &args.message)?;
    if context.out.json {
        context
            .out
            .document("deny", json!({ "request": args.number }));
    } else {
        context.out.line(format!("refused request {}", args.number));
    }
    Ok(())
}
