//! What came of a run: what the session changed, what was refused and what would have
//! allowed it, what the agent asked for, what is left over, and what to do next.
//!
//! Owns: reading it from the session's log, and the grouping. Every command that it
//! names works. Values only; the verb prints them. A run that wrote nothing, was
//! refused nothing and asked for nothing does not open the ledger for this.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::app::failure::Failure;
use crate::app::layer;
use crate::app::remedy;
use crate::app::serve::ground;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::entry::{Line, decode};
use crate::domain::event::Tier;
use crate::domain::layer::Status;
use crate::domain::logop::LogOp;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::path::{RepoPath, percent_encode};
use crate::domain::pattern::Pattern;
use crate::domain::request::{self, Standing};
use crate::domain::state::{Kind, RowKey, SessionState, State};
use crate::domain::zone;
use crate::sandbox;
use crate::store::writelog::{LogLines, read_log};

/// How many paths one suggested command names.
const NAMED_MAX: usize = 20;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub agent: AgentName,
    pub session: SessionId,
    pub tier: Tier,
    /// Where the session was merged or abandoned while the program ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<SessionState>,
    pub changes: Vec<Changed>,
    pub denials: Vec<Refused>,
    /// What the agent asked the operator for.
    pub requests: Vec<Asked>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none_left(unnamed: &usize) -> bool {
    *unnamed == 0
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
    /// How many paths the command does not name, because it would be too long.
    #[serde(skip_serializing_if = "is_none_left")]
    pub unnamed: usize,
    /// What nobody can claim for the agent just like that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub barred: Vec<Barred>,
}

/// Paths that a claim would be refused for as well, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Barred {
    pub rule: String,
    pub paths: Vec<RepoPath>,
    pub help: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    pub number: u64,
    /// `claim` or `merge`.
    pub kind: &'static str,
    /// The mode and the patterns, or `merge` and why.
    pub what: String,
    pub reason: String,
    /// `waiting`, or what became of it.
    pub state: &'static str,
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

/// Where a run begins in what its session has on record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    log: u64,
    asked: u64,
}

/// Returns where the session's records end now.
pub(super) fn mark(session: &Session) -> Mark {
    let end = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    Mark {
        log: end(session.log()),
        asked: end(session.asked()),
    }
}

/// Reads what the session's records say, with the refusals and requests since `begin`.
pub(super) fn of(
    site: &mut Site,
    session: &Session,
    begin: Mark,
    tier: Tier,
) -> Result<Report, Failure> {
    let mut report = Report {
        agent: session.agent.clone(),
        session: session.id.clone(),
        tier,
        over: None,
        changes: Vec::new(),
        denials: Vec::new(),
        requests: asked(site, session, begin.asked)?,
        leftovers: Vec::new(),
        uncovered: Vec::new(),
        copied: Vec::new(),
        next: Vec::new(),
    };
    // Where nothing was ever written or refused, how the session stands by now makes no difference.
    if has_written(session)? {
        let row = session::load(site, &session.id)?;
        let session = Session::of(site, &session.id, &row);
        report.over = Some(row.state).filter(|state| *state != SessionState::Open);
        (report.changes, report.leftovers) = changes(site, &session)?;
        let refusals = refusals(&session, begin.log)?;
        if !refusals.is_empty() {
            let agent = session.agent.clone();
            let needs = [Need::Agent(agent.clone()), Need::ClaimsOf(agent)];
            let state = site.ledger.state(&needs)?;
            report.denials = grouped(&session.agent, refusals, &state);
        }
    }
    report.next = next(&report);
    Ok(report)
}

fn has_written(session: &Session) -> Result<bool, Failure> {
    match log(session)? {
        Some(mut lines) => Ok(lines.read().map_err(Failure::failed)?.is_some()),
        None => Ok(false),
    }
}

/// Returns what was asked for since the byte `from` of the session's note of it, as the ledger has it.
fn asked(site: &mut Site, session: &Session, from: u64) -> Result<Vec<Asked>, Failure> {
    let noted = match std::fs::read(session.asked()) {
        Ok(noted) => noted,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::failed(error)),
    };
    let new = noted.get(usize::try_from(from).unwrap_or(usize::MAX)..);
    let text = String::from_utf8_lossy(new.unwrap_or_default());
    let numbers: BTreeSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut needs: Vec<Need> = numbers
        .iter()
        .map(|number| request::need(*number))
        .collect();
    needs.push(Need::Row(RowKey::new(Kind::Session, &session.id)));
    let mut state = site.ledger.state(&needs)?;
    let rows = std::mem::take(&mut state.requests).into_iter();
    Ok(rows
        .map(|(number, row)| Asked {
            number,
            kind: row.kind(),
            what: row.wish(),
            state: row.standing(&state).text(),
            reason: row.reason,
        })
        .collect())
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
fn grouped(agent: &AgentName, refusals: Vec<LogOp>, state: &State) -> Vec<Refused> {
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
            unnamed: 0,
            barred: Vec::new(),
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
        advise(agent, group, state);
    }
    groups
}

/// Finds the command that would have allowed what a rule refused. It is all or nothing: what would be refused in
/// it is named apart, with what would help.
fn advise(agent: &AgentName, group: &mut Refused, state: &State) {
    if group.rule == "ended" {
        group.command = Some(format!("govfs run {agent} -- COMMAND"));
        return;
    }
    let rule = group.rule.as_str();
    let claimable = remedy::CLAIMABLE.contains(&rule);
    if !claimable && !matches!(rule, "role" | "protected") {
        return;
    }
    let mut seen = BTreeSet::new();
    let mut wanted: Vec<&RepoPath> = group.paths.iter().map(|one| &one.path).collect();
    wanted.retain(|path| seen.insert(*path));
    // What programs make for a moment goes with the file that they save.
    if wanted.iter().any(|path| !zone::is_anonymous(path.name())) {
        wanted.retain(|path| !zone::is_anonymous(path.name()));
    }
    let mut named: Vec<String> = Vec::new();
    for path in wanted {
        let Some(barred) = remedy::barred(state, agent, path) else {
            // Claimed or protected as it is, another claim of it would change nothing.
            if claimable {
                named.push(Pattern::argument(path));
            }
            continue;
        };
        let known = group
            .barred
            .iter_mut()
            .find(|one| one.rule == barred.rule && one.help == barred.help);
        match known {
            Some(known) => known.paths.push(path.clone()),
            None => group.barred.push(Barred {
                rule: barred.rule.to_owned(),
                paths: vec![path.clone()],
                help: barred.help,
            }),
        }
    }
    group.unnamed = named.len().saturating_sub(NAMED_MAX);
    named.truncate(NAMED_MAX);
    if !named.is_empty() {
        let wait = if group.rule == "held" { "--wait " } else { "" };
        group.command = Some(format!("govfs claim {wait}{agent} {}", named.join(" ")));
    }
}

fn next(report: &Report) -> Vec<String> {
    let agent = &report.agent;
    let commands = report.denials.iter();
    let mut next: Vec<String> = commands.filter_map(|one| one.command.clone()).collect();
    let mut waits = report.requests.iter();
    if waits.any(|one| one.state == Standing::Waiting.text()) {
        next.push("govfs requests".to_owned());
    }
    if report.over.is_none() && !report.changes.is_empty() {
        next.push(format!("govfs diff {agent}"));
        next.push(format!("govfs merge {agent}"));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::charter::Charter;

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

    fn state(paths: &str) -> State {
        let law = format!("```toml charter\n[roles.agent]\npaths = [{paths}]\n```\n");
        let mut state = State::default();
        state.law = Some(Charter::parse(&law).unwrap().into());
        state
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
            &state("\"**\""),
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

    #[test]
    fn a_path_that_the_role_forbids_does_not_spoil_the_command_for_the_others() {
        let agent: AgentName = "alice".parse().unwrap();
        let state = state("\"src/**\", \"docs/**\"");
        let refused = |names: &[&str]| {
            let denials = names.iter().map(|name| denied(name, "not-claimed", 1));
            let mut groups = grouped(&agent, denials.collect(), &state);
            groups.remove(0)
        };
        let group = refused(&["zzz", "src/b.txt", "src/4913", "yyy"]);
        assert_eq!(
            group.command.as_deref(),
            Some("govfs claim alice src/b.txt")
        );
        let barred = group.barred.first().unwrap();
        assert_eq!(
            (barred.rule.as_str(), barred.paths.len()),
            ("role-paths", 2)
        );
        for words in ["role agent", "src/** docs/**", "govfs approve N"] {
            assert!(barred.help.contains(words), "{}", barred.help);
        }
        assert_eq!(refused(&["zzz"]).command, None);
        let many: Vec<String> = (0..25).map(|n| format!("src/{n}.rs")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(refused(&many).unnamed, 5);
    }
}
