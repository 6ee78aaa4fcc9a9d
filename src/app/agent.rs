//! Agents: describe them, list them.
//!
//! Owns: making one known, by its own command or by the first that names it. Its role
//! and engine bind what it may claim and who may review it.

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::command::{Command, Need};
use crate::domain::event::{Draft, Event};
use crate::domain::names::{AgentName, RoleName};
use crate::domain::state::{AgentRow, Kind, State};

/// Describes an agent; repeating it changes nothing.
pub fn add(
    site: &mut Site,
    name: &AgentName,
    role: Option<RoleName>,
    engine: Option<String>,
    person: bool,
) -> Result<AgentRow, Failure> {
    let command = Command::Agent {
        name: name.clone(),
        role,
        engine,
        person,
    };
    let outcome = site.command(&command)?;
    match (outcome.refusal, outcome.state.agents.get(name)) {
        (Some(refusal), _) => Err(refusal.into()),
        (None, Some(row)) => Ok(row.clone()),
        (None, None) => Err(Failure::failed(format!("agent {name} was not recorded"))),
    }
}

pub fn list(site: &mut Site) -> Result<Vec<(AgentName, AgentRow)>, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Agent)])?;
    Ok(state.agents.into_iter().collect())
}

/// Returns the entry that makes `name` known, if it is not.
pub fn unknown(state: &State, name: &AgentName) -> Result<Option<Draft>, Failure> {
    if state.agents.contains_key(name) {
        return Ok(None);
    }
    let draft = crate::domain::command::new_agent(state, name)?;
    debug_assert!(
        matches!(draft.event, Event::Agent(_)),
        "an agent's entry describes it"
    );
    Ok(Some(draft))
}
