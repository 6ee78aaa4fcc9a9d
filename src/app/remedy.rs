//! What would allow what was refused: a command that works, or whose word it takes.
//!
//! Owns: which paths the operator can claim for an agent just like that, and what is
//! said of the others. Asks the rules of the claim itself, so that no command is named
//! that would only be refused. Never claims anything.

use crate::domain::claim;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::request::Standing;
use crate::domain::state::{RequestRow, State};

/// The rules that a claim of the path lifts, where it is given.
pub const CLAIMABLE: [&str; 4] = ["not-claimed", "sensitive", "expired", "held"];

/// Why a path cannot be claimed for an agent, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barred {
    pub rule: &'static str,
    /// To the operator.
    pub help: String,
    /// To the agent, who can ask.
    pub inside: String,
}

/// Says what bars `agent` from claiming `path`, whoever holds it. `state` holds the agent's row and claims.
pub fn barred(state: &State, agent: &AgentName, path: &RepoPath) -> Option<Barred> {
    let pattern = Pattern::exactly(path).ok()?;
    let refusal = claim::barred(state, agent, &pattern)?;
    let (help, inside) = match refusal.rule {
        "role-paths" => (
            format!(
                "{} alone; the agent can ask for more (govfs claim, in its mount), and you grant it: \
                 govfs requests, then govfs approve N; or widen the role in governor.md, for its next session",
                refusal.hint
            ),
            format!(
                "{} alone; to ask the operator for more: govfs claim {}",
                refusal.hint,
                Pattern::argument(path)
            ),
        ),
        _ => (refusal.hint.clone(), refusal.hint),
    };
    Some(Barred {
        rule: refusal.rule,
        help,
        inside,
    })
}

/// Returns the agent's request that waits for an answer and asks for `path`. `state` holds requests and sessions.
pub fn waiting(state: &State, agent: &AgentName, path: &RepoPath) -> Option<u64> {
    let asks = |row: &RequestRow| {
        row.standing(state) == Standing::Waiting
            && row.agent == *agent
            && row.patterns.iter().any(|pattern| pattern.covers(path))
    };
    let mut found = state.requests.iter().filter(|(_, row)| asks(row));
    found.next().map(|(number, _)| *number)
}
