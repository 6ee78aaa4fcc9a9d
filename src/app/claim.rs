//! Claims: ask, wait, release, list.
//!
//! Waiting polls the ledger's change counter, which costs microseconds, and takes
//! the ledger's lock only when its turn has come. A waiter's place dies with its
//! process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::live;
use crate::app::site::Site;
use crate::domain::claim::wait::{self, Waiting};
use crate::domain::claim::{Ask, conflicts};
use crate::domain::command::{Command, Need, Refusal};
use crate::domain::event::{Entry, Event, Mode};
use crate::domain::names::AgentName;
use crate::domain::pattern::Pattern;
use crate::domain::state::{ClaimRow, Kind, State};
use crate::store::ledger::Turn;

/// How often a waiter looks whether anything has changed.
const LOOK: Duration = Duration::from_millis(5);
/// How often it looks more closely: leases end and waiters die without a change.
const LOOK_CLOSELY: Duration = Duration::from_millis(250);

/// How long to wait for a claim that somebody else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    None,
    Until(Instant),
    Forever,
}

impl Patience {
    fn is_over(self) -> bool {
        match self {
            Self::None => true,
            Self::Until(end) => Instant::now() >= end,
            Self::Forever => false,
        }
    }
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Answer {
    Granted(Vec<ClaimRow>),
    Refused(Refusal),
}

/// Reads the patterns that a person typed.
pub fn patterns(texts: &[impl AsRef<OsStr>]) -> Result<Vec<Pattern>, Failure> {
    let mut found = Vec::with_capacity(texts.len());
    for text in texts {
        let text = text.as_ref().as_bytes();
        let pattern = Pattern::typed(text).map_err(|error| {
            let shown = crate::domain::path::percent_encode(&text[..text.len().min(80)]);
            // Every such error says what is wrong, and then what to write instead.
            let said = error.to_string();
            let (what, instead) = said.split_once("; ").unwrap_or((&said, ""));
            let failure = Failure::usage(format!("pattern {shown:?}: {what}"));
            if instead.is_empty() {
                failure
            } else {
                failure.hint(instead)
            }
        })?;
        found.push(pattern);
    }
    Ok(found)
}

/// Claims all of it or nothing.
pub fn claim(site: &mut Site, mut ask: Ask, patience: Patience) -> Result<Answer, Failure> {
    let waits = patience != Patience::None;
    let ((refusal, ticket), entries, state) = site.act(|turn| try_first(turn, &mut ask, waits))?;
    let Some(refusal) = refusal else {
        return granted(site, &entries, &state);
    };
    match ticket {
        Some(ticket) => wait_for(site, ask, ticket, patience, refusal),
        None => Ok(Answer::Refused(refusal)),
    }
}

/// Claims within a turn that decides more than this; nobody waits.
pub(super) fn in_turn(turn: &mut Turn<'_>, mut ask: Ask) -> Result<Option<Refusal>, Failure> {
    let (refusal, _) = try_first(turn, &mut ask, false)?;
    Ok(refusal)
}

/// The first try records a refusal, and takes a place in the queue if waiting can end.
fn try_first(
    turn: &mut Turn<'_>,
    ask: &mut Ask,
    waits: bool,
) -> Result<(Option<Refusal>, Option<u64>), Failure> {
    let queue = turn.queue(&clock::is_alive)?;
    turn.load(&ask.needs())?;
    turn.load(&needs_of(&queue))?;
    let mine = waiting(ask, u64::MAX);
    ask.ahead = wait::ahead(turn.state(), &queue, &mine, waits.then_some(u64::MAX));
    ask.deadlock = if waits {
        wait::deadlock(turn.state(), &queue, &mine)
    } else {
        Vec::new()
    };
    let refusal = turn.command(&Command::Claim(ask.clone()))?;
    let joins = waits
        && refusal
            .as_ref()
            .is_some_and(|refusal| refusal.rule == "held");
    let ticket = joins
        .then(|| turn.join(&ask.agent, ask.mode, &ask.patterns, &clock::this_process()))
        .transpose()?;
    Ok((refusal, ticket))
}

fn wait_for(
    site: &mut Site,
    mut ask: Ask,
    ticket: u64,
    patience: Patience,
    refusal: Refusal,
) -> Result<Answer, Failure> {
    let mut pulse = site.ledger.pulse()?;
    let mut looked = Instant::now();
    loop {
        if patience.is_over() {
            site.act(|turn| turn.leave(ticket).map_err(Failure::from))?;
            return Ok(Answer::Refused(refusal));
        }
        std::thread::sleep(LOOK);
        let beat = site.ledger.pulse()?;
        if beat == pulse && looked.elapsed() < LOOK_CLOSELY {
            continue;
        }
        pulse = beat;
        looked = Instant::now();
        if !seems_free(site, &ask, ticket)? {
            continue;
        }
        let (done, entries, state) = site.act(|turn| try_again(turn, &mut ask, ticket))?;
        match done {
            Turned::Decided(None) => return granted(site, &entries, &state),
            Turned::Decided(Some(refusal)) => return Ok(Answer::Refused(refusal)),
            Turned::NotYet => {}
        }
    }
}

/// Looks without taking the ledger's lock.
fn seems_free(site: &mut Site, ask: &Ask, ticket: u64) -> Result<bool, Failure> {
    let lines = site.ledger.lines()?;
    let queue = lines.queue(&clock::is_alive)?;
    let mut needs = ask.needs();
    needs.extend(needs_of(&queue));
    let mut state = lines.state(&needs)?;
    let now = clock::now();
    state.claims.retain(|_, claim| !claim.lease.is_over(&now));
    Ok(is_free(&state, &queue, ask, ticket))
}

fn is_free(state: &State, queue: &[Waiting], ask: &Ask, ticket: u64) -> bool {
    conflicts(state, &ask.agent, ask.mode, &ask.patterns).is_empty()
        && wait::ahead(state, queue, &waiting(ask, ticket), Some(ticket)).is_empty()
}

/// How a turn went for somebody who waits.
enum Turned {
    NotYet,
    /// The place is given up; a refusal (by a rule, not a holder) is final.
    Decided(Option<Refusal>),
}

fn try_again(turn: &mut Turn<'_>, ask: &mut Ask, ticket: u64) -> Result<Turned, Failure> {
    let queue = turn.queue(&clock::is_alive)?;
    turn.load(&ask.needs())?;
    turn.load(&needs_of(&queue))?;
    if !is_free(turn.state(), &queue, ask, ticket) {
        return Ok(Turned::NotYet);
    }
    ask.ahead.clear();
    ask.deadlock.clear();
    let refusal = turn.command(&Command::Claim(ask.clone()))?;
    turn.leave(ticket)?;
    Ok(Turned::Decided(refusal))
}

fn waiting(ask: &Ask, ticket: u64) -> Waiting {
    Waiting {
        ticket,
        agent: ask.agent.clone(),
        mode: ask.mode,
        patterns: ask.patterns.clone(),
    }
}

fn needs_of(queue: &[Waiting]) -> Vec<Need> {
    let need = |waiting: &Waiting| Need::Claims {
        agent: waiting.agent.clone(),
        mode: waiting.mode,
        patterns: waiting.patterns.clone(),
    };
    queue.iter().map(need).collect()
}

/// Returns the claims that were given, once the agent's live server knows of them.
pub(super) fn granted(site: &Site, entries: &[Entry], state: &State) -> Result<Answer, Failure> {
    let claim = entries
        .iter()
        .rfind(|entry| matches!(entry.event, Event::Claim(_)));
    if let Some(session) = claim.and_then(|entry| entry.session.as_ref()) {
        live::refresh(site, session)?;
    }
    let body = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::Claim(body) => Some(body),
        _ => None,
    });
    let Some(body) = body else {
        return Err(Failure::failed("the claim was not recorded"));
    };
    let rows = body
        .claims
        .iter()
        .filter_map(|claim| state.claims.get(&claim.id));
    Ok(Answer::Granted(rows.cloned().collect()))
}

/// Ends claims (all of the agent's, where no pattern is given), also on handles that are open.
pub fn release(
    site: &mut Site,
    agent: &AgentName,
    patterns: &[Pattern],
) -> Result<Vec<Pattern>, Failure> {
    let before = site
        .ledger
        .state(&[Need::Agent(agent.clone()), Need::ClaimsOf(agent.clone())])?;
    let ends = |claim: &&ClaimRow| patterns.is_empty() || patterns.contains(&claim.pattern);
    let ids: Vec<u64> = before
        .claims_of(agent)
        .filter(ends)
        .map(|claim| claim.id)
        .collect();
    let fence = match before.open_session_id(agent) {
        Some(session) if !ids.is_empty() => Some(live::fence(site, session, &ids)?),
        _ => None,
    };
    let command = Command::Release {
        agent: agent.clone(),
        patterns: patterns.to_vec(),
        cut: fence.as_ref().and_then(live::Fence::cut),
    };
    let outcome = site.command(&command);
    // Whatever came of it, the session goes on under the claims it has now.
    if let Some(fence) = fence {
        fence.lift()?;
    }
    let outcome = outcome?;
    if let Some(refusal) = outcome.refusal {
        return Err(refusal.into());
    }
    let freed = outcome
        .entries
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::Release(body) => Some(body.claims),
            _ => None,
        });
    Ok(freed.flatten().map(|freed| freed.pattern).collect())
}

/// Returns all claims in force.
pub fn list(site: &mut Site) -> Result<Vec<ClaimRow>, Failure> {
    let state = in_force(site, &[Need::All(Kind::Claim)])?;
    Ok(state.claims.into_values().collect())
}

/// Reads rows, the claims among them; those that are due end first, where that may be recorded.
pub fn in_force(site: &mut Site, needs: &[Need]) -> Result<State, Failure> {
    let now = clock::now();
    let mut state = site.ledger.state(needs)?;
    if state.claims.values().any(|claim| claim.lease.is_over(&now)) {
        if site.ledger.is_read_only() {
            state.claims.retain(|_, claim| !claim.lease.is_over(&now));
        } else {
            site.act(|_| Ok(()))?;
            state = site.ledger.state(needs)?;
        }
    }
    Ok(state)
}

/// The name of a mode on screens and in JSON.
pub fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "read",
        Mode::Write => "write",
    }
}
