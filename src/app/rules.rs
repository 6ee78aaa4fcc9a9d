//! What an agent may write now: the gate's rules, as the ledger has them.
//!
//! Owns: the way from rows and charter to [`Rules`], one for the live gate and for
//! `why`, so that both say the same. Never decides about a path.

use crate::app::failure::Failure;
use crate::domain::charter::Charter;
use crate::domain::event::Mode;
use crate::domain::gate::{Grant, Held, Rules};
use crate::domain::names::AgentName;
use crate::domain::state::State;
use crate::domain::time::Now;

/// Builds the rules for `agent`. `state` holds its row and all claims; `law` is the
/// charter that binds it.
pub fn rules_for(state: &State, law: &Charter, agent: &AgentName, now: &Now) -> Rules {
    let own = state
        .claims_of(agent)
        .filter(|claim| claim.mode == Mode::Write);
    let grants = own.map(|claim| Grant {
        id: claim.id,
        pattern: claim.pattern.clone(),
        until_boot_ms: Some(now.boot_ms.saturating_add(claim.lease.left_ms(now))),
        beyond_role: claim.leave.is_some(),
    });
    let mut rules = Rules::new(grants.collect());
    let role = state
        .agents
        .get(agent)
        .map_or(&law.default_role, |row| &row.role);
    rules.role = match law.roles.get(role) {
        Some(role) => Some(role.paths.clone()).filter(|paths| !paths.is_empty()),
        None => Some(Vec::new()), // one that the charter no longer defines may write nothing
    };
    rules.protected.clone_from(&law.paths.protected);
    rules.sensitive = law.paths.sensitive().cloned().collect();
    let others = state.claims.values().filter(|claim| claim.agent != *agent);
    rules.others = others
        .map(|claim| Held {
            agent: claim.agent.to_string(),
            pattern: claim.pattern.clone(),
        })
        .collect();
    rules
}

/// Returns the charter in force, or says that nothing may run.
pub fn law(state: &State) -> Result<&Charter, Failure> {
    state.law.as_deref().ok_or_else(|| {
        Failure::usage("the charter in force cannot be read, so nothing may run")
            .hint("govfs charter check")
    })
}
