//! Requests: what sealed agents have asked for, and the operator's answers.
//!
//! Owns: granting (the claim that was asked for, no more) and refusing, each by an
//! entry. An answer beyond a role's paths is the operator's alone to give; what the
//! charter protects nobody gives.

use crate::app::claim::{self, Answer, Patience};
use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::claim::Ask;
use crate::domain::command::Need;
use crate::domain::event::{Answered, Draft, Event};
use crate::domain::state::{Kind, RequestRow, RequestState, RowKey};

/// Returns the requests that wait for an answer (all with `all`).
pub fn list(site: &mut Site, all: bool) -> Result<Vec<(u64, RequestRow)>, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Request)])?;
    let rows = state.requests.into_iter();
    Ok(rows
        .filter(|(_, row)| all || row.state == RequestState::Waiting)
        .collect())
}

/// Grants a request: the claim it asks for, narrow and timed as it was asked, also beyond
/// the paths of the agent's role. What the charter protects, or somebody holds, stays refused.
pub fn approve(site: &mut Site, number: u64, reason: &str) -> Result<Answer, Failure> {
    let row = waiting(site, number)?;
    let mut ask = Ask::new(row.agent.clone(), row.mode, row.patterns.clone());
    ask.ttl_ms = Some(row.ttl_ms);
    ask.leave = Some(number);
    let answer = claim::claim(site, ask, Patience::None)?;
    if let Answer::Granted(_) = answer {
        record(site, number, &row, reason, Event::Grant)?;
    }
    Ok(answer)
}

/// Refuses a request.
pub fn deny(site: &mut Site, number: u64, reason: &str) -> Result<(), Failure> {
    let row = waiting(site, number)?;
    record(site, number, &row, reason, Event::Deny)
}

fn waiting(site: &mut Site, number: u64) -> Result<RequestRow, Failure> {
    let key = RowKey::new(Kind::Request, &number);
    let mut state = site.ledger.state(&[Need::Row(key)])?;
    match state.requests.remove(&number) {
        Some(row) if row.state == RequestState::Waiting => Ok(row),
        Some(row) => Err(Failure::refused(format!(
            "request {number} was answered: {}",
            state_text(row.state)
        ))),
        None => {
            Err(Failure::missing(format!("there is no request {number}")).hint("govfs requests"))
        }
    }
}

fn record(
    site: &mut Site,
    number: u64,
    row: &RequestRow,
    reason: &str,
    event: fn(Answered) -> Event,
) -> Result<(), Failure> {
    let answered = Answered {
        request: number,
        reason: reason.to_owned(),
    };
    let draft = Draft::new(event(answered))
        .by(&row.agent)
        .within(row.session.as_ref());
    site.act(|turn| {
        turn.append(&draft)?;
        Ok(())
    })?;
    Ok(())
}

pub fn state_text(state: RequestState) -> &'static str {
    match state {
        RequestState::Waiting => "waiting",
        RequestState::Granted => "granted",
        RequestState::Denied => "denied",
    }
}
