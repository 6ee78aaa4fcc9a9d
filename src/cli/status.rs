//! `govfs status`

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::output::{Ink, Output};
use super::{Context, claim, text};
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::status::{self, Idle, Server, SessionStatus, Sizes, Status};
use crate::domain::event::Mode;
use crate::domain::logop::LogOp;
use crate::domain::path::{RepoPath, percent_encode};
use crate::domain::state::{ClaimRow, SessionState};

/// How many paths a line of the screen names.
const NAMED: usize = 6;

/// Show agents, sessions, mounts, tiers, claims, pending changes, refusals
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs status\n  govfs status -v\n  govfs status --json")]
pub(super) struct Args {}

pub(super) fn run(_: Args, context: &mut Context) -> Result<(), Failure> {
    let verbose = context.out.verbose > 0;
    let found = status::status(&mut context.site()?, verbose)?;
    let out = &mut context.out;
    if out.json {
        out.document("status", document(&found));
    } else {
        screen(out, &found);
    }
    Ok(())
}

fn document(found: &Status) -> Value {
    let sessions: Vec<Value> = found.sessions.iter().map(fields).collect();
    let idle = found.idle.iter().map(|one| {
        let claims: Vec<Value> = one.claims.iter().map(claim::fields).collect();
        json!({ "agent": one.agent, "role": one.role, "claims": claims })
    });
    json!({
        "sessions": sessions,
        "idle": idle.collect::<Vec<Value>>(),
        "branch": found.branch,
        "charter_edited": found.charter_edited,
        "requests": found.requests,
        "sizes": {
            "ledger": found.sizes.ledger,
            "logs": found.sizes.logs,
            "versions": found.sizes.versions,
            "version_bytes": found.sizes.version_bytes,
            "more": found.sizes.more,
        },
    })
}

fn fields(one: &SessionStatus) -> Value {
    let claims: Vec<Value> = one.claims.iter().map(claim::fields).collect();
    let encoded = |dir: &Path| percent_encode(dir.as_os_str().as_bytes());
    let (pid, uid, sealed, mount, stale) = match &one.server {
        Server::None => (None, None, false, None, None),
        Server::Live {
            pid,
            uid,
            sealed,
            dir,
        } => (
            Some(*pid),
            Some(*uid),
            *sealed,
            dir.as_deref().map(encoded),
            None,
        ),
        Server::Dead { dir, .. } => (None, None, false, None, Some(encoded(dir))),
    };
    let stats = one.stats.as_deref().map(counts);
    let latencies = one.stats.as_deref().map(latencies);
    json!({
        "agent": one.row.agent,
        "session": one.id,
        "state": one.row.state,
        "role": one.role,
        "plan": one.row.plan,
        "since": one.row.since,
        "base": one.row.base,
        "branch": one.row.branch,
        "mount": mount,
        "pid": pid,
        "uid": uid,
        "sealed": sealed,
        "stale": stale,
        "tier": one.tier,
        "changes": one.work.changes.len(),
        "unsettled": one.work.unsettled,
        "leftovers": one.work.leftovers,
        "unclaimed": one.work.unclaimed,
        "denials": one.work.denials,
        "claims": claims,
        "entries": one.work.entries,
        "sealed_entries": one.work.sealed,
        "log_bytes": one.log_bytes,
        "stats": stats,
        "latencies": latencies,
        "trouble": one.trouble,
    })
}

/// Reads a server's numbers: a name and a count a line.
fn counts(text: &str) -> Value {
    let pairs = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, count) = (words.next()?, words.next()?);
        let count = (count.parse::<u64>()).map_or(json!(count), |count| json!(count));
        Some((name.to_owned(), count))
    });
    Value::Object(pairs.collect::<Map<String, Value>>())
}

/// Reads what stands after the counts: how long the requests took.
fn latencies(text: &str) -> Value {
    let kinds = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, _) = (words.next()?, words.next()?);
        let mut times = Map::new();
        while let (Some(what), Some(nanos)) = (words.next(), words.next()) {
            times.insert(what.to_owned(), json!(nanos.parse::<u64>().ok()));
        }
        (!times.is_empty()).then(|| (name.to_owned(), Value::Object(times)))
    });
    Value::Object(kinds.collect::<Map<String, Value>>())
}

/// Shows one line of a server's numbers, its times in microseconds.
fn numbers(line: &str) -> String {
    let mut shown = String::new();
    let mut name = "";
    for (at, word) in line.split(' ').enumerate() {
        match (name.strip_suffix("_ns"), word.parse::<u64>()) {
            (Some(what), Ok(nanos)) => {
                let tenths = (nanos + 50) / 100;
                shown.push_str(&format!("  {what} {}.{} µs", tenths / 10, tenths % 10));
            }
            _ if word.ends_with("_ns") => {}
            _ if at == 0 => shown.push_str(word),
            _ => shown.push_str(&format!(" {word}")),
        }
        name = word;
    }
    shown
}

fn screen(out: &mut Output, found: &Status) {
    if found.charter_edited {
        out.note("governor.md has an edit that is not committed, and not in force");
    }
    for one in &found.sessions {
        session(out, one);
    }
    for one in &found.idle {
        idle(out, one);
    }
    if found.sessions.is_empty() && found.idle.is_empty() {
        out.line("no agents yet: govfs run AGENT --claim PATH -- COMMAND, or govfs mount AGENT --claim PATH");
    }
    if found.requests > 0 {
        out.line(format!(
            "{} waiting for an answer: govfs requests",
            found.requests
        ));
    }
    out.line(sizes(&found.sizes));
}

fn session(out: &mut Output, one: &SessionStatus) {
    let row = &one.row;
    let over = match row.state {
        SessionState::Open => "",
        SessionState::Merged => "  merged, read-only until it is unmounted",
        SessionState::Abandoned => "  abandoned, read-only until it is unmounted",
    };
    let tier = one
        .tier
        .map_or(String::new(), |tier| format!("  tier {tier:?}"));
    let base = &row.base.to_string()[..8];
    let agent = out.paint(Ink::Bold, &row.agent);
    out.line(format!(
        "{agent}  {}  on {} at {base}{tier}{over}",
        one.id, row.branch
    ));
    field(out, "mount", &mounted(one));
    if let Some(plan) = &row.plan {
        field(out, "plan", plan.as_str());
    }
    claims(out, &one.claims);
    changes(out, one);
    if let Some(trouble) = &one.trouble {
        let trouble = out.paint(Ink::Red, trouble);
        field(out, "trouble", &trouble);
    }
    let unsealed = one.work.entries.saturating_sub(one.work.sealed);
    if out.verbose > 0 {
        let log = format!(
            "{} entries ({unsealed} not sealed yet), {}",
            one.work.entries,
            text::size(one.log_bytes)
        );
        field(out, "log", &log);
    }
    for line in one.stats.iter().flat_map(|stats| stats.lines()) {
        field(out, "", &numbers(line));
    }
}

fn field(out: &mut Output, name: &str, value: &str) {
    out.line(format!("  {name:<10} {value}"));
}

fn mounted(one: &SessionStatus) -> String {
    match &one.server {
        Server::None => match one.row.state {
            SessionState::Open => format!("none: govfs mount {}", one.row.agent),
            _ => "none".to_owned(),
        },
        Server::Live {
            pid,
            dir: Some(dir),
            ..
        } => format!("{} (pid {pid})", dir.display()),
        Server::Live { pid, uid, .. } => format!("sealed, for uid {uid} (pid {pid})"),
        Server::Dead { dir, cleared: true } => format!(
            "its server died; govfs mount {} recovers it ({})",
            one.row.agent,
            dir.display()
        ),
        Server::Dead {
            dir,
            cleared: false,
        } => {
            format!("stale: fusermount3 -u -z {}", dir.display())
        }
    }
}

fn claims(out: &mut Output, claims: &[ClaimRow]) {
    let now = clock::now();
    for (at, claim) in claims.iter().enumerate() {
        let read = if claim.mode == Mode::Read {
            " (read)"
        } else {
            ""
        };
        let left = text::duration(claim.lease.left_ms(&now));
        let name = if at == 0 { "claims" } else { "" };
        field(out, name, &format!("{}{read}, {left} left", claim.pattern));
    }
}

fn changes(out: &mut Output, one: &SessionStatus) {
    let work = &one.work;
    if !work.changes.is_empty() {
        let named = work.changes.iter().take(NAMED);
        let named: Vec<String> = named
            .map(|(letter, path)| format!("{letter} {path}"))
            .collect();
        let more = work.changes.len().saturating_sub(NAMED);
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        let count = text::files(work.changes.len());
        field(
            out,
            "changes",
            &format!("{count}: {}{more}", named.join(", ")),
        );
    }
    if !work.unclaimed.is_empty() {
        let told = format!(
            "{}: no claim covers them now, so a merge may refuse",
            listed(&work.unclaimed)
        );
        let told = out.paint(Ink::Yellow, told);
        field(out, "unclaimed", &told);
    }
    if !work.leftovers.is_empty() {
        let told = format!(
            "{} (unfinished saves, never merged)",
            listed(&work.leftovers)
        );
        field(out, "left over", &told);
    }
    if work.denials > 0 {
        let newest = match &work.newest_denial {
            Some((
                seq,
                LogOp::Denied {
                    path, tried, rule, ..
                },
            )) => {
                format!(", the newest: {tried} {path}, {rule} ({}:{seq})", one.id)
            }
            _ => String::new(),
        };
        let told = out.paint(Ink::Red, format!("{}{newest}", work.denials));
        field(out, "refusals", &told);
    }
}

fn listed(paths: &[RepoPath]) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(ToString::to_string).collect();
    match paths.len().saturating_sub(NAMED) {
        0 => named.join(" "),
        more => format!("{} and {more} more", named.join(" ")),
    }
}

fn idle(out: &mut Output, one: &Idle) {
    let agent = out.paint(Ink::Bold, &one.agent);
    out.line(format!("{agent}  no open session  role {}", one.role));
    claims(out, &one.claims);
}

fn sizes(sizes: &Sizes) -> String {
    format!(
        "ledger {}, logs {}, contents {}{} in {}{}",
        text::size(sizes.ledger),
        text::size(sizes.logs),
        if sizes.more { "over " } else { "" },
        text::size(sizes.version_bytes),
        text::files(usize::try_from(sizes.versions).unwrap_or(usize::MAX)),
        if sizes.more { " and more" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::{counts, json, latencies, numbers};

    #[test]
    fn a_servers_numbers_are_told_with_how_long_requests_took() {
        let text = "nodes 7\nwrite 2 mean_ns 1201 p50_ns 1024 p99_ns 20480\n";
        assert_eq!(counts(text), json!({ "nodes": 7, "write": 2 }));
        assert_eq!(
            latencies(text),
            json!({ "write": { "mean_ns": 1201, "p50_ns": 1024, "p99_ns": 20480 } })
        );
        let shown: Vec<String> = text.lines().map(numbers).collect();
        assert_eq!(
            shown,
            ["nodes 7", "write 2  mean 1.2 µs  p50 1.0 µs  p99 20.5 µs"]
        );
    }
}
