//! What may be taken, what should be taken next, and why.
//!
//! Owns: the obstacles of a plan, each by its rule and with what to do about it, and
//! the recommendation. Invariant: what is recommended can be claimed as things stand.
//! Never claims anything.

use std::collections::BTreeMap;
use std::fmt;

use crate::domain::dag::Graph;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::queue::{Claimant, Item, Queue, QueueState};

/// A claim that an agent holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub agent: AgentName,
    pub pattern: Pattern,
    pub write: bool,
}

/// What the queue does not know itself.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub held: Vec<Held>,
    /// Plans that do not verify, each with what is wrong.
    pub refused: BTreeMap<PlanId, String>,
}

/// What keeps a plan from being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    Owned(AgentName),
    State(QueueState),
    Refused(String),
    Waits(Vec<PlanId>),
    ForAgent(AgentName),
    ForRole(RoleName),
    Held {
        pattern: Pattern,
        holder: AgentName,
        theirs: Pattern,
        witness: RepoPath,
    },
}

impl Obstacle {
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Owned(_) => "owned",
            Self::State(_) => "transition",
            Self::Refused(_) => "not-verified",
            Self::Waits(_) => "waits",
            Self::ForAgent(_) => "agent",
            Self::ForRole(_) => "role",
            Self::Held { .. } => "claims-held",
        }
    }

    pub fn hint(&self, id: &PlanId) -> String {
        match self {
            Self::Owned(owner) => {
                format!("{owner} gives it back with `govfs queue set-status {id} todo`")
            }
            Self::State(QueueState::Done) => "it needs no work".to_owned(),
            Self::State(_) => format!("put it back with `govfs queue set-status {id} todo`"),
            Self::Refused(_) => format!("see `govfs plan show {id}`, mend it, add it again"),
            Self::Waits(_) => "take one of these first".to_owned(),
            Self::ForAgent(agent) => format!("claim it with `--owner {agent}`"),
            Self::ForRole(role) => format!("an agent of role {role} must claim it"),
            Self::Held { holder, .. } => {
                format!("wait for {holder} to merge or release, or take another plan")
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned(owner) => write!(f, "{owner} owns it"),
            Self::State(state) => write!(f, "it is {state}"),
            Self::Refused(reason) => write!(f, "it does not verify: {reason}"),
            Self::Waits(ids) => write!(f, "it waits for {}", super::joined(ids)),
            Self::ForAgent(agent) => write!(f, "it is meant for {agent}"),
            Self::ForRole(role) => write!(f, "it is for role {role}"),
            Self::Held {
                pattern,
                holder,
                theirs,
                witness,
            } => write!(
                f,
                "{pattern} is held by {holder} as {theirs}: both cover {witness}"
            ),
        }
    }
}

/// Returns everything that keeps the plan from being taken, by `by` or by anybody.
pub fn obstacles(
    queue: &Queue,
    item: &Item,
    by: Option<&Claimant>,
    world: &World,
) -> Vec<Obstacle> {
    let plan = &item.plan;
    let mut out = Vec::new();
    match (item.state, &item.owner) {
        (QueueState::Todo, _) => {}
        (QueueState::InProgress, Some(owner)) => out.push(Obstacle::Owned(owner.clone())),
        (state, _) => out.push(Obstacle::State(state)),
    }
    if let Some(reason) = world.refused.get(&plan.id) {
        out.push(Obstacle::Refused(reason.clone()));
    }
    let waits = queue.waits_for(plan);
    if !waits.is_empty() {
        out.push(Obstacle::Waits(waits));
    }
    if let Some(by) = by {
        let agent = plan.agent.as_ref().filter(|agent| **agent != by.agent);
        out.extend(agent.cloned().map(Obstacle::ForAgent));
        let role = plan.role.as_ref().filter(|role| **role != by.role);
        out.extend(role.cloned().map(Obstacle::ForRole));
    }
    let who = by.map(|by| &by.agent).or(plan.agent.as_ref());
    out.extend(held(item, who, world));
    out
}

/// Returns the claims of others that stand in the way of the plan's, each once.
fn held(item: &Item, who: Option<&AgentName>, world: &World) -> Vec<Obstacle> {
    let claims = &item.plan.claims;
    let writes = claims.writes().map(|(_, _, pattern)| (pattern, true));
    let reads = claims.read.iter().map(|pattern| (pattern, false));
    let mut out = Vec::new();
    for (pattern, write) in writes.chain(reads) {
        let others = world.held.iter().filter(|held| Some(&held.agent) != who);
        for held in others.filter(|held| write || held.write) {
            if let Some(witness) = pattern.overlap(&held.pattern) {
                out.push(Obstacle::Held {
                    pattern: pattern.clone(),
                    holder: held.agent.clone(),
                    theirs: held.pattern.clone(),
                    witness,
                });
            }
        }
    }
    out
}

/// Returns the open plans in the order in which they should be taken.
pub fn dispatch(queue: &Queue) -> Vec<PlanId> {
    let order = Graph::new(&queue.members()).order();
    let open = |id: &PlanId| !queue.get(id).is_some_and(Item::is_done);
    order.into_iter().filter(open).collect()
}

/// What to take next, and how that was found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Advice {
    pub plan: Option<PlanId>,
    pub reasons: Vec<String>,
    /// Plans that come before it in order, or would if they could be taken.
    pub passed: Vec<(PlanId, Vec<Obstacle>)>,
}

/// Recommends a plan for an agent of `role`.
pub fn next(queue: &Queue, role: &RoleName, world: &World) -> Advice {
    let mut advice = Advice::default();
    let mut others = 0;
    for id in dispatch(queue) {
        let Some(item) = queue.get(&id) else {
            continue;
        };
        if item.plan.role.as_ref().is_some_and(|other| other != role) {
            others += 1;
            continue;
        }
        let obstacles = obstacles(queue, item, None, world);
        if obstacles.is_empty() {
            advice.reasons = reasons(queue, item, role, advice.passed.len());
            advice.plan = Some(id);
            return advice;
        }
        advice.passed.push((id, obstacles));
    }
    advice.reasons = vec![match (advice.passed.len(), others) {
        (0, 0) => "no plan is open".to_owned(),
        (0, n) => format!("no open plan is for role {role}; {n} are for other roles"),
        (n, _) => format!("none of the {n} open plans for role {role} can be taken now"),
    }];
    advice
}

fn reasons(queue: &Queue, item: &Item, role: &RoleName, passed: usize) -> Vec<String> {
    let plan = &item.plan;
    let mut out = vec![match passed {
        0 => format!("the first in dispatch order for role {role}"),
        n => format!("the first for role {role} that can be taken; {n} before it cannot"),
    }];
    if let Some(priority) = plan.priority {
        out.push(format!("priority {priority}"));
    }
    for id in &plan.dependencies {
        let lane = queue.get(id).and_then(|item| item.plan.role.as_ref());
        out.push(match lane.filter(|lane| *lane != role) {
            Some(lane) => format!("handed over by role {lane}: {id} is done"),
            None => format!("its dependency {id} is done"),
        });
    }
    out.push(
        match plan.claims.writes().count() + plan.claims.read.len() {
            0 => "it claims nothing yet".to_owned(),
            _ => "its claims are free".to_owned(),
        },
    );
    if let Some(agent) = &plan.agent {
        out.push(format!("it is meant for {agent}"));
    }
    out
}
