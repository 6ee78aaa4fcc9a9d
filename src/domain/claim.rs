//! Claims: who may have which paths.
//!
//! Owns: the rules for granting (exact overlap with a witness; `write` excludes
//! all others, `read` excludes others' `write`; all or nothing), renewing,
//! releasing and expiring. Invariants: two agents never hold overlapping claims
//! of which one is `write`; a renewed claim keeps its id and generation;
//! generations only grow. A protected path inside a wider pattern stays refused
//! by the gate and the claim is granted; a claim of nothing but protected paths is
//! refused here. Never asks what time it is.

use std::collections::BTreeSet;

use crate::domain::charter::Charter;
use crate::domain::command::{Need, No, Refusal, Verdict, new_agent, no_charter};
use crate::domain::event::{
    Claimed, Conflict, Cut, Decision, Draft, Event, Expired, Freed, Granted, Mode, Released,
};
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::state::{ClaimRow, Kind, RequestState, RowKey, State};
use crate::domain::time::{Lease, Now};

pub mod wait;

/// A refusal names so many conflicts, and of every further holder one.
pub const CONFLICTS_MAX: usize = 256;

#[cfg(test)]
mod tests;

/// What an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub agent: AgentName,
    pub mode: Mode,
    pub patterns: Vec<Pattern>,
    /// `None`: the charter's.
    pub ttl_ms: Option<u64>,
    pub plan: Option<PlanId>,
    /// The agent's own request, which the operator approves by this.
    pub leave: Option<u64>,
    /// Whoever asked before, still waits, and comes first.
    pub ahead: Vec<Conflict>,
    /// A deadlock that waiting for this would close, as the cycle of agents.
    pub deadlock: Vec<AgentName>,
}

impl Ask {
    pub fn new(agent: AgentName, mode: Mode, patterns: Vec<Pattern>) -> Self {
        Self {
            agent,
            mode,
            patterns,
            ttl_ms: None,
            plan: None,
            leave: None,
            ahead: Vec::new(),
            deadlock: Vec::new(),
        }
    }

    /// Says which rows decide it.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = vec![
            Need::Agent(self.agent.clone()),
            Need::Claims {
                agent: self.agent.clone(),
                mode: self.mode,
                patterns: self.patterns.clone(),
            },
        ];
        let leave = self.leave.iter();
        needs.extend(leave.map(|number| Need::Row(RowKey::new(Kind::Request, number))));
        needs
    }

    /// Reads what was asked from the entry that answered. Who waited, and in which
    /// circle, are facts of the moment that the entry carries.
    pub(super) fn rebuild(agent: &AgentName, body: &Claimed) -> Self {
        let ahead = body.conflicts.iter().filter(|conflict| conflict.ahead);
        Self {
            agent: agent.clone(),
            mode: body.mode,
            patterns: body.patterns.clone(),
            ttl_ms: Some(body.lease.ttl_ms),
            plan: body.plan.clone(),
            leave: body.leave,
            ahead: ahead.cloned().collect(),
            deadlock: body.cycle.clone(),
        }
    }
}

/// Says whether claims of these modes by two agents exclude each other.
pub fn excludes(mine: Mode, theirs: Mode) -> bool {
    mine == Mode::Write || theirs == Mode::Write
}

/// Returns who stands in the way of `patterns`, each with a path that both cover: the first
/// [`CONFLICTS_MAX`], and of every further holder one.
pub fn conflicts(
    state: &State,
    agent: &AgentName,
    mode: Mode,
    patterns: &[Pattern],
) -> Vec<Conflict> {
    let mut found: Vec<Conflict> = Vec::new();
    let mut holders = BTreeSet::new();
    for pattern in patterns {
        for claim in state.claims.values() {
            let enough = found.len() >= CONFLICTS_MAX && holders.contains(&claim.agent);
            if claim.agent == *agent || !excludes(mode, claim.mode) || enough {
                continue;
            }
            if let Some(witness) = pattern.overlap(&claim.pattern) {
                holders.insert(&claim.agent);
                found.push(Conflict {
                    pattern: pattern.clone(),
                    holder: claim.agent.clone(),
                    theirs: claim.pattern.clone(),
                    witness,
                    ahead: false,
                });
            }
        }
    }
    found
}

pub(super) fn decide_claim(state: &State, ask: &Ask, now: &Now) -> Verdict {
    let Some(law) = &state.law else {
        return Verdict::refuse(no_charter());
    };
    let mut drafts = Vec::new();
    let role = match state.agents.get(&ask.agent) {
        Some(row) => row.role.clone(),
        None => match new_agent(state, &ask.agent) {
            Ok(draft) => {
                drafts.push(draft);
                law.default_role.clone()
            }
            Err(refusal) => return Verdict::refuse(refusal),
        },
    };
    if let Some(plan) = ask
        .plan
        .as_ref()
        .filter(|plan| !state.plans.contains_key(plan))
    {
        return Verdict::refuse(Refusal::new(
            No::Missing,
            "no-plan",
            format!("there is no plan {plan}"),
            "see `govfs plan list`",
        ));
    }
    let lease = Lease::new(now, ask.ttl_ms.unwrap_or(law.claims.ttl_ms));
    let refusal = forbidden(state, law, &role, ask).or_else(|| taken(state, ask));
    let body = match &refusal {
        None => grant(state, ask, lease),
        Some(refusal) => deny(ask, lease, refusal),
    };
    let draft = Draft::new(Event::Claim(body))
        .by(&ask.agent)
        .within(state.open_session_id(&ask.agent));
    drafts.push(draft);
    Verdict { drafts, refusal }
}

/// Says why `agent` may not claim `pattern` for writing, whoever holds it: its role, or the charter's protection.
/// `state` holds the agent's row and claims.
pub fn barred(state: &State, agent: &AgentName, pattern: &Pattern) -> Option<Refusal> {
    let Some(law) = &state.law else {
        return Some(no_charter());
    };
    let row = state.agents.get(agent);
    let role = row.map_or(&law.default_role, |row| &row.role);
    let ask = Ask::new(agent.clone(), Mode::Write, vec![pattern.clone()]);
    forbidden(state, law, role, &ask)
}

/// What the charter never lets this role claim for writing. The operator's leave goes
/// beyond a role's paths, never to what is protected.
fn forbidden(state: &State, law: &Charter, role: &RoleName, ask: &Ask) -> Option<Refusal> {
    if ask.mode == Mode::Read {
        return None;
    }
    let Some(lane) = law.roles.get(role) else {
        return Some(Refusal::new(
            No::Rule,
            "role",
            format!(
                "{} has the role {role}, which the charter no longer defines",
                ask.agent
            ),
            format!("give it another: govfs agent add {} --role ROLE", ask.agent),
        ));
    };
    for pattern in &ask.patterns {
        if !law.paths.protected.is_empty() && pattern.inside(&law.paths.protected).is_ok() {
            return Some(Refusal::new(
                No::Rule,
                "protected",
                format!("{pattern} is protected by the charter: nobody may claim it"),
                "a person changes protected paths on the merge target itself",
            ));
        }
        if lane.paths.is_empty() || has_leave(state, ask, pattern) {
            continue;
        }
        if let Err(outside) = pattern.inside(&lane.paths) {
            let paths: Vec<_> = lane.paths.iter().map(ToString::to_string).collect();
            return Some(Refusal::new(
                No::Rule,
                "role-paths",
                format!(
                    "{pattern} reaches outside the paths of the role {role}, for example {outside}"
                ),
                format!("the role {role} may claim within {}", paths.join(" ")),
            ));
        }
    }
    None
}

/// Parts what the agent's role may claim from what only the operator's leave gives it.
/// `None` where the charter refuses some of it for another reason, for good.
pub fn part(state: &State, ask: &Ask) -> Option<(Vec<Pattern>, Vec<Pattern>)> {
    let law = state.law.as_ref()?;
    let role = &state.agents.get(&ask.agent)?.role;
    let (mut lets, mut beyond) = (Vec::new(), Vec::new());
    for pattern in &ask.patterns {
        let mut one = ask.clone();
        one.patterns = vec![pattern.clone()];
        match forbidden(state, law, role, &one) {
            None => lets.push(pattern.clone()),
            Some(refusal) if refusal.rule == "role-paths" => beyond.push(pattern.clone()),
            Some(_) => return None,
        }
    }
    Some((lets, beyond))
}

/// Says whether the operator lets the agent have `pattern` whatever its role: by the
/// request that is approved now, or because it holds just this by an earlier one.
fn has_leave(state: &State, ask: &Ask, pattern: &Pattern) -> bool {
    let request = ask.leave.and_then(|number| state.requests.get(&number));
    let approved = request.is_some_and(|row| {
        row.state == RequestState::Waiting
            && row.agent == ask.agent
            && row.mode == ask.mode
            && row.patterns.contains(pattern)
    });
    let mut own = state.claims_of(&ask.agent);
    approved
        || own.any(|claim| {
            claim.leave.is_some() && claim.pattern == *pattern && claim.mode == ask.mode
        })
}

/// Who holds it, or comes first.
fn taken(state: &State, ask: &Ask) -> Option<Refusal> {
    let mut conflicts = conflicts(state, &ask.agent, ask.mode, &ask.patterns);
    conflicts.extend(ask.ahead.iter().cloned());
    let first = conflicts.first()?;
    let verb = if first.ahead {
        "waited for first by"
    } else {
        "held by"
    };
    let mut refusal = if ask.deadlock.is_empty() {
        Refusal::new(
            No::Rule,
            "held",
            format!(
                "{} is {verb} {} ({})",
                first.pattern, first.holder, first.theirs
            ),
            "work on other paths, or wait with --wait",
        )
    } else {
        let names: Vec<_> = ask.deadlock.iter().map(AgentName::as_str).collect();
        Refusal::new(
            No::Rule,
            "deadlock",
            format!(
                "waiting would never end: {} wait for each other in this order",
                names.join(" -> ")
            ),
            format!("release something first: govfs release {}", ask.agent),
        )
    };
    refusal.conflicts = conflicts;
    Some(refusal)
}

fn grant(state: &State, ask: &Ask, lease: Lease) -> Claimed {
    let (mut id, mut generation) = (state.meta.claim, state.meta.generation);
    let mut claims: Vec<Granted> = Vec::with_capacity(ask.patterns.len());
    for pattern in &ask.patterns {
        if claims.iter().any(|granted| granted.pattern == *pattern) {
            continue;
        }
        let held = state
            .claims_of(&ask.agent)
            .find(|claim| claim.pattern == *pattern && claim.mode == ask.mode);
        if let Some(claim) = held {
            claims.push(granted(claim));
            continue;
        }
        id += 1;
        generation += 1;
        claims.push(Granted {
            id,
            pattern: pattern.clone(),
            mode: ask.mode,
            generation,
        });
    }
    Claimed {
        decision: Decision::Allow,
        mode: ask.mode,
        patterns: ask.patterns.clone(),
        lease,
        claims,
        conflicts: Vec::new(),
        cycle: Vec::new(),
        plan: ask.plan.clone(),
        leave: ask.leave,
        rule: None,
        reason: None,
    }
}

fn deny(ask: &Ask, lease: Lease, refusal: &Refusal) -> Claimed {
    Claimed {
        decision: Decision::Deny,
        mode: ask.mode,
        patterns: ask.patterns.clone(),
        lease,
        claims: Vec::new(),
        conflicts: refusal.conflicts.clone(),
        cycle: ask.deadlock.clone(),
        plan: ask.plan.clone(),
        leave: ask.leave,
        rule: Some(refusal.rule.to_owned()),
        reason: Some(refusal.message.clone()),
    }
}

fn granted(claim: &ClaimRow) -> Granted {
    Granted {
        id: claim.id,
        pattern: claim.pattern.clone(),
        mode: claim.mode,
        generation: claim.generation,
    }
}

/// Renews all claims of an agent: one entry for each mode, duration and plan, as a claim command would give.
pub(super) fn decide_renewal(state: &State, agent: &AgentName, now: &Now) -> Verdict {
    let mut groups: Vec<(Mode, u64, Option<PlanId>, Vec<Granted>)> = Vec::new();
    for claim in state.claims_of(agent) {
        let key = (claim.mode, claim.lease.ttl_ms, &claim.plan);
        match groups
            .iter_mut()
            .find(|(mode, ttl, plan, _)| *mode == key.0 && *ttl == key.1 && plan == key.2)
        {
            Some((.., claims)) => claims.push(granted(claim)),
            None => groups.push((
                claim.mode,
                claim.lease.ttl_ms,
                claim.plan.clone(),
                vec![granted(claim)],
            )),
        }
    }
    let draft = |(mode, ttl_ms, plan, claims): (Mode, u64, Option<PlanId>, Vec<Granted>)| {
        let body = Claimed {
            decision: Decision::Allow,
            mode,
            patterns: claims.iter().map(|claim| claim.pattern.clone()).collect(),
            lease: Lease::new(now, ttl_ms),
            claims,
            conflicts: Vec::new(),
            cycle: Vec::new(),
            plan,
            leave: None,
            rule: None,
            reason: None,
        };
        Draft::new(Event::Claim(body))
            .by(agent)
            .within(state.open_session_id(agent))
    };
    Verdict::allow(groups.into_iter().map(draft).collect())
}

pub(super) fn decide_release(
    state: &State,
    agent: &AgentName,
    patterns: &[Pattern],
    cut: Option<&Cut>,
) -> Verdict {
    if !state.agents.contains_key(agent) {
        return Verdict::refuse(missing_agent(agent));
    }
    for pattern in patterns {
        if !state
            .claims_of(agent)
            .any(|claim| claim.pattern == *pattern)
        {
            let held: Vec<_> = state
                .claims_of(agent)
                .map(|claim| claim.pattern.to_string())
                .collect();
            let hint = if held.is_empty() {
                "it holds no claims".to_owned()
            } else {
                format!("it holds {}", held.join(" "))
            };
            return Verdict::refuse(Refusal::new(
                No::Missing,
                "no-claim",
                format!("{agent} holds no claim {pattern}"),
                hint,
            ));
        }
    }
    let claims: Vec<Freed> = state
        .claims_of(agent)
        .filter(|claim| patterns.is_empty() || patterns.contains(&claim.pattern))
        .map(freed)
        .collect();
    if claims.is_empty() {
        return Verdict::default();
    }
    let body = Released {
        claims,
        cut: cut.cloned(),
    };
    Verdict::allow(vec![
        Draft::new(Event::Release(body))
            .by(agent)
            .within(state.open_session_id(agent)),
    ])
}

pub fn missing_agent(agent: &AgentName) -> Refusal {
    Refusal::new(
        No::Missing,
        "no-agent",
        format!("there is no agent {agent}"),
        "see `govfs agent list`",
    )
}

/// Returns what names the claim in the entry that ends it.
pub fn freed(claim: &ClaimRow) -> Freed {
    Freed {
        id: claim.id,
        generation: claim.generation,
        pattern: claim.pattern.clone(),
    }
}

/// Returns the entries for all leases that are over: one a holder.
pub fn decide_expiry(state: &State, now: &Now) -> Vec<Draft> {
    let mut due: Vec<(&AgentName, Vec<Freed>)> = Vec::new();
    for claim in state
        .claims
        .values()
        .filter(|claim| claim.lease.is_over(now))
    {
        match due.iter_mut().find(|(agent, _)| **agent == claim.agent) {
            Some((_, claims)) => claims.push(freed(claim)),
            None => due.push((&claim.agent, vec![freed(claim)])),
        }
    }
    due.into_iter()
        .map(|(agent, claims)| {
            Draft::new(Event::Expire(Expired::new(now, claims)))
                .by(agent)
                .within(state.open_session_id(agent))
        })
        .collect()
}
