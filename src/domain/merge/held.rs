//! How a session stands to a path that it changed: by which claim, and whether that still counts.
//!
//! A change made under a valid claim stays in the layer when the claim ends. It
//! can be merged while a claim covers the path now, or while nobody else has
//! held or merged the path since.

use super::ClaimFact;
use crate::domain::event::Mode;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::state::State;

/// Decides from all claims in force and all that are over. `since` is the entry
/// that opened the session: what ended before it allowed nothing in it.
pub fn claim_fact(state: &State, agent: &AgentName, since: u64, path: &RepoPath) -> ClaimFact {
    let held = state
        .claims_of(agent)
        .filter(|claim| claim.mode == Mode::Write && claim.pattern.covers(path));
    if let Some(explicit) = any_explicit(held.map(|claim| claim.pattern.is_explicit())) {
        return ClaimFact::Held { explicit };
    }
    let mine = || {
        state.ended.values().filter(|claim| {
            claim.agent == *agent
                && claim.mode == Mode::Write
                && claim.end > since
                && claim.pattern.covers(path)
        })
    };
    let Some(end) = mine().map(|claim| claim.end).max() else {
        return ClaimFact::Never;
    };
    match taken_since(state, agent, end, path) {
        Some(by) => ClaimFact::Lost { by: by.to_string() },
        None => ClaimFact::Lapsed {
            explicit: mine().any(|claim| claim.pattern.is_explicit()),
        },
    }
}

/// `None` where there is none at all.
fn any_explicit(claims: impl Iterator<Item = bool>) -> Option<bool> {
    claims.reduce(|one, other| one || other)
}

/// Returns whoever else was given a claim on `path` after entry `end`.
fn taken_since<'a>(
    state: &'a State,
    agent: &AgentName,
    end: u64,
    path: &RepoPath,
) -> Option<&'a AgentName> {
    let now = state
        .claims
        .values()
        .map(|claim| (&claim.agent, &claim.pattern, claim.entry));
    let over = state
        .ended
        .values()
        .map(|claim| (&claim.agent, &claim.pattern, claim.entry));
    now.chain(over)
        .find(|(holder, pattern, entry)| *holder != agent && *entry > end && pattern.covers(path))
        .map(|(holder, ..)| holder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pattern::Pattern;
    use crate::domain::state::{ClaimRow, EndedBy, EndedRow};
    use crate::domain::time::{Lease, Now, Timestamp};

    fn now() -> Now {
        Now {
            ts: Timestamp(0),
            boot: "b".to_owned(),
            boot_ms: 0,
        }
    }

    fn claim(state: &mut State, id: u64, agent: &str, pattern: &str, entry: u64) {
        let row = ClaimRow {
            id,
            agent: agent.parse().expect("agent"),
            pattern: Pattern::parse(pattern.as_bytes()).expect("pattern"),
            mode: Mode::Write,
            generation: id,
            entry,
            since: Timestamp(0),
            lease: Lease::new(&now(), 1000),
            plan: None,
            leave: None,
        };
        state.claims.insert(id, row);
    }

    fn ended(state: &mut State, id: u64, agent: &str, pattern: &str, entry: u64, end: u64) {
        let row = EndedRow {
            agent: agent.parse().expect("agent"),
            pattern: Pattern::parse(pattern.as_bytes()).expect("pattern"),
            mode: Mode::Write,
            generation: id,
            entry,
            end,
            until: Timestamp(0),
            how: EndedBy::Expiry,
            cut: None,
        };
        state.ended.insert(id, row);
    }

    fn fact(state: &State) -> ClaimFact {
        let alice = "alice".parse().expect("agent");
        let path = RepoPath::parse(b"src/a").expect("path");
        claim_fact(state, &alice, 5, &path)
    }

    #[test]
    fn a_claim_in_force_holds_and_the_most_explicit_one_counts() {
        let mut state = State::default();
        assert_eq!(fact(&state), ClaimFact::Never);
        claim(&mut state, 1, "alice", "src/*", 6);
        assert_eq!(fact(&state), ClaimFact::Held { explicit: false });
        claim(&mut state, 2, "alice", "src/a", 7);
        assert_eq!(fact(&state), ClaimFact::Held { explicit: true });
    }

    #[test]
    fn a_claim_that_ended_counts_until_somebody_else_has_had_the_path() {
        let mut state = State::default();
        ended(&mut state, 1, "alice", "src/a", 2, 4);
        assert_eq!(
            fact(&state),
            ClaimFact::Never,
            "it ended before the session"
        );
        ended(&mut state, 2, "alice", "src/a", 6, 8);
        assert_eq!(fact(&state), ClaimFact::Lapsed { explicit: true });
        ended(&mut state, 3, "bob", "src", 3, 4);
        assert_eq!(fact(&state), ClaimFact::Lapsed { explicit: true });
        ended(&mut state, 4, "bob", "src", 9, 10);
        let lost = ClaimFact::Lost { by: "bob".into() };
        assert_eq!(fact(&state), lost);
        claim(&mut state, 5, "alice", "src/a", 11);
        assert_eq!(fact(&state), ClaimFact::Held { explicit: true });
    }

    #[test]
    fn a_claim_on_another_path_takes_nothing() {
        let mut state = State::default();
        ended(&mut state, 2, "alice", "src/a", 6, 8);
        claim(&mut state, 3, "bob", "src/b", 9);
        assert_eq!(fact(&state), ClaimFact::Lapsed { explicit: true });
    }
}
