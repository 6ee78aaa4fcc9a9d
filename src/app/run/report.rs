//! What came of a run: what the session changed, what was refused and what would have
//! allowed it, what is left over, and what to do next.
//!
//! Owns: reading it from the session's log, and the grouping. Values only; the verb
//! prints them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use crate::app::failure::Failure;
use crate::app::layer;
use crate::app::serve::ground;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::entry::{Line, decode};
use crate::domain::event::Tier;
use crate::domain::layer::Status;
use crate::domain::logop::LogOp;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::path::{RepoPath, percent_encode};
use crate::domain::pattern::Pattern;
use crate::sandbox;
use crate::store::writelog::{LogLines, read_log};

/// How many paths one suggested command names.
const NAMED_MAX: usize = 20;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub agent: AgentName,
    pub session: SessionId,
    pub tier: Tier,
    pub changes: Vec<Changed>,
    pub denials: Vec<Refused>,
    /// Files of atomic saves that were never finished.
    pub leftovers: Vec<RepoPath>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<Uncovered>,
    /// What was to be written through, and was a copy of the session's: without `CAP_SYS_ADMIN`, or on some file
    /// systems, root's own cannot be shown to an agent of another uid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<String>,
    pub next: Vec<String>,
}

/// A path outside the repository that a program outside replaced while the agent ran: until it was covered again,
/// a moment later, the agent could write to it, or read it where it is hidden.
#[derive(Clone, Debug, Serialize)]
pub struct Uncovered {
    pub path: String,
    pub hidden: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    pub path: RepoPath,
    pub status: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RepoPath>,
}

/// What one rule refused, on all paths together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub rule: String,
    pub reason: String,
    pub count: u64,
    pub paths: Vec<RefusedPath>,
    /// What would have allowed it, where something would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedPath {
    pub path: RepoPath,
    pub tried: String,
    pub count: u64,
}

/// Opens what the caller left open under a number, to write a report there: a file, a pipe or a socket.
pub fn to_descriptor(number: i32) -> std::io::Result<File> {
    sandbox::pass::inherited(number).map(File::from)
}

impl Report {
    /// Adds what happened outside the repository.
    pub(super) fn beside(&mut self, over: &sandbox::Over) {
        let shown = |path: &Path| percent_encode(path.as_os_str().as_bytes());
        let uncovered = over.uncovered.iter().map(|one| Uncovered {
            path: shown(&one.path),
            hidden: one.hidden,
        });
        self.uncovered = uncovered.collect();
        self.copied = over.copied.iter().map(|path| shown(path)).collect();
    }
}

/// Returns where the session's log ends now.
pub(super) fn log_end(session: &Session) -> u64 {
    std::fs::metadata(session.log()).map_or(0, |meta| meta.len())
}

/// Reads what the session's log says, with the refusals from the byte `from` on.
pub(super) fn of(
    site: &mut Site,
    session: &Session,
    from: u64,
    tier: Tier,
) -> Result<Report, Failure> {
    let mut report = Report {
        agent: session.agent.clone(),
        session: session.id.clone(),
        tier,
        changes: Vec::new(),
        denials: Vec::new(),
        leftovers: Vec::new(),
        uncovered: Vec::new(),
        copied: Vec::new(),
        next: Vec::new(),
    };
    // Where nothing was ever written or refused, how the session stands by now makes no difference.
    let Some(mut lines) = log(session)? else {
        return Ok(report);
    };
    if lines.read().map_err(Failure::failed)?.is_none() {
        return Ok(report);
    }
    let row = session::load(site, &session.id)?;
    let session = Session::of(site, &session.id, &row);
    (report.changes, report.leftovers) = changes(site, &session)?;
    report.denials = grouped(&session.agent, refusals(&session, from)?);
    report.next = next(&session.agent, &report.changes, &report.denials);
    Ok(report)
}

fn changes(site: &Site, session: &Session) -> Result<(Vec<Changed>, Vec<RepoPath>), Failure> {
    let layer = layer::read(session, None)?.layer;
    if layer.touched().is_empty() {
        return Ok((Vec::new(), Vec::new())); // no need to open the base
    }
    let base = ground::base(site, session)?;
    let changes = layer.changes(&base).map_err(Failure::failed)?;
    let changes = changes.into_iter().map(|change| Changed {
        path: change.path,
        status: change.status.letter(),
        from: change.from.filter(|_| change.status == Status::Renamed),
    });
    Ok((changes.collect(), layer.leftovers()))
}

/// Opens the session's log, also where it was merged and packed while the program ran.
fn log(session: &Session) -> Result<Option<LogLines>, Failure> {
    match read_log(&session.log()) {
        Ok(lines) => Ok(Some(lines)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// Returns the refusals logged since the byte `from`.
fn refusals(session: &Session, from: u64) -> Result<Vec<LogOp>, Failure> {
    let mut refusals = Vec::new();
    let Some(mut lines) = log(session)? else {
        return Ok(refusals);
    };
    lines.skip(from).map_err(Failure::failed)?;
    while let Some(bytes) = lines.read().map_err(Failure::failed)? {
        let line = Line::parse(bytes).map_err(Failure::integrity)?;
        if line.op == "denied" {
            refusals.push(decode(&line).map_err(Failure::integrity)?);
        }
    }
    Ok(refusals)
}

/// Puts together what one rule refused.
fn grouped(agent: &AgentName, refusals: Vec<LogOp>) -> Vec<Refused> {
    let mut groups: BTreeMap<String, Refused> = BTreeMap::new();
    for op in refusals {
        let LogOp::Denied {
            path,
            tried,
            rule,
            reason,
            count,
            ..
        } = op
        else {
            continue;
        };
        let group = groups.entry(rule.clone()).or_insert_with(|| Refused {
            rule,
            reason,
            count: 0,
            paths: Vec::new(),
            command: None,
        });
        group.count += count;
        let known = (group.paths.iter_mut()).find(|one| one.path == path && one.tried == tried);
        match known {
            Some(known) => known.count += count,
            None => group.paths.push(RefusedPath { path, tried, count }),
        }
    }
    let mut groups: Vec<Refused> = groups.into_values().collect();
    for group in &mut groups {
        group.command = command(agent, group);
    }
    groups
}

/// Returns the command that would have allowed what a rule refused.
fn command(agent: &AgentName, group: &Refused) -> Option<String> {
    let wait = match group.rule.as_str() {
        "not-claimed" | "sensitive" | "expired" => "",
        "held" => "--wait ",
        "ended" => return Some(format!("govfs run {agent} -- COMMAND")),
        _ => return None,
    };
    let mut paths: Vec<String> = Vec::new();
    for refused in &group.paths {
        let path = Pattern::argument(&refused.path);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths.truncate(NAMED_MAX);
    Some(format!("govfs claim {wait}{agent} {}", paths.join(" ")))
}

fn next(agent: &AgentName, changes: &[Changed], denials: &[Refused]) -> Vec<String> {
    let mut next: Vec<String> = denials
        .iter()
        .filter_map(|denial| denial.command.clone())
        .collect();
    if changes.is_empty() {
        return next;
    }
    next.push(format!("govfs diff {agent}"));
    next.push(format!("govfs merge {agent}"));
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(path: &str, rule: &str, count: u64) -> LogOp {
        LogOp::Denied {
            path: RepoPath::parse(path.as_bytes()).unwrap(),
            tried: "write".into(),
            rule: rule.into(),
            reason: "because".into(),
            count,
            by: crate::domain::logop::Actor::default(),
        }
    }

    #[test]
    fn refusals_are_grouped_by_rule_with_the_command_that_would_have_allowed_them() {
        let agent: AgentName = "alice".parse().unwrap();
        let groups = grouped(
            &agent,
            vec![
                denied("src/b.txt", "not-claimed", 1),
                denied("src/b.txt", "not-claimed", 3),
                denied("it's *.md", "not-claimed", 1),
                denied("c", "held", 1),
                denied("governor.md", "protected", 1),
            ],
        );
        let commands: Vec<_> = groups
            .iter()
            .map(|group| (group.rule.as_str(), group.count, group.command.as_deref()))
            .collect();
        let claim = r"govfs claim alice src/b.txt 'it'\''s \*.md'";
        assert_eq!(
            commands,
            [
                ("held", 1, Some("govfs claim --wait alice c")),
                ("not-claimed", 5, Some(claim)),
                ("protected", 1, None),
            ]
        );
    }
}
