//! Requests: what sealed agents have asked for, and the operator's answers.
//!
//! Owns: putting a request on record, granting (the claim that was asked for, no
//! more) and refusing, each by an entry; and what the agent is told of it. An answer
//! beyond a role's paths is the operator's alone to give; what the charter protects
//! nobody gives. One turn looks whether a request waits and answers it, claim and all.

use crate::app::claim::{self, Answer};
use crate::app::failure::Failure;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::claim::Ask;
use crate::domain::command::{Need, Refusal};
use crate::domain::event::{Answered, Draft, Event, Mode, Requested};
use crate::domain::names::{AgentName, SessionId};
use crate::domain::pattern::Pattern;
use crate::domain::request::{self, Standing};
use crate::domain::screen;
use crate::domain::shell;
use crate::domain::state::{ClaimRow, Kind, RequestRow, RowKey, SessionState, State};
use crate::store::ledger::Turn;

/// Returns the requests that wait for an answer (all with `all`), and how each stands.
pub fn list(site: &mut Site, all: bool) -> Result<Vec<(u64, RequestRow, Standing)>, Failure> {
    let needs = [Need::All(Kind::Request), Need::All(Kind::Session)];
    let state = site.ledger.state(&needs)?;
    let rows = state.requests.iter().map(|(number, row)| {
        let standing = row.standing(&state);
        (*number, row.clone(), standing)
    });
    Ok(rows
        .filter(|(.., standing)| all || *standing == Standing::Waiting)
        .collect())
}

/// What came of an approval.
#[derive(Debug)]
pub enum Approved {
    Claims(Vec<ClaimRow>),
    /// The agent's work may be merged, which the operator does.
    Merge(AgentName),
    Refused(Refusal),
}

/// Grants a request: the claim it asks for, narrow and timed as it was asked, also beyond
/// the paths of the agent's role. What the charter protects, or somebody holds, stays refused.
pub fn approve(site: &mut Site, number: u64, reason: &str) -> Result<Approved, Failure> {
    let ((row, refusal), entries, state) = site.act(|turn| {
        let row = waiting(turn, number)?;
        let refusal = if row.is_merge() {
            None
        } else {
            claim::in_turn(turn, asked_by(&row, number))?
        };
        if refusal.is_none() {
            turn.append(&answer(number, &row, reason, Event::Grant))?;
        }
        Ok((row, refusal))
    })?;
    if let Some(refusal) = refusal {
        return Ok(Approved::Refused(freed_first(refusal)));
    }
    if row.is_merge() {
        return Ok(Approved::Merge(row.agent));
    }
    match claim::granted(site, &entries, &state)? {
        Answer::Granted(claims) => Ok(Approved::Claims(claims)),
        Answer::Refused(refusal) => Ok(Approved::Refused(refusal)),
    }
}

/// Refuses a request.
pub fn deny(site: &mut Site, number: u64, reason: &str) -> Result<(), Failure> {
    site.act(|turn| {
        let row = waiting(turn, number)?;
        turn.append(&answer(number, &row, reason, Event::Deny))?;
        Ok(())
    })?;
    Ok(())
}

/// Returns the request if it still waits; nobody can answer it before this turn ends.
fn waiting(turn: &mut Turn<'_>, number: u64) -> Result<RequestRow, Failure> {
    turn.load(&[request::need(number)])?;
    let row = turn.state().requests.get(&number);
    if let Some(need) = row.and_then(request::session_need) {
        turn.load(&[need])?;
    }
    Ok(request::answerable(turn.state(), number)?.clone())
}

fn asked_by(row: &RequestRow, number: u64) -> Ask {
    let mut ask = Ask::new(row.agent.clone(), row.mode, row.patterns.clone());
    ask.ttl_ms = Some(row.ttl_ms);
    ask.leave = Some(number);
    ask
}

fn answer(number: u64, row: &RequestRow, reason: &str, event: fn(Answered) -> Event) -> Draft {
    let answered = Answered {
        request: number,
        reason: reason.to_owned(),
    };
    Draft::new(event(answered))
        .by(&row.agent)
        .within(row.session.as_ref())
}

/// The operator does not wait for a claim: who holds it has to give it up, and the request stays.
fn freed_first(mut refusal: Refusal) -> Refusal {
    if refusal.rule == "held"
        && let Some(first) = refusal.conflicts.first()
    {
        refusal.hint = if first.ahead {
            format!(
                "the request goes on waiting: approve it again when {} has had its turn",
                first.holder
            )
        } else {
            let theirs = shell::word(first.theirs.source());
            format!(
                "the request goes on waiting: approve it again once it is free, or free it: govfs release {} {theirs}",
                first.holder
            )
        };
    }
    refusal
}

/// What an agent asks for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub mode: Mode,
    /// None: a merge.
    pub patterns: Vec<Pattern>,
    /// `None`: as long as the charter gives.
    pub ttl_ms: Option<u64>,
    pub reason: String,
}

/// Puts a request on record, or finds just the same one waiting.
pub(super) fn put(site: &mut Site, session: &Session, wish: &Wish) -> Result<u64, Failure> {
    let (number, ..) = site.act(|turn| {
        let key = RowKey::new(Kind::Session, &session.id);
        turn.load(&[Need::All(Kind::Request), Need::Row(key)])?;
        let row = turn.state().sessions.get(&session.id);
        if row.is_none_or(|row| row.state != SessionState::Open) {
            return Err(Failure::refused(format!("session {} is over", session.id))
                .hint("the next run or mount of the agent starts a new one"));
        }
        let law = turn.state().law.as_ref().map(|law| law.claims.ttl_ms);
        let wanted = Requested {
            mode: wish.mode,
            patterns: wish.patterns.clone(),
            ttl_ms: wish.ttl_ms.or(law).unwrap_or_default(),
            reason: wish.reason.clone(),
        };
        if let Some(number) = request::same(turn.state(), &session.id, &wanted) {
            return Ok(number);
        }
        let draft = Draft::new(Event::Request(wanted))
            .by(&session.agent)
            .within(Some(&session.id));
        Ok(turn.append(&draft)?.seq)
    })?;
    Ok(number)
}

/// Returns the session's requests that stand like this.
pub(super) fn of_session<'a>(
    state: &'a State,
    session: &'a SessionId,
    standing: Standing,
) -> impl Iterator<Item = (u64, &'a RequestRow)> {
    let rows = state.requests.iter();
    rows.filter(move |(_, row)| {
        row.session.as_ref() == Some(session) && row.standing(state) == standing
    })
    .map(|(number, row)| (*number, row))
}

/// Says what the operator denied this session, and why; a grant shows as its claim.
pub(super) fn denied(state: &State, session: &SessionId) -> Vec<String> {
    of_session(state, session, Standing::Denied)
        .map(|(number, row)| {
            let why = screen::calm(row.answer.as_deref().unwrap_or_default().trim());
            let gap = if why.is_empty() { "" } else { ": " };
            format!("request {number} ({}) was denied{gap}{why}", row.wish())
        })
        .collect()
}
