//! Reviews: ask for one, give one, and what each open session's candidate has.
//!
//! Owns: which candidate a review is of: the session's own tree over its base, as
//! the ledger alone has it. Any change of either makes the votes void, and the
//! merge judges them again.

use crate::app::failure::Failure;
use crate::app::gates;
use crate::app::merge::reviewable;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::command::{Command, Need};
use crate::domain::event::ReviewAction;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::review::decide::{ReviewAsk, party, rules_for};
use crate::domain::review::{Candidate, Party, Stance, reviewers};
use crate::domain::state::{Kind, ReviewRow, SessionState, State};

/// What was asked or given.
#[derive(Debug)]
pub struct Given {
    pub session: SessionId,
    pub candidate: Candidate,
    pub entry: Option<u64>,
    /// Who may review it, best first.
    pub reviewers: Vec<AgentName>,
}

/// Asks for reviews of the agent's candidate as it is now.
pub fn request(
    site: &mut Site,
    agent: &AgentName,
    message: Option<String>,
) -> Result<Given, Failure> {
    give(site, agent, ReviewAction::Request, None, message)
}

/// Records a vote on the agent's candidate as it is now.
pub fn vote(
    site: &mut Site,
    agent: &AgentName,
    by: &AgentName,
    stance: Stance,
    message: Option<String>,
) -> Result<Given, Failure> {
    let action = match stance {
        Stance::Approve => ReviewAction::Approve,
        Stance::Reject => ReviewAction::Reject,
    };
    give(site, agent, action, Some(by.clone()), message)
}

fn give(
    site: &mut Site,
    agent: &AgentName,
    action: ReviewAction,
    reviewer: Option<AgentName>,
    message: Option<String>,
) -> Result<Given, Failure> {
    let (session, candidate) = reviewable(site, agent)?;
    let ask = ReviewAsk {
        action,
        agent: agent.clone(),
        session: Some(session.id.clone()),
        base: candidate.base,
        tree: candidate.tree,
        reviewer,
        message,
    };
    let outcome = site.command(&Command::Review(ask))?;
    if let Some(refusal) = outcome.refusal {
        return Err(refusal.into());
    }
    Ok(Given {
        session: session.id.clone(),
        candidate,
        entry: outcome.entries.last().map(|entry| entry.seq),
        reviewers: able(site, &session)?,
    })
}

/// Returns who may review the session's author, best first.
fn able(site: &mut Site, session: &Session) -> Result<Vec<AgentName>, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Agent)])?;
    let (Some(law), Some(author)) = (&state.law, party(&state, &session.agent)) else {
        return Ok(Vec::new());
    };
    let rules = rules_for(law, &author.role);
    let all: Vec<Party> = state
        .agents
        .keys()
        .filter_map(|name| party(&state, name))
        .collect();
    let able = reviewers(&rules, &author, &[], &all);
    Ok(able.into_iter().map(|party| party.agent.clone()).collect())
}

/// One review, and whether it is of the latest candidate that was reviewed.
#[derive(Debug)]
pub struct Listed {
    pub entry: u64,
    pub row: ReviewRow,
    /// It is of another candidate than the session's latest request or vote.
    pub old: bool,
}

/// Returns the reviews of all open sessions, oldest first.
pub fn list(site: &mut Site) -> Result<Vec<Listed>, Failure> {
    let mut needs = gates::needs();
    needs.push(Need::All(Kind::Session));
    let state: State = site.ledger.state(&needs)?;
    let mut out = Vec::new();
    for (entry, row) in &state.reviews {
        let open = state
            .sessions
            .get(&row.session)
            .is_some_and(|session| session.state == SessionState::Open);
        if !open {
            continue;
        }
        let of_session = |other: &&ReviewRow| other.session == row.session;
        let latest = state.reviews.values().rfind(of_session);
        let old = latest.is_some_and(|latest| (latest.tree, latest.base) != (row.tree, row.base));
        out.push(Listed {
            entry: *entry,
            row: row.clone(),
            old,
        });
    }
    Ok(out)
}
