//! Entries in words: one line for each, as `log` and `why` show them.
//!
//! Owns: the words for every operation of the ledger and of the write logs. They
//! are told from the values, so that an operation without words does not compile.
//! What cannot be read as a value is shown field by field. Never prints.

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
use crate::domain::pattern::Pattern;
use crate::domain::shell;
use crate::domain::time::Timestamp;

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
        Event::Request(body) => format!(
            "asks to {} {} for {}{}",
            mode_text(body.mode),
            patterns(&body.patterns),
            text::duration(body.ttl_ms),
            because(Some(&body.reason))
        ),
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

/// Texts that agents and programs wrote: one line, and nothing that moves a cursor.
fn because(reason: Option<&str>) -> String {
    match reason.map(tame) {
        Some(reason) if !reason.is_empty() => format!(": {reason}"),
        _ => String::new(),
    }
}

fn refused(reason: Option<&str>) -> String {
    format!(", refused{}", because(reason))
}

fn tame(text: &str) -> String {
    let calm = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(calm).collect()
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
        Ok(plain) if !plain.chars().any(char::is_control) => plain.to_owned(),
        _ => percent_encode(bytes),
    }
}

/// What no value of this govfs is: shown as it stands.
fn fields(body: &Map<String, Value>) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => match percent_decode(text) {
            Some(bytes) => readable(&bytes),
            None => tame(text),
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::entry::{Encoder, Head, encode};
    use crate::domain::event;
    use crate::domain::logop::{self, Actor};

    const OID: &str = "1234567890123456789012345678901234567890";

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).expect(text)
    }

    /// One operation of each kind, in the order of their names.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn writes() -> Vec<LogOp> {
        let (claim, by) = (1, Actor::default());
        let sha256 = Digest::of(b"");
        let a = || path("src/a b.rs");
        let actor = || by.clone();
        vec![
            LogOp::Write {
                path: a(),
                offset: 10,
                len: 1,
                sha256,
                claim,
                by: actor(),
            },
            LogOp::Create {
                path: a(),
                mode: FileMode::Exec,
                claim,
                by: actor(),
            },
            LogOp::Mkdir {
                path: path("src"),
                claim,
                by: actor(),
            },
            LogOp::Symlink {
                path: a(),
                target: Bytes(b"../x".to_vec()),
                claim,
                by: actor(),
            },
            LogOp::Rename {
                path: a(),
                to: path("b"),
                exchange: false,
                claim,
                by: actor(),
            },
            LogOp::Unlink {
                path: a(),
                claim,
                by: actor(),
            },
            LogOp::Rmdir {
                path: path("src"),
                claim,
                by: actor(),
            },
            LogOp::Truncate {
                path: a(),
                size: 0,
                claim,
                by: actor(),
            },
            LogOp::Hole {
                path: a(),
                offset: 0,
                len: 4096,
                size: 5000,
                claim,
                by: actor(),
            },
            LogOp::Mode {
                path: a(),
                mode: FileMode::Plain,
                claim,
                by: actor(),
            },
            LogOp::Times {
                path: a(),
                mtime: 0,
                claim,
                by: actor(),
            },
            LogOp::Xattr {
                path: a(),
                name: Bytes(b"user.x".to_vec()),
                sha256: None,
                claim,
                by: actor(),
            },
            LogOp::Version {
                path: a(),
                size: 5,
                mode: FileMode::Plain,
                sha256,
            },
            LogOp::Denied {
                path: path("b\n"),
                tried: "write".to_owned(),
                rule: "held".to_owned(),
                reason: "bob holds b".to_owned(),
                count: 2,
                by: actor(),
            },
            LogOp::Recovered {
                path: a(),
                size: 5,
                sha256,
                lost: vec![(1, 3)],
            },
            LogOp::Void {
                entry: 7,
                reason: "no room".to_owned(),
            },
        ]
    }

    #[test]
    fn every_write_log_operation_is_told() {
        let agent = "alice".parse().expect("a name");
        let session = "alice-1".parse().expect("a session");
        let mut encoder = Encoder::new(&agent, &session);
        let mut told = Vec::new();
        for (op, name) in writes().iter().zip(logop::OPS) {
            let encoded = encoder.encode(0, &Digest::ZERO, Timestamp(0), op);
            let text = encoded.text.strip_suffix(b"\n").expect("a line").to_vec();
            let line = Line::parse(&text).expect("a line");
            assert_eq!(line.op, name);
            told.push(entry(&line));
        }
        assert_eq!(told.len(), logop::OPS.len());
        insta::assert_snapshot!(told.join("\n"), @r"
        write        alice        src/a b.rs: 1 byte at 10
        create       alice        src/a b.rs (executable)
        mkdir        alice        src/
        symlink      alice        src/a b.rs -> ../x
        rename       alice        src/a b.rs -> b
        unlink       alice        src/a b.rs
        rmdir        alice        src/
        truncate     alice        src/a b.rs to 0 bytes
        hole         alice        src/a b.rs: 4096 bytes of zeroes at 0
        mode         alice        src/a b.rs is not executable now
        times        alice        src/a b.rs modified 1970-01-01 00:00:00
        xattr        alice        src/a b.rs: user.x removed
        version      alice        src/a b.rs: 5 bytes, e3b0c44298fc
        denied       alice        write b%0A: bob holds b (rule held, x2)
        recovered    alice        src/a b.rs: 5 bytes found after a crash, 2 bytes lost
        void         alice        entry 7 came to nothing: no room
        ");
    }

    fn of_body(op: &str, body: serde_json::Value) -> String {
        let head = Head {
            seq: 0,
            prev: Digest::ZERO,
            ts: Timestamp(0),
            op,
            agent: Some("alice"),
            session: None,
        };
        let body = body.as_object().expect("an object");
        let text = encode(&head, body).expect("a line");
        entry(&Line::parse(&text).expect("a line"))
    }

    #[test]
    fn every_ledger_operation_is_told() {
        let hash = Digest::of(b"").to_string();
        let free = json!([{"id": 1, "generation": 1, "pattern": "src/%2A"}]);
        let lease = json!({"from": Timestamp(0), "ttl_ms": 7_200_000, "boot": "b", "boot_ms": 0});
        let bodies = [
            (
                "charter",
                json!({"sha256": hash, "source": {"commit": OID}, "text": ""}),
            ),
            (
                "key",
                json!({"origin": "govfs-00000000000000000000000000000000", "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}),
            ),
            (
                "agent",
                json!({"role": "core", "engine": "codex", "person": false}),
            ),
            (
                "claim",
                json!({"decision": "allow", "mode": "write", "patterns": ["src/%2A"], "lease": lease, "plan": "p1"}),
            ),
            ("release", json!({"claims": free})),
            ("expire", json!({"boot": "b", "boot_ms": 1, "claims": free})),
            (
                "session",
                json!({"base": OID, "branch": "main", "charter": hash, "config": {"autocrlf": "", "eol": ""}, "root": "/r"}),
            ),
            (
                "launch",
                json!({"tier": "A", "argv": ["sh", "-c", "a%0Ab%20c"], "uid": 0, "widenings": ["--net"]}),
            ),
            ("mount", json!({"dir": "/mnt/x", "uid": 0, "pid": 12})),
            ("unmount", json!({"dir": "/mnt/x", "forced": true})),
            ("seal", json!({"count": 2, "head": hash, "root": hash})),
            (
                "request",
                json!({"mode": "write", "patterns": ["docs"], "ttl_ms": 60_000, "reason": "a\nb"}),
            ),
            ("grant", json!({"request": 4, "reason": ""})),
            ("deny", json!({"request": 4, "reason": "not now"})),
            (
                "plan",
                json!({"action": "add", "plan": "p1", "sha256": hash}),
            ),
            (
                "queue",
                json!({"plan": "p1", "state": "in_progress", "decision": "deny", "owner": "bob", "reason": "not eligible"}),
            ),
            (
                "review",
                json!({"action": "approve", "base": OID, "tree": OID, "decision": "allow", "reviewer": "bob", "message": "fine"}),
            ),
            (
                "merge-intent",
                json!({"branch": "main", "commit": OID, "onto": OID, "tree": OID, "count": 3}),
            ),
            (
                "merge",
                json!({"decision": "deny", "branch": "main", "base": OID, "onto": OID, "tree": OID, "tier": "A", "count": 3, "refusals": [{"rule": "review", "path": "src/a", "reason": "nobody looked", "hint": ""}, {"rule": "x", "reason": "y", "hint": ""}]}),
            ),
            ("abandon", json!({"claims": free, "count": 1})),
            (
                "revert",
                json!({"merge": 9, "branch": "main", "commit": OID, "onto": OID, "tree": OID, "paths": []}),
            ),
            (
                "sync",
                json!({"decision": "deny", "from": OID, "base": OID, "count": 3, "conflicts": ["src/a"]}),
            ),
            (
                "checkpoint",
                json!({"origin": "govfs-00000000000000000000000000000000", "size": 7, "root": hash}),
            ),
            (
                "fork",
                json!({"origin": "govfs-00000000000000000000000000000001", "old": {"origin": "govfs-00000000000000000000000000000000", "size": 7, "root": hash}, "place": {"device": 1, "inode": 2, "path": "/r"}, "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}),
            ),
            (
                "gc",
                json!({"versions": [hash], "bytes": 2048, "logs": [], "before": Timestamp(0)}),
            ),
            ("protect", json!({"branch": "main", "on": true})),
            (
                "fleet",
                json!({"action": "launch", "plan": "p1", "attempt": 2, "pid": 12}),
            ),
        ];
        assert_eq!(bodies.each_ref().map(|(op, _)| *op), event::OPS);
        let told = bodies.map(|(op, body)| of_body(op, body));
        for line in &told {
            assert!(!line.contains('='), "shown field by field: {line}");
        }
        insta::assert_snapshot!(told.join("\n"), @r"
        charter      alice        e3b0c44298fc is in force, of commit 123456789012
        key          alice        d75a980182b1 is the first, for govfs-00000000000000000000000000000000
        agent        alice        role core, codex
        claim        alice        write src/* for 2h, for plan p1
        release      alice        src/*
        expire       alice        src/*: not used in time
        session      alice        on main at 123456789012
        launch       alice        tier A: sh -c $'a\nb c'; widened: --net
        mount        alice        at /mnt/x, served by process 12
        unmount      alice        from /mnt/x, by force
        seal         alice        2 entries, head e3b0c44298fc
        request      alice        asks to write docs for 1m: a b
        grant        alice        request 4
        deny         alice        request 4: not now
        plan         alice        p1 added, e3b0c44298fc
        queue        alice        p1 to in_progress, of bob, refused: not eligible
        review       alice        bob approves 123456789012: fine
        merge-intent alice        main is about to move to 123456789012
        merge        alice        into main, refused: src/a: nobody looked (and 1 more)
        abandon      alice        1 entry given up, frees src/*
        revert       alice        merge 9 is undone: main is at 123456789012
        sync         alice        base 123456789012 to 123456789012, refused: conflicts in src/a
        checkpoint   alice        7 entries, root e3b0c44298fc
        fork         alice        goes on as govfs-00000000000000000000000000000001 after 7 entries of govfs-00000000000000000000000000000000
        gc           alice        2.0 KiB freed: 1 content, 0 logs packed
        protect      alice        main is protected
        fleet        alice        launches p1, attempt 2, process 12
        ");
    }

    #[test]
    fn what_cannot_be_read_is_shown_field_by_field() {
        let told = of_body(
            "novelty",
            json!({"path": "a%20b", "n": 1, "deep": {"x": 1}}),
        );
        assert_eq!(told, "novelty      alice        n=1 path=a b");
    }
}
