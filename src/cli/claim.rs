//! `govfs claim`

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Context;
use super::text;
use crate::app::claim::{self, Answer, Patience};
use crate::app::clock;
use crate::app::failure::Failure;
use crate::domain::claim::Ask;
use crate::domain::command::Refusal;
use crate::domain::event::{Conflict, Mode};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::state::ClaimRow;
use crate::domain::time::parse_duration;

/// Claim paths for an agent: all of them or none
///
/// A pattern is a path (it covers everything beneath) or a glob (`*`, `?`, `[…]`, `{a,b}`, `**`). Claiming what the
/// agent already holds renews it. A conflict exits with 3 and shows who holds what.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs claim alice src/auth 'tests/**/*auth*'\n  govfs claim bob docs --read\n  govfs claim bob src --ttl 2h --wait=60"
)]
pub(super) struct Args {
    agent: AgentName,
    /// Paths or globs, relative to the repository's root
    #[arg(required = true, value_name = "PATTERN")]
    patterns: Vec<OsString>,
    /// Only read: shared with other readers, excludes others' writing
    #[arg(long)]
    read: bool,
    /// How long it lasts without activity, for example 90s, 2h, 1d
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<u64>,
    /// Wait for whoever holds it (at most SECS seconds), in the order of asking
    #[arg(long, value_name = "SECS", num_args = 0..=1, require_equals = true, default_missing_value = "forever", value_parser = patience)]
    wait: Option<Patience>,
    /// The plan that this is for
    #[arg(long, value_name = "ID")]
    plan: Option<PlanId>,
}

pub(super) fn ttl(text: &str) -> Result<u64, String> {
    match parse_duration(text) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => Err("expected a duration such as 90s, 30m, 2h or 1h30m".to_owned()),
    }
}

fn patience(text: &str) -> Result<Patience, String> {
    if text == "forever" {
        return Ok(Patience::Forever);
    }
    let wait = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(|| parse_duration(text).map(Duration::from_millis));
    match wait.and_then(|wait| Instant::now().checked_add(wait)) {
        Some(end) => Ok(Patience::Until(end)),
        None => Err("expected a number of seconds".to_owned()),
    }
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let patterns = claim::patterns(&args.patterns)?;
    for pattern in &patterns {
        if let Some(odd) = pattern.odd() {
            context.out.note(format!("warning: {pattern} {odd}"));
        }
    }
    let mode = if args.read { Mode::Read } else { Mode::Write };
    let mut ask = Ask::new(args.agent, mode, patterns);
    ask.ttl_ms = args.ttl;
    ask.plan = args.plan;
    let mut site = context.site()?;
    match claim::claim(&mut site, ask, args.wait.unwrap_or(Patience::None))? {
        Answer::Granted(claims) => granted("claim", &claims, context),
        Answer::Refused(refusal) => return Err(refused("claim", refusal, context)),
    }
    Ok(())
}

/// Shows claims that were given.
pub(super) fn granted(verb: &str, claims: &[ClaimRow], context: &mut Context) {
    if context.out.json {
        let claims: Vec<Value> = claims.iter().map(fields).collect();
        context.out.document(verb, json!({ "claims": claims }));
        return;
    }
    for claim in claims {
        context.out.line(words(claim));
    }
}

/// Shows who stands in the way, and makes a failure of it.
pub(super) fn refused(verb: &str, refusal: Refusal, context: &mut Context) -> Failure {
    obstacles(
        verb,
        refusal.rule,
        &refusal.message,
        &refusal.conflicts,
        Map::new(),
        context,
    );
    refusal.into()
}

/// Shows who stands in the way; the document has `more`, too.
pub(super) fn obstacles(
    verb: &str,
    rule: &str,
    reason: &str,
    conflicts: &[Conflict],
    more: Map<String, Value>,
    context: &mut Context,
) {
    if context.out.json {
        let conflicts: Vec<Value> = conflicts
            .iter()
            .map(|conflict| {
                json!({
                    "pattern": conflict.pattern,
                    "holder": conflict.holder,
                    "theirs": conflict.theirs,
                    "witness": conflict.witness,
                    "waiting": conflict.ahead,
                })
            })
            .collect();
        let mut fields = json!({ "conflicts": conflicts, "rule": rule });
        if conflicts.is_empty() {
            fields["reason"] = reason.into();
        }
        for (key, value) in more {
            fields[key] = value;
        }
        context.out.document(verb, fields);
        return;
    }
    for conflict in conflicts {
        let verb = if conflict.ahead { "waits for" } else { "holds" };
        context.out.line(format!(
            "{}: {} {verb} {}, both cover {}",
            conflict.pattern, conflict.holder, conflict.theirs, conflict.witness
        ));
    }
}

/// A claim as JSON has it.
pub(super) fn fields(claim: &ClaimRow) -> Value {
    json!({
        "id": claim.id,
        "agent": claim.agent,
        "pattern": claim.pattern,
        "mode": claim.mode,
        "generation": claim.generation,
        "since": claim.since,
        "expires": claim.lease.expires(),
        "plan": claim.plan,
    })
}

/// A claim as people read it.
pub(super) fn words(claim: &ClaimRow) -> String {
    let left = claim.lease.left_ms(&clock::now());
    format!(
        "{:<5} {:<16} {:<5} {:<40} since {}  {} left",
        claim.id,
        claim.agent,
        claim::mode_text(claim.mode),
        claim.pattern.to_string(),
        text::time(claim.since),
        text::duration(left)
    )
}
