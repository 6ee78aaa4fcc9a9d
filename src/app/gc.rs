//! `gc`: drop contents past retention that nothing needs any more.
//!
//! Needed is whatever an open session names, or one that ended within the charter's
//! retention. The entry comes first, so that a content that is gone is always
//! accounted for; hashes stay for ever.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::time::{Duration, SystemTime};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::log::log_path;
use crate::app::rules::law;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Line;
use crate::domain::event::{Collected, Draft, Event};
use crate::domain::state::{Kind, SessionRow, SessionState};
use crate::domain::time::Timestamp;
use crate::store::versions::Versions;
use crate::store::writelog::Lines;

/// A content this young may belong to a write that is just being logged.
const YOUNG: Duration = Duration::from_hours(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub versions: u64,
    pub bytes: u64,
    pub kept: u64,
    pub entry: Option<u64>,
}

pub fn collect(site: &mut Site, dry_run: bool) -> Result<Report, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    let keep_ms = i64::try_from(law(&state)?.ledger.keep_contents_ms).unwrap_or(i64::MAX);
    let before = Timestamp(
        clock::now()
            .ts
            .0
            .saturating_sub(keep_ms.saturating_mul(1_000_000)),
    );
    let needed = needed(site, &state.sessions, before)?;
    let versions = Versions::of(&site.store);
    let mut dropped = Vec::new();
    let mut report = Report::default();
    for sha256 in versions.all().map_err(Failure::failed)? {
        if needed.contains(&sha256) || is_young(&versions, &sha256) {
            report.kept += 1;
        } else {
            report.bytes += versions.size(&sha256).unwrap_or(0);
            report.versions += 1;
            dropped.push(sha256);
        }
    }
    if dry_run || dropped.is_empty() {
        return Ok(report);
    }
    let body = Collected {
        versions: dropped.clone(),
        bytes: report.bytes,
        logs: Vec::new(),
        before,
    };
    let draft = Draft::new(Event::Gc(body));
    let (seq, _, _) = site.act(|turn| Ok(turn.append(&draft)?.seq))?;
    report.entry = Some(seq);
    for sha256 in &dropped {
        versions.remove(sha256).map_err(Failure::failed)?;
    }
    Ok(report)
}

fn is_young(versions: &Versions, sha256: &Digest) -> bool {
    fs::metadata(versions.path(sha256))
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < YOUNG)
}

/// Returns every digest that a session still within retention names.
fn needed(
    site: &mut Site,
    sessions: &std::collections::BTreeMap<crate::domain::names::SessionId, SessionRow>,
    before: Timestamp,
) -> Result<BTreeSet<Digest>, Failure> {
    let mut needed = BTreeSet::new();
    for (id, row) in sessions {
        let over = row.state != SessionState::Open && row.until.is_some_and(|until| until < before);
        let path = log_path(site, id);
        if over || !path.exists() {
            continue;
        }
        let file = File::open(&path).map_err(Failure::failed)?;
        let mut lines = Lines::new(BufReader::new(file));
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
