//! `abandon`: a session is over without a merge.
//!
//! Its claims are free and its mount is read-only; log, versions and base stay
//! for the retention time. Unmerged changes are only given up when that was said.

use crate::app::failure::Failure;
use crate::app::live::still::{self, Hold};
use crate::app::merge::{self, Standing};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::claim::freed;
use crate::domain::command::{Command, Need};
use crate::domain::event::{Abandoned, Draft, Event};
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;

/// What was abandoned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub session: crate::domain::names::SessionId,
    pub entry: u64,
    /// What had been changed, each with git's letter.
    pub changes: Vec<(RepoPath, char)>,
}

/// Ends the agent's session; `sure` where unmerged changes may be given up.
pub fn abandon(site: &mut Site, agent: &AgentName, sure: bool) -> Result<Report, Failure> {
    merge::recover::all(site)?;
    let session = Session::find(site, agent)?;
    let still = still::hold(site, &session, Hold::Freeze)?;
    let done = abandon_still(site, &session.id, still.count, sure);
    let told = if done.is_ok() {
        still.changed()
    } else {
        still.thaw()
    };
    let report = done?;
    told?;
    Ok(report)
}

fn abandon_still(
    site: &mut Site,
    id: &crate::domain::names::SessionId,
    count: u64,
    sure: bool,
) -> Result<Report, Failure> {
    let row = session::load(site, id)?;
    let session = Session::of(site, id, &row);
    let changes = match Standing::read(site, &session, count) {
        Ok(standing) => standing
            .changes
            .iter()
            .map(|change| (change.path.clone(), change.status.letter()))
            .collect(),
        // What cannot be read any more can still be given up, knowingly.
        Err(_) if sure => Vec::new(),
        Err(failure) => return Err(failure),
    };
    if !sure && !changes.is_empty() {
        return Err(unmerged(&session, &changes));
    }
    let (entry, _, _) = site.act(|turn| {
        turn.load(&[Need::ClaimsOf(session.agent.clone())])?;
        let claims = turn.state().claims_of(&session.agent).map(freed).collect();
        let body = Abandoned {
            claims,
            count,
            reason: None,
        };
        let draft = Draft::new(Event::Abandon(body))
            .by(&session.agent)
            .within(Some(id));
        if let Some(refusal) = turn.command(&Command::Fact(Box::new(draft)))? {
            return Err(refusal.into());
        }
        Ok(turn.entries().last().map_or(0, |entry| entry.seq))
    })?;
    Ok(Report {
        session: id.clone(),
        entry,
        changes,
    })
}

fn unmerged(session: &Session, changes: &[(RepoPath, char)]) -> Failure {
    let shown: Vec<String> = changes
        .iter()
        .take(5)
        .map(|(path, letter)| format!("{letter} {path}"))
        .collect();
    let more = match changes.len().saturating_sub(shown.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Failure::refused(format!(
        "{} has unmerged changes: {}{more}",
        session.agent,
        shown.join(", ")
    ))
    .hint(format!(
        "govfs merge {0}, or give them up: govfs abandon {0} --yes",
        session.agent
    ))
}
