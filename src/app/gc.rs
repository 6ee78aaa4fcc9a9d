//! `gc`: drop contents past retention that nothing needs any more, let git have the
//! commits that were kept for their sessions, and compress the write logs of sessions
//! that are over.
//!
//! Needed is whatever an open session names, one that still shows a mount, or one
//! that ended within the charter's retention. A revert takes what was there before
//! from git, and a proof needs hashed lines alone, which stay for ever. The entry
//! comes first, so that a content that is gone is always accounted for.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::log::{log_path, session_dir};
use crate::app::rules::law;
use crate::app::session::Lock;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Line;
use crate::domain::event::{Collected, Draft, Event};
use crate::domain::names::SessionId;
use crate::domain::state::{Kind, SessionRow, SessionState, State};
use crate::domain::time::Timestamp;
use crate::git::promote::Promote;
use crate::store::versions::Versions;
use crate::store::writelog::{pack_log, read_log};

/// A content this young may belong to a write that is just being logged.
const YOUNG: Duration = Duration::from_hours(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub versions: u64,
    pub bytes: u64,
    pub kept: u64,
    /// The write logs that were (or would be) compressed, and what that freed.
    pub logs: u64,
    pub log_bytes: u64,
    /// The sessions whose base and candidate git need not keep any more.
    pub sessions: u64,
    pub entry: Option<u64>,
}

pub fn collect(site: &mut Site, dry_run: bool) -> Result<Report, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    let before = retention_begins(&state)?;
    let closed = closed_logs(site, &state)?;
    let needed = needed(site, &state, &closed, before)?;
    let versions = Versions::of(&site.store);
    let mut dropped = Vec::new();
    let promote = crate::app::merge::open(site)?;
    let past = past_sessions(site, &promote, &state, &closed, before)?;
    let mut report = Report {
        logs: closed.len() as u64,
        sessions: past.len() as u64,
        ..Report::default()
    };
    for sha256 in versions.all().map_err(Failure::failed)? {
        if needed.contains(&sha256) || is_young(&versions, &sha256) {
            report.kept += 1;
        } else {
            report.bytes += versions.size(&sha256).unwrap_or(0);
            report.versions += 1;
            dropped.push(sha256);
        }
    }
    if dry_run || (dropped.is_empty() && closed.is_empty() && past.is_empty()) {
        return Ok(report);
    }
    let body = Collected {
        versions: dropped.clone(),
        bytes: report.bytes,
        logs: closed.iter().map(|(id, _)| id.clone()).collect(),
        before,
    };
    let draft = Draft::new(Event::Gc(body));
    let (seq, _, _) = site.act(|turn| Ok(turn.append(&draft)?.seq))?;
    report.entry = Some(seq);
    for sha256 in &dropped {
        versions.remove(sha256).map_err(Failure::failed)?;
    }
    for id in past {
        promote.drop_keep(&id).map_err(Failure::failed)?;
    }
    for (id, _lock) in &closed {
        let freed = pack_log(&log_path(site, id))
            .map_err(|error| Failure::failed(format!("session {id}: its write log: {error}")))?;
        report.log_bytes += freed;
    }
    Ok(report)
}

fn retention_begins(state: &State) -> Result<Timestamp, Failure> {
    let keep_ms = i64::try_from(law(state)?.ledger.keep_contents_ms).unwrap_or(i64::MAX);
    let keep = keep_ms.saturating_mul(1_000_000);
    Ok(Timestamp(clock::now().ts.0.saturating_sub(keep)))
}

/// Returns the sessions that are over and whose log is still plain, each with its lock:
/// one that cannot be had means that its mount still stands.
fn closed_logs(site: &Site, state: &State) -> Result<Vec<(SessionId, Lock)>, Failure> {
    let mut closed = Vec::new();
    for (id, row) in &state.sessions {
        if row.state == SessionState::Open || !log_path(site, id).exists() {
            continue;
        }
        if let Some(lock) = Lock::take(&session_dir(site, id)).map_err(Failure::failed)? {
            closed.push((id.clone(), lock));
        }
    }
    Ok(closed)
}

/// Returns the sessions past retention for which git still keeps commits.
fn past_sessions(
    site: &Site,
    promote: &Promote,
    state: &State,
    closed: &[(SessionId, Lock)],
    before: Timestamp,
) -> Result<Vec<SessionId>, Failure> {
    let mut past = Vec::new();
    for (id, row) in &state.sessions {
        if is_past(site, id, row, closed, before)
            && promote.kept(id).map_err(Failure::failed)?.is_some()
        {
            past.push(id.clone());
        }
    }
    Ok(past)
}

/// Says whether a session's retention has ended, and no mount shows it any more.
fn is_past(
    site: &Site,
    id: &SessionId,
    row: &SessionRow,
    closed: &[(SessionId, Lock)],
    before: Timestamp,
) -> bool {
    let over = row.state != SessionState::Open && row.until.is_some_and(|until| until < before);
    let mounted = log_path(site, id).exists() && !closed.iter().any(|(closed, _)| closed == id);
    over && !mounted
}

fn is_young(versions: &Versions, sha256: &Digest) -> bool {
    fs::metadata(versions.path(sha256))
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < YOUNG)
}

/// Returns every digest that a session names which is open, mounted or within retention.
fn needed(
    site: &mut Site,
    state: &State,
    closed: &[(SessionId, Lock)],
    before: Timestamp,
) -> Result<BTreeSet<Digest>, Failure> {
    let mut needed = BTreeSet::new();
    for (id, row) in &state.sessions {
        if is_past(site, id, row, closed, before) {
            continue;
        }
        let path = log_path(site, id);
        let mut lines = match read_log(&path) {
            Ok(lines) => lines,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
        };
        while let Some(bytes) = lines.read().map_err(Failure::failed)? {
            let line = Line::parse(bytes)
                .map_err(|fault| Failure::integrity(format!("session {id}: {fault}")))?;
            needed.extend(line.digest("sha256"));
        }
    }
    // What a check has printed is kept as long as any other content.
    site.ledger.lines()?.forward(0, &mut |_, bytes| {
        let line = Line::parse(bytes)?;
        if line.op == "merge"
            && line.ts >= before
            && let Ok(entry) = crate::domain::event::Entry::from_line(&line, Digest::ZERO)
            && let Event::Merge(body) = entry.event
        {
            needed.extend(body.checks.iter().filter_map(|check| check.output));
        }
        Ok(true)
    })?;
    Ok(needed)
}
