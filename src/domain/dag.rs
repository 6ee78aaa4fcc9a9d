//! A set of plans as a graph: what must be true of all of them together.
//!
//! Owns: unknown and duplicate ids, cycles, overlapping claims of plans that may
//! run at the same time, roles' paths and protected paths, the stable order.
//! Two plans may run at the same time unless one depends on the other, directly
//! or through others. Invariants: the answer depends on the set alone, not on
//! the order it is given in; every finding says what was found, not only that
//! something was. Never reads a file: facts about the repository are `validate`'s.

mod draw;
mod graph;
mod overlap;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::plan::{Plan, PlanError};

pub use draw::{Drawing, draw};
pub use graph::Graph;

/// The most overlaps that one verification lists.
pub const OVERLAPS_MAX: usize = 200;

/// A plan of the set. One that is done takes part as a dependency only.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub plan: &'a Plan,
    pub done: bool,
}

/// What the charter and the agents say about plans.
#[derive(Clone, Debug, Default)]
pub struct PlanRules {
    pub protected: Vec<Pattern>,
    /// Each role with the paths it is bound to; no paths: any.
    pub roles: BTreeMap<RoleName, Vec<Pattern>>,
    /// The roles of the agents that exist.
    pub agents: BTreeMap<AgentName, RoleName>,
}

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub plan: PlanId,
    /// A name for the rule, e.g. `cycle`.
    pub rule: &'static str,
    /// Where it stands and what it says.
    pub fault: PlanError,
    pub fact: Fact,
}

/// What a finding found, for machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Plain,
    /// Each depends on the next, the last on the first.
    Cycle(Vec<PlanId>),
    Overlap {
        other: PlanId,
        mine: Pattern,
        theirs: Pattern,
        witness: RepoPath,
    },
    Path(RepoPath),
}

impl Finding {
    pub fn new(plan: &Plan, rule: &'static str, key: &str, message: String) -> Self {
        Self {
            plan: plan.id.clone(),
            rule,
            fault: plan.fault(key, message),
            fact: Fact::Plain,
        }
    }

    #[must_use]
    pub fn with(self, fact: Fact) -> Self {
        Self { fact, ..self }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// More overlaps exist than are listed.
    pub more: bool,
    /// All plans, dependencies first; those in or behind a cycle are not in it.
    pub order: Vec<PlanId>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns the ids of the plans that something is wrong with.
    pub fn refused(&self) -> BTreeSet<&PlanId> {
        let mut out = BTreeSet::new();
        for finding in &self.findings {
            out.insert(&finding.plan);
            match &finding.fact {
                Fact::Overlap { other, .. } => out.extend([other]),
                Fact::Cycle(ids) => out.extend(ids),
                Fact::Plain | Fact::Path(_) => {}
            }
        }
        out
    }
}

/// Judges the set as a whole.
pub fn verify(members: &[Member<'_>], rules: &PlanRules) -> Report {
    let mut findings = duplicates(members);
    let graph = Graph::new(members);
    findings.extend(graph.unknown());
    findings.extend(graph.cycles());
    for member in members.iter().filter(|member| !member.done) {
        scope(member.plan, rules, &mut findings);
    }
    let (overlaps, more) = overlap::find(&graph);
    findings.extend(overlaps);
    let key = |f: &Finding| (f.fault.file.clone(), f.plan.clone(), f.fault.line);
    findings.sort_by_cached_key(key);
    Report {
        findings,
        more,
        order: graph.order(),
    }
}

fn duplicates(members: &[Member<'_>]) -> Vec<Finding> {
    let mut first: BTreeMap<&PlanId, &Plan> = BTreeMap::new();
    let mut out = Vec::new();
    for Member { plan, .. } in members {
        if let Some(earlier) = first.get(&plan.id) {
            let origin = &earlier.origin;
            let place = match origin.file.as_str() {
                "" => "among the stored plans".to_owned(),
                file => format!("{file}:{}", origin.line("plan.id")),
            };
            let message = format!("the id {} is taken: {place}", plan.id);
            out.push(Finding::new(plan, "duplicate-id", "plan.id", message));
        } else {
            first.insert(&plan.id, plan);
        }
    }
    out
}

/// Checks what a plan claims against its role's paths and the protected ones.
fn scope(plan: &Plan, rules: &PlanRules, findings: &mut Vec<Finding>) {
    let paths = bounds(plan, rules, findings);
    for (list, at, pattern) in plan.claims.writes() {
        let key = format!("{list}[{at}]");
        if !rules.protected.is_empty() && pattern.inside(&rules.protected).is_ok() {
            let message = format!("{pattern} is protected by the charter: nobody may write it");
            findings.push(Finding::new(plan, "protected", &key, message));
        }
        let Some((role, paths)) = &paths else {
            continue;
        };
        if let Err(outside) = pattern.inside(paths) {
            let message = format!("{pattern} reaches outside the paths of role {role}: {outside}");
            let finding = Finding::new(plan, "role-paths", &key, message);
            findings.push(finding.with(Fact::Path(outside)));
        }
    }
}

/// Returns the role that binds the plan, where its paths are bounded.
fn bounds<'a>(
    plan: &'a Plan,
    rules: &'a PlanRules,
    findings: &mut Vec<Finding>,
) -> Option<(&'a RoleName, &'a [Pattern])> {
    let agents = plan.agent.as_ref().and_then(|name| rules.agents.get(name));
    if let (Some(role), Some(real), Some(agent)) = (&plan.role, agents, &plan.agent)
        && role != real
    {
        let message = format!("the plan is for role {role}, but {agent} has role {real}");
        findings.push(Finding::new(plan, "role", "plan.agent", message));
    }
    let role = plan.role.as_ref().or(agents)?;
    match rules.roles.get(role) {
        None => {
            let known: Vec<&str> = rules.roles.keys().map(RoleName::as_str).collect();
            let known = known.join(", ");
            let message = format!("the charter has no role {role}; it has: {known}");
            findings.push(Finding::new(plan, "unknown-role", "plan.role", message));
            None
        }
        Some(paths) if paths.is_empty() => None,
        Some(paths) => Some((role, paths)),
    }
}
