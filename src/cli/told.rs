//! Entries in words: one line for each, as `log` and `why` show them.
//!
//! Owns: the words for every operation of the ledger and of the write logs. They
//! are told from the values, so that an operation without words does not compile.
//! What cannot be read as a value is shown field by field. Never prints: the exit
//! makes foreign text harmless.

use serde_json::{Map, Value};

use super::text;
use crate::app::claim::mode_text;
use crate::domain::base::Oid;
use crate::domain::entry::{Line, decode};
use crate::domain::event::{
    CharterSet, CharterSource, Claimed, Collected, Decision, Event, FleetAction, FleetMoved, Freed,
    KeySet, Launched, Merged, PlanAction, PlanSet, Protected, QueueMoved, QueueState, ReviewAction,
    Reviewed, Synced,
};
use crate::domain::logop::{Bytes, FileMode, LogOp};
use crate::domain::path::{RepoPath, percent_decode, percent_encode};
use crate::domain::time::Timestamp;
use crate::domain::{pattern::Pattern, request, screen, shell};

/// How many letters of a hash people compare.
const SHORT: usize = 12;

/// Tells one entry in a line, without its number and time.
pub(super) fn entry(line: &Line<'_>) -> String {
    let who = line.agent.unwrap_or("-");
    format!("{:<12} {:<12} {}", line.op, who, words(line))
        .trim_end()
        .to_owned()
}

fn words(line: &Line<'_>) -> String {
    if let Ok(op) = decode(line) {
        return of_write(&op);
    }
    let body = line.body().unwrap_or_default();
    match Event::from_body(line.op, body.clone()) {
        Ok(event) => of_event(&event),
        Err(_) => fields(&body),
    }
}

/// What a session's server did, or refused.
fn of_write(op: &LogOp) -> String {
    match op {
        LogOp::Write {
            path, offset, len, ..
        } => format!("{}: {} at {offset}", plain(path), count(*len, "byte")),
        LogOp::Create { path, mode, .. } => match mode {
            FileMode::Plain => plain(path),
            _ => format!("{} ({})", plain(path), kind(*mode)),
        },
        LogOp::Mkdir { path, .. } | LogOp::Rmdir { path, .. } => format!("{}/", plain(path)),
        LogOp::Symlink { path, target, .. } => format!("{} -> {}", plain(path), bytes(target)),
        LogOp::Rename {
            path, to, exchange, ..
        } => {
            let way = if *exchange { "<->" } else { "->" };
            format!("{} {way} {}", plain(path), plain(to))
        }
        LogOp::Unlink { path, .. } => plain(path),
        LogOp::Truncate { path, size, .. } => {
            format!("{} to {}", plain(path), count(*size, "byte"))
        }
        LogOp::Hole {
            path, offset, len, ..
        } => format!(
            "{}: {} of zeroes at {offset}",
            plain(path),
            count(*len, "byte")
        ),
        LogOp::Mode { path, mode, .. } => format!("{} is {} now", plain(path), kind(*mode)),
        LogOp::Times { path, mtime, .. } => {
            format!("{} modified {}", plain(path), text::time(Timestamp(*mtime)))
        }
        LogOp::Xattr {
            path, name, sha256, ..
        } => {
            let done = if sha256.is_some() { "set" } else { "removed" };
            format!("{}: {} {done}", plain(path), bytes(name))
        }
        LogOp::Version {
            path, size, sha256, ..
        } => format!(
            "{}: {}, {}",
            plain(path),
            count(*size, "byte"),
            short(sha256)
        ),
        LogOp::Denied {
            path,
            tried,
            rule,
            reason,
            count,
            ..
        } => format!("{tried} {}: {reason} (rule {rule}, x{count})", plain(path)),
        LogOp::Recovered {
            path, size, lost, ..
        } => {
            let lost: u64 = lost.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
            let (size, lost) = (count(*size, "byte"), count(lost, "byte"));
            format!("{}: {size} found after a crash, {lost} lost", plain(path))
        }
        LogOp::Void { entry, reason } => format!("entry {entry} came to nothing: {reason}"),
    }
}

/// What the operator, a command or the fleet did.
fn of_event(event: &Event) -> String {
    match event {
        Event::Charter(body) => charter(body),
        Event::Key(body) => key(body),
        Event::Agent(body) => {
            let engine = body.engine.as_ref().map(|engine| format!(", {engine}"));
            let person = if body.person { ", a person" } else { "" };
            format!("role {}{}{person}", body.role, engine.unwrap_or_default())
        }
        Event::Claim(body) => claim(body),
        Event::Release(body) => freed(&body.claims),
        Event::Expire(body) => format!("{}: not used in time", freed(&body.claims)),
        Event::Session(body) => format!(
            "on {} at {}{}",
            body.branch,
            oid(body.base),
            for_plan(body.plan.as_ref())
        ),
        Event::Launch(body) => launch(body),
        Event::Mount(body) => {
            let lost = body
                .lost
                .map(|lost| format!("; {} torn off its log", count(lost, "byte")));
            let lost = lost.unwrap_or_default();
            format!(
                "at {}, served by process {}{lost}",
                bytes(&body.dir),
                body.pid
            )
        }
        Event::Unmount(body) => {
            let forced = if body.forced { ", by force" } else { "" };
            format!("from {}{forced}", bytes(&body.dir))
        }
        Event::Seal(body) => {
            let scratch = body.scratch.as_ref().map(|scratch| {
                let files = text::files(usize::try_from(scratch.files).unwrap_or(usize::MAX));
                format!("; scratch {files}, {}", text::size(scratch.bytes))
            });
            let scratch = scratch.unwrap_or_default();
            format!(
                "{}, head {}{scratch}",
                entries(body.count),
                short(&body.head)
            )
        }
        Event::Request(body) => {
            let wish = request::wish(body.mode, &body.patterns, &body.reason);
            if request::is_merge(&body.patterns) {
                format!("asks for a {wish}")
            } else {
                let because = because(Some(&body.reason));
                format!(
                    "asks to {wish} for {}{because}",
                    text::duration(body.ttl_ms)
                )
            }
        }
        Event::Grant(body) => format!("request {}{}", body.request, because(Some(&body.reason))),
        Event::Deny(body) => format!("request {}{}", body.request, because(Some(&body.reason))),
        Event::Plan(body) => plan(body),
        Event::Queue(body) => queue(body),
        Event::Review(body) => review(body),
        Event::MergeIntent(body) => {
            format!("{} is about to move to {}", body.branch, oid(body.commit))
        }
        Event::Merge(body) => merge(body),
        Event::Abandon(body) => {
            let frees = if body.claims.is_empty() {
                String::new()
            } else {
                format!(", frees {}", freed(&body.claims))
            };
            let why = because(body.reason.as_deref());
            format!("{} given up{frees}{why}", entries(body.count))
        }
        Event::Revert(body) => format!(
            "merge {} is undone: {} is at {}",
            body.merge,
            body.branch,
            oid(body.commit)
        ),
        Event::Sync(body) => sync(body),
        Event::Checkpoint(body) => {
            let anchor = body
                .anchor
                .as_ref()
                .map(|said| format!("; the anchor {said}"));
            let anchor = anchor.unwrap_or_default();
            format!("{}, root {}{anchor}", entries(body.size), short(&body.root))
        }
        Event::Fork(body) => format!(
            "goes on as {} after {} of {}",
            body.origin,
            entries(body.old.size),
            body.old.origin
        ),
        Event::Gc(body) => collected(body),
        Event::Protect(body) => protect(body),
        Event::Fleet(body) => fleet(body),
    }
}

fn charter(body: &CharterSet) -> String {
    let from = match body.source {
        CharterSource::Init => "as init found it".to_owned(),
        CharterSource::Commit(commit) => format!("of commit {}", oid(commit)),
    };
    format!("{} is in force, {from}", short(&body.sha256))
}

fn key(body: &KeySet) -> String {
    let public = short(&body.public);
    let how = match (&body.previous, &body.signature) {
        (None, _) => "is the first".to_owned(),
        (Some(before), Some(_)) => format!("follows {}, signed by it", short(before)),
        (Some(before), None) => format!("appears beside {}, not signed by it", short(before)),
    };
    format!("{public} {how}, for {}", body.origin)
}

fn claim(body: &Claimed) -> String {
    let asked = format!("{} {}", mode_text(body.mode), patterns(&body.patterns));
    match body.decision {
        Decision::Deny => format!("{asked}{}", refused(body.reason.as_deref())),
        Decision::Allow => {
            let leave = body
                .leave
                .map(|request| format!(", as request {request} asked"));
            format!(
                "{asked} for {}{}{}",
                text::duration(body.lease.ttl_ms),
                for_plan(body.plan.as_ref()),
                leave.unwrap_or_default()
            )
        }
    }
}

fn launch(body: &Launched) -> String {
    let argv: Vec<String> = body.argv.iter().map(|word| shell::word(&word.0)).collect();
    let wider = if body.widenings.is_empty() {
        String::new()
    } else {
        format!("; widened: {}", body.widenings.join(", "))
    };
    format!(
        "tier {:?}: {}{wider}{}",
        body.tier,
        argv.join(" "),
        for_plan(body.plan.as_ref())
    )
}

fn plan(body: &PlanSet) -> String {
    match (body.action, body.reverts) {
        (PlanAction::Add, _) => format!("{} added, {}", body.plan, short(&body.sha256)),
        (PlanAction::Remove, None) => format!("{} removed", body.plan),
        (PlanAction::Remove, Some(merge)) => {
            format!("{} removed, merge {merge} undone", body.plan)
        }
    }
}

fn queue(body: &QueueMoved) -> String {
    let to = match body.state {
        QueueState::Todo => "todo",
        QueueState::InProgress => "in_progress",
        QueueState::Blocked => "blocked",
        QueueState::Done => "done",
    };
    let owner = body.owner.as_ref().map(|owner| format!(", of {owner}"));
    let moved = format!("{} to {to}{}", body.plan, owner.unwrap_or_default());
    match body.decision {
        Decision::Allow => format!("{moved}{}", because(body.reason.as_deref())),
        Decision::Deny => format!("{moved}{}", refused(body.reason.as_deref())),
    }
}

fn review(body: &Reviewed) -> String {
    let who = body
        .reviewer
        .as_ref()
        .map_or("the author", |name| name.as_str());
    let done = match body.action {
        ReviewAction::Request => "asks for a review of",
        ReviewAction::Approve => "approves",
        ReviewAction::Reject => "rejects",
    };
    let said = format!("{who} {done} {}", oid(body.tree));
    match body.decision {
        Decision::Allow => format!("{said}{}", because(body.message.as_deref())),
        Decision::Deny => format!("{said}{}", refused(body.reason.as_deref())),
    }
}

fn merge(body: &Merged) -> String {
    match (body.decision, body.commit) {
        (Decision::Allow, Some(commit)) => format!(
            "{} is at {}: {}{}",
            body.branch,
            oid(commit),
            text::files(body.paths.len()),
            for_plan(body.plan.as_ref())
        ),
        (Decision::Allow, None) => format!("nothing to merge into {}", body.branch),
        (Decision::Deny, _) => {
            let first = body.refusals.first().map(|finding| {
                let path = finding
                    .path
                    .as_ref()
                    .map(|path| format!("{}: ", plain(path)));
                format!("{}{}", path.unwrap_or_default(), finding.reason)
            });
            let more = body.refusals.len().saturating_sub(1);
            let more = if more > 0 {
                format!(" (and {more} more)")
            } else {
                String::new()
            };
            format!("into {}{}{more}", body.branch, refused(first.as_deref()))
        }
    }
}

fn sync(body: &Synced) -> String {
    let moved = format!("base {} to {}", oid(body.from), oid(body.base));
    match body.decision {
        Decision::Allow => moved,
        Decision::Deny => {
            let paths: Vec<String> = body.conflicts.iter().map(plain).collect();
            format!(
                "{moved}{}",
                refused(Some(&format!("conflicts in {}", paths.join(" "))))
            )
        }
    }
}

fn collected(body: &Collected) -> String {
    format!(
        "{} freed: {}, {} packed",
        text::size(body.bytes),
        count(body.versions.len() as u64, "content"),
        count(body.logs.len() as u64, "log")
    )
}

fn protect(body: &Protected) -> String {
    if let Some(person) = &body.person {
        let at = |commit: Option<Oid>| commit.map_or("nothing".to_owned(), oid);
        let (from, to) = (at(body.from), at(body.commit));
        return format!("{} moved by {person}, from {from} to {to}", body.branch);
    }
    let now = if body.on {
        "protected"
    } else {
        "no longer protected"
    };
    format!("{} is {now}", body.branch)
}

fn fleet(body: &FleetMoved) -> String {
    let action = match body.action {
        FleetAction::Start => "starts",
        FleetAction::Stop => "stops",
        FleetAction::Launch => "launches",
        FleetAction::Check => "checks",
        FleetAction::Retry => "tries again",
        FleetAction::Block => "blocks",
        FleetAction::Finish => "finishes",
    };
    let mut said = action.to_owned();
    let mut add = |text: String| {
        said.push_str(&text);
    };
    body.plan.iter().for_each(|plan| add(format!(" {plan}")));
    body.attempt
        .iter()
        .for_each(|n| add(format!(", attempt {n}")));
    body.jobs
        .iter()
        .for_each(|n| add(format!(", {}", count(*n, "job"))));
    body.pid
        .iter()
        .for_each(|pid| add(format!(", process {pid}")));
    body.status
        .iter()
        .for_each(|status| add(format!(", exit {status}")));
    if !body.missing.is_empty() {
        add(format!(", lacks {}", body.missing.join(", ")));
    }
    add(because(body.reason.as_deref()));
    said
}

fn kind(mode: FileMode) -> &'static str {
    match mode {
        FileMode::Plain => "not executable",
        FileMode::Exec => "executable",
        FileMode::Symlink => "a symbolic link",
    }
}

fn freed(claims: &[Freed]) -> String {
    let texts: Vec<String> = claims
        .iter()
        .map(|freed| freed.pattern.to_string())
        .collect();
    texts.join(" ")
}

fn patterns(patterns: &[Pattern]) -> String {
    let texts: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

fn for_plan(plan: Option<&crate::domain::names::PlanId>) -> String {
    plan.map_or(String::new(), |plan| format!(", for plan {plan}"))
}

fn because(reason: Option<&str>) -> String {
    match reason.map(str::trim) {
        Some(reason) if !reason.is_empty() => format!(": {reason}"),
        _ => String::new(),
    }
}

fn refused(reason: Option<&str>) -> String {
    format!(", refused{}", because(reason))
}

fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}

fn count(number: u64, what: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{number} {what}{many}")
}

fn oid(oid: Oid) -> String {
    short(&oid)
}

fn short(text: &impl ToString) -> String {
    text.to_string().chars().take(SHORT).collect()
}

fn plain(path: &RepoPath) -> String {
    readable(path.as_bytes())
}

fn bytes(bytes: &Bytes) -> String {
    readable(&bytes.0)
}

/// Shows a name as it is typed, where that is plain.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(plain) if !plain.contains(screen::is_harmful) => plain.to_owned(),
        _ => percent_encode(bytes),
    }
}

/// What no value of this govfs is: shown as it stands.
fn fields(body: &Map<String, Value>) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => match percent_decode(text) {
            Some(bytes) => readable(&bytes),
            None => text.trim().to_owned(),
        },
        value => value.to_string(),
    };
    let fields: Vec<String> = body
        .iter()
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .map(|(key, value)| format!("{key}={}", shown(value)))
        .collect();
    fields.join(" ")
}

#[cfg(test)]
mod tests;
