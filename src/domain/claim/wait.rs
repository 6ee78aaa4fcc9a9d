//! Waiting for claims: fair order, and circles of waiting agents.
//!
//! Owns: who comes first, and whether waiting could ever end. The queue itself is
//! the store's; it is no part of the ledger, as a waiter that dies leaves nothing
//! behind. Rules: first come, first served among requests that exclude each other;
//! a request without waiting may pass those who must wait for a claim anyway, but
//! not one whose turn it is; whoever waits for me is never ahead of me, as he cannot
//! move before I do.

use std::collections::BTreeSet;

use super::excludes;
use crate::domain::event::{Conflict, Mode};
use crate::domain::names::AgentName;
use crate::domain::pattern::Pattern;
use crate::domain::state::State;

/// A request in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub ticket: u64,
    pub agent: AgentName,
    pub mode: Mode,
    pub patterns: Vec<Pattern>,
}

impl Waiting {
    /// Returns the agents whose claims stand in the way.
    fn blockers(&self, state: &State) -> BTreeSet<AgentName> {
        let mut agents = BTreeSet::new();
        for claim in state.claims.values() {
            if claim.agent != self.agent
                && excludes(self.mode, claim.mode)
                && !agents.contains(&claim.agent)
                && self
                    .patterns
                    .iter()
                    .any(|mine| mine.overlaps(&claim.pattern))
            {
                agents.insert(claim.agent.clone());
            }
        }
        agents
    }

    /// Returns where two requests exclude each other.
    fn clash(&self, other: &Self) -> Option<Conflict> {
        if self.agent == other.agent || !excludes(self.mode, other.mode) {
            return None;
        }
        self.patterns.iter().find_map(|mine| {
            other.patterns.iter().find_map(|theirs| {
                Some(Conflict {
                    pattern: mine.clone(),
                    holder: other.agent.clone(),
                    theirs: theirs.clone(),
                    witness: mine.overlap(theirs)?,
                    ahead: true,
                })
            })
        })
    }
}

/// Returns who of the `queue` comes before `mine`. `ticket` is its place, if it has one.
pub fn ahead(
    state: &State,
    queue: &[Waiting],
    mine: &Waiting,
    ticket: Option<u64>,
) -> Vec<Conflict> {
    let earlier = queue
        .iter()
        .filter(|other| ticket.is_none_or(|mine| other.ticket < mine));
    let mut found = Vec::new();
    for other in earlier {
        let Some(conflict) = mine.clash(other) else {
            continue;
        };
        let circle = chain_to(state, queue, other, &mine.agent).is_some();
        if !circle && (ticket.is_some() || is_next(state, queue, other)) {
            found.push(conflict);
        }
    }
    found
}

/// Says whether nothing but its own slowness keeps `waiting` from its claims.
fn is_next(state: &State, queue: &[Waiting], waiting: &Waiting) -> bool {
    waiting.blockers(state).is_empty()
        && !queue
            .iter()
            .any(|other| other.ticket < waiting.ticket && waiting.clash(other).is_some())
}

/// Returns the circle that `mine` would close by waiting: agents, each waiting for a claim of the next.
pub fn deadlock(state: &State, queue: &[Waiting], mine: &Waiting) -> Vec<AgentName> {
    chain_to(state, queue, mine, &mine.agent).unwrap_or_default()
}

/// Finds a chain of "waits for a claim of" from `from` to `goal`, both ends named.
fn chain_to(
    state: &State,
    queue: &[Waiting],
    from: &Waiting,
    goal: &AgentName,
) -> Option<Vec<AgentName>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![(from, vec![from.agent.clone()])];
    while let Some((waiting, path)) = paths.pop() {
        for holder in waiting.blockers(state) {
            let mut path = path.clone();
            path.push(holder.clone());
            if holder == *goal {
                return Some(path);
            }
            if seen.insert(holder.clone()) {
                let next = queue.iter().filter(|other| other.agent == holder);
                paths.extend(next.map(|other| (other, path.clone())));
            }
        }
    }
    None
}
