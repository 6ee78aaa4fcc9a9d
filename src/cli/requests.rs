//! `govfs requests`, `approve`, `deny`

use serde_json::{Value, json};

use super::{Context, claim, text};
use crate::app::claim::Answer;
use crate::app::failure::Failure;
use crate::app::requests;
use crate::domain::state::RequestRow;

/// Show what sealed agents have asked for
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs requests\n  govfs approve 41\n  govfs deny 41 -m 'not this week'"
)]
pub(super) struct Args {
    /// Those that were answered, too
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
            .map(|(number, row)| fields(*number, row))
            .collect();
        out.document("requests", json!({ "requests": rows }));
        return Ok(());
    }
    for (number, row) in &found {
        out.line(format!(
            "{number:<6} {:<16} {:<5} {:<30} for {}  {}  {}",
            row.agent,
            crate::app::claim::mode_text(row.mode),
            crate::app::inside::asked(row),
            text::duration(row.ttl_ms),
            requests::state_text(row.state),
            row.reason
        ));
    }
    if found.is_empty() {
        out.note("nobody asks for anything");
    }
    Ok(())
}

fn fields(number: u64, row: &RequestRow) -> Value {
    json!({
        "number": number,
        "agent": row.agent,
        "session": row.session,
        "mode": crate::app::claim::mode_text(row.mode),
        "patterns": row.patterns,
        "ttl_ms": row.ttl_ms,
        "reason": row.reason,
        "state": requests::state_text(row.state),
        "since": row.since,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn approve(args: AnswerArgs, context: &mut Context) -> Result<(), Failure> {
    match requests::approve(&mut context.site()?, args.number, &args.message)? {
        Answer::Granted(claims) => claim::granted("approve", &claims, context),
        Answer::Refused(refusal) => return Err(claim::refused("approve", refusal, context)),
    }
    Ok(())
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
